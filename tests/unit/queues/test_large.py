# SPDX-License-Identifier: GPL-2.0-or-later
"""Large sends in a row that leave as one train: nobody sees more of it than of one by one."""

import random
from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nicmodel.frame import Checked, Origin, Traffic, Train
from nicmodel.objects.counters import WireDirection
from nicmodel.objects.queue import QueueState
from nicmodel.offload.parse import parse
from nicmodel.offload.tls.record import Buffer
from nicmodel.offload.tls.stream import EncryptStream, Record
from nicmodel.queues.sq import Sq
from nicmodel.spec.wqe import WqeOpcode
from tests.unit.offload.test_segment import ACK, header
from tests.unit.queues.rig import CQ_AT, LKEY, LOG_CQ, RAM, data_segment, eth_segment
from tests.unit.queues.test_runs import Arrival, Sender
from tests.unit.queues.tls import post_params, tls_objects

SPOILS = ["", "", "", "", "key", "memory", "mss", "empty", "sqn", "opcode", "arp", "send", "nop"]


@dataclass(frozen=True)
class Row:
    """``lengths`` of payloads of large sends with headers of one kind.

    The header of number i has the bit ``odd[i]`` inverted. ``spoil`` says what comes then.
    """

    version: int
    proto: int
    lengths: list[int]
    mss: int
    seed: int
    odd: dict[int, int]
    cs: int
    ce: int
    tls: bool
    spoil: str


rows = st.builds(
    Row,
    version=st.sampled_from([4, 4, 6]),
    proto=st.sampled_from([6, 6, 6, 17, 146]),
    lengths=st.lists(st.sampled_from([1, 14, 99, 100, 101, 200, 250, 400, 999]), max_size=8),
    mss=st.sampled_from([10, 100, 101, 200]),
    seed=st.integers(0, 99),
    odd=st.dictionaries(st.integers(0, 7), st.integers(0, 8 * 60), max_size=2),
    cs=st.sampled_from([0xC0, 0xC0, 0xC0, 0x80, 0x40, 0]),
    ce=st.sampled_from([0, 2]),
    tls=st.booleans(),
    spoil=st.sampled_from(SPOILS),
)


