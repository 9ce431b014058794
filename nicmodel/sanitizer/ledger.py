# SPDX-License-Identifier: GPL-2.0-or-later
"""The nonce ledger: which nonces a key was used with, and for what.

The GCM tag of a complete record is a digest of its plaintext and AAD under this key and nonce, so a
retransmission has the same tag and any other record another one; it costs nothing to keep. Records
that were given up have none: their ciphertext is compared as far as both go. The beginning of it is
kept as long as the record is remembered, the whole by reference in a ring. What can no longer be
compared is counted.

Nonces of one context mostly count up, so what is remembered are *runs* of them: a packet of records
with nonces above all that the key was used with is one comparison, not one for each record.
"""

from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from nicmodel.offload.tls.record import TAG, Buffer
from nicmodel.offload.tls.stream import Record

RECORDS = 1 << 16
"""Records that are remembered; about 200 bytes each, and 400 if their nonces do not count up, so
26 MiB of one NIC at most."""

RUN = 64
"""Records of a run at most: they are forgotten together."""

BEGINNING = 64
"""Bytes of ciphertext that are kept of each."""

SEALED_OCTETS = 1 << 19
"""Ciphertext that is kept by reference for comparison, bytes. More costs more than what there is to
keep: memory that is used anew while it is in a CPU's cache is cheap."""

PACKETS = 512
"""Packets at most whose ciphertext is kept."""

KEYS = 1024
"""Keys of which used nonces are remembered as ranges when the records are forgotten."""

RANGES = 64
"""Such ranges of one key: numbers that count up are one."""

EXPLICIT = 8
"""Bytes at the end of a nonce that count."""

NUMBERS = 1 << 8 * EXPLICIT
"""Behind the highest number that they can be; the number after it is 0."""


@dataclass(frozen=True, slots=True)
class Reuse:
    """A nonce used for something else: ``differs`` says what.

    ``before_...``: by which TIS, in which SMT message and with which AAD it was used before.
    """

    before_tisn: int
    before_message: int | None
    before_aad: bytes
    differs: str


class Ranges:
    """Numbers, as closed ranges; at most ``RANGES``, then the lowest ones go."""

    def __init__(self) -> None:
        self._first: list[int] = []
        self._last: list[int] = []

    def add(self, number: int) -> int:
        """Add one; returns how many numbers had to be forgotten for it."""
        first, last = self._first, self._last
        at = bisect_right(first, number)
        if at and number <= last[at - 1]:
            return 0
        joins_left = at > 0 and last[at - 1] == number - 1
        joins_right = at < len(first) and first[at] == number + 1
        if joins_left and joins_right:
            last[at - 1] = last.pop(at)
            first.pop(at)
        elif joins_left:
            last[at - 1] = number
        elif joins_right:
            first[at] = number
        else:
            first.insert(at, number)
            last.insert(at, number)
        if len(first) <= RANGES:
            return 0
        return last.pop(0) - first.pop(0) + 1

    @property
    def top(self) -> int:
        """The highest number, -1 if there is none."""
        return self._last[-1] if self._last else -1

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._first, number)
        return at > 0 and number <= self._last[at - 1]

    def __len__(self) -> int:
        """How many numbers."""
        return sum(last - first + 1 for first, last in zip(self._first, self._last, strict=True))


_TAGGED = 0x80
_FIRST = tuple(bytes((number,)) for number in range(2 * _TAGGED))
"""First bytes of packed briefs: length of the AAD, and whether there is a tag."""


class _Brief(NamedTuple):
    """What is remembered of a record: ``begin`` is of its ciphertext, all of it if it is short."""

    aad: bytes
    tag: bytes | None
    begin: bytes

    @classmethod
    def of(cls, packed: bytes) -> "_Brief":
        """Undo ``_pack``."""
        tagged, length = divmod(packed[0], _TAGGED)
        aad_at = 1 + TAG * tagged
        begin_at = aad_at + length
        return cls(packed[aad_at:begin_at], packed[1:aad_at] or None, packed[begin_at:])


def _pack(record: Record) -> bytes:
    """A ``_Brief`` as one object: of those with others in them Python would collect garbage."""
    aad, tag, pieces = record.aad, record.tag, record.ciphertext
    begin: Buffer = pieces[0][:BEGINNING] if pieces else b""
    if len(begin) < BEGINNING and len(pieces) > 1:
        begin = b"".join(pieces)[:BEGINNING]
    if tag is None:
        return b"".join((_FIRST[len(aad)], aad, begin))
    return b"".join((_FIRST[_TAGGED + len(aad)], tag, aad, begin))


