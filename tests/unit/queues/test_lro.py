# SPDX-License-Identifier: GPL-2.0-or-later
"""LRO: what the driver makes of the first header and the CQE must be the stream that was sent."""

import struct
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nicmodel.objects.queue import PageList, RqConfig, WqConfig, WqType
from nicmodel.objects.transport import PacketMerge
from nicmodel.offload.parse import parse
from nicmodel.queues.lro import MAX_SEGMENTS, MAX_SESSIONS, Lro
from nicmodel.queues.rq import Rq
from nicmodel.spec.cqe import Cqe, CqeOpcode
from nicmodel.units import CounterSet, Cqn, GuestAddr, Pdn, Rqn
from tests.unit.device.packets import ones

MACS = bytes.fromhex("020000000002020000000001")
V4 = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))
V6 = bytes.fromhex("fd00" + "00" * 13 + "01"), bytes.fromhex("fd00" + "00" * 13 + "02")
MERGE = PacketMerge(ipv4=True, ipv6=True, max_ip_payload=255 * 256)
ACK, PSH, FIN, SYN, URG, ECE = 0x10, 8, 1, 2, 0x20, 0x40
NOP_TS = bytes.fromhex("0101080a")


@dataclass
class Queue:
    """What it is given: frame, CQE, check_sum, strip."""

    config: RqConfig
    got: list[tuple[bytes, Cqe, int, bool]] = field(default_factory=list)

    def receive(
        self, frames: list[memoryview], cqe: bytearray, sums: list[int], strip: bool
    ) -> None:
        for frame, check_sum in zip(frames, sums, strict=True):
            self.got.append((bytes(frame), Cqe.decode(cqe), check_sum, strip))


def queue(rqn: int = 9) -> Queue:
    wq = WqConfig(WqType.CYCLIC, 0, 4, Pdn(1), GuestAddr(0), PageList((), 4096))
    return Queue(RqConfig(Rqn(rqn), Cqn(1), CounterSet(0), False, False, wq))


