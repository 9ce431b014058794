# SPDX-License-Identifier: GPL-2.0-or-later
"""What the sanitizer reads in packets: of which connection or message, and where in it.

Sources: RFC 791, RFC 8200, RFC 9293.
"""

from ipaddress import ip_address
from struct import Struct

from nicmodel.offload.parse import IPPROTO_TCP, parse
from nicmodel.offload.smt.packet import DataPacket, find_data
from nicmodel.offload.tls.record import Buffer

SYN = 0x02
"""Bit of the TCP flags."""

MASK = 0xFFFFFFFF
"""TCP sequence numbers are 32 bit."""

_TCP = Struct(">I4xBB")
_TCP_AT, _TCP_LENGTH = 4, 20


def connection(head: Buffer, length: int) -> tuple[bytes, int] | None:
    """Addresses and ports of a TCP packet as they stand in it, and where its TCP header begins.

    ``head``: leading bytes of a packet of ``length`` bytes. None for what is no TCP, or a fragment.
    """
    kind = head[12:14]
    if kind == b"\x08\x00" and len(head) >= 54 and head[14] == 0x45:
        if head[23] != IPPROTO_TCP or (head[20] & 0x3F) | head[21]:
            return None
        return bytes(head[26:38]), 34
    if kind == b"\x86\xdd" and len(head) >= 74 and head[20] == IPPROTO_TCP:
        return bytes(head[22:58]), 54
    headers = parse(head, length, sized=False)
    if headers is None or headers.ip_proto != IPPROTO_TCP or not headers.l4_offset or headers.frag:
        return None
    at = headers.l4_offset
    if len(head) < at + _TCP_LENGTH:
        return None
    return headers.src_ip + headers.dst_ip + bytes(head[at : at + 4]), at


def message(head: Buffer, length: int) -> tuple[bytes, DataPacket, int] | None:
    """Protocol, addresses and ports of a DATA packet of SMT, the packet, and where it ends.

    ``head``: leading bytes of a packet of ``length`` bytes.
    """
    packet = find_data(head, length)
    headers = parse(head, length, sized=False) if packet is not None else None
    if packet is None or headers is None:
        return None
    ports = bytes(head[headers.l4_offset : headers.l4_offset + 4])
    key = bytes((headers.ip_proto,)) + headers.src_ip + headers.dst_ip + ports
    return key, packet, headers.l3_end


def sequence(head: Buffer, tcp_at: int) -> int:
    """The TCP sequence number."""
    number: int = _TCP.unpack_from(head, tcp_at + _TCP_AT)[0]
    return number


def segment(frame: Buffer, tcp_at: int) -> tuple[int, int, Buffer]:
    """Sequence number, flags and payload of a frame, which may be padded."""
    number, offset, flags = _TCP.unpack_from(frame, tcp_at + _TCP_AT)
    headers = parse(frame, len(frame))
    end = headers.l3_end if headers is not None and headers.ip_version else len(frame)
    return number, flags, frame[tcp_at + (offset >> 4) * 4 : end]


def name(key: bytes) -> str:
    """A connection for people: source and destination."""
    size = (len(key) - 4) // 2
    ends = (
        (key[:size], key[2 * size : 2 * size + 2]),
        (key[size : 2 * size], key[2 * size + 2 :]),
    )
    return " > ".join(
        f"{f'[{ip_address(a)}]' if size > 4 else ip_address(a)}:{int.from_bytes(p, 'big')}"
        for a, p in ends
    )


def before(one: int, other: int) -> bool:
    """Is TCP sequence number ``one`` not behind ``other``?"""
    return (other - one) & MASK < 1 << 31
