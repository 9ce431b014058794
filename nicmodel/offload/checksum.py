# SPDX-License-Identifier: GPL-2.0-or-later
"""The Internet checksum (RFC 1071): verify, insert, and the sums that the receive CQE reports.

A 16-bit one's complement sum is the number formed by the bytes, big-endian, modulo 65535; that
is what ``int.from_bytes(...) % 65535`` computes, in C.
"""

from struct import Struct

import numpy as np
import numpy.typing as npt

from nicmodel.frame import Checked, Headers
from nicmodel.offload.parse import IPPROTO_TCP, IPPROTO_UDP

_U16 = Struct(">H")
_LENGTH_AND_SUM = Struct(">HH")
Buffer = bytes | bytearray | memoryview

L4_CHECKSUM_AT = {IPPROTO_TCP: 16, IPPROTO_UDP: 6}
"""Offset of the checksum field in the L4 header, bytes."""


def ones_sum(data: Buffer) -> int:
    """Sum of the 16-bit big-endian words modulo 65535; an odd last byte is padded with zero."""
    value = int.from_bytes(data) % 65535
    return value * 256 % 65535 if len(data) & 1 else value


def pseudo_sum(headers: Headers, proto: int, length: int) -> int:
    """Sum of the pseudo header (RFC 9293 3.1, RFC 8200 8.1) for an L4 datagram of ``length``."""
    return (int.from_bytes(headers.src_ip + headers.dst_ip) + proto + length) % 65535


def ipv4_header_length(frame: Buffer, headers: Headers) -> int:
    """IPv4 header length in bytes."""
    return (frame[headers.l3_offset] & 0xF) * 4


def insert_l3(frame: bytearray, headers: Headers) -> None:
    """Write the IPv4 header checksum; nothing for other frames."""
    if headers.ip_version != 4:
        return
    at = headers.l3_offset
    _U16.pack_into(frame, at + 10, 0)
    total = ones_sum(memoryview(frame)[at : at + ipv4_header_length(frame, headers)])
    _U16.pack_into(frame, at + 10, 65535 - total)


def insert_l4(frame: bytearray, headers: Headers) -> bool:
    """Write the TCP or UDP checksum over the final bytes; false if there is none to write.

    Whatever the field held (the driver leaves the pseudo header's sum there) is replaced. A UDP
    result of 0 is sent as 0xffff (RFC 768).
    """
    at = L4_CHECKSUM_AT.get(headers.ip_proto)
    if at is None or not headers.l4_offset or headers.frag:
        return False
    start, end = headers.l4_offset, headers.l3_end
    frame[start + at : start + at + 2] = b"\0\0"
    total = pseudo_sum(headers, headers.ip_proto, end - start)
    total = (total + ones_sum(memoryview(frame)[start:end])) % 65535
    value = 65535 - total
    if value == 65535 and headers.ip_proto == IPPROTO_TCP:
        value = 0
    _U16.pack_into(frame, start + at, value)
    return True


def insert_l3_many(rows: npt.NDArray[np.uint8], headers: Headers) -> None:
    """``insert_l3`` for frames whose IP headers have one length; ``headers`` are of the first."""
    if headers.ip_version == 4:
        at = headers.l3_offset
        rows[:, at + 10 : at + 12] = 0
        end = at + ipv4_header_length(rows[0], headers)
        _column(rows, at + 10)[:] = 65535 - _sums(rows, at, end) % 65535


def insert_l4_many(rows: npt.NDArray[np.uint8], headers: Headers, end: int) -> bool:
    """``insert_l4`` for frames of one flow whose checksum fields hold their pseudo headers' sums.

    Rows are summed as far as ``end``; what is between the end of a datagram and there must be 0.
    """
    proto, start = headers.ip_proto, headers.l4_offset
    at = L4_CHECKSUM_AT.get(proto)
    if at is None or not start or headers.frag:
        return False
    sums, field = _sums(rows, start, end), _column(rows, start + at)
    if proto == IPPROTO_TCP:
        field[:] = ~sums % 65535  # 2**32 - 1 is a multiple of 65535
    else:
        field[:] = 65535 - sums % 65535
    return True


def _sums(rows: npt.NDArray[np.uint8], start: int, end: int) -> npt.NDArray[np.uint32]:
    """Sum of the native 16-bit words of each row; offsets and stride are even."""
    words = rows[:, start:end].view(np.uint16)
    sums: npt.NDArray[np.uint32] = np.add.reduce(words, axis=1, dtype=np.uint32)
    return sums


def _column(rows: npt.NDArray[np.uint8], at: int) -> npt.NDArray[np.uint16]:
    """The native 16-bit words at byte ``at`` of each row."""
    return rows.view(np.uint16)[:, at // 2]


def verify(frame: Buffer, headers: Headers) -> Checked:
    """Which checksums of the frame are present and right.

    L3 is reported for IPv6 too, which has none (as the device's L3_OK does). L4 is reported for
    unfragmented TCP and UDP; a UDP datagram without a checksum over IPv4 counts as right.
    """
    view = memoryview(frame)
    good, both = Checked.NONE, Checked.L4
    if headers.ip_version == 4:
        at = headers.l3_offset
        if ones_sum(view[at : at + ipv4_header_length(frame, headers)]) == 0:
            good, both = Checked.L3, Checked.BOTH
    elif headers.ip_version == 6:
        good, both = Checked.L3, Checked.BOTH
    at_field = L4_CHECKSUM_AT.get(headers.ip_proto)
    if at_field is None or not headers.l4_offset or headers.frag:
        return good
    start, end = headers.l4_offset, headers.l3_end
    if headers.ip_proto == IPPROTO_UDP:
        length, field = _LENGTH_AND_SUM.unpack_from(view, start + 4)
        if field == 0:
            return both if headers.ip_version == 4 else good
        if not 8 <= length <= end - start:
            return good
        end = start + length
    total = pseudo_sum(headers, headers.ip_proto, end - start) + ones_sum(view[start:end])
    return both if total % 65535 == 0 else good


def complete(frame: Buffer, headers: Headers) -> int:
    """``check_sum`` of a receive CQE: the sum from the IP header to the end of the datagram.

    Not inverted. A valid datagram sums to 0 modulo 65535, which must be written as 0xffff: the
    kernel reads 0 as "no sum" (measured: "hw csum failure"). 0 for a frame that is not IP.
    """
    if not headers.ip_version:
        return 0
    return ones_sum(memoryview(frame)[headers.l3_offset : headers.l3_end]) or 65535


def shortened(check_sum: int, octets: int) -> int:
    """What ``complete_known_good`` gives for an IPv4 datagram that is shorter by ``octets`` than
    the one for which it gave ``check_sum``.
    """
    return (check_sum + octets - 1) % 65535 + 1


def complete_known_good(frame: Buffer, headers: Headers) -> int:
    """The same for a TCP or UDP datagram whose L3 and L4 checksums are known to be right.

    The L4 part then sums to the complement of its pseudo header, and an IPv4 header to 0, so no
    payload is read.
    """
    pseudo = pseudo_sum(headers, headers.ip_proto, headers.l3_end - headers.l4_offset)
    if headers.ip_version == 4:
        return 65535 - pseudo
    head = ones_sum(memoryview(frame)[headers.l3_offset : headers.l4_offset])
    return (head + 65535 - pseudo) % 65535 or 65535
