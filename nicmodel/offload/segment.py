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
from typing import Any

import numpy as np
import numpy.typing as npt

from nicmodel.frame import CHECKED, ETH_MIN, Checked, Headers, Train
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
    whole = length - last
    body = np.frombuffer(payload[0] if len(payload) == 1 else b"".join(payload), np.uint8)
    rows = np.empty((count, stride), np.uint8)
    flat = rows.data.cast("B")
    end = (count - 1) * stride
    if count > 1:
        middle = _header(header, headers, mss, l4, last=False)
        rows[:-1, :hlen] = np.frombuffer(middle, np.uint8)
        rows[:-1, hlen : hlen + mss] = body[:whole].reshape(count - 1, mss)
        if hlen + mss < stride:
            rows[:-1, hlen + mss :] = 0
    flat[end : end + hlen] = _header(header, headers, last, l4, last=True)
    rows[-1, hlen : hlen + last] = body[whole:]
    rows[-1, hlen + last :] = 0
    if headers.ip_proto == IPPROTO_TCP and headers.l4_offset:
        flat[headers.l4_offset + 13] |= header[headers.l4_offset + 13] & _CWR
    checked = _number(rows, headers, mss, counts_up, l3, l4)
    return Train(rows, width, max(ETH_MIN, hlen + last), checked)


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


def _column(rows: npt.NDArray[np.uint8], at: int, kind: str) -> npt.NDArray[Any]:
    """The field of all headers that begins at byte ``at``, as numbers of type ``kind``."""
    size = int(kind[-1])
    return rows[:, at : at + size].view(kind)[:, 0]


def _check_l3(rows: npt.NDArray[np.uint8], headers: Headers, ident: int) -> None:
    """``insert_l3_many``, cheaper where only the identification differs, and counts up."""
    count = len(rows)
    if count == 1 or ident + count > 1 << 16:
        insert_l3_many(rows, headers)
        return
    at = headers.l3_offset
    end = at + ipv4_header_length(rows[0], headers)
    first, last = rows[0, at:end].tobytes(), rows[-1, at:end].tobytes()
    total = ones_sum(first[:10] + first[12:])
    column = _column(rows, at + 10, ">u2")
    column[:] = _CHECKSUMS[total : total + count]
    column[-1] = 65535 - ones_sum(last[:10] + last[12:])


def _number(
    rows: npt.NDArray[np.uint8],
    headers: Headers,
    mss: int,
    counts_up: bool,
    l3: bool,
    l4: bool,
) -> Checked:
    """Write what counts up from frame to frame, then the checksums."""
    count = len(rows)
    at, start = headers.l3_offset, headers.l4_offset
    checked = 0
    if headers.ip_version == 4:
        ident = _U16.unpack_from(rows[0], at + 4)[0]
        _column(rows, at + 4, ">u2")[:] = _COUNTING[ident : ident + count]
        if l3:
            _check_l3(rows, headers, ident)
            checked = 1
    else:
        checked = 1
    if not start:
        return CHECKED[checked]
    if counts_up:
        first = _U32.unpack_from(rows[0], start + 4)[0]
        _column(rows, start + 4, ">u4")[:] = np.arange(first, first + count * mss, mss)
    if l4 and insert_l4_many(rows, headers, rows.shape[1]):
        checked |= 2
    return CHECKED[checked]
