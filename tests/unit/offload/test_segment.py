# SPDX-License-Identifier: GPL-2.0-or-later
"""Segmentation against a plain, independent implementation: one frame at a time, RFC by RFC."""

import ipaddress
import struct

from hypothesis import given
from hypothesis import strategies as st

from nicmodel.frame import Checked
from nicmodel.offload.segment import segment

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


def header(version: int, proto: int, *, ident: int, seq: int, flags: int, vlan: bool) -> bytes:
    ether = bytes.fromhex("020000000001020000000002") + (b"\x81\x00\x00\x07" if vlan else b"")
    if version == 4:
        source, dest = ipaddress.ip_address("10.0.0.1").packed, b"\x0a\x00\x00\x02"
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 0, ident, 0x4000, 64, proto, 0) + source + dest
        ether += b"\x08\x00"
    else:
        source, dest = (
            ipaddress.ip_address("fd00::1").packed,
            ipaddress.ip_address("fd00::2").packed,
        )
        ip = struct.pack(">IHBB", 0x60000000, 0, proto, 64) + source + dest
        ether += b"\x86\xdd"
    if proto == 6:
        l4 = struct.pack(">HHIIBBHHH", 1000, 2000, seq, 99, 0x80, flags, 500, 0xAAAA, 0) + bytes(12)
    elif proto == 17:
        l4 = struct.pack(">HHHH", 1000, 2000, 0, 0xBBBB)
    else:
        l4 = bytes(range(40))
    return ether + ip + l4


@st.composite
def jobs(draw: st.DrawFn) -> tuple[int, int, bytes, list[bytes], int, bool]:
    version = draw(st.sampled_from((4, 6)))
    proto = draw(st.sampled_from((6, 17, 253)))
    head = header(
        version,
        proto,
        ident=draw(st.integers(0, 65535)),
        seq=draw(st.integers(0, 2**32 - 1)),
        flags=ACK | draw(st.sampled_from((0, FIN, PSH, FIN | PSH, CWR, CWR | PSH))),
        vlan=draw(st.booleans()),
    )
    pieces = draw(st.lists(st.binary(min_size=1, max_size=3000), min_size=1, max_size=6))
    total = sum(map(len, pieces))
    mss = -(-total // draw(st.integers(1, min(total, 60))))
    return version, proto, head, pieces, mss, draw(st.booleans())


@given(jobs())
def test_every_frame_is_what_the_rfcs_say(
    job: tuple[int, int, bytes, list[bytes], int, bool],
) -> None:
    version, proto, head, pieces, mss, checksums = job
    train = segment(head, [memoryview(p) for p in pieces], mss, l3=checksums, l4=checksums)
    assert train is not None
    payload = b"".join(pieces)
    frames = [head + payload[at : at + mss] for at in range(0, len(payload), mss)]
    for number, view in enumerate(train.views()):
        length = len(frames[number])
        assert bytes(view[len(head) :]) == frames[number][len(head) :].ljust(60 - len(head), b"\0")
        frames[number] = bytes(view[:length])
    assert train.count == len(frames)
    l3 = head.index(b"\x45" if version == 4 else b"\x60", 14)
    l4 = l3 + (20 if version == 4 else 40)
    for number, frame in enumerate(frames):
        ip, datagram = frame[l3:l4], frame[l4:]
        expected = bytearray(head)
        if version == 4:
            expected[l3 + 2 : l3 + 4] = len(frame[l3:]).to_bytes(2, "big")
            ident = int.from_bytes(head[l3 + 4 : l3 + 6], "big") + number
            expected[l3 + 4 : l3 + 6] = (ident & 0xFFFF).to_bytes(2, "big")
            source, dest = ip[12:16], ip[16:20]
            if checksums:
                assert fold(ip) == 0xFFFF
                expected[l3 + 10 : l3 + 12] = ip[10:12]
        else:
            expected[l3 + 4 : l3 + 6] = len(datagram).to_bytes(2, "big")
            source, dest = ip[8:24], ip[24:40]
        if proto == 6:
            seq = int.from_bytes(head[l4 + 4 : l4 + 8], "big") + number * mss
            expected[l4 + 4 : l4 + 8] = (seq & 0xFFFFFFFF).to_bytes(4, "big")
            if number:
                expected[l4 + 13] &= ~CWR & 0xFF
            if number != len(frames) - 1:
                expected[l4 + 13] &= ~(FIN | PSH) & 0xFF
        if proto == 17:
            expected[l4 + 4 : l4 + 6] = len(datagram).to_bytes(2, "big")
        if checksums and proto in (6, 17):
            field = l4 + (16 if proto == 6 else 6)
            assert fold(pseudo(source, dest, proto, len(datagram)) + datagram) == 0xFFFF
            assert proto == 6 or frame[field : field + 2] != b"\0\0"
            expected[field : field + 2] = frame[field : field + 2]
            assert Checked.L4 in train.checked
        else:
            assert Checked.L4 not in train.checked
        assert frame[: len(head)] == expected


def test_a_header_that_is_not_ip_is_refused() -> None:
    assert segment(bytes(64), [memoryview(b"x" * 100)], 50, l3=True, l4=True) is None


def test_a_tcp_sum_of_all_ones_is_sent_as_zero() -> None:
    head = header(4, 6, ident=0, seq=0, flags=ACK, vlan=False)
    train = segment(head, [memoryview(bytes(2))], 2, l3=False, l4=True)
    assert train is not None
    value = next(train.views())[50:52]
    # a payload equal to the checksum makes the whole datagram sum to all ones
    train = segment(head, [memoryview(bytes(value))], 2, l3=False, l4=True)
    assert train is not None
    assert bytes(next(train.views())[50:52]) == b"\0\0"
