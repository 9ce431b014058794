# SPDX-License-Identifier: GPL-2.0-or-later
"""Conversations with the queues, as the driver holds them."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nicmodel.frame import Train
from nicmodel.objects.queue import QueueState
from nicmodel.spec.cqe import CqeSyndrome
from nicmodel.trace.events import QueueError
from tests.unit.queues.rig import CQ_AT, DBR_AT, LOG_CQ, LOG_EQ, RAM, SQ_AT, Rig, eth_segment

NOP, SEND, LSO, MPSW = 0x00, 0x0A, 0x0E, 0x29
MACS = bytes.fromhex("0200000000010200000000ff")


@pytest.fixture
def rig() -> Rig:
    return Rig()


def counter(cqe: bytes) -> int:
    return struct.unpack_from(">H", cqe, 0x3C)[0]  # type: ignore[no-any-return]


def ipv4_udp(payload: bytes) -> bytes:
    udp = struct.pack(">HHHH", 1, 2, 8 + len(payload), 0xDEAD) + payload
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 7, 0, 64, 17, 0) + b"\x0a\0\0\1\x0a\0\0\2"
    return MACS + b"\x08\0" + ip + udp


def test_nop_completes_with_the_index_of_its_first_wqebb(rig: Rig) -> None:
    rig.post(SEND, eth_segment() + rig.seg(MACS + b"\x12\x34" + bytes(60)), ce=0)
    rig.post(NOP, bytes(100), ds=8)
    third = rig.post(NOP)
    rig.ring()
    first, second = rig.cqes()
    assert counter(first) == 1
    assert (first[0x3F] >> 4, first[0x38]) == (0, NOP)
    assert counter(second) == third == 3


def test_a_completion_says_when(rig: Rig) -> None:
    rig.time = 0x1_2345_6789_ABCD
    rig.post(NOP)
    rig.ring()
    assert int.from_bytes(rig.cqes()[0][0x30:0x38], "big") == rig.time


def test_completion_counter_is_sixteen_bit_and_not_masked(rig: Rig) -> None:
    for _ in range(150):
        last = rig.post(NOP)
        rig.ring()
        rig.consume()
    assert last == 149
    assert counter(rig.cqes()[-1]) == 149


def test_wqes_behind_the_doorbell_record_are_not_read(rig: Rig) -> None:
    rig.post(NOP)
    rig.post(0x7F)
    rig.ring(1)
    assert len(rig.cqes()) == 1
    assert rig.sq.state is QueueState.RDY


def test_send_gathers_inline_and_data_and_pads(rig: Rig) -> None:
    head = MACS + b"\x12\x34"
    rig.post(SEND, eth_segment(inline=head) + rig.seg(b"abc") + rig.seg(b"defg"))
    rig.ring()
    (frame,) = rig.sent[0].frames()
    assert bytes(frame.data) == (head + b"abcdefg").ljust(60, b"\0")


def test_vlan_insertion(rig: Rig) -> None:
    frame = MACS + b"\x12\x34" + bytes(range(60))
    rig.post(SEND, eth_segment(insert=0x8000 << 16 | 0x2005) + rig.seg(frame))
    rig.ring()
    (sent,) = rig.sent[0].frames()
    assert bytes(sent.data) == frame[:12] + b"\x81\0\x20\x05" + frame[12:]


@pytest.mark.parametrize(("kind", "tpid"), [(0x8000, b"\x81\0"), (0x8001, b"\x88\xa8")])
@pytest.mark.parametrize("opcode", [SEND, MPSW])
def test_each_kind_of_tag_is_inserted(rig: Rig, opcode: int, kind: int, tpid: bytes) -> None:
    frame = ipv4_udp(b"p" * 40)
    rig.post(opcode, eth_segment(cs=0xC0, insert=kind << 16 | 0x2005) + rig.seg(frame))
    rig.post(opcode, eth_segment(cs=0xC0) + rig.seg(frame))
    rig.ring()
    tagged, plain = (bytes(next(t.frames()).data) for t in rig.sent)
    assert tagged == plain[:12] + tpid + b"\x20\x05" + plain[12:]


@pytest.mark.parametrize("inline", [14, 18, 34, 42, 60])
@pytest.mark.parametrize("in_wqe", [False, True])
def test_how_much_is_inline_makes_no_difference(rig: Rig, inline: int, in_wqe: bool) -> None:
    """Inline modes L2, IP and TCP_UDP, and more; the rest gathered, or inline data."""
    frame = ipv4_udp(bytes(range(60)))
    rest = frame[inline:]
    if in_wqe:
        segment = struct.pack(">I", len(rest) | 0x80000000) + rest
        segments = segment.ljust(-(-len(segment) // 16) * 16, b"\0")
    else:
        segments = rig.seg(rest[:7]) + rig.seg(rest[7:])
    rig.post(SEND, eth_segment(cs=0xC0, inline=frame[:inline]) + segments)
    rig.post(SEND, eth_segment(cs=0xC0) + rig.seg(frame))
    rig.ring()
    split, whole = (bytes(next(t.frames()).data) for t in rig.sent)
    assert split == whole


def test_a_turn_ends_when_enough_bytes_are_sent(rig: Rig) -> None:
    body = eth_segment() + rig.seg(MACS + b"\x12\x34" + bytes(986))
    for _ in range(8):
        rig.post(SEND, body)
    rig.memory.store_be32(DBR_AT + 4, rig.posted)
    assert rig.sq.run(16, 2500)
    assert len(rig.sent) == 3, "the third one goes beyond"
    assert rig.sq.octets == 3000
    assert not rig.sq.run(16, 5000)
    assert len(rig.sent) == 8


def test_checksums_are_inserted_when_asked_for(rig: Rig) -> None:
    frame = ipv4_udp(b"payload")
    rig.post(SEND, eth_segment(cs=0xC0) + rig.seg(frame))
    rig.post(SEND, eth_segment(cs=0) + rig.seg(frame))
    rig.ring()
    with_sums, without = (bytes(next(t.frames()).data) for t in rig.sent)
    assert without[24:26] == b"\0\0"
    assert without[40:42] == b"\xde\xad"
    words = sum(struct.unpack(">10H", with_sums[14:34]))
    assert (words & 0xFFFF) + (words >> 16) == 0xFFFF
    assert with_sums[40:42] not in (b"\xde\xad", b"\0\0")


def test_multi_packet_wqe_sends_every_segment(rig: Rig) -> None:
    frames = [MACS + b"\x12\x34" + bytes([n]) * 60 for n in range(3)]
    inline = struct.pack(">I", 74 | 0x80000000) + frames[2]
    body = eth_segment() + rig.seg(frames[0]) + rig.seg(frames[1]) + inline.ljust(80, b"\0")
    rig.post(MPSW, body)
    rig.ring()
    assert [bytes(next(t.frames()).data) for t in rig.sent] == frames


def test_lso_leaves_as_one_train(rig: Rig) -> None:
    head = ipv4_udp(b"")
    payload = bytes(range(256)) * 10
    rig.post(LSO, eth_segment(cs=0xC0, mss=1000, inline=head) + rig.seg(payload))
    rig.ring()
    (train,) = rig.sent
    assert isinstance(train, Train)
    assert b"".join(bytes(view)[42:] for view in train.views()) == payload


@pytest.mark.parametrize(
    ("opcode", "make", "syndrome"),
    [
        (0x7F, lambda rig: b"", CqeSyndrome.LOCAL_QP_OP_ERR),
        (SEND, lambda rig: b"", CqeSyndrome.LOCAL_QP_OP_ERR),
        (
            SEND,
            lambda rig: eth_segment() + struct.pack(">IIQ", 64, 0x999, 0),
            CqeSyndrome.LOCAL_PROT_ERR,
        ),
        (
            SEND,
            lambda rig: eth_segment() + struct.pack(">IIQ", 64, 0x200, RAM - 8),
            CqeSyndrome.LOCAL_PROT_ERR,
        ),
        (
            SEND,
            lambda rig: eth_segment() + struct.pack(">IIQ", 1 << 19, 0x200, 0),
            CqeSyndrome.LOCAL_LENGTH_ERR,
        ),
        (SEND, lambda rig: eth_segment(inline=MACS)[:16], CqeSyndrome.LOCAL_LENGTH_ERR),
        (
            SEND,
            lambda rig: eth_segment() + struct.pack(">I", 60 | 0x80000000) + bytes(28),
            CqeSyndrome.LOCAL_LENGTH_ERR,
        ),
        (
            LSO,
            lambda rig: eth_segment(mss=0, inline=ipv4_udp(b"")) + rig.seg(b"x" * 99),
            CqeSyndrome.LOCAL_LENGTH_ERR,
        ),
        (
            LSO,
            lambda rig: eth_segment(mss=1, inline=ipv4_udp(b"")) + rig.seg(b"x" * 0x4001),
            CqeSyndrome.LOCAL_LENGTH_ERR,
        ),
        (
            LSO,
            lambda rig: eth_segment(mss=9, inline=bytes(42)) + rig.seg(b"x" * 99),
            CqeSyndrome.LOCAL_QP_OP_ERR,
        ),
    ],
)
def test_a_bad_wqe_costs_the_queue(
    rig: Rig, opcode: int, make: object, syndrome: CqeSyndrome
) -> None:
    rig.post(NOP, ce=0)
    assert callable(make)
    bad = rig.post(opcode, make(rig), ce=0)
    later = rig.post(NOP, ce=0)
    rig.ring()
    error, flushed = rig.cqes()
    assert (error[0x3F] >> 4, error[0x37], counter(error)) == (13, syndrome, bad)
    assert (flushed[0x37], counter(flushed)) == (CqeSyndrome.WR_FLUSH_ERR, later)
    assert rig.sq.state is QueueState.ERR
    assert not rig.sent
    assert len(rig.events_of(QueueError)) == 1
    rig.sq.modify(QueueState.RST)
    rig.sq.modify(QueueState.RDY)
    rig.posted = 0
    rig.post(NOP)
    rig.ring()
    last = rig.cqes()[-1]
    assert (last[0x3F] >> 4, counter(last)) == (0, 0)


def test_a_doorbell_record_behind_the_ring_is_an_error(rig: Rig) -> None:
    rig.ring(0x4000)
    assert rig.sq.state is QueueState.ERR
    assert rig.events_of(QueueError)


def test_the_owner_bit_changes_with_every_lap(rig: Rig) -> None:
    size = 1 << LOG_CQ
    for lap in range(3):
        for _ in range(size):
            rig.post(NOP)
            rig.ring()
            rig.consume()
        entries = [rig.memory.read(CQ_AT + i * 64, 64)[0x3F] & 1 for i in range(size)]
        assert entries == [lap & 1] * size


def test_cq_overrun_is_an_event_and_overwrites_nothing(rig: Rig) -> None:
    size = 1 << LOG_CQ
    for _ in range(size + 3):
        rig.post(NOP)
    rig.ring()
    assert rig.cq.broken
    assert [kind for kind, _, _ in rig.events] == [4]
    assert rig.events[0][2][:4] == struct.pack(">I", 5)
    assert counter(rig.memory.read(CQ_AT, 64)) == 0


def test_arming_with_unseen_completions_fires_at_once_and_once(rig: Rig) -> None:
    rig.eq.doorbell(0, arm=True)
    rig.post(NOP)
    rig.ring()
    assert not rig.pending
    rig.cq.arm(0)
    assert rig.vectors == [3]
    rig.cq.fire()
    assert rig.eq.producer == 1


def test_arming_up_to_date_waits_for_the_next_completion(rig: Rig) -> None:
    rig.eq.doorbell(0, arm=True)
    rig.cq.arm(0)
    assert not rig.vectors
    for _ in range(3):
        rig.post(NOP)
    rig.ring()
    assert rig.pending == [rig.cq]
    rig.cq.fire()
    rig.cq.fire()
    assert (rig.eq.producer, rig.vectors) == (1, [3])


def test_eq_armed_behind_fires_at_once(rig: Rig) -> None:
    rig.eq.post(0x0A, 0, b"")
    assert not rig.vectors
    rig.eq.doorbell(0, arm=True)
    assert rig.vectors == [3]
    rig.eq.doorbell(1, arm=True)
    assert rig.vectors == [3]
    rig.eq.doorbell(1, arm=False)
    rig.eq.post(0x0A, 0, b"")
    assert rig.vectors == [3, 3]


def test_eq_overrun_loses_events_and_says_so(rig: Rig) -> None:
    for _ in range((1 << LOG_EQ) + 2):
        rig.eq.post(0x0A, 0, b"")
    assert rig.eq.producer == 1 << LOG_EQ
    assert len(rig.events_of(QueueError)) == 2


def receive(rig: Rig, *frames: bytes, strip: bool = False) -> None:
    cqe = bytearray(64)
    cqe[0x3F] = 0x20
    sums = [0x1111 * (i + 1) for i in range(len(frames))]
    rig.rq.receive([memoryview(f) for f in frames], cqe, sums, strip)


def test_a_frame_is_scattered_over_the_segments(rig: Rig) -> None:
    (first,) = rig.buffers(1, 100)
    frame = bytes(range(90))
    receive(rig, frame)
    (cqe,) = rig.cqes()
    assert rig.memory.read(first, 90) == frame
    assert rig.memory.read(first + 90, 10) == b"\xaa" * 10
    assert struct.unpack_from(">I", cqe, 0x2C)[0] == 90
    assert struct.unpack_from(">H", cqe, 0x14)[0] == 0x1111


def test_two_segments_share_a_long_frame(rig: Rig) -> None:
    first = rig.buffers(1, 64, 64)[0]
    receive(rig, bytes(range(100)))
    assert rig.memory.read(first, 128)[:100] == bytes(range(100))


def test_the_tag_is_stripped(rig: Rig) -> None:
    (first,) = rig.buffers(1, 100)
    receive(rig, MACS + b"\x81\0\0\5\x12\x34" + bytes(60), strip=True)
    assert rig.memory.read(first, 74) == MACS + b"\x12\x34" + bytes(60)
    assert struct.unpack_from(">I", rig.cqes()[0], 0x2C)[0] == 74


def test_no_buffer_is_a_counted_drop(rig: Rig) -> None:
    rig.buffers(1, 100)
    receive(rig, bytes(60), bytes(60), bytes(60))
    assert (len(rig.cqes()), rig.rq.out_of_buffer) == (1, 2)
    rig.buffers(1, 100)
    receive(rig, bytes(60))
    assert len(rig.cqes()) == 2


def test_a_frame_that_does_not_fit_is_an_error_completion(rig: Rig) -> None:
    rig.buffers(2, 50)
    receive(rig, bytes(60))
    (cqe,) = rig.cqes()
    assert (cqe[0x3F] >> 4, cqe[0x37]) == (14, CqeSyndrome.LOCAL_LENGTH_ERR)
    assert rig.rq.state is QueueState.RDY
    receive(rig, bytes(40))
    assert len(rig.cqes()) == 2


def test_memory_that_goes_away_stops_the_queue(rig: Rig) -> None:
    rig.buffers(4, 100)
    receive(rig, bytes(60))
    rig.memory.enabled = False
    receive(rig, bytes(60))
    assert rig.rq.state is QueueState.ERR
    rig.memory.enabled = True
    rig.memory.unmap(0, RAM)
    rig.sq.run(16, 1 << 30)
    assert rig.sq.state is QueueState.ERR


@settings(max_examples=300)
@given(
    st.lists(st.binary(min_size=16, max_size=192), min_size=1, max_size=8),
    st.integers(0, 0xFFFF),
    st.sampled_from((None, NOP, SEND, LSO, MPSW)),
)
def test_no_wqe_makes_the_queue_fail(wqes: list[bytes], producer: int, opcode: int | None) -> None:
    rig = Rig()
    at = SQ_AT
    for number, body in enumerate(wqes):
        wqe = body
        if opcode is not None:
            units = min(63, max(1, len(wqe) // 16))
            wqe = struct.pack(">II", number << 8 | opcode, 7 << 8 | units) + wqe[8:]
        rig.memory.write(at, wqe)
        at += -(-len(wqe) // 64) * 64
    rig.memory.store_be32(DBR_AT + 4, producer % 70)
    for _ in range(10):
        if not rig.sq.run(16, 1 << 30):
            break
    else:
        pytest.fail("the queue does not come to an end")


@given(st.binary(min_size=32, max_size=32), st.integers(0, 0xFFFFFFFF))
def test_no_receive_wqe_makes_the_queue_fail(wqe: bytes, producer: int) -> None:
    rig = Rig()
    rig.buffers(1, 10)
    rig.memory.write(0x10000, wqe)
    rig.memory.store_be32(DBR_AT + 0x40, producer)
    receive(rig, bytes(60), bytes(1500))
