# SPDX-License-Identifier: GPL-2.0-or-later
"""The byte stream of one direction of a TCP connection, put together of captured segments."""

from bisect import bisect_right
from dataclasses import dataclass
from heapq import heappop, heappush

WINDOW = 1 << 30
"""How far a segment may lie before or behind what is known, bytes: the largest window of TCP."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Payload that frame ``frame`` carries at offset ``start`` of the stream; seen at ``time``."""

    frame: int
    time: int
    start: int
    data: bytes

    @property
    def end(self) -> int:
        """The offset behind it."""
        return self.start + len(self.data)


class Stream:
    """Bytes from sequence number ``seq`` on, in order, whatever was lost, repeated or overtaken.

    ``data`` has what is known without a gap: of bytes that came several times, those that came
    first. ``others`` are segments that repeat known bytes with another content.
    """

    def __init__(self, seq: int) -> None:
        self.data = bytearray()
        self.others: list[Segment] = []
        self._seq = seq
        self._waiting: list[tuple[int, int, Segment]] = []
        """A heap of segments behind a gap, by start; the number breaks ties."""
        self._added = 0
        self._used: list[Segment] = []
        self._starts: list[int] = []
        """Where the bytes that were taken from each of ``_used`` begin."""

    def add(self, frame: int, time: int, seq: int, data: bytes) -> None:
        """A segment was captured."""
        known = len(self.data)
        at = known + ((seq - self._seq - known + (1 << 31)) % (1 << 32) - (1 << 31))
        if at < 0:
            data, at = data[-at:], 0  # before the first record nothing is encrypted
        if data and at - known <= WINDOW:
            self._added += 1
            heappush(self._waiting, (at, self._added, Segment(frame, time, at, data)))
            while self._waiting and self._waiting[0][0] <= len(self.data):
                self._take(heappop(self._waiting)[2])

    @property
    def gap(self) -> tuple[int, int] | None:
        """The offsets between which bytes are missing before bytes that are there; None: none."""
        return (len(self.data), self._waiting[0][0]) if self._waiting else None

    def segments(self, start: int, end: int) -> list[Segment]:
        """Those that bytes ``start`` to ``end`` of ``data`` were taken from, in order."""
        first = bisect_right(self._starts, start) - 1
        return self._used[first : bisect_right(self._starts, end - 1)]

    def _take(self, segment: Segment) -> None:
        """Take a segment that has no gap before it."""
        end = len(self.data)
        known = min(end, segment.end) - segment.start
        if segment.data[:known] != self.data[segment.start : segment.start + known]:
            self.others.append(segment)
        if segment.end > end:
            self._starts.append(end)
            self._used.append(segment)
            self.data += segment.data[end - segment.start :]
