# SPDX-License-Identifier: GPL-2.0-or-later
"""Checksums against RFC 1071's word-by-word sum and a known packet."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nicmodel.frame import Checked, Headers
from nicmodel.offload import checksum
from nicmodel.offload.parse import parse


def fold(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total: int = sum(word for (word,) in struct.iter_unpack(">H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def frame_of(version: int, proto: int, payload: bytes, pad: int = 0) -> bytearray:
    ether = bytes(12) + (b"\x08\x00" if version == 4 else b"\x86\xdd")
    head = struct.pack(">HHIIBBHHH", 1, 2, 3, 4, 0x50, 0x10, 5, 0, 0)
    l4 = head if proto == 6 else struct.pack(">HHHH", 1, 2, 8 + len(payload), 0)
    l4 += payload
    if version == 4:
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(l4), 7, 0, 64, proto, 0)
        ip += b"\x0a\0\0\1\x0a\0\0\2"
    else:
        ip = struct.pack(">IHBB", 0x60000000, len(l4), proto, 64) + b"\xfd" * 16 + b"\xfe" * 16
    return bytearray(ether + ip + l4 + b"\xee" * pad)


def parsed(frame: bytearray) -> Headers:
    headers = parse(frame, len(frame))
    assert headers is not None
    return headers


@given(st.binary(max_size=200))
def test_ones_sum_is_rfc_1071(data: bytes) -> None:
    assert checksum.ones_sum(data) == fold(data) % 65535


@given(
    st.sampled_from((4, 6)), st.sampled_from((6, 17)), st.binary(max_size=99), st.integers(0, 20)
)
def test_inserted_checksums_verify_and_any_flipped_bit_does_not(
    version: int, proto: int, payload: bytes, pad: int
) -> None:
    frame = frame_of(version, proto, payload, pad)
    headers = parsed(frame)
    checksum.insert_l3(frame, headers)
    assert checksum.insert_l4(frame, headers)
    end = headers.l3_end
    if version == 4:
        assert fold(bytes(frame[14:34])) == 0xFFFF
        pseudo = bytes(frame[26:34]) + struct.pack(">BBH", 0, proto, end - 34)
        assert fold(pseudo + bytes(frame[34:end])) == 0xFFFF
    else:
        pseudo = bytes(frame[22:54]) + struct.pack(">II", end - 54, proto)
        assert fold(pseudo + bytes(frame[54:end])) == 0xFFFF
    both = Checked.L3 | Checked.L4
    assert checksum.verify(frame, headers) == both
    assert checksum.complete(frame, headers) == fold(bytes(frame[14:end]))
    assert checksum.complete_known_good(frame, headers) == checksum.complete(frame, headers)
    frame[-1 - pad] ^= 0x10
    assert checksum.verify(frame, headers) != both


def test_a_valid_sum_is_never_reported_as_zero() -> None:
    frame = frame_of(4, 6, b"")
    headers = parsed(frame)
    checksum.insert_l3(frame, headers)
    # make the whole datagram sum to zero modulo 65535
    rest = checksum.ones_sum(frame[14 : headers.l3_end])
    struct.pack_into(">H", frame, 14 + 20 + 14, (65535 - rest + 5) % 65535)
    assert checksum.ones_sum(frame[14 : headers.l3_end]) == 0
    assert checksum.complete(frame, headers) == 0xFFFF


@pytest.mark.parametrize(
    ("proto", "field", "sent"), [(17, 40, b"\xff\xff"), (6, 50, b"\0\0")], ids=["udp", "tcp"]
)
def test_a_sum_of_all_ones(proto: int, field: int, sent: bytes) -> None:
    frame = frame_of(4, proto, b"\0\0")
    headers = parsed(frame)
    rest = checksum.pseudo_sum(headers, proto, headers.l3_end - 34) + checksum.ones_sum(frame[34:])
    struct.pack_into(">H", frame, headers.l3_end - 2, (65535 - rest) % 65535)
    checksum.insert_l4(frame, headers)
    assert frame[field : field + 2] == sent


def test_udp_without_checksum_is_good_over_ipv4_only() -> None:
    for version, good in ((4, True), (6, False)):
        frame = frame_of(version, 17, b"abc")
        headers = parsed(frame)
        checksum.insert_l3(frame, headers)
        assert (Checked.L4 in checksum.verify(frame, headers)) is good


def test_a_fragment_has_no_l4_checksum() -> None:
    frame = frame_of(4, 17, b"abcdefgh")
    struct.pack_into(">H", frame, 20, 0x2000)
    headers = parsed(frame)
    assert headers.frag
    assert not checksum.insert_l4(frame, headers)
    assert Checked.L4 not in checksum.verify(frame, headers)


def test_the_sum_of_a_shorter_datagram_is_never_zero() -> None:
    """The kernel reads 0 as "no sum"."""
    assert [checksum.shortened(one, 2) for one in (1, 65532, 65533, 65534, 65535)] == [
        3,
        65534,
        65535,
        1,
        2,
    ]
