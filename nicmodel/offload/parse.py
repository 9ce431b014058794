# SPDX-License-Identifier: GPL-2.0-or-later
"""Parse the headers of a frame once, for checksums, segmentation, steering and RSS.

Sources: IEEE 802.3, 802.1Q, RFC 791, RFC 8200, RFC 9293, RFC 768.
"""

from struct import Struct

from nicmodel.frame import HEAD, Headers

Buffer = bytes | bytearray | memoryview

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

_TAGS = (ETH_P_8021Q, ETH_P_8021AD)

_EXTENSIONS = frozenset((0, 43, 60, 135, 139, 140))
"""IPv6 extension headers with a length octet that the parser steps over (RFC 8200, 4)."""
_FRAGMENT = 44

_SPI_AT = {IPPROTO_ESP: 0, IPPROTO_AH: 4}
"""Offset of the SPI behind the IP header (RFC 4303, RFC 4302)."""

_U16 = Struct(">H")
_U32 = Struct(">I")
_ETHERNET = Struct(">6s6sH")
_IPV4 = Struct(">BxHxxHxBxx4s4s")
"""Version and header length, total length, fragment, protocol, source, destination."""
_PORTS = Struct(">HH")


def parse(head: Buffer, length: int, depth: int = HEAD, *, sized: bool = True) -> Headers | None:
    """Parse the leading bytes of a frame of ``length`` bytes; None if it has no Ethernet header.

    ``head`` may be shorter than the frame; what lies behind it, or behind ``depth`` bytes, is
    treated as not parseable. Not ``sized``: the datagram ends with the frame, whatever the length
    fields of its IP header say.
    """
    known = min(len(head), depth)
    if known < 14:
        return None
    dst, src, ethertype = _ETHERNET.unpack_from(head)
    offset = 14
    vlan = None
    svlan = False
    while ethertype in _TAGS:
        if known < offset + 4:
            return Headers(dst, src, ethertype, vlan, svlan)
        tci, inner = _PORTS.unpack_from(head, offset)
        if vlan is None:
            vlan = tci
            svlan = ethertype == ETH_P_8021AD
        ethertype = inner
        offset += 4
    out = Headers(dst, src, ethertype, vlan, svlan, offset)
    if ethertype == ETH_P_IPV4:
        _parse_ipv4(out, head, length, known, sized)
    elif ethertype == ETH_P_IPV6:
        _parse_ipv6(out, head, length, known, sized)
    return out


def _parse_ipv4(out: Headers, head: Buffer, length: int, known: int, sized: bool) -> None:
    offset = out.l3_offset
    if known < offset + 20:
        return
    first, total, fragment, proto, source, destination = _IPV4.unpack_from(head, offset)
    header = (first & 0xF) * 4
    if not sized:
        total = length - offset
    if first >> 4 != 4 or header < 20 or total < header or offset + total > length:
        return
    out.ip_version = 4
    out.l3_end = offset + total
    out.ip_proto = proto
    out.src_ip = source
    out.dst_ip = destination
    if fragment & 0x3FFF:
        out.frag = True
    if not fragment & 0x1FFF:
        _parse_l4(out, head, offset + header, known)


def _parse_ipv6(out: Headers, head: Buffer, length: int, known: int, sized: bool) -> None:
    offset = out.l3_offset
    if known < offset + 40:
        return
    (payload,) = _U16.unpack_from(head, offset + 4)
    if not sized:
        payload = length - offset - 40
    if head[offset] >> 4 != 6 or offset + 40 + payload > length:
        return
    out.ip_version = 6
    out.l3_end = offset + 40 + payload
    out.src_ip = bytes(head[offset + 8 : offset + 24])
    out.dst_ip = bytes(head[offset + 24 : offset + 40])
    proto = head[offset + 6]
    at = offset + 40
    while proto in _EXTENSIONS or proto == _FRAGMENT:
        if known < at + 8:
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
    _parse_l4(out, head, at, known)


def _parse_l4(out: Headers, head: Buffer, offset: int, known: int) -> None:
    proto = out.ip_proto
    end = min(known, out.l3_end)
    if proto == IPPROTO_TCP:
        if end < offset + 20:
            return
        size = (head[offset + 12] >> 4) * 4
        out.tcp_header = size
        if size < 20 or offset + size > out.l3_end:
            return
        out.tcp_flags = head[offset + 13]
    elif proto == IPPROTO_UDP:
        if end < offset + 8:
            return
    else:
        if offset > out.l3_end:
            return
        out.l4_offset = offset
        spi_at = _SPI_AT.get(proto)
        if spi_at is not None and end >= offset + spi_at + 4:
            (out.spi,) = _U32.unpack_from(head, offset + spi_at)
        return
    out.l4_offset = offset
    out.sport, out.dport = _PORTS.unpack_from(head, offset)
