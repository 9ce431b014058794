# SPDX-License-Identifier: GPL-2.0-or-later
"""Segmentation against a plain, independent implementation: one frame at a time, RFC by RFC."""

import ipaddress
import struct
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nicmodel.frame import HEAD, Checked, Train
from nicmodel.offload.parse import parse
from nicmodel.offload.segment import OtherLso
from tests.unit.offload.cut import segment

FIN, PSH, ACK, CWR = 0x01, 0x08, 0x10, 0x80


def fold(data: bytes) -> int:
    """RFC 1071, word by word with end-around carry."""
    if len(data) % 2:
        data += b"\0"
    total = 0
    for (word,) in struct.iter_unpack(">H", data):
        total += word
        total = (total & 0xFFFF) + (total >> 16)
    return total


def pseudo(source: bytes, destination: bytes, proto: int, length: int) -> bytes:
    if len(source) == 4:
        return source + destination + struct.pack(">BBH", 0, proto, length)
    return source + destination + struct.pack(">IHBB", length, 0, 0, proto)


@dataclass
class Head:
    """Inline headers of a large send, and where their parts begin."""

    data: bytes
    version: int
    proto: int
    l3: int
    l4: int


def header(
    version: int,
    proto: int,
    *,
    ident: int = 0,
    seq: int = 0,
    flags: int = ACK,
    tags: int = 0,
    options: int = 0,
    l4: bytes = b"",
) -> Head:
    """``options``: words of IPv4 options, or IPv6 extension headers of 8 bytes each.

    ``l4`` is the header of a protocol that is neither TCP nor UDP.
    """
    ether = bytes.fromhex("020000000001020000000002") + b"\x81\x00\x00\x07" * tags
    if version == 4:
        source, dest = ipaddress.ip_address("10.0.0.1").packed, b"\x0a\x00\x00\x02"
        first = 0x45 + options
        ip = struct.pack(">BBHHHBBH", first, 0, 0, ident, 0x4000, 64, proto, 0) + source + dest
        ip += b"\1\1\1\0" * options
        ether += b"\x08\x00"
    else:
        source, dest = (
            ipaddress.ip_address("fd00::1").packed,
            ipaddress.ip_address("fd00::2").packed,
        )
        following = [60] * options + [proto]
        ip = struct.pack(">IHBB", 0x60000000, 0, following[0], 64) + source + dest
        ip += b"".join(bytes((kind, 0, 1, 4, 0, 0, 0, 0)) for kind in following[1:])
        ether += b"\x86\xdd"
    if proto == 6:
        l4 = struct.pack(">HHIIBBHHH", 1000, 2000, seq, 99, 0x80, flags, 500, 0xAAAA, 0) + bytes(12)
    elif proto == 17:
        l4 = struct.pack(">HHHH", 1000, 2000, 0, 0xBBBB)
    return Head(ether + ip + l4, version, proto, len(ether), len(ether) + len(ip))


