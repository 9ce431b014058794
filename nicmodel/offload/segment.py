# SPDX-License-Identifier: GPL-2.0-or-later
"""Large send offload: one header and a long payload become a train of frames.

Source: ``en_tx.c`` mlx5e_tx_get_gso_ihs and mlx5e_udp_gso_handle_tx_skb for what the driver
prepares, RFC 9293 for what a segment is.

Per segment: IPv4 total length, identification (+1 each) and header checksum; IPv6 payload length
(0 on input for a packet beyond 64 KiB); TCP sequence, FIN and PSH on the last one only, CWR on the
first one only; UDP length; L4 checksum.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nicmodel.frame import ETH_MIN, Checked, Train
from nicmodel.offload.checksum import ipv4_header_length, ones_sum, pseudo_sum
from nicmodel.offload.parse import IPPROTO_TCP, IPPROTO_UDP, Headers, parse

_FIN, _PSH, _CWR = 0x01, 0x08, 0x80


def segment(
    header: bytes, payload: Sequence[memoryview], mss: int, *, l3: bool, l4: bool
) -> Train | None:
    """Cut ``payload`` (pieces, in order, not empty) into frames of ``mss`` payload bytes.

    Short frames are padded. ``l3`` and ``l4`` ask for checksums. None if the header is not one that
    can be segmented: no IP, or longer than the inline bytes.
    """
    length = sum(map(len, payload))
    headers = parse(_without_payload(header), len(header))
    if headers is None or not headers.ip_version or headers.l4_offset > len(header):
        return None
    hlen = len(header)
    count = -(-length // mss)
    last = length - (count - 1) * mss
    width = max(ETH_MIN, hlen + mss)
    stride = width + (width & 1)
    rows = np.empty((count, stride), np.uint8)
    rows[:, :hlen] = np.frombuffer(header, np.uint8)
    _scatter(rows, hlen, mss, payload)
    rows[-1, hlen + last :] = 0
    rows[:, hlen + mss :] = 0
    checked = _finish(rows, header, headers, mss, last, l3, l4)
    return Train(rows, width, max(ETH_MIN, hlen + last), checked)


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


def _scatter(
    rows: npt.NDArray[np.uint8], hlen: int, mss: int, payload: Sequence[memoryview]
) -> None:
    """Copy the pieces into the payload columns of ``rows``, each byte once."""
    row = column = 0
    for piece in payload:
        source = np.frombuffer(piece, np.uint8)
        at = 0
        left = len(source)
        if column:
            part = min(mss - column, left)
            rows[row, hlen + column : hlen + column + part] = source[:part]
            at, left, column = part, left - part, column + part
            if column < mss:
                continue
            row, column = row + 1, 0
        whole = left // mss
        if whole:
            stop = at + whole * mss
            rows[row : row + whole, hlen : hlen + mss] = source[at:stop].reshape(whole, mss)
            at, left, row = stop, left - whole * mss, row + whole
        if left:
            rows[row, hlen : hlen + left] = source[at:]
            column = left


def _be16(values: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Shape (n,) numbers to shape (n, 2) bytes, big-endian, modulo 65536."""
    return (values & 0xFFFF).astype(">u2").view(np.uint8).reshape(-1, 2)


def _finish(
    rows: npt.NDArray[np.uint8],
    header: bytes,
    headers: Headers,
    mss: int,
    last: int,
    l3: bool,
    l4: bool,
) -> Checked:
    """Write what differs between the frames' headers, then the checksums."""
    count, hlen = len(rows), len(header)
    index = np.arange(count, dtype=np.int64)
    payload_lengths = np.full(count, mss, np.int64)
    payload_lengths[-1] = last
    at = headers.l3_offset
    checked = Checked.NONE
    if headers.ip_version == 4:
        total = payload_lengths + (hlen - at)
        ident = index + int.from_bytes(header[at + 4 : at + 6], "big")
        rows[:, at + 2 : at + 4] = _be16(total)
        rows[:, at + 4 : at + 6] = _be16(ident)
        if l3:
            end = at + ipv4_header_length(header, headers)
            same = bytearray(header[at:end])
            same[2:6] = bytes(4)  # total length and identification, which differ
            same[10:12] = bytes(2)
            value = 65535 - (ones_sum(same) + total + (ident & 0xFFFF)) % 65535
            rows[:, at + 10 : at + 12] = _be16(value)
            checked |= Checked.L3
    else:
        rows[:, at + 4 : at + 6] = _be16(payload_lengths + (hlen - at - 40))
        checked |= Checked.L3
    start = headers.l4_offset
    if not start:
        return checked
    if headers.ip_proto == IPPROTO_TCP:
        _finish_tcp(rows, header, start, index, mss)
        field = start + 16
    elif headers.ip_proto == IPPROTO_UDP:
        rows[:, start + 4 : start + 6] = _be16(payload_lengths + (hlen - start))
        field = start + 6
    else:
        return checked
    if l4:
        rows[:, field : field + 2] = 0
        words = rows[:, start + (start & 1) : rows.shape[1]].view(np.uint16)
        sums = words.sum(axis=1, dtype=np.uint32).astype(np.int64) % 65535
        sums = (sums & 0xFF) << 8 | sums >> 8  # little-endian words: swapping the sum is enough
        fixed = pseudo_sum(headers, headers.ip_proto, hlen - start)
        value = 65535 - (sums + fixed + payload_lengths) % 65535
        if headers.ip_proto == IPPROTO_TCP:
            value[value == 65535] = 0
        rows[:, field : field + 2] = _be16(value)
        checked |= Checked.L4
    return checked


def _finish_tcp(
    rows: npt.NDArray[np.uint8], header: bytes, start: int, index: npt.NDArray[np.int64], mss: int
) -> None:
    sequence = (index * mss + int.from_bytes(header[start + 4 : start + 8], "big")) & 0xFFFFFFFF
    rows[:, start + 4 : start + 8] = sequence.astype(">u4").view(np.uint8).reshape(-1, 4)
    flags = header[start + 13]
    rows[1:, start + 13] = flags & ~_CWR
    rows[:-1, start + 13] &= 0xFF & ~(_FIN | _PSH)
