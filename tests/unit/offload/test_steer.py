# SPDX-License-Identifier: GPL-2.0-or-later
"""Flow tables executed: against a slow interpreter of the same rules, and case by case."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nicmodel.errors import CommandError
from nicmodel.objects.flow import (
    Destinations,
    FlowAction,
    FlowEntry,
    MissAction,
    Steering,
    TableConfig,
)
from nicmodel.objects.table import ObjectTable
from nicmodel.objects.transport import HashFields, RxHashFn, Tir, TirDispType
from nicmodel.offload.parse import parse
from nicmodel.offload.steer import MATCHABLE, MAX_HOPS, flow_key, lookup
from nicmodel.spec.status import CommandStatus
from nicmodel.spec.steering import FteMatchSetLyr24
from nicmodel.units import GroupId, Rqn, Rqtn, TableId, Tdn, Tirn

Match = FteMatchSetLyr24
DST, SRC = bytes.fromhex("0200000000aa"), bytes.fromhex("0200000000bb")


def tirs(count: int = 8) -> ObjectTable[Tirn, Tir]:
    table: ObjectTable[Tirn, Tir] = ObjectTable("TIR", 1, 100)
    for _ in range(count):
        table.create(
            lambda tirn: Tir(
                tirn,
                TirDispType.INDIRECT,
                Rqn(0),
                Rqtn(1),
                RxHashFn.NONE,
                False,
                bytes(40),
                HashFields(),
                0,
                False,
                Tdn(1),
            )
        )
    return table


class Rules:
    """Steering with less to type."""

    def __init__(self) -> None:
        self.changes = 0
        self.steering = Steering(tirs(), self.changed)

    def changed(self) -> None:
        self.changes += 1

    def table(self, log_size: int = 4, miss: TableId | None = None) -> TableId:
        action = MissAction.FORWARD if miss else MissAction.DEFAULT
        config = TableConfig(1, log_size, action, miss or TableId(0))
        made = self.steering.create_table(config).table_id
        if self.steering.root is None:
            self.steering.set_root(made)
        return made

    def group(self, table: TableId, start: int, end: int, mask: Match | None = None) -> GroupId:
        return self.steering.create_group(table, start, end, number(mask)).group_id

    def entry(
        self,
        table: TableId,
        group: GroupId,
        index: int,
        value: Match | None = None,
        tir: int | None = None,
        *,
        go: TableId | None = None,
        drop: bool = False,
        modify: bool = False,
    ) -> None:
        destinations = Destinations(
            tirs=(Tirn(tir),) if tir else (), tables=(go,) if go is not None else ()
        )
        action = FlowAction.DROP if drop else FlowAction.FWD_DEST
        made = FlowEntry(index, group, number(value), action, 0, destinations)
        self.steering.set_entry(table, made, modify=modify)

    def find(self, frame: bytes) -> tuple[int, ...] | None:
        headers = parse(frame, len(frame))
        assert headers is not None
        return lookup(self.steering, flow_key(headers))


def number(match: Match | None) -> int:
    return int.from_bytes(match.encode(), "big") if match else 0


def ethernet(proto: int, payload: bytes = bytes(46), tag: tuple[int, int] | None = None) -> bytes:
    vlan = struct.pack(">HH", *tag) if tag else b""
    return DST + SRC + vlan + proto.to_bytes(2, "big") + payload


def ipv4(proto: int, l4: bytes, frag: int = 0) -> bytes:
    addresses = bytes((10, 0, 0, 1, 10, 0, 0, 2))
    return struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(l4), 1, frag, 64, proto, 0) + addresses + l4


def ipv6(proto: int, l4: bytes) -> bytes:
    addresses = bytes.fromhex("fd" + "00" * 14 + "01" + "fd" + "00" * 14 + "02")
    return struct.pack(">IHBB", 0x60000000, len(l4), proto, 64) + addresses + l4


TCP = struct.pack(">HHIIBBHHH", 1000, 2000, 0, 0, 0x50, 0x10, 0, 0, 0)
UDP = struct.pack(">HHHH", 3000, 4000, 8, 0)


@pytest.mark.parametrize(
    ("frame", "fields"),
    [
        (ethernet(0x0806), {"ethertype": 0x0806, "dmac_47_16": 0x02000000, "dmac_15_0": 0xAA}),
        (ethernet(0x0806), {"smac_47_16": 0x02000000, "smac_15_0": 0xBB, "ip_version": 0}),
        (ethernet(0x0806, tag=(0x8100, 0xB007)), {"cvlan_tag": 1, "svlan_tag": 0}),
        (
            ethernet(0x0806, tag=(0x8100, 0xB007)),
            {"first_vid": 7, "first_prio": 5, "first_cfi": 1, "ethertype": 0x0806},
        ),
        (ethernet(0x0806, tag=(0x88A8, 9)), {"cvlan_tag": 0, "svlan_tag": 1, "first_vid": 9}),
        (
            ethernet(0x0800, ipv4(6, TCP)),
            {"ip_version": 4, "ip_protocol": 6, "tcp_sport": 1000, "tcp_dport": 2000},
        ),
        (ethernet(0x0800, ipv4(6, TCP)), {"udp_sport": 0, "udp_dport": 0, "frag": 0}),
        (
            ethernet(0x0800, ipv4(17, UDP)),
            {"ip_protocol": 17, "udp_sport": 3000, "udp_dport": 4000, "tcp_sport": 0},
        ),
        (
            ethernet(0x0800, ipv4(17, UDP)),
            {"src_ipv4_src_ipv6": bytes(12) + bytes((10, 0, 0, 1))},
        ),
        (
            ethernet(0x0800, ipv4(17, UDP)),
            {"dst_ipv4_dst_ipv6": bytes(12) + bytes((10, 0, 0, 2))},
        ),
        (ethernet(0x0800, ipv4(17, UDP, 0x2000)), {"frag": 1}),
        (ethernet(0x0800, ipv4(17, UDP, 0x0010)), {"frag": 1, "udp_sport": 0, "udp_dport": 0}),
        (
            ethernet(0x86DD, ipv6(6, TCP)),
            {"ip_version": 6, "ip_protocol": 6, "tcp_dport": 2000, "ethertype": 0x86DD},
        ),
        (
            ethernet(0x86DD, ipv6(6, TCP)),
            {"src_ipv4_src_ipv6": b"\xfd" + bytes(14) + b"\1"},
        ),
    ],
)
def test_key_has_the_fields_of_the_frame(frame: bytes, fields: dict[str, object]) -> None:
    headers = parse(frame, len(frame))
    assert headers is not None
    key = flow_key(headers)
    assert not key & ~number(MATCHABLE)
    match = Match.decode(key.to_bytes(64, "big"))
    assert {name: getattr(match, name) for name in fields} == fields


def test_without_a_root_every_frame_is_dropped() -> None:
    assert Rules().find(ethernet(0x0806)) is None


def test_an_empty_root_leads_on_by_its_miss() -> None:
    rules = Rules()
    last = rules.table()
    rules.entry(last, rules.group(last, 0, 0), 0, tir=3)
    root = rules.table(0, miss=last)
    rules.steering.set_root(root)
    assert rules.find(ethernet(0x0806)) == (3,)
    rules.steering.set_root(rules.table(0))
    assert rules.find(ethernet(0x0806)) is None


def test_the_lowest_index_wins_whatever_the_order_of_creation() -> None:
    rules = Rules()
    table = rules.table()
    every = rules.group(table, 8, 15)
    exact = rules.group(table, 0, 7, Match(ethertype=0xFFFF))
    rules.entry(table, every, 8, tir=1)
    rules.entry(table, exact, 5, Match(ethertype=0x0806), tir=2)
    rules.entry(table, exact, 3, Match(ethertype=0x0806), tir=3)
    assert rules.find(ethernet(0x0806)) == (3,)
    assert rules.find(ethernet(0x0807)) == (1,)
    rules.steering.delete_entry(table, 3)
    assert rules.find(ethernet(0x0806)) == (2,)
    rules.steering.delete_entry(table, 5)
    assert rules.find(ethernet(0x0806)) == (1,)


def test_value_bits_outside_the_mask_do_not_count() -> None:
    rules = Rules()
    table = rules.table()
    group = rules.group(table, 0, 3, Match(ip_version=0xF))
    rules.entry(table, group, 0, Match(ip_version=4, tcp_dport=1, ethertype=0xFFFF), tir=2)
    assert rules.find(ethernet(0x0800, ipv4(6, TCP))) == (2,)


def test_multicast_is_one_bit_of_the_destination() -> None:
    rules = Rules()
    table = rules.table()
    bit = Match(dmac_47_16=0x01000000)
    rules.entry(table, rules.group(table, 0, 0, bit), 0, bit, tir=2)
    assert rules.find(b"\x33\x33\0\0\0\1" + ethernet(0x86DD)[6:]) == (2,)
    assert rules.find(ethernet(0x86DD)) is None


def test_a_drop_entry_hides_what_follows() -> None:
    rules = Rules()
    table = rules.table(miss=None)
    group = rules.group(table, 0, 3, Match(ethertype=0xFFFF))
    rules.entry(table, group, 0, Match(ethertype=0x0806), drop=True)
    rules.entry(table, rules.group(table, 4, 4), 4, tir=1)
    assert rules.find(ethernet(0x0806)) is None
    assert rules.find(ethernet(0x0807)) == (1,)


def test_an_entry_can_be_pointed_elsewhere() -> None:
    rules = Rules()
    table = rules.table()
    group = rules.group(table, 0, 0)
    rules.entry(table, group, 0, tir=1)
    other = rules.table()
    rules.entry(other, rules.group(other, 0, 0), 0, tir=2)
    rules.entry(table, group, 0, go=other, modify=True)
    assert rules.find(ethernet(0x0806)) == (2,)


def test_a_loop_of_tables_ends_in_a_drop() -> None:
    rules = Rules()
    first = rules.table(0)
    second = rules.table(0, miss=first)
    config = TableConfig(1, 0, MissAction.FORWARD, second)
    rules.steering.modify_table(first, config)
    assert rules.find(ethernet(0x0806)) is None


def test_a_chain_of_max_hops_still_ends_well() -> None:
    rules = Rules()
    last = rules.table()
    rules.entry(last, rules.group(last, 0, 0), 0, tir=1)
    table = last
    for _ in range(MAX_HOPS - 1):
        table = rules.table(0, miss=table)
    rules.steering.set_root(table)
    assert rules.find(ethernet(0x0806)) == (1,)
    rules.steering.set_root(rules.table(0, miss=table))
    assert rules.find(ethernet(0x0806)) is None


def test_the_root_may_be_destroyed() -> None:
    rules = Rules()
    root = rules.table()
    rules.steering.destroy_table(root)
    assert rules.steering.root is None


@pytest.mark.parametrize(
    ("start", "end"), [(0, 16), (5, 4), (16, 16), (3, 3), (0, 15), (4, 20), (0, 0xFFFFFFFF)]
)
def test_groups_outside_the_table_or_over_another_are_refused(start: int, end: int) -> None:
    rules = Rules()
    table = rules.table(4)
    rules.group(table, 3, 5)
    with pytest.raises(CommandError) as error:
        rules.group(table, start, end)
    assert error.value.status is CommandStatus.BAD_PARAM


def test_entries_are_checked() -> None:
    rules = Rules()
    table, other = rules.table(), rules.table()
    group = rules.group(table, 2, 3)
    rules.entry(table, group, 2, tir=1)
    version = rules.steering.version

    def refused(status: CommandStatus, table: TableId, group: int, index: int, **more: int) -> None:
        with pytest.raises(CommandError) as error:
            rules.entry(table, GroupId(group), index, **more)  # type: ignore[arg-type]
        assert error.value.status is status

    refused(CommandStatus.BAD_PARAM, table, group, 4, tir=1)
    refused(CommandStatus.BAD_RES, table, 99, 3, tir=1)
    refused(CommandStatus.BAD_RES, other, group, 3, tir=1)
    refused(CommandStatus.BAD_RES, TableId(99), group, 3, tir=1)
    refused(CommandStatus.BAD_RES, table, group, 3, tir=99)
    refused(CommandStatus.BAD_RES, table, group, 3, go=99)
    refused(CommandStatus.BAD_RES_STATE, table, group, 2, tir=1)
    refused(CommandStatus.BAD_RES, table, group, 3, tir=1, modify=True)
    assert rules.steering.version == version
    assert rules.steering.entries == 1


def test_what_is_in_use_stays() -> None:
    rules = Rules()
    table, target = rules.table(), rules.table()
    group = rules.group(table, 0, 3)
    rules.entry(table, group, 0, go=target)
    attempts: list[Callable[[], None]] = [
        lambda: rules.steering.destroy_table(target),
        lambda: rules.steering.destroy_table(table),
        lambda: rules.steering.destroy_group(table, group),
    ]
    for attempt in attempts:
        with pytest.raises(CommandError) as error:
            attempt()
        assert error.value.status is CommandStatus.BAD_RES_STATE
    rules.steering.delete_entry(table, 0)
    rules.steering.destroy_table(target)
    rules.steering.destroy_group(table, group)
    rules.steering.destroy_table(table)


def test_every_change_is_announced() -> None:
    rules = Rules()
    table = rules.table()
    group = rules.group(table, 0, 3)
    steps: list[Callable[[], object]] = [
        lambda: rules.entry(table, group, 0, tir=1),
        lambda: rules.entry(table, group, 0, tir=2, modify=True),
        lambda: rules.steering.delete_entry(table, 0),
        lambda: rules.steering.destroy_group(table, group),
        lambda: rules.steering.set_root(None),
        lambda: rules.steering.destroy_table(table),
        rules.steering.clear,
    ]
    for step in steps:
        before = rules.changes, rules.steering.version
        step()
        assert rules.changes > before[0]
        assert rules.steering.version > before[1]


def test_a_table_of_64k_entries_costs_one_look_per_group() -> None:
    rules = Rules()
    table = rules.table(16)
    group = rules.group(table, 0, 65535, Match(dmac_47_16=0xFFFFFFFF, dmac_15_0=0xFFFF))
    for index in range(65536):
        rules.entry(table, group, index, Match(dmac_47_16=0x02000000, dmac_15_0=index), tir=1)
    made = rules.steering.tables.get(table).groups[0].matches
    assert len(made) == 65536
    assert rules.find(ethernet(0x0806)) == (1,)


@dataclass
class Slow:
    """The same rules, interpreted entry by entry as the specification says it."""

    miss: dict[int, int] = field(default_factory=dict)
    entries: dict[int, list[tuple[int, int, int, int | None, int | None]]] = field(
        default_factory=dict
    )

    def find(self, table: int, key: int) -> int | None:
        for _ in range(MAX_HOPS):
            for _, mask, value, tir, go in sorted(self.entries[table]):
                if key & mask == value & mask:
                    if tir is not None:
                        return tir
                    if go is None:
                        return None
                    table = go
                    break
            else:
                if table not in self.miss:
                    return None
                table = self.miss[table]
        return None


def match(fields: dict[str, Any]) -> Match:
    return Match(**fields)


FIELDS = st.sampled_from(["ethertype", "first_vid", "ip_protocol", "dmac_15_0"])
SMALL = st.fixed_dictionaries({}, optional={name: st.integers(0, 2) for name in (
    "ethertype", "first_vid", "ip_protocol", "dmac_15_0",
)})  # fmt: skip


@settings(max_examples=200)
@given(st.data())
def test_lookup_agrees_with_a_slow_interpreter(data: st.DataObject) -> None:
    rules, slow = Rules(), Slow()
    tables = [rules.table(3)]
    for _ in range(data.draw(st.integers(0, 3))):
        miss = data.draw(st.none() | st.sampled_from(tables))
        tables.append(rules.table(3, miss=miss))
        if miss is not None:
            slow.miss[tables[-1]] = miss
    for table in tables:
        slow.entries[table] = []
        for start in data.draw(st.permutations([0, 3, 6])):
            masked = data.draw(st.sets(FIELDS))
            mask = match(dict.fromkeys(masked, 0xFF))
            group = rules.group(table, start, start + (1 if start == 6 else 2), mask)
            for index in data.draw(st.sets(st.integers(start, start + 1))):
                value = match(data.draw(SMALL))
                tir = data.draw(st.none() | st.integers(1, 8))
                go = data.draw(st.none() | st.sampled_from(tables)) if tir is None else None
                drop = tir is None and go is None
                rules.entry(table, group, index, value, tir, go=go, drop=drop)
                slow.entries[table].append((index, number(mask), number(value), tir, go))
    root = data.draw(st.sampled_from(tables))
    rules.steering.set_root(root)
    for _ in range(5):
        key = number(match(data.draw(SMALL)))
        expected = slow.find(root, key)
        assert lookup(rules.steering, key) == (None if expected is None else (expected,))
