# SPDX-License-Identifier: GPL-2.0-or-later
"""Sends in a row that leave as a train: wire, completions and receiver do not tell them apart."""

import random
import struct
from dataclasses import dataclass
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nicmodel.errors import QueueFault
from nicmodel.frame import Checked, Train
from nicmodel.objects.counters import PortCounters
from nicmodel.objects.store import Objects
from nicmodel.offload.coalesce import RUN, coalesce
from nicmodel.queues.lro import Lro
from nicmodel.queues.receiver import Receiver
from nicmodel.queues.tls_rx import TlsRx
from nicmodel.spec.cqe import CqeSyndrome
from nicmodel.spec.wqe import ETH_INSERT_VLAN
from nicmodel.units import Rqn
from tests.unit.device.packets import ethernet, right, tcp, udp
from tests.unit.queues.rig import CQ_AT, LKEY, LOG_CQ, RAM, Rig, data_segment, eth_segment
from tests.unit.queues.test_receiver import to_tirs

SEND, LSO, MPSW = 0x0A, 0x0E, 0x29
A, B = b"\x0a\0\0\1", b"\x0a\0\0\2"
TO, FROM = b"\2\0\0\0\0\2", b"\2\0\0\0\0\1"


SIZE = 64
"""Bytes of a frame of ``_equal``."""


@dataclass(frozen=True)
class Run:
    """``count`` frames of one shape; those in ``odd`` have another byte ``odd[i]`` in the header.

    ``spoil`` says what is wrong with a WQE after them, if anything.
    """

    shape: str
    count: int
    payload: int
    trailer: int
    seed: int
    odd: dict[int, int]
    cs: int
    ce: int
    spoil: str


def _v6(proto: int, l4: bytes) -> bytes:
    head = struct.pack(">IHBB", 0x60000000, len(l4), proto, 64)
    return ethernet(TO, FROM, 0x86DD, head + A * 4 + B * 4 + l4)


def _frame(run: Run, number: int) -> bytes:
    """What the driver sends: garbage in id, sequence and checksum."""
    dice = random.Random(run.seed * 1000 + number)
    payload = dice.randbytes(run.payload)
    if run.shape == "arp":
        return ethernet(b"\xff" * 6, FROM, 0x0806, payload)
    proto, version = run.shape[:3], run.shape[3:]
    datagram = (udp if proto == "udp" else tcp)(A, B, 1000, 9, payload)
    l4 = 34
    if version == "6":
        frame = bytearray(_v6(17 if proto == "udp" else 6, datagram[20:]))
        l4 = 54
    else:
        frame = bytearray(ethernet(TO, FROM, 0x0800, datagram))
        if version == "frag":
            frame[20] = 0x20
        frame[18:20] = dice.randbytes(2)
        frame[24:26] = dice.randbytes(2)
    if proto == "tcp":
        frame[l4 + 4 : l4 + 8] = dice.randbytes(4)
        frame[l4 + 16 : l4 + 18] = dice.randbytes(2)
    else:
        frame[l4 + 6 : l4 + 8] = dice.randbytes(2)
    if number in run.odd:
        frame[run.odd[number] % len(frame)] ^= 1 << dice.randrange(8)
    if version == "vlan":
        frame[12:12] = b"\x81\0\x20\x05"
    return bytes(frame) + dice.randbytes(run.trailer)


runs = st.builds(
    Run,
    shape=st.sampled_from(
        ["udp4", "udp4", "tcp4", "udp6", "tcp6", "udpvlan", "tcpvlan", "udpfrag", "arp"]
    ),
    count=st.integers(1, 20),
    payload=st.sampled_from([0, 1, 17, 18, 22, 51, 200]),
    trailer=st.sampled_from([0, 0, 0, 1, 6]),
    seed=st.integers(0, 99),
    odd=st.dictionaries(st.integers(0, 19), st.integers(0, 80), max_size=2),
    cs=st.sampled_from([0xC0, 0xC0, 0x80, 0x40, 0]),
    ce=st.sampled_from([0, 2]),
    spoil=st.sampled_from(
        ["", "", "", "key", "memory", "short", "long", "opcode", "sqn", "inline", "two", "nop"]
    ),
)