def _head(row: Row, number: int) -> bytes:
    """What the driver writes: identification and sequence go on, or jump."""
    dice = random.Random(row.seed * 100 + number)
    made = header(
        row.version,
        row.proto,
        ident=dice.choice([number * 5, 65535 - number, 65530]),
        seq=dice.choice([number * 1000, 2**32 - 50]),
        flags=ACK | dice.choice([0, 0, 1, 8, 9, 0x80]),
        l4=bytes(12),
    )
    out = bytearray(made.data)
    if number in row.odd:
        bit = row.odd[number] % (8 * len(out))
        out[bit // 8] ^= 1 << bit % 8
    return bytes(out)


class Large(Sender):
    """A rig that posts rows, with a TLS context; ``seen`` is what it was shown before it left."""

    def __init__(self, *, alone: bool, tapped: bool = False, origins: bool = False) -> None:
        super().__init__()
        self.tls.origins = origins
        self.tisn, dek = tls_objects(self)
        post_params(self, self.tisn, dek)
        self.ring()
        self.seen: list[tuple[int, list[bytes], Origin | None]] = []
        if alone:
            self.sq.intercept([lambda: None])
        if tapped:
            self.sq.tap(self.show)

    def show(self, sq: Sq, traffic: Traffic) -> None:
        """Note it, and which WQE it is of."""
        frames = [bytes(frame.data) for frame in traffic.frames()]
        self.seen.append((sq.index, frames, traffic.origin))

    def put(self, row: Row) -> None:  # type: ignore[override]
        """Post its WQEs."""
        dice = random.Random(row.seed)
        imm = self.tisn << 8 if row.tls else 0
        for number, length in enumerate(row.lengths):
            data = dice.randbytes(length)
            edge = dice.randrange(length)
            pieces = [piece for piece in (data[:edge], data[edge:]) if piece]
            eth = eth_segment(cs=row.cs, mss=row.mss, inline=_head(row, number))
            self.post(WqeOpcode.LSO, eth + b"".join(map(self.seg, pieces)), ce=row.ce, imm=imm)
        self.spoil(row, imm)

    def spoil(self, row: Row, imm: int) -> None:
        """Post what is not as the others."""
        head = _head(row, 0)
        eth = eth_segment(cs=row.cs, mss=row.mss, inline=head)
        good = self.seg(bytes(range(200)))
        lso = WqeOpcode.LSO
        if row.spoil == "key":
            self.post(lso, eth + data_segment(60, 0x999, 0x20000), imm=imm)
        elif row.spoil == "memory":
            self.post(lso, eth + data_segment(60, LKEY, RAM - 8), imm=imm)
        elif row.spoil == "mss":
            self.post(lso, eth_segment(cs=row.cs, inline=head) + good, imm=imm)
        elif row.spoil == "empty":
            self.post(lso, eth, imm=imm)
        elif row.spoil == "sqn":
            self.post(lso, eth + good, sqn=8)
        elif row.spoil == "opcode":
            self.post(0x77, eth + good)
        elif row.spoil == "arp":
            arp = head[:12] + b"\x08\x06" + head[14:]
            self.post(lso, eth_segment(mss=row.mss, inline=arp) + good, imm=imm)
        elif row.spoil == "send":
            self.post(WqeOpcode.SEND, eth_segment(inline=head[:18]) + good)
        elif row.spoil == "nop":
            self.post(WqeOpcode.NOP)


def _sent(rig: Large) -> list[tuple[bytes, Checked]]:
    return [(bytes(f.data), f.checked) for traffic in rig.sent for f in traffic.frames()]


def _outcome(rig: Large) -> tuple[object, ...]:
    """All that can be seen, however it left."""
    sq, cq = rig.sq, rig.cq
    counted = WireDirection()
    for traffic in rig.sent:
        counted.count(traffic.head, traffic)
        counted.measure(traffic)
    return (
        _sent(rig),
        [part.origin for traffic in rig.sent for part in traffic.split()],
        rig.seen,
        counted,
        rig.memory.read(CQ_AT, 64 << LOG_CQ),
        (cq.producer, cq.broken, sq.consumer, sq.octets, sq.state),
        [record.event for record in rig.sink.records],
    )


@settings(max_examples=300)
@given(
    st.lists(rows, min_size=1, max_size=2),
    st.integers(1, 12),
    st.integers(1, 4000),
    st.booleans(),
    st.booleans(),
)
def test_a_queue_does_not_tell_them_apart(
    burst: list[Row], budget: int, octets: int, tapped: bool, origins: bool
) -> None:
    """One by one is what a queue does that is watched for faults."""
    together = Large(alone=False, tapped=tapped, origins=origins)
    alone = Large(alone=True, tapped=tapped, origins=origins)
    for rig in (together, alone):
        for row in burst:
            rig.put(row)
        rig.memory.store_be32(0x1F004, rig.posted)
    more = True
    while more:
        more = alone.sq.run(budget, octets)
        assert together.sq.run(budget, octets) == more
        assert _outcome(together) == _outcome(alone)
    for traffic in together.sent:
        if isinstance(traffic, Train):
            assert traffic.headers in (None, parse(traffic.head, traffic.length))
            assert max(frame.length for frame in traffic.frames()) == traffic.length


@settings(max_examples=200)
@given(rows, st.integers(0, 16), st.integers(0, 16))
@example(Row(4, 17, [99], 10, 0, {}, 0xC0, 0, False, ""), 10, 0)  # all frames are padded
def test_nor_does_a_receiver(row: Row, buffers: int, polled: int) -> None:
    sender = Large(alone=False)
    sender.put(row)
    sender.ring()
    together, alone = Arrival(), Arrival()
    for rig in (together, alone):
        rig.memory.store_be32(0x1F040, buffers)
        for _ in range(polled):
            rig.cq.post(bytes(64))
    for traffic in sender.sent:
        together.receiver.receive(traffic, looped=False)
        for frame in traffic.frames():
            alone.receiver.receive(frame, looped=False)
    assert together.memory.read(0, RAM) == alone.memory.read(0, RAM)
    assert (together.cq.producer, together.cq.broken) == (alone.cq.producer, alone.cq.broken)
    assert together.rq.out_of_buffer == alone.rq.out_of_buffer


def _row(lengths: list[int], **how: object) -> Row:
    given = {"version": 4, "proto": 6, "mss": 100, "seed": 1, "cs": 0xC0, "ce": 0, "tls": False}
    return Row(lengths=lengths, odd={}, spoil="", **(given | how))  # type: ignore[arg-type]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("proto", [6, 17, 146])
@pytest.mark.parametrize("tls", [False, True])
def test_a_row_is_one_train(version: int, proto: int, tls: bool) -> None:
    """What is above would hold if there never were one."""
    rig = Large(alone=False)
    rig.put(_row([250, 1, 300], version=version, proto=proto, tls=tls))
    rig.ring()
    (train,) = rig.sent
    assert isinstance(train, Train)
    assert [part.count for part in train.parts] == [3, 1, 3]


def test_a_short_one_does_not_begin_a_row() -> None:
    """No frame of a train is longer than the first, which is the one that an MTU is held to."""
    rig = Large(alone=False)
    rig.put(_row([99, 250, 250]))
    rig.ring()
    assert [traffic.count for traffic in rig.sent] == [1, 6]


@pytest.mark.parametrize(("start", "end"), [(0, 7), (0, 2), (1, 7), (2, 4), (3, 6), (5, 5)])
def test_what_is_split_is_what_was_joined(start: int, end: int) -> None:
    rig = Large(alone=False, origins=True)
    rig.put(_row([250, 1, 300], tls=True))
    rig.ring()
    (train,) = rig.sent
    assert isinstance(train, Train)
    frames = [bytes(frame.data) for frame in train.frames()]
    pieces = list(train.split(start, end))
    assert [bytes(f.data) for piece in pieces for f in piece.frames()] == frames[start:end]
    assert all(not piece.parts for piece in pieces)
    for piece in pieces:
        if piece.origin is not None:
            assert piece.count * 100 >= sum(part.end - part.start for part in piece.origin.records)


def _frames(cs: int, *heads: bytes) -> tuple[list[tuple[bytes, Checked]], QueueState]:
    """What a queue that has sent nothing yet makes of large sends with ``heads``; its state."""
    rig = Large(alone=False)
    data = rig.seg(bytes(range(150)))
    for head in heads:
        rig.post(WqeOpcode.LSO, eth_segment(cs=cs, mss=100, inline=head) + data, ce=0)
    rig.ring()
    return _sent(rig), rig.sq.state


@pytest.mark.parametrize("cs", [0xC0, 0])
@pytest.mark.parametrize(("version", "proto"), [(4, 6), (6, 6), (4, 17), (6, 17), (4, 146)])
def test_a_header_may_differ_in_any_byte(version: int, proto: int, cs: int) -> None:
    """What is kept of the first header must not show in frames of the second."""
    first = _head(_row([], version=version, proto=proto), 0)
    frames, _ = _frames(cs, first)
    for at in range(len(first)):
        for bits in (0x01, 0x50, 0xA0):
            changed = bytearray(first)
            changed[at] ^= bits
            others, state = _frames(cs, bytes(changed))
            expected = frames + others + (frames if state is QueueState.RDY else [])
            assert _frames(cs, first, bytes(changed), first) == (expected, state), (at, bits)


def test_rows_are_of_one_kind() -> None:
    """Headers are as before, but what is asked for differs."""
    for how in ({"cs": 0x80}, {"cs": 0x40}, {"tls": True}, {"mss": 101}):
        rigs = Large(alone=False), Large(alone=True)
        for rig in rigs:
            for row in (_row([250]), _row([250], **how), _row([250])):
                rig.put(row)
            rig.ring()
        assert [traffic.count for traffic in rigs[0].sent] == [3, 3, 3]
        assert _outcome(rigs[0]) == _outcome(rigs[1])


@pytest.mark.parametrize("watched", [False, True])
def test_a_row_passes_the_engine_as_one_stream(
    watched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if somebody wants to know which packet did what."""
    rig = Large(alone=False, origins=watched)
    runs: list[int] = []
    run = EncryptStream.run

    def counted(stream: EncryptStream, data: Buffer, out: memoryview) -> list[Record]:
        runs.append(len(data))
        return run(stream, data, out)

    monkeypatch.setattr(EncryptStream, "run", counted)
    rig.put(_row([250, 1, 300], tls=True))
    rig.ring()
    assert runs == [551]
