# SPDX-License-Identifier: GPL-2.0-or-later
"""Large sends: what LSO WQEs ask for, and the train that a row of them becomes (``en_tx.c``)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nicmodel.errors import QueueFault
from nicmodel.frame import ETH_MIN, Origin, Train
from nicmodel.offload.segment import MAX_SEGMENTS, OtherLso, Segmenter
from nicmodel.queues.gather import Gather, inline_headers, send_segment
from nicmodel.queues.tls_tx import Packet, TlsTx
from nicmodel.queues.tls_watch import Use
from nicmodel.spec.cqe import CqeSyndrome
from nicmodel.spec.wqe import EthCsFlags

_L3, _L4 = int(EthCsFlags.L3), int(EthCsFlags.L4)

MAX_LSO = 1 << 18
"""Longest packet that LSO takes, bytes (``max_lso_cap`` 18)."""

MAX_FRAME = 10_240
"""Longest frame that a WQE may carry, bytes; *assumption*: hardware's limit is near this."""


@dataclass(slots=True)
class LargeSend:
    """A valid LSO WQE: ``index`` is its own, ``octets`` what leaves for it, ``tisn`` 0 for none."""

    index: int
    tisn: int
    cs_flags: int
    mss: int
    header: bytes
    payload: list[memoryview]
    length: int

    @property
    def octets(self) -> int:
        """Bytes of all its frames without FCS."""
        header, mss = len(self.header), self.mss
        count = -(-self.length // mss)
        last = self.length - (count - 1) * mss
        return (count - 1) * max(ETH_MIN, header + mss) + max(ETH_MIN, header + last)


class Large:
    """The large sends of one send queue ``sqn``."""

    def __init__(self, sqn: int, gather: Gather, tls: TlsTx, other: OtherLso) -> None:
        self._sqn = sqn
        self._gather = gather
        self._tls = tls
        self._other = other
        self._segmenter: Segmenter | None = None
        self._made_for: tuple[int, int] | None = None
        """MSS and checksum flags of the segmenter, which is kept: the next send is often alike."""

    def read(self, wqe: bytes, index: int) -> LargeSend:
        """What the LSO WQE asks for: headers inline, payload gathered. Raises QueueFault."""
        imm, cs_flags, _, mss, _, size, _ = send_segment(wqe)
        header, at = inline_headers(wqe, size)
        payload = self._gather.segments(wqe, at)
        length = sum(map(len, payload))
        if not mss or not length or not header or length > MAX_LSO:
            raise QueueFault(
                f"LSO of {length} bytes with mss {mss} and {len(header)} header bytes",
                CqeSyndrome.LOCAL_LENGTH_ERR,
            )
        if length > mss * MAX_SEGMENTS:
            raise QueueFault(
                f"LSO of {length} bytes with mss {mss}: too many segments",
                CqeSyndrome.LOCAL_LENGTH_ERR,
            )
        if len(header) + mss > MAX_FRAME:
            raise QueueFault("the segments are too long", CqeSyndrome.LOCAL_LENGTH_ERR)
        return LargeSend(index, imm >> 8, cs_flags, mss, header, payload, length)

    def begins(self, send: LargeSend) -> bool:
        """May a row begin with it? If not, it is bad, or shorter than one whose frames follow."""
        return send.length >= send.mss and self._fit(send) is not None

    def follows(self, first: LargeSend, send: LargeSend) -> bool:
        """May it leave in one train with ``first``, which begins a row?"""
        return (
            send.mss == first.mss
            and send.cs_flags == first.cs_flags
            and send.tisn == first.tisn
            and self._segmenter is not None
            and self._segmenter.fits(send.header)
        )

    def train(self, sends: Sequence[LargeSend]) -> Train:
        """The frames of one send, or of a row. Raises QueueFault if they cannot be cut."""
        first = sends[0]
        origins = self._encrypt(sends) if first.tisn else []
        segmenter = self._fit(first)
        if segmenter is None:
            raise QueueFault(
                "LSO of a header that this card does not segment", CqeSyndrome.LOCAL_QP_OP_ERR
            )
        train = segmenter.cut([(send.header, send.payload) for send in sends])
        if train.parts and any(origins):
            pairs = zip(train.parts, origins, strict=True)
            train.parts = tuple(replace(part, origin=origin) for part, origin in pairs)
        elif origins:
            train.origin = origins[0]
        return train

    def _encrypt(self, sends: Sequence[LargeSend]) -> list[Origin | None]:
        """Put ciphertext in the place of payloads. QueueFault: nothing has happened."""
        packets = [
            Packet(Use(self._sqn, send.index, send.tisn), send.header, send.payload, send.mss)
            for send in sends
        ]
        done = self._tls.encrypt_row(packets)
        for send, (sealed, _) in zip(sends, done, strict=True):
            send.payload = [sealed]
        return [origin for _, origin in done]

    def _fit(self, send: LargeSend) -> Segmenter | None:
        """The segmenter for ``send``."""
        made_for = send.mss, send.cs_flags
        segmenter = self._segmenter
        if segmenter is None or made_for != self._made_for or not segmenter.fits(send.header):
            l3, l4 = bool(send.cs_flags & _L3), bool(send.cs_flags & _L4)
            segmenter = Segmenter.of(send.header, send.mss, l3=l3, l4=l4, other=self._other)
            self._segmenter, self._made_for = segmenter, made_for
        return segmenter
