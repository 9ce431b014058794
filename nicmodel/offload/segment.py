# SPDX-License-Identifier: GPL-2.0-or-later
"""Large send offload: one header and a long payload become a train of frames.

Source: ``en_tx.c`` mlx5e_tx_get_gso_ihs and mlx5e_udp_gso_handle_tx_skb for what the driver
prepares, RFC 9293 for what a segment is.

Per segment: IPv4 total length, identification (+1 each) and header checksum; IPv6 payload length
(0 on input for a packet beyond 64 KiB); TCP sequence, FIN and PSH on the last one only, CWR on the
first one only; UDP length; L4 checksum. Of another protocol the L4 header is not touched.
"""

from collections.abc import Sequence
from enum import Enum
from struct import Struct

import numpy as np
import numpy.typing as npt

from nicmodel.frame import CHECKED, ETH_MIN, HEAD, Checked, Headers, Train
from nicmodel.offload.checksum import (
    L4_CHECKSUM_AT,
    insert_l3_many,
    insert_l4_many,
    ipv4_header_length,
    ones_sum,
    pseudo_sum,
)
from nicmodel.offload.parse import IPPROTO_TCP, parse

MAX_SEGMENTS = 1 << 14
"""Most frames that one LSO may become; *assumption*. TCP sends 64 KiB with an MSS of 8 or more, and
each frame repeats the header: without a bound one WQE could ask for 256 MiB."""

_FIN, _PSH, _CWR = 0x01, 0x08, 0x80
_U16 = Struct(">H")
_U32 = Struct(">I")
_COUNTING = np.arange((1 << 16) + MAX_SEGMENTS).astype(">u2")
"""Identifications, to cut runs from."""
_CHECKSUMS = (65535 - np.arange((1 << 16) + MAX_SEGMENTS) % 65535).astype(">u2")
"""Checksums of what sums to 0, 1, and so on, likewise."""


class OtherLso(Enum):
    """What LSO does with an IP protocol that is neither TCP nor UDP."""

    REPLICATE = "replicate"
    """All frames have the header as it is, with the IP header's length and identification right."""
    REFUSE = "refuse"
    """The WQE fails."""
    SEQUENCE = "sequence"
    """As REPLICATE, and the 32 bits where TCP has its sequence number advance as TCP's do."""


def segment(
    header: bytes,
    payload: Sequence[memoryview],
    mss: int,
    *,
    l3: bool,
    l4: bool,
    other: OtherLso = OtherLso.REPLICATE,
) -> Train | None:
    """Cut ``payload`` (pieces, in order, not empty) into frames of ``mss`` payload bytes.

    Short frames are padded. ``l3`` and ``l4`` ask for checksums. None if the header is not one that
    can be segmented: no IP, longer than the inline bytes, or of a protocol that ``other`` refuses.
    """
    length = sum(map(len, payload))
    hlen = len(header)
    headers = parse(header, hlen, hlen, sized=False)
    if headers is None or not headers.ip_version or headers.l4_offset > hlen:
        return None
    counts_up = headers.ip_proto == IPPROTO_TCP
    if headers.ip_proto not in L4_CHECKSUM_AT:
        if other is OtherLso.REFUSE:
            return None
        counts_up = other is OtherLso.SEQUENCE and headers.l4_offset + 8 <= hlen
    count = -(-length // mss)
    last = length - (count - 1) * mss
    width = max(ETH_MIN, hlen + mss)
    stride = width + (width & 1)
    rows = np.empty((count, stride), np.uint8)
    body = np.frombuffer(b"".join((*payload, bytes(mss - last))), np.uint8)
    rows[:, hlen : hlen + mss] = body.reshape(count, mss)
    if hlen + mss < stride:
        rows[:, hlen + mss :] = 0
    flat = rows.data.cast("B")
    final = _header(header, headers, last, l4, last=True)
    first = final
    if count > 1:
        first = _header(header, headers, mss, l4, last=False)
        rows[:, :hlen] = np.frombuffer(first, np.uint8)
    end = (count - 1) * stride
    flat[end : end + hlen] = final
    if headers.ip_proto == IPPROTO_TCP and headers.l4_offset:
        flat[headers.l4_offset + 13] |= header[headers.l4_offset + 13] & _CWR
    checked = _number(rows, headers, (first, final), mss, counts_up, l3, l4)
    train = Train(rows, width, max(ETH_MIN, hlen + last), checked)
    if headers.l4_offset and headers.ip_proto in L4_CHECKSUM_AT and hlen <= HEAD:
        # whole L4 headers, so a receiver finds no more than is known already
        headers.l3_end = hlen + (mss if count > 1 else last)
        headers.tcp_flags = flat[headers.l4_offset + 13] if headers.tcp_header else 0
        train.headers = headers
    return train


def _header(header: bytes, headers: Headers, payload: int, l4: bool, *, last: bool) -> bytearray:
    """The header of a frame with ``payload`` bytes that is not the first, before what counts up.

    ``l4``: its checksum field gets the sum of the pseudo header.
    """
    out = bytearray(header)
    at, start, proto = headers.l3_offset, headers.l4_offset, headers.ip_proto
    if headers.ip_version == 4:
        _U16.pack_into(out, at + 2, len(header) - at + payload)
    else:
        _U16.pack_into(out, at + 4, len(header) - at - 40 + payload)
    field = L4_CHECKSUM_AT.get(proto)
    if not start or field is None:
        return out
    length = len(header) - start + payload
    if proto == IPPROTO_TCP:
        out[start + 13] &= 0xFF - _CWR if last else 0xFF - _CWR - _FIN - _PSH
    else:
        _U16.pack_into(out, start + 4, length)
    if l4 and not headers.frag:
        _U16.pack_into(out, start + field, pseudo_sum(headers, proto, length))
    return out


def _number(
    rows: npt.NDArray[np.uint8],
    headers: Headers,
    ends: tuple[bytearray, bytearray],
    mss: int,
    counts_up: bool,
    l3: bool,
    l4: bool,
) -> Checked:
    """Write what counts up from frame to frame, then the checksums.

    ``ends``: the header of each frame but the last one, and of that, before what counts up.
    """
    count = len(rows)
    at, start = headers.l3_offset, headers.l4_offset
    words = rows.view(">u2")  # headers lie at even offsets
    checked = 0
    if headers.ip_version == 4:
        ident = _U16.unpack_from(ends[0], at + 4)[0]
        words[:, (at + 4) // 2] = _COUNTING[ident : ident + count]
        if l3 and ident + count > 1 << 16:
            insert_l3_many(rows, headers)
        elif l3:  # the identification differs, and counts up
            end = at + ipv4_header_length(ends[0], headers)
            first, last = (ones_sum(one[at : at + 10] + one[at + 12 : end]) for one in ends)
            column = words[:, (at + 10) // 2]
            column[:] = _CHECKSUMS[first : first + count]
            column[-1] = _CHECKSUMS[last + count - 1]
        checked = int(l3)
    else:
        checked = 1
    if not start:
        return CHECKED[checked]
    if counts_up:
        first = _U32.unpack_from(ends[0], start + 4)[0]
        sequence = rows[:, start + 4 : start + 8].view(">u4")[:, 0]
        sequence[:] = np.arange(first, first + count * mss, mss)
    if l4 and insert_l4_many(rows, headers, rows.shape[1]):
        checked |= 2
    return CHECKED[checked]
