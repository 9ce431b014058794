# SPDX-License-Identifier: GPL-2.0-or-later
"""The TLS records of one direction of a connection, and what is in them."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from nicmodel.decrypt.stream import Segment, Stream
from nicmodel.offload.tls.cipher import RecordCipher
from nicmodel.offload.tls.record import (
    CONTENT_TYPES,
    HEADER,
    TAG,
    RecordHeader,
    next_number,
    prefix_length,
)
from nicmodel.offload.tls.stream import DecryptStream
from nicmodel.spec.tls import TlsVersion
from nicmodel.wire.keyfile import FlowKey

NEAR = 64
"""How many record numbers before and after the right one are tried when that one is wrong."""

_WIRE_VERSION = 0x0303
_LONGEST = (1 << 14) + 2048
"""Longest ``length`` of a record (RFC 5246, 6.2.3)."""
_IV = 12
_NUMBERS = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class ReadRecord:
    """Record ``number``, complete at ``time`` (ns since 1970), out of ``frames``.

    ``plaintext`` is None if it is not authentic. ``kind`` is the content type, of TLS 1.3 the inner
    one. ``message``: of which SMT message it is, as its sender counts them.
    """

    number: int
    kind: int
    time: int
    frames: tuple[int, ...]
    plaintext: bytes | None
    message: int | None = None


@dataclass(slots=True)
class Direction:
    """All records of one direction; ``problems`` are sentences on what is not as it should be.

    ``rest``: bytes of a record that the capture has only the beginning of.
    """

    key: FlowKey
    records: list[ReadRecord] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    rest: int = 0

    @property
    def authentic(self) -> list[ReadRecord]:
        """Those that could be decrypted."""
        return [record for record in self.records if record.plaintext is not None]


def read_records(key: FlowKey, stream: Stream) -> Direction:
    """Decrypt all records that ``stream`` has as a whole."""
    return _Reading(key, stream).all()


class _Reading:
    def __init__(self, key: FlowKey, stream: Stream) -> None:
        self._key = key
        self._stream = stream
        self._cipher = RecordCipher(key.version, key.key, key.salt.ljust(_IV, b"\0"))
        self._overhead = prefix_length(key.version) - HEADER + TAG
        self._out = Direction(key)

    def all(self) -> Direction:
        stream, out = self._stream, self._out
        at, number = 0, self._key.record
        while len(stream.data) - at >= HEADER:
            header = RecordHeader.parse(stream.data, at)
            if not self._plausible(header):
                raw = stream.data[at : at + HEADER].hex()
                out.problems.append(
                    f"record {number} should begin {self._where(at, at + HEADER)}, but {raw} is no "
                    "record header: what follows was not read"
                )
                return out
            end = at + HEADER + header.length
            if end > len(stream.data):
                break
            self._record(number, at, end)
            at, number = end, next_number(number)
        if (gap := stream.gap) is not None:
            first, last = (self._key.seq + at & 0xFFFFFFFF for at in (gap[0], gap[1] - 1))
            out.problems.append(
                f"the capture lacks TCP sequence numbers {first} to {last}: record {number} and "
                "what follows was not read"
            )
        out.rest = len(stream.data) - at
        return out

    def _plausible(self, header: RecordHeader) -> bool:
        fits = self._overhead <= header.length <= _LONGEST
        return fits and header.type in CONTENT_TYPES and header.version == _WIRE_VERSION

    def _record(self, number: int, start: int, end: int) -> None:
        """Decrypt the record that lies there, as it was sent first, or else as it was repeated."""
        data = self._stream.data[start:end]
        text = self._decrypt(number, data)
        others = [one for one in self._stream.others if one.start < end and one.end > start]
        if others:
            repeated = bytearray(data)
            for one in others:
                first, last = max(start, one.start), min(end, one.end)
                repeated[first - start : last - start] = one.data[
                    first - one.start : last - one.start
                ]
            again = self._decrypt(number, repeated) if repeated != data else text
            self._compare(number, start, end, others, text, again)
            text = again if text is None else text
        elif text is None:
            self._out.problems.append(self._why(number, data, start, end))
        segments = self._stream.segments(start, end)
        kind, plaintext = data[0], text
        if text is not None and self._key.version is TlsVersion.TLS_1_3:
            inner = text.rstrip(b"\0")
            kind, plaintext = (inner[-1], inner[:-1]) if inner else (kind, inner)
        frames = tuple(segment.frame for segment in segments)
        time = max(segment.time for segment in segments)
        self._out.records.append(ReadRecord(number, kind, time, frames, plaintext))

    def _decrypt(self, number: int, data: bytes | bytearray) -> bytes | None:
        return decrypt_record(self._cipher, number, data)

    def _compare(
        self,
        number: int,
        start: int,
        end: int,
        others: list[Segment],
        text: bytes | None,
        again: bytes | None,
    ) -> None:
        """Say what is wrong with a record that was not repeated as it was sent."""
        frames = frame_numbers(segment.frame for segment in others)
        first = "authenticates" if text is not None else "does not authenticate"
        then = "does" if again is not None else "does not"
        self._out.problems.append(
            f"{frames} sent other bytes for record {number} {self._where(start, end)} than were "
            f"sent before: as sent first it {first}, as repeated it {then}"
        )

    def _why(self, number: int, data: bytearray, start: int, end: int) -> str:
        """Say what is known of a record that is not authentic."""
        said = f"record {number} {self._where(start, end)} does not authenticate"
        near = (number + step & _NUMBERS for step in range(-NEAR, NEAR + 1))
        for other in (self._key.record, *near):
            if other != number and self._decrypt(other, data) is not None:
                return f"{said}; it does as record {other}: the context expected that one"
        return said

    def _where(self, start: int, end: int) -> str:
        frames = frame_numbers(segment.frame for segment in self._stream.segments(start, end))
        return f"at TCP sequence number {self._key.seq + start & 0xFFFFFFFF} ({frames})"


def decrypt_record(cipher: RecordCipher, number: int, data: bytes | bytearray) -> bytes | None:
    """The plaintext of a whole record, None if it is not authentic under ``number``."""
    out = bytearray(len(data))
    (record,) = DecryptStream(cipher, number).run(data, out)
    if not record.authentic:
        return None
    return bytes(out[prefix_length(cipher.version) : -TAG])


def frame_numbers(frames: Iterable[int]) -> str:
    """``frame 7``, ``frames 7-9, 12``: rows of numbers are drawn together."""
    rows: list[list[int]] = []
    for frame in sorted(set(frames)):
        if rows and frame == rows[-1][1] + 1:
            rows[-1][1] = frame
        else:
            rows.append([frame, frame])
    words = [f"{a}-{b}" if a != b else f"{a}" for a, b in rows]
    one = len(rows) == 1 and rows[0][0] == rows[0][1]
    return f"frame{'' if one else 's'} {', '.join(words)}"
