# SPDX-License-Identifier: GPL-2.0-or-later
"""Large send offload: one header and a long payload become a train of frames.

Source: ``en_tx.c`` mlx5e_tx_get_gso_ihs and mlx5e_udp_gso_handle_tx_skb for what the driver
prepares, RFC 9293 for what a segment is.

Per segment: IPv4 total length, identification (+1 each) and header checksum; IPv6 payload length
(0 on input for a packet beyond 64 KiB); TCP sequence, FIN and PSH on the last one only, CWR on the
first one only; UDP length; L4 checksum. Of another protocol the L4 header is not touched.
"""

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from struct import Struct

import numpy as np
import numpy.typing as npt

from nicmodel.frame import CHECKED, ETH_MIN, HEAD, Headers, Part, Train
from nicmodel.offload.checksum import (
    L4_CHECKSUM_AT,
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
_CHECKSUMS = (65535 - np.arange(1 << 17) % 65535).astype(">u2")
"""Checksums of what sums to 0, 1, and so on, as far as two 16-bit numbers go."""

Send = tuple[bytes, Sequence[memoryview]]
"""Header of a large send, and its payload: pieces, in order, not empty."""


class OtherLso(Enum):
    """What LSO does with an IP protocol that is neither TCP nor UDP."""

    REPLICATE = "replicate"
    """All frames have the header as it is, with the IP header's length and identification right."""
    REFUSE = "refuse"
    """The WQE fails."""
    SEQUENCE = "sequence"
    """As REPLICATE, and the 32 bits where TCP has its sequence number advance as TCP's do."""


class Segmenter:
    """Cuts large sends that have one kind of header into frames of ``mss`` payload bytes.

    The headers of a flow differ in little: what is the same in all of them is worked out once, and
    several sends are cut at once. ``l3`` and ``l4`` ask for checksums.
    """

    def __init__(
        self, header: bytes, headers: Headers, mss: int, *, l3: bool, l4: bool, counts_up: bool
    ) -> None:
        at, start, proto = headers.l3_offset, headers.l4_offset, headers.ip_proto
        field = L4_CHECKSUM_AT.get(proto) if start else None
        self._headers = headers
        self._hlen = len(header)
        self._mss = mss
        self._v4 = headers.ip_version == 4
        self._l3 = l3 and self._v4
        self._field = start + field if l4 and field is not None and not headers.frag else None
        """Where the L4 checksum is that is asked for."""
        self._checked = CHECKED[int(l3 or not self._v4) | (0 if self._field is None else 2)]
        self._sequence = start + 4 if start and counts_up else None
        self._flags = start + 13 if start and proto == IPPROTO_TCP else None
        self._datagram = start + 4 if field is not None and self._flags is None else None
        """Where UDP has its length."""
        self._known = field is not None and len(header) <= HEAD
        self._mask = self._same()
        self._kind = int.from_bytes(header) & self._mask
        headers.l3_end = self._hlen + mss
        self._full = self._described(header, mss, 0xFF - _CWR - _FIN - _PSH)
        """Header of a frame of ``mss`` bytes, before what counts up."""
        headers.tcp_flags = 0 if self._flags is None else self._full[self._flags]
        self._first = np.frombuffer(self._full, np.uint8)
        end = at + ipv4_header_length(self._full, headers)
        same = self._full[at : at + 4] + self._full[at + 6 : at + 10] + self._full[at + 12 : end]
        self._sum = ones_sum(same)
        """Of a whole frame's IPv4 header without identification and checksum."""

    @classmethod
    def of(
        cls, header: bytes, mss: int, *, l3: bool, l4: bool, other: OtherLso = OtherLso.REPLICATE
    ) -> "Segmenter | None":
        """One for ``header`` and its like.

        None if it cannot be segmented: no IP, longer than the inline bytes, or of a protocol that
        ``other`` refuses.
        """
        hlen = len(header)
        headers = parse(header, hlen, hlen, sized=False)
        if headers is None or not headers.ip_version or headers.l4_offset > hlen:
            return None
        counts_up = headers.ip_proto == IPPROTO_TCP
        if headers.ip_proto not in L4_CHECKSUM_AT:
            if other is OtherLso.REFUSE:
                return None
            counts_up = other is OtherLso.SEQUENCE and headers.l4_offset + 8 <= hlen
        return cls(header, headers, mss, l3=l3, l4=l4, counts_up=counts_up)

    def fits(self, header: bytes) -> bool:
        """Does ``header`` differ only in what is written anew in each frame?"""
        return len(header) == self._hlen and int.from_bytes(header) & self._mask == self._kind

    def cut(self, sends: Sequence[Send]) -> Train:
        """The frames of ``sends`` that fit, each a part of the train; short frames are padded.

        If they are several, the first has ``mss`` bytes or more.
        """
        mss, hlen = self._mss, self._hlen
        pieces: list[bytes | memoryview] = []
        sizes = []
        total = 0
        for _, payload in sends:
            length = sum(map(len, payload))
            count = -(-length // mss)
            last = length - (count - 1) * mss
            sizes.append((count, last))
            total += count
            pieces += payload
            if last < mss:
                pieces.append(bytes(mss - last))
        width = max(ETH_MIN, hlen + mss)
        stride = width + (width & 1)
        rows = np.empty((total, stride), np.uint8)
        body = np.frombuffer(b"".join(pieces), np.uint8)
        rows[:, hlen : hlen + mss] = body.reshape(total, mss)
        if hlen + mss < stride:
            rows[:, hlen + mss :] = 0
        rows[:, :hlen] = self._first
        begin = 0
        for (header, _), (count, last) in zip(sends, sizes, strict=True):
            self._number(rows[begin : begin + count], header, last)
            begin += count
        if self._field is not None:
            insert_l4_many(rows, self._headers, stride)
        parts = tuple([Part(count, max(ETH_MIN, hlen + last)) for count, last in sizes])
        train = Train(
            rows, width, parts[-1].last, self._checked, parts=parts if len(parts) > 1 else ()
        )
        if self._known:
            # whole L4 headers, so a receiver finds no more than is known already
            train.headers = headers = self._headers
            count, last = sizes[0]
            flags = 0 if self._flags is None else train.head[self._flags]
            if count == 1 or flags != headers.tcp_flags:
                end = hlen + (mss if count > 1 else last)
                train.headers = replace(headers, l3_end=end, tcp_flags=flags)
        return train

    def _same(self) -> int:
        """Mask of the bits of a header that frames have as it has them."""
        mask = bytearray(b"\xff") * self._hlen
        at = self._headers.l3_offset
        mask[at + 4 : at + 6] = b"\0\0"  # identification, or length over IPv6
        if self._v4:
            mask[at + 2 : at + 4] = b"\0\0"
        if self._l3:
            mask[at + 10 : at + 12] = b"\0\0"
        if self._sequence is not None:
            mask[self._sequence : self._sequence + 4] = bytes(4)
        if self._datagram is not None:
            mask[self._datagram : self._datagram + 2] = b"\0\0"
        if self._flags is not None:
            mask[self._flags] = 0xFF - _FIN - _PSH - _CWR
        if self._field is not None:
            mask[self._field : self._field + 2] = b"\0\0"
        return int.from_bytes(mask)

    def _described(self, header: bytes, payload: int, flags: int) -> bytearray:
        """The header of a frame with ``payload`` bytes, before what counts up.

        ``flags``: those of TCP that it keeps. A checksum field gets the sum of the pseudo header.
        """
        out = bytearray(header)
        headers = self._headers
        at, start = headers.l3_offset, headers.l4_offset
        if self._v4:
            _U16.pack_into(out, at + 2, self._hlen - at + payload)
        else:
            _U16.pack_into(out, at + 4, self._hlen - at - 40 + payload)
        length = self._hlen - start + payload
        if self._flags is not None:
            out[self._flags] &= flags
        if self._datagram is not None:
            _U16.pack_into(out, self._datagram, length)
        if self._field is not None:
            _U16.pack_into(out, self._field, pseudo_sum(headers, headers.ip_proto, length))
        return out

    def _number(self, rows: npt.NDArray[np.uint8], header: bytes, last: int) -> None:
        """Complete the headers of one send, whose last frame has ``last`` bytes of payload.

        That is what counts up from frame to frame, the IPv4 checksum, which depends on it, and
        what is different in the first frame and the last. Of L4 checksums only the pseudo header's
        sum is written.
        """
        count, stride = rows.shape
        flat = rows.data.cast("B")
        final = self._described(header, last, 0xFF - _CWR)
        flat[(count - 1) * stride : (count - 1) * stride + self._hlen] = final
        if self._flags is not None:
            flat[self._flags] |= header[self._flags] & _CWR
        if self._v4:
            at, words = self._headers.l3_offset, rows.view(">u2")  # headers lie at even offsets
            ident = _U16.unpack_from(header, at + 4)[0]
            idents = _COUNTING[ident : ident + count]
            words[:, (at + 4) // 2] = idents
            if self._l3:
                first = self._sum + ident
                column = words[:, (at + 10) // 2]
                if ident + count <= 1 << 16:
                    column[:] = _CHECKSUMS[first : first + count]
                else:
                    column[:] = _CHECKSUMS[idents.astype(np.int64) + self._sum]
                if last < self._mss:  # the length is less
                    total = self._sum + int(idents[-1]) - (self._mss - last)
                    column[-1] = _CHECKSUMS[total % 65535]
        if self._sequence is not None:
            first = _U32.unpack_from(header, self._sequence)[0]
            sequence = rows[:, self._sequence : self._sequence + 4].view(">u4")[:, 0]
            sequence[:] = np.arange(first, first + count * self._mss, self._mss)
