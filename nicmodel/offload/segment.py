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
from nicmodel.offload.checksum import L4_CHECKSUM_AT, insert_l3_many, insert_l4_many
from nicmodel.offload.parse import IPPROTO_TCP, IPPROTO_UDP, parse

MAX_SEGMENTS = 1 << 14
"""Most frames that one LSO may become; *assumption*. TCP sends 64 KiB with an MSS of 8 or more, and
each frame repeats the header: without a bound one WQE could ask for 256 MiB."""

_ANY_LENGTH = 1 << 17
"""No IP header can say more."""

_FIN, _PSH, _CWR = 0x01, 0x08, 0x80
_U16 = Struct(">H")
_U32 = Struct(">I")
_INDEX = np.arange(MAX_SEGMENTS, dtype=np.int64)


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
    headers = parse(header, _ANY_LENGTH, hlen)
    if headers is not None and not headers.l4_offset:
        headers = parse(_without_payload(header), hlen, hlen)
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
    rows = np.empty((count, width + (width & 1)), np.uint8)
    rows[:, :hlen] = np.frombuffer(_header(header, headers, mss, first=False, last=False), np.uint8)
    body = np.frombuffer(payload[0] if len(payload) == 1 else b"".join(payload), np.uint8)
    whole = length - last
    rows[:-1, hlen : hlen + mss] = body[:whole].reshape(count - 1, mss)
    rows[-1, hlen : hlen + last] = body[whole:]
    rows[-1, hlen + last :] = 0
    rows[:, hlen + mss :] = 0
    if count > 1:
        start = _header(header, headers, mss, first=True, last=False)
        rows[0, :hlen] = np.frombuffer(start, np.uint8)
    end = _header(header, headers, last, first=count == 1, last=True)
    rows[-1, :hlen] = np.frombuffer(end, np.uint8)
    checked = _number(rows, hlen, headers, mss, last, counts_up, l3, l4)
    return Train(rows, width, max(ETH_MIN, hlen + last), checked)


def _header(header: bytes, headers: Headers, payload: int, *, first: bool, last: bool) -> bytearray:
    """The header of a frame with ``payload`` bytes, before what counts up and checksums."""
    out = bytearray(header)
    at, start = headers.l3_offset, headers.l4_offset
    if headers.ip_version == 4:
        _U16.pack_into(out, at + 2, len(header) - at + payload)
    else:
        _U16.pack_into(out, at + 4, len(header) - at - 40 + payload)
    if start and headers.ip_proto == IPPROTO_TCP:
        out[start + 13] &= (0xFF if first else ~_CWR) & (0xFF if last else ~(_FIN | _PSH))
    elif start and headers.ip_proto == IPPROTO_UDP:
        _U16.pack_into(out, start + 4, len(header) - start + payload)
    return out


def _without_payload(header: bytes) -> bytes:
    """The header as that of a datagram without payload, whatever lengths the driver left in it."""
    out = bytearray(header)
    probe = 14
    while len(out) >= probe + 4 and bytes(out[probe - 2 : probe]) in (b"\x81\x00", b"\x88\xa8"):
        probe += 4
    ethertype = out[probe - 2 : probe]
    if ethertype == b"\x08\x00" and len(out) >= probe + 20:
        out[probe + 2 : probe + 4] = min(len(header) - probe, 65535).to_bytes(2, "big")
    elif ethertype == b"\x86\xdd" and len(out) >= probe + 40:
        out[probe + 4 : probe + 6] = min(len(header) - probe - 40, 65535).to_bytes(2, "big")
    return bytes(out)


def _column(rows: npt.NDArray[np.uint8], at: int, kind: str) -> npt.NDArray[Any]:
    """The field of all headers that begins at byte ``at``, as numbers of type ``kind``."""
    size = int(kind[-1])
    return rows[:, at : at + size].view(kind)[:, 0]


def _number(
    rows: npt.NDArray[np.uint8],
    hlen: int,
    headers: Headers,
    mss: int,
    last: int,
    counts_up: bool,
    l3: bool,
    l4: bool,
) -> Checked:
    """Write what counts up from frame to frame, then the checksums."""
    index = _INDEX[: len(rows)]
    at, start = headers.l3_offset, headers.l4_offset
    checked = 0
    if headers.ip_version == 4:
        ident = index + _U16.unpack_from(rows[0], at + 4)[0] & 0xFFFF
        _column(rows, at + 4, ">u2")[:] = ident
    if l3 or headers.ip_version == 6:
        insert_l3_many(rows, headers)
        checked = 1
    if not start:
        return CHECKED[checked]
    if counts_up:
        first = _U32.unpack_from(rows[0], start + 4)[0]
        _column(rows, start + 4, ">u4")[:] = index * mss + first
    length = hlen - start
    if l4 and insert_l4_many(rows, headers, rows.shape[1], length + mss, length + last):
        checked |= 2
    return CHECKED[checked]
