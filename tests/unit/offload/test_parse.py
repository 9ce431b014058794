# SPDX-License-Identifier: GPL-2.0-or-later
"""The parser: what it must find, and that nothing makes it fail."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from nicmodel.offload.parse import parse

MACS = bytes.fromhex("0200000000010200000000ff")


def test_stacked_tags_report_the_outer_tci() -> None:
    frame = MACS + bytes.fromhex("88a80064810000c80806") + bytes(46)
    headers = parse(frame, len(frame))
    assert headers is not None
    assert (headers.vlan, headers.svlan, headers.ethertype) == (100, True, 0x0806)
    assert headers.l3_offset == 22


def test_ipv6_extension_headers_are_stepped_over() -> None:
    hop = bytes([6, 0]) + bytes(6)
    tcp = struct.pack(">HHIIBBHHH", 7, 8, 0, 0, 0x50, 0x12, 0, 0, 0)
    ip = struct.pack(">IHBB", 0x60000000, len(hop + tcp), 0, 1) + bytes(15) + b"\1" + bytes(16)
    frame = MACS + b"\x86\xdd" + ip + hop + tcp
    headers = parse(frame, len(frame))
    assert headers is not None
    assert (headers.ip_proto, headers.sport, headers.dport) == (6, 7, 8)
    assert headers.tcp_flags == 0x12


def test_padding_is_not_part_of_the_datagram() -> None:
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 28, 1, 0, 64, 17, 0) + bytes(8)
    frame = MACS + b"\x08\0" + ip + struct.pack(">HHHH", 5, 6, 8, 0) + b"\xff" * 18
    headers = parse(frame, len(frame))
    assert headers is not None
    assert headers.l3_end == 14 + 28


def test_a_length_beyond_the_frame_is_not_ip() -> None:
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 1000, 1, 0, 64, 17, 0) + bytes(8)
    frame = MACS + b"\x08\0" + ip + bytes(26)
    headers = parse(frame, len(frame))
    assert headers is not None
    assert headers.ip_version == 0


@given(st.binary(max_size=140), st.sampled_from((b"\x08\0", b"\x86\xdd", b"\x81\0", b"\x88\xa8")))
def test_no_bytes_make_it_fail(data: bytes, ethertype: bytes) -> None:
    for frame in (data, data[:12] + ethertype + data[12:]):
        headers = parse(frame, len(frame))
        assert (headers is None) == (len(frame) < 14)
        if headers is not None:
            assert headers.l3_end <= len(frame)
            assert headers.l4_offset <= max(headers.l3_end, 0)