@dataclass(slots=True, eq=False)
class _Run:
    """What consecutive nonces from ``first`` on were used for, by a TIS in an SMT ``message``."""

    first: int
    tisn: int
    message: int | None = None
    briefs: list[bytes] = field(default_factory=list)

    @property
    def end(self) -> int:
        """The number behind it."""
        return self.first + len(self.briefs)


class _Runs:
    """Of one key: disjoint runs, in order; all numbers are at most ``top``."""

    def __init__(self, top: int) -> None:
        self.top = top
        self._firsts: list[int] = []
        self._runs: list[_Run] = []
        self._gone = 0  # so many at the beginning are

    def __len__(self) -> int:
        return len(self._runs) - self._gone

    @property
    def highest(self) -> _Run | None:
        """The last one."""
        return self._runs[-1] if len(self) else None

    def find(self, number: int) -> tuple[_Run, int] | None:
        """The run that ``number`` is in, and where."""
        if number > self.top:
            return None
        at = bisect_right(self._firsts, number, self._gone) - 1
        if at < self._gone or number >= self._runs[at].end:
            return None
        return self._runs[at], number - self._runs[at].first

    def insert(self, run: _Run) -> None:
        """Add one."""
        at = bisect_right(self._firsts, run.first, self._gone)
        self._firsts.insert(at, run.first)
        self._runs.insert(at, run)

    def remove(self, run: _Run) -> None:
        """Forget one."""
        at = bisect_right(self._firsts, run.first, self._gone) - 1
        if at > self._gone:
            del self._firsts[at], self._runs[at]
            return
        self._gone += 1  # the oldest one is mostly the lowest one; lists are cut seldom
        if self._gone > len(self._runs) // 2:
            del self._firsts[: self._gone], self._runs[: self._gone]
            self._gone = 0


