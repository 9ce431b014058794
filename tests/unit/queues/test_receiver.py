# SPDX-License-Identifier: GPL-2.0-or-later
"""Who gets what arrives: several receivers of one train."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import pytest

from nicmodel.frame import Frame, Traffic
from nicmodel.memory import GuestMemory
from nicmodel.objects.counters import PortCounters
from nicmodel.objects.flow import (
    Destinations,
    FlowAction,
    FlowEntry,
    MissAction,
    TableConfig,
)
from nicmodel.objects.queue import PageList, RqConfig, WqConfig, WqType
from nicmodel.objects.store import Objects
from nicmodel.objects.transport import SELF_LB_UNICAST, HashFields, RxHashFn, Tir, TirDispType
from nicmodel.queues.lro import Lro
from nicmodel.queues.receiver import Receiver
from nicmodel.queues.rq import Rq
from nicmodel.queues.tls_rx import TlsRx
from nicmodel.trace.tracer import Tracer
from nicmodel.units import CounterSet, Cqn, GuestAddr, Pdn, Rqn, Rqtn, TableId, Tdn, Tirn
from tests.unit.offload.cut import segment

MSS, COUNT = 1000, 5


@dataclass
class Queue:
    """A receive queue with room for everything."""

    config: RqConfig
    frames: list[bytes] = field(default_factory=list)
    sums: list[int] = field(default_factory=list)

    def receive(
        self, frames: Iterable[memoryview], cqe: bytearray, sums: Iterable[int], strip: bool
    ) -> None:
        for frame, check_sum in zip(frames, sums, strict=True):
            self.frames.append(bytes(frame))
            self.sums.append(check_sum)


HEADER = (
    bytes.fromhex("0200000000010200000000ff0800")
    + struct.pack(">BBHHHBBH", 0x45, 0, 0, 7, 0, 64, 6, 0)
    + b"\x0a\0\0\1\x0a\0\0\2"
    + struct.pack(">HHIIBBHHH", 1, 2, 7, 8, 0x50, 0x10, 99, 0, 0)
)


def train() -> Traffic:
    made = segment(HEADER, [memoryview(bytes(MSS * COUNT - 1))], MSS, l3=True, l4=True)
    assert made is not None
    return made


def to_tirs(objects: Objects, rqns: list[Rqn], self_lb_block: tuple[int, ...]) -> None:
    """One table that sends everything to a direct TIR of each queue."""
    steering = objects.steering

    def direct(tirn: Tirn, rqn: Rqn, block: int) -> Tir:
        no_hash = (Rqtn(0), RxHashFn.NONE, False, b"", HashFields())
        return Tir(tirn, TirDispType.DIRECT, rqn, *no_hash, block, False, Tdn(1))

    tirs = tuple(
        objects.tirs.create(partial(direct, rqn=rqn, block=block)).tirn
        for rqn, block in zip(rqns, self_lb_block, strict=True)
    )
    table = steering.create_table(TableConfig(0, 0, MissAction.DEFAULT, TableId(0)))
    group = steering.create_group(table.table_id, 0, 0, 0)
    entry = FlowEntry(0, group.group_id, 0, FlowAction.FWD_DEST, 0, Destinations(tirs))
    steering.set_entry(table.table_id, entry, modify=False)
    steering.set_root(table.table_id)


def network(
    *rqns: int, self_lb_block: tuple[int, ...] = ()
) -> tuple[Receiver, PortCounters, list[Queue]]:
    """A receiver that gives everything to each of the queues."""
    objects, counters = Objects(), PortCounters()
    wq = WqConfig(WqType.CYCLIC, 0, 4, Pdn(1), GuestAddr(0), PageList((), 4096))
    queues = {
        Rqn(rqn): Queue(RqConfig(Rqn(rqn), Cqn(1), CounterSet(0), False, False, wq)) for rqn in rqns
    }
    to_tirs(objects, list(queues), self_lb_block or (0,) * len(queues))
    tls = TlsRx(GuestMemory.anonymous([]), objects, Tracer("nic", lambda: 0))
    receiver = Receiver(objects, cast("dict[Rqn, Rq]", queues), counters, lambda: 0, Lro(), tls)
    return receiver, counters, list(queues.values())


def test_each_of_two_receivers_gets_the_whole_train() -> None:
    receiver, counters, (one, other) = network(1, 2)
    sent = train()
    receiver.receive(sent, looped=False)
    assert one.frames == [bytes(frame.data) for frame in sent.frames()]
    assert other.frames == one.frames
    assert other.sums == one.sums
    assert counters.rx_steering_discards == 0


def test_what_the_vport_sent_reaches_those_tirs_only_that_want_it() -> None:
    receiver, counters, (one, other) = network(1, 2, self_lb_block=(0, SELF_LB_UNICAST))
    sent = train()
    receiver.receive(sent, looped=True)
    assert (len(one.frames), len(other.frames)) == (0, COUNT)
    receiver.receive(sent, looped=False)
    assert (len(one.frames), len(other.frames)) == (COUNT, 2 * COUNT)
    assert counters.rx_steering_discards == 0


@pytest.mark.parametrize("mss", [1, 3, 6, 100, 1000])
@pytest.mark.parametrize("length", [2, 7, 2000, 2001])
def test_a_train_is_received_as_its_frames_are(mss: int, length: int) -> None:
    """Padded frames of one length may have datagrams of several."""
    made = segment(HEADER, [memoryview(bytes(range(251)) * 8)[:length]], mss, l3=True, l4=True)
    assert made is not None
    receiver, _, (together,) = network(1)
    receiver.receive(made, looped=False)
    receiver, _, (alone,) = network(1)
    for frame in made.frames():
        receiver.receive(Frame(frame.data), looped=False)
    assert alone.sums == together.sums