def segment(
    seq: int,
    payload: bytes,
    *,
    v6: bool = False,
    flags: int = ACK,
    ack: int = 2000,
    window: int = 500,
    ttl: int = 64,
    tos: int = 0,
    options: bytes = b"",
    sport: int = 1,
    vlan: bytes = b"",
    ip_options: bytes = b"",
    pad: int = 0,
) -> bytes:
    """A TCP segment with right checksums, made by hand."""
    length = 20 + len(options) + len(payload)
    head = struct.pack(
        ">HHIIBBHHH",
        sport, 80, seq & 0xFFFFFFFF, ack, (5 + len(options) // 4) << 4, flags, window, 0, 0,
    )  # fmt: skip
    tcp = head + options + payload
    source, target = V6 if v6 else V4
    pseudo = source + target + struct.pack(">HH", 6, length)
    check = ones(pseudo + tcp) ^ 0xFFFF
    tcp = tcp[:16] + check.to_bytes(2, "big") + tcp[18:]
    if v6:
        ip = struct.pack(">IHBB", 6 << 28 | tos << 20, length, 6, ttl) + source + target
        return MACS + vlan + b"\x86\xdd" + ip + tcp + bytes(pad)
    size = 20 + len(ip_options)
    ip = struct.pack(
        ">BBHHHBBH", 0x40 | size // 4, tos, size + length, seq >> 4 & 0xFFFF, 0x4000, ttl, 6, 0
    )
    ip += source + target + ip_options
    ip = ip[:10] + (ones(ip) ^ 0xFFFF).to_bytes(2, "big") + ip[12:]
    return MACS + vlan + b"\x08\0" + ip + tcp + bytes(pad)


def offer(lro: Lro, rq: Queue, *frames: bytes, merge: PacketMerge = MERGE, **more: Any) -> bool:
    """All frames in one call, as the receiver makes it for a train."""
    headers = parse(frames[0], len(frames[0]))
    assert headers is not None
    settings_: dict[str, Any] = {"strip": False, "good": True} | more
    cqe = bytearray(Cqe(opcode=CqeOpcode.RESP_SEND, l4_hdr_type=4).encode())
    views = [memoryview(frame) for frame in frames]
    return lro.take(cast(Rq, rq), merge, headers, views, cqe, [7] * len(views), **settings_)


def as_driver(frame: bytes, cqe: Cqe, check_sum: int) -> bytes:
    """The packet after ``en_rx.c`` mlx5e_lro_update_hdr, written from its description."""
    depth = 14
    while frame[depth - 2 : depth] == b"\x81\0":
        depth += 4
    raw = cqe.encode()
    psh, ttl = raw[4] >> 6 & 1, raw[5]
    window, ack = raw[6:8], raw[8:12]
    head, packet = frame[:depth], bytearray(frame[depth:])
    if packet[0] >> 4 == 4:
        packet[8] = ttl
        packet[2:4] = len(packet).to_bytes(2, "big")
        packet[10:12] = b"\0\0"
        packet[10:12] = (ones(bytes(packet[:20])) ^ 0xFFFF).to_bytes(2, "big")
        at, addresses = 20, bytes(packet[12:20])
    else:
        packet[7] = ttl
        packet[4:6] = (len(packet) - 40).to_bytes(2, "big")
        at, addresses = 40, bytes(packet[8:40])
    packet[at + 16 : at + 18] = b"\0\0"
    packet[at + 13] = packet[at + 13] & ~8 | psh << 3
    packet[at + 8 : at + 12] = ack
    packet[at + 14 : at + 16] = window
    size = (packet[at + 12] >> 4) * 4
    pseudo = addresses + struct.pack(">HH", 6, (len(packet) - at) & 0xFFFF)
    total = ones(pseudo + bytes(packet[at : at + size]) + check_sum.to_bytes(2, "big"))
    packet[at + 16 : at + 18] = (total ^ 0xFFFF).to_bytes(2, "big")
    return bytes(head + packet)


def payload_of(packet: bytes) -> bytes:
    headers = parse(packet, len(packet))
    assert headers is not None
    return packet[headers.l4_offset + headers.tcp_header : headers.l3_end]


@pytest.mark.parametrize("v6", [False, True], ids=["v4", "v6"])
@pytest.mark.parametrize("mss", [1448, 999])
@pytest.mark.parametrize("vlan", [b"", b"\x81\0\0\5"], ids=["untagged", "tagged"])
def test_the_driver_rebuilds_one_right_packet(v6: bool, mss: int, vlan: bytes) -> None:
    rq, lro = queue(), Lro()
    data = bytes((at * 13 + (at >> 8)) & 0xFF for at in range(mss * 20 + 100))
    cuts = range(0, len(data), mss)
    options = NOP_TS + bytes(range(8))
    frames = [
        segment(
            1000 + at,
            data[at : at + mss],
            v6=v6,
            vlan=vlan,
            options=options,
            ack=5000 + number,
            window=300 + number,
            ttl=64 - number % 3,
            flags=ACK | (PSH if at == cuts[-1] else 0),
        )
        for number, at in enumerate(cuts)
    ]
    assert offer(lro, rq, *frames)
    ((frame, cqe, check_sum, _),) = rq.got
    assert len(lro) == 0
    assert cqe.lro_num_seg == 21
    packet = as_driver(frame, cqe, check_sum)
    assert payload_of(packet) == data
    headers = parse(packet, len(packet))
    assert headers is not None
    tcp = packet[headers.l4_offset :]
    assert struct.unpack_from(">IIBBH", tcp, 4) == (1000, 5020, 0x80, ACK | PSH, 320)
    pseudo = headers.src_ip + headers.dst_ip + struct.pack(">HH", 6, len(tcp))
    assert ones(pseudo + tcp) == 0xFFFF
    assert packet[headers.l3_offset + (7 if v6 else 8)] == 62


@pytest.mark.parametrize("change", [{"seq": 3}, {"flags": ACK | PSH}, {"flags": ACK | FIN}])
@pytest.mark.parametrize("at", [1, 9, 19])
def test_a_train_with_an_odd_segment_is_not_taken_at_once(change: dict[str, int], at: int) -> None:
    rq, lro = queue(), Lro()
    frames, sent = [], []
    for number in range(20):
        fields = {"seq": 100 * number, "flags": ACK}
        if number == at:
            fields = fields | change
        payload = bytes([number]) * 100
        frames.append(segment(fields["seq"], payload, flags=fields["flags"]))
        sent.append((fields["seq"], payload))
    offer(lro, rq, *frames)
    lro.flush()
    assert len(rq.got) > 1 or at == 19
    got = []
    for frame, cqe, check_sum, _ in rq.got:
        packet = as_driver(frame, cqe, check_sum) if cqe.lro_num_seg else frame
        headers = parse(packet, len(packet))
        assert headers is not None
        (seq,) = struct.unpack_from(">I", packet, headers.l4_offset + 4)
        data = payload_of(packet)
        got += [(seq + at, data[at : at + 100]) for at in range(0, len(data), 100)]
    assert got == sent


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 40),
            st.sampled_from([ACK] * 4 + [ACK | PSH, ACK | FIN, ACK | URG]),
            st.sampled_from([0] * 5 + [1, -3]),
            st.booleans(),
        ),
        max_size=30,
    )
)
def test_the_stream_arrives_in_order_whatever_the_segments(
    steps: list[tuple[int, int, int, bool]],
) -> None:
    """Gaps, repeats, flags, pauses: what is delivered is what was sent, in the same order."""
    rq, lro = queue(), Lro()
    seq, sent = 10, []
    for number, (length, flags, jump, pause) in enumerate(steps):
        seq += jump
        payload = bytes([number + 1]) * length
        sent.append((seq, payload))
        offer(lro, rq, segment(seq, payload, flags=flags))
        seq += length
        if pause:
            lro.flush()
    lro.flush()
    got = []
    for frame, cqe, check_sum, _ in rq.got:
        packet = as_driver(frame, cqe, check_sum) if cqe.lro_num_seg > 1 else frame
        headers = parse(packet, len(packet))
        assert headers is not None
        tcp = packet[headers.l4_offset :]
        pseudo = headers.src_ip + headers.dst_ip + struct.pack(">HH", 6, len(tcp))
        assert ones(pseudo + tcp) == 0xFFFF
        (first,) = struct.unpack_from(">I", tcp, 4)
        got += [(first + at, byte) for at, byte in enumerate(payload_of(packet))]
    wanted = [(first + at, byte) for first, payload in sent for at, byte in enumerate(payload)]
    assert got == wanted