class Sender(Rig):
    """A rig whose memory keys refuse as those of the device do."""

    def __init__(self) -> None:
        super().__init__()
        self.gather.translate = self._translate

    @staticmethod
    def _translate(lkey: int, addr: int, length: int) -> int:
        if lkey != LKEY:
            raise QueueFault("no such key", CqeSyndrome.LOCAL_PROT_ERR)
        return addr

    def put(self, run: Run) -> None:
        """Post its WQEs."""
        for number in range(run.count):
            self.post(SEND, eth_segment(cs=run.cs) + self.seg(_frame(run, number)), ce=run.ce)
        frame = _frame(run, run.count)
        plain = eth_segment(cs=run.cs) + self.seg(frame)
        if run.spoil == "key":
            self.post(SEND, plain[:16] + data_segment(60, 0x999, 0x20000))
        elif run.spoil == "memory":
            self.post(SEND, plain[:16] + data_segment(len(frame), LKEY, RAM - 8))
        elif run.spoil == "short":
            self.post(SEND, plain[:16] + data_segment(13, LKEY, 0x20000))
        elif run.spoil == "long":
            self.post(SEND, plain[:16] + data_segment(10241, LKEY, 0x20000))
        elif run.spoil == "opcode":
            self.post(0x77, plain)
        elif run.spoil == "sqn":
            self.post(SEND, plain, sqn=8)
        elif run.spoil == "inline":
            self.post(SEND, eth_segment(cs=run.cs, inline=frame[:18]) + self.seg(frame[18:]))
        elif run.spoil == "two":
            self.post(SEND, eth_segment(cs=run.cs) + self.seg(frame[:30]) + self.seg(frame[30:]))
        elif run.spoil == "nop":
            self.post(0)


def _sent(rig: Rig) -> list[tuple[bytes, Checked]]:
    return [(bytes(f.data), f.checked) for traffic in rig.sent for f in traffic.frames()]


def _outcome(rig: Rig) -> tuple[object, ...]:
    sq, cq = rig.sq, rig.cq
    return (
        _sent(rig),
        rig.memory.read(CQ_AT, 64 << LOG_CQ),
        (cq.producer, cq.broken, sq.consumer, sq.octets, sq.state),
        [record.event for record in rig.sink.records],
    )


@settings(max_examples=400)
@given(st.lists(runs, min_size=1, max_size=3), st.integers(1, 40), st.integers(1, 4000))
def test_a_queue_does_not_tell_them_apart(burst: list[Run], budget: int, octets: int) -> None:
    """One by one is what a queue does that is watched for faults."""
    together, alone = Sender(), Sender()
    alone.sq.intercept([lambda: None])
    for rig in (together, alone):
        for run in burst:
            rig.put(run)
        rig.memory.store_be32(0x1F004, rig.posted)
    more = True
    while more:
        more = alone.sq.run(budget, octets)
        assert together.sq.run(budget, octets) == more
        assert _outcome(together) == _outcome(alone)


PLAIN = eth_segment(cs=0xC0)
SPECIAL = {
    "another length": (SEND, 0xC0, 0, -1),
    "no checksums": (SEND, 0, 0, 0),
    "a tag": (SEND, 0xC0, ETH_INSERT_VLAN << 16 | 0x2005, 0),
    "too short": (SEND, 0xC0, 0, 13 - SIZE),
    "too long": (SEND, 0xC0, 0, 10241 - SIZE),
    "no data": (SEND, 0xC0, 0, -SIZE),
    "inline": (SEND, 0xC0, 0, 1 << 31),
    "an opcode for other queues": (0x08, 0xC0, 0, 0),
}


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("what", SPECIAL)
def test_a_special_one_among_equals(what: str, first: bool) -> None:
    """Each of them looks as the others do but for one thing."""
    opcode, cs, insert, more = SPECIAL[what]
    together, alone = Sender(), Sender()
    alone.sq.intercept([lambda: None])
    for rig in (together, alone):
        run = _equal("udp4", 3 * RUN, ce=2)
        frames = [rig.place(_frame(run, number)) for number in range(run.count)]
        special = range(RUN) if first else range(RUN, 2 * RUN)
        for number, addr in enumerate(frames):
            segment = data_segment(SIZE, LKEY, addr)
            if number in special:
                segment = data_segment(SIZE + more, LKEY, addr)
                rig.post(opcode, eth_segment(cs=cs, insert=insert) + segment)
            else:
                rig.post(SEND, PLAIN + segment)
        rig.ring()
    assert _outcome(together) == _outcome(alone)


@pytest.mark.parametrize("shape", ["udp4", "tcp4", "udp6", "tcp6"])
def test_headers_differ_in_nothing_else(shape: str) -> None:
    l3_id, l3_sum = {18, 19}, {24, 25}
    l4 = 34 if shape.endswith("4") else 54
    at_sum = l4 + (16 if shape.startswith("tcp") else 6)
    may = {at_sum, at_sum + 1}
    may |= l3_id | l3_sum if shape.endswith("4") else set()
    may |= set(range(l4 + 4, l4 + 8)) if shape.startswith("tcp") else set()
    end = l4 + (20 if shape.startswith("tcp") else 8)
    for at in range(end + 1):
        frames = [bytearray(_frame(_equal(shape, 0), number)) for number in range(RUN + 1)]
        frames[RUN][at] ^= 1
        train = coalesce([memoryview(frame) for frame in frames], l3=True, l4=True)
        assert train is not None
        assert train.count == RUN + (at in may or at >= end), at