class NonceLedger:
    """Of one NIC, over all contexts, queues and lives of the device.

    Keys are digests of one length. ``forgotten``: nonces that a later use would not be recognised
    by. ``uncompared``: uses of a nonce that was used before, where too little is left of the
    earlier record to compare.
    """

    def __init__(self, records: int = RECORDS, sealed_octets: int = SEALED_OCTETS) -> None:
        self.seen = 0
        self.repeated = 0
        self.uncompared = 0
        self.forgotten = 0
        self._most = records
        self._most_sealed = sealed_octets
        self._longest = max(1, min(RUN, records // (1 << 10)))
        self._records = 0
        self._runs: dict[bytes, _Runs] = {}
        self._order: deque[tuple[bytes, _Run]] = deque()
        self._old: OrderedDict[bytes, Ranges] = OrderedDict()
        self._sealed: deque[tuple[_Run, int, Sequence[Record], int]] = deque()
        self._octets = 0
        self._backing: object = None

    def __len__(self) -> int:
        """Records that are remembered."""
        return self._records

    def look(self, key: bytes, record: Record) -> Reuse | None:
        """Is ``record``, as far as it has come, another one than its nonce was used for?"""
        runs = self._runs.get(key + record.nonce[:-EXPLICIT])
        found = None if runs is None else runs.find(_explicit(record))
        return None if found is None else self._compare(*found, record)[0]

    def fresh(self, name: bytes, number: int) -> bool:
        """Is a nonce above all that were used? ``name``: key, and its bytes before ``EXPLICIT``."""
        runs = self._runs.get(name)
        return number > (self._top(name) if runs is None else runs.top)

    def rising(self, name: bytes, tisn: int, first: int, records: Sequence[Record]) -> bool:
        """Records with consecutive nonces from ``first`` on have ended in one packet. If they are
        ``fresh`` they are noted; else nothing is done: ``note`` each.
        """
        runs = self._runs.get(name)
        if not self.fresh(name, first) or first + len(records) > NUMBERS:
            return False
        self.seen += len(records)
        self._add(name, runs, first, tisn, records)
        return True

    def note(
        self, key: bytes, tisn: int, record: Record, message: int | None = None
    ) -> Reuse | None:
        """A record, of an SMT ``message`` or none, has ended or was given up."""
        self.seen += 1
        name, number = key + record.nonce[:-EXPLICIT], _explicit(record)
        runs = self._runs.get(name)
        found = None if runs is None else runs.find(number)
        if found is None:
            if number in self._old.get(name, ()):
                self.repeated += 1
                self.uncompared += 1
            self._add(name, runs, number, tisn, (record,), message)
            return None
        self.repeated += 1
        reuse, compared = self._compare(*found, record)
        if reuse is None:
            self.uncompared += not compared
            self._improve(*found, record)
        return reuse

    def _compare(self, run: _Run, at: int, record: Record) -> tuple[Reuse | None, bool]:
        """What differs between the one at ``at`` and ``record``, and whether enough was there to
        say that nothing does.
        """
        before = _Brief.of(run.briefs[at])
        if before.aad != record.aad:
            differs = "associated data (record number, type or length)"
            return Reuse(run.tisn, run.message, before.aad, differs), True
        other = Reuse(run.tisn, run.message, before.aad, "plaintext")
        if before.tag is not None and record.tag is not None:
            return (None if before.tag == record.tag else other), True
        new = b"".join(record.ciphertext)
        text, whole = before.begin, len(before.begin) < BEGINNING
        if not whole and len(new) > BEGINNING and (sealed := self._find(run, at)) is not None:
            text, whole = b"".join(sealed.ciphertext), True
        length = min(len(text), len(new))
        if text[:length] != new[:length]:
            return other, True
        return None, whole or length == len(new)

    def _find(self, run: _Run, at: int) -> Record | None:
        """The record with its ciphertext, if that is kept."""
        for its, start, records, _ in reversed(self._sealed):
            if its is run and 0 <= at - start < len(records):
                return records[at - start]
        return None

    def _top(self, name: bytes) -> int:
        old = self._old.get(name)
        return -1 if old is None else old.top

    def _add(
        self,
        name: bytes,
        runs: _Runs | None,
        first: int,
        tisn: int,
        records: Sequence[Record],
        message: int | None = None,
    ) -> None:
        """Remember records whose nonces were not used; ``first`` is the number of the first one."""
        if runs is None:
            runs = self._runs[name] = _Runs(self._top(name))
        run = runs.highest
        if (
            run is None
            or run.end != first
            or (run.tisn, run.message) != (tisn, message)
            or len(run.briefs) >= self._longest
        ):
            run = _Run(first, tisn, message)
            runs.insert(run)
            self._order.append((name, run))
        at = len(run.briefs)
        run.briefs += [_pack(record) for record in records]
        if run.end > runs.top:
            runs.top = run.end - 1
        self._records += len(records)
        self._keep(run, at, records)
        while self._records > self._most:
            self._retire(*self._order.popleft())

    def _improve(self, run: _Run, at: int, record: Record) -> None:
        """The same record again: keep of it what says most."""
        before = _Brief.of(run.briefs[at])
        if record.tag is None and before.tag is not None:
            return
        kept = self._find(run, at)
        least = BEGINNING if kept is None else _octets(kept.ciphertext)
        if _octets(record.ciphertext) > least:
            self._keep(run, at, (record,))
        packed = _pack(record)
        if record.tag is not None or len(packed) > len(run.briefs[at]):
            run.briefs[at] = packed

    def _keep(self, run: _Run, at: int, records: Sequence[Record]) -> None:
        """Keep what ``records``, in ``run`` from ``at`` on, became, until later ones fill the ring.

        Of several all but the first one lie in one packet.
        """
        size = 0
        for piece in (*records[0].ciphertext, *records[-1].ciphertext):
            if piece.obj is not self._backing:  # a piece keeps all of its packet
                self._backing = piece.obj
                size += memoryview(piece.obj).nbytes
        sealed = self._sealed
        sealed.append((run, at, records, size))
        self._octets += size
        while self._octets > self._most_sealed or len(sealed) > PACKETS:
            self._octets -= sealed.popleft()[3]

    def _retire(self, name: bytes, run: _Run) -> None:
        """Remember of a run that is forgotten at least that its nonces were used."""
        runs = self._runs[name]
        runs.remove(run)
        if not len(runs):
            del self._runs[name]
        self._records -= len(run.briefs)
        ranges = self._old.get(name)
        if ranges is None:
            ranges = self._old[name] = Ranges()
            if len(self._old) > KEYS:
                self.forgotten += len(self._old.popitem(last=False)[1])
        for number in range(run.first, run.end):
            self.forgotten += ranges.add(number)
        run.briefs = []


def _explicit(record: Record) -> int:
    return int.from_bytes(record.nonce[-EXPLICIT:], "big")


def _octets(pieces: tuple[memoryview, ...]) -> int:
    return sum(map(len, pieces))
