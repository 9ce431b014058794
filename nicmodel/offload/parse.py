# SPDX-License-Identifier: GPL-2.0-or-later
"""Parse the headers of a frame once, for checksums, segmentation, steering and RSS.

Sources: IEEE 802.3, 802.1Q, RFC 791, RFC 8200, RFC 9293, RFC 768.
"""

from dataclasses import dataclass
from struct import Struct

ETH_P_IPV4 = 0x0800
ETH_P_IPV6 = 0x86DD
ETH_P_8021Q = 0x8100
ETH_P_8021AD = 0x88A8

IPPROTO_ICMP = 1
IPPROTO_TCP = 6
IPPROTO_UDP = 17
IPPROTO_ESP = 50
IPPROTO_AH = 51
IPPROTO_ICMPV6 = 58

_EXTENSIONS = frozenset((0, 43, 60, 135, 139, 140))
"""IPv6 extension headers with a length octet that the parser steps over (RFC 8200, 4)."""
_FRAGMENT = 44

_SPI_AT = {IPPROTO_ESP: 0, IPPROTO_AH: 4}
"""Offset of the SPI behind the IP header (RFC 4303, RFC 4302)."""

_U16 = Struct(">H")
_U32 = Struct(">I")
_PORTS = Struct(">HH")


@dataclass(slots=True)
class Headers:
    """What the parser found; offsets are bytes from the destination MAC.

    ``ethertype`` is the one behind the VLAN tags. ``ip_version`` is 0 for a frame that is not IP
    or whose IP header is malformed; then every L3 and L4 field keeps its default.
    ``l3_end`` is the end of the IP datagram according to its own length field (the frame may be
    padded). ``l4_offset`` is 0 where no L4 header starts in this frame (second fragment).
    ``tcp_header`` is the TCP header length in bytes; ``spi`` is that of ESP and AH.
    ``frag`` is true for any fragment, the first one included.
    """

    dst: bytes
    src: bytes
    ethertype: int
    vlan: int | None = None
    svlan: bool = False
    l3_offset: int = 14
    l3_end: int = 0
    ip_version: int = 0
    ip_proto: int = 0
    frag: bool = False
    src_ip: bytes = b""
    dst_ip: bytes = b""
    l4_offset: int = 0
    sport: int = 0
    dport: int = 0
    tcp_header: int = 0
    tcp_flags: int = 0
    spi: int = 0


def parse(head: bytes | bytearray | memoryview, length: int) -> Headers | None:
    """Parse the leading bytes of a frame of ``length`` bytes; None if it has no Ethernet header.

    ``head`` may be shorter than the frame; what lies behind it is treated as not parseable.
    """
    if len(head) < 14:
        return None
    (ethertype,) = _U16.unpack_from(head, 12)
    out = Headers(bytes(head[0:6]), bytes(head[6:12]), ethertype)
    offset = 14
    while ethertype in (ETH_P_8021Q, ETH_P_8021AD):
        if len(head) < offset + 4:
            return out
        tci, inner = _PORTS.unpack_from(head, offset)
        if out.vlan is None:
            out.vlan = tci
            out.svlan = ethertype == ETH_P_8021AD
        ethertype = inner
        offset += 4
    out.ethertype = ethertype
    out.l3_offset = offset
    if ethertype == ETH_P_IPV4:
        _parse_ipv4(out, head, length)
    elif ethertype == ETH_P_IPV6:
        _parse_ipv6(out, head, length)
    return out


def _parse_ipv4(out: Headers, head: bytes | bytearray | memoryview, length: int) -> None:
    offset = out.l3_offset
    if len(head) < offset + 20:
        return
    first = head[offset]
    header = (first & 0xF) * 4
    (total,) = _U16.unpack_from(head, offset + 2)
    if first >> 4 != 4 or header < 20 or total < header or offset + total > length:
        return
    (fragment,) = _U16.unpack_from(head, offset + 6)
    out.ip_version = 4
    out.l3_end = offset + total
    out.ip_proto = head[offset + 9]
    out.src_ip = bytes(head[offset + 12 : offset + 16])
    out.dst_ip = bytes(head[offset + 16 : offset + 20])
    out.frag = bool(fragment & 0x3FFF)
    if not fragment & 0x1FFF:
        _parse_l4(out, head, offset + header)


def _parse_ipv6(out: Headers, head: bytes | bytearray | memoryview, length: int) -> None:
    offset = out.l3_offset
    if len(head) < offset + 40:
        return
    (payload,) = _U16.unpack_from(head, offset + 4)
    if head[offset] >> 4 != 6 or offset + 40 + payload > length:
        return
    out.ip_version = 6
    out.l3_end = offset + 40 + payload
    out.src_ip = bytes(head[offset + 8 : offset + 24])
    out.dst_ip = bytes(head[offset + 24 : offset + 40])
    proto = head[offset + 6]
    at = offset + 40
    while proto in _EXTENSIONS or proto == _FRAGMENT:
        if len(head) < at + 8:
            out.ip_proto = proto
            return
        following = head[at]
        if proto == _FRAGMENT:
            out.frag = True
            (fragment,) = _U16.unpack_from(head, at + 2)
            at += 8
            if fragment & 0xFFF8:
                out.ip_proto = following
                return
        else:
            at += 8 + 8 * head[at + 1]
        proto = following
    out.ip_proto = proto
    _parse_l4(out, head, at)


def _parse_l4(out: Headers, head: bytes | bytearray | memoryview, offset: int) -> None:
    if offset > out.l3_end:
        return
    if out.ip_proto == IPPROTO_TCP:
        if min(len(head), out.l3_end) < offset + 20:
            return
        out.tcp_header = (head[offset + 12] >> 4) * 4
        if out.tcp_header < 20 or offset + out.tcp_header > out.l3_end:
            return
        out.tcp_flags = head[offset + 13]
    elif out.ip_proto == IPPROTO_UDP:
        if min(len(head), out.l3_end) < offset + 8:
            return
    else:
        out.l4_offset = offset
        spi_at = _SPI_AT.get(out.ip_proto)
        if spi_at is not None and min(len(head), out.l3_end) >= offset + spi_at + 4:
            (out.spi,) = _U32.unpack_from(head, offset + spi_at)
        return
    out.l4_offset = offset
    out.sport, out.dport = _PORTS.unpack_from(head, offset)