@dataclass
class Job:
    head: Head
    pieces: list[bytes]
    mss: int
    l3: bool
    l4: bool
    other: OtherLso


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    head = header(
        draw(st.sampled_from((4, 6))),
        draw(st.sampled_from((6, 17, 146, 253))),
        ident=draw(st.integers(0, 65535)),
        seq=draw(st.integers(0, 2**32 - 1)),
        flags=ACK | draw(st.sampled_from((0, FIN, PSH, FIN | PSH, CWR, CWR | PSH))),
        tags=draw(st.integers(0, 2)),
        options=draw(st.integers(0, 5)),
        l4=draw(st.binary(max_size=64)),
    )
    pieces = draw(st.lists(st.binary(min_size=1, max_size=3000), min_size=1, max_size=6))
    total = sum(map(len, pieces))
    mss = -(-total // draw(st.integers(1, min(total, 60))))
    other = draw(st.sampled_from((OtherLso.REPLICATE, OtherLso.SEQUENCE)))
    return Job(head, pieces, mss, draw(st.booleans()), draw(st.booleans()), other)


def cut(job: Job) -> Train:
    pieces = [memoryview(piece) for piece in job.pieces]
    train = segment(job.head.data, pieces, job.mss, l3=job.l3, l4=job.l4, other=job.other)
    assert train is not None
    return train


@given(jobs())
def test_every_frame_is_what_the_rfcs_say(job: Job) -> None:
    check(job)


@pytest.mark.parametrize("ident", [65531, 65532, 65533, 65535])
def test_the_identification_may_wrap(ident: int) -> None:
    head = header(4, 6, ident=ident, seq=2**32 - 150)
    check(Job(head, [bytes(range(200)) * 2], 100, True, True, OtherLso.REPLICATE))


def check(job: Job) -> None:
    """Cut and compare."""
    train = cut(job)
    head, l3, l4, proto = job.head.data, job.head.l3, job.head.l4, job.head.proto
    payload = b"".join(job.pieces)
    frames = [head + payload[at : at + job.mss] for at in range(0, len(payload), job.mss)]
    for number, view in enumerate(train.views()):
        length = len(frames[number])
        assert bytes(view[len(head) :]) == frames[number][len(head) :].ljust(60 - len(head), b"\0")
        frames[number] = bytes(view[:length])
    known = proto in (6, 17) and len(head) <= HEAD
    assert train.headers == (parse(train.head, train.length) if known else None)
    assert train.count == len(frames)
    assert train.octets == sum(max(60, len(frame)) for frame in frames)
    for number, frame in enumerate(frames):
        ip, datagram = frame[l3:l4], frame[l4:]
        expected = bytearray(head)
        if job.head.version == 4:
            expected[l3 + 2 : l3 + 4] = len(frame[l3:]).to_bytes(2, "big")
            ident = int.from_bytes(head[l3 + 4 : l3 + 6], "big") + number
            expected[l3 + 4 : l3 + 6] = (ident & 0xFFFF).to_bytes(2, "big")
            source, dest = ip[12:16], ip[16:20]
            if job.l3:
                assert fold(ip) == 0xFFFF
                expected[l3 + 10 : l3 + 12] = ip[10:12]
        else:
            expected[l3 + 4 : l3 + 6] = len(frame[l3 + 40 :]).to_bytes(2, "big")
            source, dest = ip[8:24], ip[24:40]
        if proto == 6 or (proto != 17 and job.other is OtherLso.SEQUENCE and len(head) - l4 >= 8):
            seq = int.from_bytes(head[l4 + 4 : l4 + 8], "big") + number * job.mss
            expected[l4 + 4 : l4 + 8] = (seq & 0xFFFFFFFF).to_bytes(4, "big")
        if proto == 6:
            if number:
                expected[l4 + 13] &= ~CWR & 0xFF
            if number != len(frames) - 1:
                expected[l4 + 13] &= ~(FIN | PSH) & 0xFF
        if proto == 17:
            expected[l4 + 4 : l4 + 6] = len(datagram).to_bytes(2, "big")
        if job.l4 and proto in (6, 17):
            field = l4 + (16 if proto == 6 else 6)
            assert fold(pseudo(source, dest, proto, len(datagram)) + datagram) == 0xFFFF
            assert proto == 6 or frame[field : field + 2] != b"\0\0"
            expected[field : field + 2] = frame[field : field + 2]
            assert Checked.L4 in train.checked
        else:
            assert Checked.L4 not in train.checked
        assert frame[: len(head)] == expected


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("proto", [6, 17, 253])
def test_a_card_may_segment_tcp_and_udp_alone(version: int, proto: int) -> None:
    head = header(version, proto, l4=bytes(40))
    pieces = [memoryview(bytes(3000))]
    train = segment(head.data, pieces, 1000, l3=True, l4=True, other=OtherLso.REFUSE)
    assert (train is None) is (proto == 253)


def test_a_header_that_is_not_ip_is_refused() -> None:
    assert segment(bytes(64), [memoryview(b"x" * 100)], 50, l3=True, l4=True) is None


def test_a_tcp_sum_of_all_ones_is_sent_as_zero() -> None:
    head = header(4, 6).data
    train = segment(head, [memoryview(bytes(2))], 2, l3=False, l4=True)
    assert train is not None
    value = next(train.views())[50:52]
    # a payload equal to the checksum makes the whole datagram sum to all ones
    train = segment(head, [memoryview(bytes(value))], 2, l3=False, l4=True)
    assert train is not None
    assert bytes(next(train.views())[50:52]) == b"\0\0"