class Arrival(Rig):
    """A rig whose receive queue gets what arrives at a receiver."""

    def __init__(self, *, lro: bool = False) -> None:
        super().__init__()
        objects = Objects()
        to_tirs(objects, [Rqn(9)], (0,))
        self.lro = Lro()
        tls = TlsRx(self.memory, objects, self.tracer)
        self.receiver = Receiver(
            objects, {Rqn(9): self.rq}, PortCounters(), lambda: 7, self.lro, tls
        )
        self.buffers(16, 300)


@settings(max_examples=200)
@given(runs)
def test_a_receiver_does_not_either(run: Run) -> None:
    sender = Sender()
    sender.put(run)
    sender.ring()
    together, alone = Arrival(), Arrival()
    for traffic in sender.sent:
        together.receiver.receive(traffic, looped=False)
        for frame in traffic.frames():
            alone.receiver.receive(frame, looped=False)
    assert together.memory.read(0, RAM) == alone.memory.read(0, RAM)
    assert together.cq.producer == alone.cq.producer
    assert together.rq.out_of_buffer == alone.rq.out_of_buffer


@settings(max_examples=200)
@given(st.lists(runs, min_size=1, max_size=2))
def test_several_frames_in_one_wqe_are_sent_so_too(burst: list[Run]) -> None:
    alone = Sender()
    together = Sender()
    frames = [_frame(run, number) for run in burst for number in range(run.count)][:60]
    cs = burst[0].cs
    body = b"".join(map(together.seg, frames))
    for at in range(0, len(body), 16 * 50):
        together.post(MPSW, eth_segment(cs=cs) + body[at : at + 16 * 50])
    together.ring()
    alone.sq.intercept([lambda: None])
    for frame in frames:
        alone.post(SEND, eth_segment(cs=cs) + alone.seg(frame), ce=0)
    alone.ring()
    assert _sent(together) == _sent(alone)


def _equal(shape: str, count: int, **how: int) -> Run:
    given = {"payload": 22, "trailer": 0, "seed": 1, "cs": 0xC0, "ce": 0} | how
    return Run(shape=shape, count=count, odd={}, spoil="", **given)


def test_equal_sends_are_one_train() -> None:
    """What is above would hold if there never were a train."""
    for shape in ("udp4", "tcp4", "udp6", "tcp6", "udpvlan", "tcpvlan"):
        rig = Sender()
        rig.put(_equal(shape, RUN))
        rig.ring()
        (train,) = rig.sent
        assert isinstance(train, Train)
        assert (train.count, train.checked) == (RUN, Checked.BOTH)
        if shape.endswith("4"):
            assert all(right(bytes(frame.data[14:])) for frame in train.frames())


def test_frames_of_one_wqe_are_one_train() -> None:
    rig = Sender()
    frames = [_frame(_equal("udp4", RUN), number) for number in range(RUN)]
    rig.post(MPSW, eth_segment(cs=0xC0) + b"".join(map(rig.seg, frames)))
    rig.ring()
    assert [type(traffic) for traffic in rig.sent] == [Train]


@pytest.mark.parametrize(("length", "insert"), [(64, ETH_INSERT_VLAN << 16 | 5), (13, 0), (0, 0)])
def test_equal_frames_of_one_wqe_may_be_special(length: int, insert: int) -> None:
    together, alone = Sender(), Sender()
    frames = [_frame(_equal("udp4", RUN), number)[:length] for number in range(RUN)]
    eth = eth_segment(cs=0xC0, insert=insert)
    together.post(MPSW, eth + b"".join(map(together.seg, frames)))
    together.ring()
    for frame in frames:
        alone.post(MPSW, eth + alone.seg(frame))
    alone.ring()
    assert _sent(together) == _sent(alone)
    assert len(together.sent) == (RUN if length == 64 else 0)
    assert together.sq.state is alone.sq.state


def test_another_flow_ends_the_train() -> None:
    rig = Sender()
    rig.put(_equal("udp4", RUN + 2))
    rig.put(_equal("tcp4", RUN, payload=10))
    rig.ring()
    assert [traffic.count for traffic in rig.sent] == [RUN + 2] + [1] * RUN


def test_a_run_may_wrap_around_the_ring() -> None:
    rig = Sender()
    put = partial(rig.put, _equal("udp4", 20))
    for _ in range(10):
        put()
        rig.ring()
    assert sum(traffic.count for traffic in rig.sent) == 200
    assert len(rig.sent) < 80
