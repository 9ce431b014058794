# SPDX-License-Identifier: GPL-2.0-or-later
"""The transmit engine of TLS: one context per TIS, used by any send queue.

Source: ``ktls_tx.c``. A UMR brings static parameters, a SET_PSV makes the context expect the first
byte of the record with their number; from then on the payload of each SEND and LSO with the TIS,
and the data of each DUMP, are its byte stream, in the order of execution. What the context expects
is what it uses: sequence numbers are not looked at, and nothing is corrected.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, repeat
from typing import NoReturn

import numpy as np

from nicmodel.errors import QueueFault
from nicmodel.frame import ETH_HEADER, Origin, RecordPart
from nicmodel.objects.store import Objects
from nicmodel.objects.tls import Dek
from nicmodel.objects.transport import Tis
from nicmodel.offload.parse import parse
from nicmodel.offload.tls.cipher import RecordCipher
from nicmodel.offload.tls.record import Buffer
from nicmodel.offload.tls.stream import EncryptStream, Record
from nicmodel.queues.tls_params import find_dek, make_cipher, static_params
from nicmodel.queues.tls_watch import TlsListener, TlsWatch, Use
from nicmodel.spec.cqe import CqeSyndrome
from nicmodel.units import Dekn, Tisn

MAX_HOLDING = 256
"""Contexts that may hold the text of a record that is cut, at most 64 KiB each; *a choice of the
model*: they are those that were used last."""


def payload_at(frame: bytearray, inline: int) -> int:
    """Where the payload of a frame begins that a SEND gives to the engine: behind the TCP header.

    Of another protocol it is behind the ``inline`` header bytes; *assumption*. Raises QueueFault.
    """
    headers = parse(frame, len(frame))
    if headers is not None and headers.l4_offset and headers.tcp_header:
        return headers.l4_offset + headers.tcp_header
    if inline < ETH_HEADER:
        raise QueueFault("nothing says where the payload begins", CqeSyndrome.LOCAL_QP_OP_ERR)
    return inline


@dataclass(frozen=True, slots=True)
class Packet:
    """What a SEND or LSO has for the engine; see ``TlsTx.encrypt``."""

    use: Use
    header: Buffer
    pieces: Sequence[memoryview]
    step: int


@dataclass(frozen=True, slots=True)
class _Share:
    """What one packet of a row has of the row's records: ``records`` end in it.

    ``number`` is that of the record in progress behind it; ``begun`` is that record, None before
    its nonce is complete.
    """

    records: Sequence[Record]
    number: int
    begun: Record | None


@dataclass(slots=True)
class _Context:
    """What static parameters made, and the stream that progress parameters have begun since.

    The stream may still be that of older static parameters: new ones count from the next progress
    parameters on. ``used``: by which WQE last, if somebody watches.
    """

    number: int
    dek: Dek
    cipher: RecordCipher
    stream: EncryptStream | None = None
    stream_dek: Dek | None = None
    used: Use | None = None


class TlsTx:
    """The contexts of one NIC's TISes, kept while the TIS lives.

    ``watches`` are told what happens, ``listeners`` less of it, at no cost. With ``origins`` set,
    what is sent says where it is from.
    """

    def __init__(self, objects: Objects) -> None:
        self.watches: tuple[TlsWatch, ...] = ()
        self.listeners: tuple[TlsListener, ...] = ()
        self.origins = False
        self._tises = objects.tises
        self._deks = objects.deks
        self._contexts: dict[int, _Context] = {}
        self._holding: dict[int, EncryptStream] = {}
        # used again and again: fresh memory costs a page fault for each 4 KiB
        self._clear = self._sealed = memoryview(b"")

    def begun(self, tisn: Tisn) -> bool:
        """Has the TIS a context with parameters?"""
        return tisn in self._contexts

    def static_params(self, use: Use, wqe: bytes) -> None:
        """A UMR: new static parameters. Raises QueueFault."""
        tis = self._tis(use)
        try:
            params = static_params(wqe)
            dek = find_dek(self._deks, params, tis.pd)
        except QueueFault as fault:
            self._refuse(use, str(fault), fault.syndrome)
        cipher = make_cipher(params, dek)
        context = self._contexts.get(use.tisn)
        if context is None:
            self._contexts[use.tisn] = _Context(params.initial_record_number, dek, cipher)
        else:
            context.number, context.dek, context.cipher = params.initial_record_number, dek, cipher
        for watch in (*self.watches, *self.listeners):
            watch.static_params(use, params, cipher)

    def progress_params(self, use: Use) -> None:
        """A SET_PSV: the next byte begins the record that the static parameters number.

        Raises QueueFault.
        """
        self._tis(use)
        context = self._contexts.get(use.tisn)
        if context is None:
            self._refuse(use, f"TIS {use.tisn:#x} has no static parameters")
        self._give_up(use, context)
        context.stream = EncryptStream(
            context.cipher, context.number, keep=bool(self.watches) or self.origins
        )
        context.stream_dek = context.dek
        for watch in (*self.watches, *self.listeners):
            watch.progress_params(use)

    def encrypt(
        self, use: Use, header: Buffer, pieces: Sequence[memoryview], step: int = 0
    ) -> tuple[memoryview, Origin | None]:
        """What the payload ``pieces`` of a SEND or LSO become, to be used before the next call.

        ``header`` stands before them, in each frame; ``step`` bytes of payload go into a frame, 0
        if it is but one. Raises QueueFault.
        """
        (done,) = self.encrypt_row([Packet(use, header, pieces, step)])
        return done

    def encrypt_row(self, packets: Sequence[Packet]) -> list[tuple[memoryview, Origin | None]]:
        """The same for packets of one context that follow each other.

        QueueFault is raised before anything has happened.
        """
        stream = self._stream(packets[0].use)
        # they are one stream, so that a record which lies in two of them need not be cut
        data = self._join([piece for packet in packets for piece in packet.pieces])
        out = self._room(len(data))
        records = self._run(packets[0].use, stream, data, out)
        ends = list(accumulate(sum(map(len, packet.pieces)) for packet in packets))
        done: list[tuple[memoryview, Origin | None]] = []
        at = 0
        for packet, end, share in zip(
            packets, ends, self._shares(stream, records, ends), strict=True
        ):
            done.append((out[at:end], self._tell(packet, data, at, end, share)))
            at = end
        return done

    def _shares(
        self, stream: EncryptStream, records: Sequence[Record], ends: Sequence[int]
    ) -> Iterable[_Share]:
        """What each packet of a row has of its records; ``ends``: where each ends in the row."""
        if not self.watches and not self.origins:
            return repeat(_Share(records, stream.number, None), len(ends))
        return _shares(stream, records, ends)

    def _tell(
        self, packet: Packet, data: Buffer, at: int, end: int, share: _Share
    ) -> Origin | None:
        """Tell of a packet that it is bytes ``at`` to ``end`` of ``data``, which have passed."""
        use, records = packet.use, share.records
        for watch in (*self.watches, *self.listeners):
            watch.send(use, packet.header, end - at)
        if self.watches:
            self._contexts[use.tisn].used = use
            for watch in self.watches:
                watch.passed(use, data, records, share.begun)
        if not self.origins:
            return None
        parts = _parts(records, share.number, at, end)
        step, behind = packet.step or end - at, len(packet.header)
        clear = memoryview(data)[at:end]
        return Origin("SQ", use.sqn, use.wqe, use.tisn, parts, "encrypted", behind, step, clear)

    def dump(self, use: Use, pieces: Sequence[memoryview]) -> None:
        """Let the data of a DUMP pass; the result goes nowhere. Raises QueueFault."""
        stream = self._stream(use)
        data = self._join(pieces)
        for watch in (*self.watches, *self.listeners):
            watch.dump(use, len(data))
        records = self._run(use, stream, data, self._room(len(data)))
        for watch in self.watches:
            watch.passed(use, data, records, stream.unfinished)

    def tis_destroyed(self, tisn: Tisn) -> None:
        """The TIS is gone, and its context with it."""
        context = self._contexts.pop(tisn, None)
        self._holding.pop(tisn, None)
        if context is not None and context.used is not None:
            self._give_up(context.used, context)
        for watch in (*self.watches, *self.listeners):
            watch.tis_destroyed(tisn)

    def dek_destroyed(self, dekn: Dekn) -> None:
        """The key is gone; the next use of a context that has it fails."""
        for watch in self.watches:
            watch.dek_destroyed(dekn)

    def clear(self) -> None:
        """Forget all contexts."""
        self._contexts.clear()
        self._holding.clear()

    def _tis(self, use: Use) -> Tis:
        """The TIS with TLS that ``use`` names."""
        tis = self._tises.find(Tisn(use.tisn))
        if tis is None:
            self._refuse(use, f"there is no TIS {use.tisn:#x}")
        if not tis.tls_en:
            self._refuse(use, f"TIS {use.tisn:#x} is without TLS")
        return tis

    def _stream(self, use: Use) -> EncryptStream:
        """The stream of the context that ``use`` names."""
        context = self._contexts.get(use.tisn)
        if context is None or context.stream is None or context.stream_dek is None:
            self._tis(use)
            self._refuse(use, f"the TLS context of TIS {use.tisn:#x} has no parameters yet")
        dek = context.stream_dek
        if self._deks.find(dek.dekn) is not dek:
            self._refuse(use, f"DEK {dek.dekn:#x} of TIS {use.tisn:#x} has been destroyed")
        if self.watches:
            context.used = use
        return context.stream

    def _join(self, pieces: Sequence[memoryview]) -> Buffer:
        """The pieces as one buffer: one for itself if it is kept, else good until the next call.

        Who watches sees no view of guest memory.
        """
        if self.origins:
            return b"".join(pieces)
        if len(pieces) == 1 and not self.watches:
            return pieces[0]
        length = sum(map(len, pieces))
        if length > len(self._clear):
            self._clear = memoryview(bytearray(length))
        at = 0
        for piece in pieces:
            end = at + len(piece)
            self._clear[at:end] = piece
            at = end
        return self._clear[:length]

    def _room(self, length: int) -> memoryview:
        """Where ciphertext goes; a place for itself if it is kept."""
        if self.watches:
            return np.empty(length, np.uint8).data
        if length > len(self._sealed):
            self._sealed = memoryview(bytearray(length))
        return self._sealed[:length]

    def _run(
        self, use: Use, stream: EncryptStream, data: Buffer, out: memoryview
    ) -> Sequence[Record]:
        """Let data pass through the stream of a context; the records that ended in it."""
        records = stream.run(data, out)
        holding = self._holding
        holding.pop(use.tisn, None)
        if stream.held:
            holding[use.tisn] = stream
            if len(holding) > MAX_HOLDING:
                holding.pop(next(iter(holding))).settle()
        return records

    def _give_up(self, use: Use, context: _Context) -> None:
        """The stream of the context ends here."""
        record = context.stream.give_up() if context.stream is not None else None
        if record is not None:
            for watch in self.watches:
                watch.gave_up(use, record)

    def _refuse(
        self, use: Use, reason: str, syndrome: int = CqeSyndrome.LOCAL_QP_OP_ERR
    ) -> NoReturn:
        for watch in self.watches:
            watch.refused(use, reason)
        raise QueueFault(reason, syndrome)


def _shares(
    stream: EncryptStream, records: Sequence[Record], ends: Sequence[int]
) -> Iterator[_Share]:
    first, rest = 0, stream.unfinished
    for end in ends:
        stop = first
        while stop < len(records) and records[stop].end <= end:
            stop += 1
        if stop < len(records):
            begun: Record | None = records[stop]
            behind = records[stop].end
        else:
            begun, behind = rest, ends[-1] + (stream.left or 0)
        number = stream.number if begun is None else begun.number
        if begun is not None and end < ends[-1]:
            complete = begun.nonce and behind - begun.octets + len(begun.prefix) <= end
            begun = begun if complete else None
        yield _Share(records[first:stop], number, begun)
        first = stop


def _parts(records: Sequence[Record], number: int, at: int, end: int) -> tuple[RecordPart, ...]:
    """Which bytes of a payload belong to which record; ``number`` is the one in progress.

    The payload is bytes ``at`` to ``end`` of what passed.
    """
    parts, start = [], 0
    for record in records:
        parts.append(RecordPart(record.number, start, record.end - at))
        start = record.end - at
    if start < end - at:
        parts.append(RecordPart(number, start, end - at))
    return tuple(parts)
