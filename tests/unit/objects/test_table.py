# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables of objects: numbers, limits, references."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nicmodel.errors import CommandError, QueueFault
from nicmodel.objects.mkey import MemoryKey
from nicmodel.objects.queue import PageList
from nicmodel.objects.store import MAX_QUEUE_PAGES, Objects
from nicmodel.objects.table import ObjectTable
from nicmodel.spec.cqe import CqeSyndrome
from nicmodel.spec.status import CommandStatus
from nicmodel.units import Eqn, GuestAddr, Mkey, Pdn


def small() -> ObjectTable[Eqn, str]:
    return ObjectTable("EQ", 1, 4)


def test_numbers_are_reused_as_late_as_possible() -> None:
    table = small()
    assert [table.create(str) for _ in range(2)] == ["1", "2"]
    table.remove(Eqn(1))
    assert [table.create(str) for _ in range(3)] == ["3", "4", "1"]


def test_a_full_table_is_a_limit() -> None:
    table = small()
    for _ in range(4):
        table.create(str)
    with pytest.raises(CommandError) as error:
        table.create(str)
    assert error.value.status is CommandStatus.LIM
    table.remove(Eqn(2))
    assert table.create(str) == "2"


def test_what_is_held_cannot_go() -> None:
    table = small()
    table.create(str)
    table.hold([Eqn(1), Eqn(1)])
    table.release([Eqn(1)])
    with pytest.raises(CommandError) as error:
        table.remove(Eqn(1))
    assert error.value.status is CommandStatus.BAD_RES_STATE
    table.release([Eqn(1)])
    assert table.remove(Eqn(1)) == "1"


def test_a_number_that_was_never_given_is_a_bad_resource() -> None:
    table = small()
    for attempt in (table.get, table.remove, lambda n: table.replace(n, "x")):
        with pytest.raises(CommandError) as error:
            attempt(Eqn(3))
        assert error.value.status is CommandStatus.BAD_RES
    assert table.find(Eqn(3)) is None


def test_a_factory_that_fails_leaves_nothing() -> None:
    table = small()

    def fail(number: Eqn) -> str:
        raise CommandError(CommandStatus.BAD_PARAM, "no")

    with pytest.raises(CommandError):
        table.create(fail)
    assert len(table) == 0


class Table(RuleBasedStateMachine):
    """A table against a plain dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.table: ObjectTable[Eqn, int] = ObjectTable("EQ", 1, 6)
        self.alive: dict[Eqn, int] = {}
        self.held: dict[Eqn, int] = {}

    @precondition(lambda self: len(self.alive) < 6)
    @rule()
    def create(self) -> None:
        number = Eqn(self.table.create(int))
        assert number not in self.alive
        assert 1 <= number <= 6
        self.alive[number] = number

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def hold(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.alive)))
        self.table.hold([number])
        self.held[number] = self.held.get(number, 0) + 1

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.held)))
        self.table.release([number])
        self.held[number] -= 1
        if not self.held[number]:
            del self.held[number]

    @rule(number=st.integers(0, 8))
    def remove(self, number: int) -> None:
        eqn = Eqn(number)
        if eqn in self.alive and eqn not in self.held:
            self.table.remove(eqn)
            del self.alive[eqn]
        else:
            with pytest.raises(CommandError):
                self.table.remove(eqn)

    @invariant()
    def same(self) -> None:
        assert sorted(self.table) == sorted(self.alive)
        assert sorted(self.table.values()) == sorted(self.alive.values())


TestTable = Table.TestCase


def key(*, everything: bool = False, start: int = 0, length: int = 0) -> MemoryKey:
    return MemoryKey(Mkey(0x5A), Pdn(1), everything, GuestAddr(start), length)


def test_memory_keys_translate_within_their_range_only() -> None:
    objects = Objects()
    whole = objects.create_mkey(key(everything=True))
    part = objects.create_mkey(key(start=0x1000, length=0x100))
    lkey = part << 8 | 0x5A
    assert objects.translate(whole << 8 | 0x5A, (1 << 64) - 1, 1) == (1 << 64) - 1
    assert objects.translate(lkey, 0x1000, 0x100) == 0x1000
    for addr, length in ((0xFFF, 1), (0x1000, 0x101), (0x10FF, 2), (0, 0x2000)):
        with pytest.raises(QueueFault) as error:
            objects.translate(lkey, addr, length)
        assert error.value.syndrome == CqeSyndrome.LOCAL_PROT_ERR


def test_a_destroyed_or_invented_key_is_a_protection_error() -> None:
    objects = Objects()
    index = objects.create_mkey(key(everything=True))
    lkey = index << 8 | 0x5A
    assert objects.lkey_valid(lkey)
    assert lkey != 0x100
    objects.destroy_mkey(index)
    for wrong in (lkey, lkey ^ 1, 0x100, 0):
        assert not objects.lkey_valid(wrong)
        with pytest.raises(QueueFault):
            objects.translate(wrong, 0, 1)


def test_no_lkey_is_the_one_that_ends_scatter_lists() -> None:
    objects = Objects()
    made = [objects.create_mkey(MemoryKey(Mkey(0), Pdn(1), True, GuestAddr(0), 0)) for _ in "ab"]
    assert not objects.lkey_valid(0x100)
    assert made == [2, 3]


def test_queue_pages_are_bounded_over_all_queues() -> None:
    objects = Objects()
    half = PageList((GuestAddr(0),) * (MAX_QUEUE_PAGES // 2), 4096)
    for _ in range(2):
        objects.check_pages(len(half.pages))
        objects.keep(half)
    with pytest.raises(CommandError) as error:
        objects.check_pages(1)
    assert error.value.status is CommandStatus.LIM
    objects.drop(half)
    objects.check_pages(1)
    objects.clear()
    objects.check_pages(MAX_QUEUE_PAGES)


def test_leaked_names_what_is_alive_and_clear_forgets_it() -> None:
    objects = Objects()
    before = objects.receive_version
    objects.pds.create(lambda pd: pd)
    objects.create_mkey(key())
    assert objects.leaked() == {"PD": 1, "mkey": 1}
    objects.clear()
    assert objects.leaked() == {}
    assert objects.receive_version > before
    assert not objects.lkey_valid(2 << 8 | 0x5A)