@pytest.mark.parametrize(
    "other",
    [
        segment(1100, b"b" * 100, flags=ACK | FIN),
        segment(1100, b"b" * 100, flags=ACK | SYN),
        segment(1100, b"b" * 100, flags=ACK | URG),
        segment(1100, b"b" * 100, flags=ACK | ECE),
        segment(1100, b"b" * 100, flags=0),
        segment(1100, b""),
        segment(1100, b"b", pad=5),
    ],
)
def test_a_segment_that_cannot_be_merged_ends_the_session_and_stays_alone(other: bytes) -> None:
    rq, lro = queue(), Lro()
    first = segment(1000, b"a" * 100)
    offer(lro, rq, first)
    offer(lro, rq, other)
    assert [frame for frame, _, _, _ in rq.got] == [first, other]
    assert {cqe.lro_num_seg for _, cqe, _, _ in rq.got} == {0}
    assert [check_sum for _, _, check_sum, _ in rq.got] == [7, 7]


@pytest.mark.parametrize(
    "other",
    [
        segment(1101, b"b" * 100),
        segment(1000, b"b" * 100),
        segment(1100, b"b" * 101),
        segment(1100, b"b" * 100, tos=3),
        segment(1100, b"b" * 100, options=NOP_TS + bytes(8)),
        segment(1100, b"b" * 100, vlan=b"\x81\0\0\1"),
    ],
)
def test_a_segment_that_does_not_continue_begins_a_session(other: bytes) -> None:
    rq, lro = queue(), Lro()
    first = segment(1000, b"a" * 100)
    offer(lro, rq, first)
    offer(lro, rq, other)
    assert [frame for frame, _, _, _ in rq.got] == [first]
    lro.flush()
    assert [frame for frame, _, _, _ in rq.got] == [first, other]


@pytest.mark.parametrize(
    ("frame", "more"),
    [
        (segment(1100, b"b" * 100), {"good": False}),
        (segment(1100, b"b" * 100, ip_options=bytes(4)), {}),
        (segment(1100, b"b" * 100), {"merge": PacketMerge(False, True, 65280)}),
    ],
)
def test_what_is_not_for_lro_comes_behind_the_session(frame: bytes, more: dict[str, Any]) -> None:
    rq, lro = queue(), Lro()
    first = segment(1000, b"a" * 100)
    offer(lro, rq, first)
    assert not offer(lro, rq, frame, **more)
    assert [frame for frame, _, _, _ in rq.got] == [first]


def test_the_tir_bounds_the_packet() -> None:
    rq, lro = queue(), Lro()
    merge = PacketMerge(True, True, 1024)
    offer(lro, rq, *[segment(at, b"x" * 200) for at in range(0, 2000, 200)], merge=merge)
    lro.flush()
    assert [cqe.lro_num_seg for _, cqe, _, _ in rq.got] == [5, 5]
    assert max(len(frame) for frame, _, _, _ in rq.got) <= 14 + 20 + 1024


def test_sessions_and_segments_are_bounded() -> None:
    rq, lro = queue(), Lro()
    offer(lro, rq, *[segment(at, b"x") for at in range(MAX_SEGMENTS + 3)])
    assert [cqe.lro_num_seg for _, cqe, _, _ in rq.got] == [MAX_SEGMENTS]
    lro.clear()
    rq.got.clear()
    for sport in range(MAX_SESSIONS + 2):
        offer(lro, rq, segment(5, b"x" * 10, sport=sport))
    assert len(lro) == MAX_SESSIONS
    assert len(rq.got) == 2


def test_flows_and_queues_are_apart() -> None:
    rq, other, lro = queue(1), queue(2), Lro()
    for at in (0, 10):
        for target in (rq, other):
            for sport in (1, 2):
                offer(lro, target, segment(at, b"x" * 10, sport=sport), strip=True)
    lro.flush()
    for target in (rq, other):
        assert [cqe.lro_num_seg for _, cqe, _, _ in target.got] == [2, 2]
        assert all(strip for _, _, _, strip in target.got)
