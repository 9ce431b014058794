# SPDX-License-Identifier: GPL-2.0-or-later
"""The nonce ledger: which nonces a key was used with, and for what.

The GCM tag of a complete record is a digest of its plaintext and AAD under this key and nonce, so a
retransmission has the same tag and any other record another one; it costs nothing to keep. Records
that were given up have none: their ciphertext is compared as far as both go, and is kept by
reference for that, in a ring. What can no longer be compared is counted.
"""

from bisect import bisect_right
from collections import OrderedDict, deque
from dataclasses import dataclass

from nicmodel.offload.tls.stream import Record

RECORDS = 1 << 16
"""Records that are remembered one by one; about 320 bytes each, so 20 MiB of one NIC."""

SEALED_OCTETS = 8 << 20
"""Ciphertext that is kept by reference for comparison, bytes."""

KEYS = 1024
"""Keys of which used nonces are remembered as ranges when the records are forgotten."""

RANGES = 64
"""Such ranges of one key: numbers that count up are one."""

EXPLICIT = 8
"""Bytes at the end of a nonce that count."""


@dataclass(slots=True)
class Entry:
    """What a nonce was used for, by which TIS, and for SMT in which message.

    ``sealed`` is None when it is no longer kept.
    """

    aad: bytes
    tag: bytes | None
    sealed: tuple[memoryview, ...] | None
    tisn: int
    message: int | None = None


@dataclass(frozen=True, slots=True)
class Reuse:
    """A nonce used for something else: ``differs`` says what."""

    before: Entry
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

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._first, number)
        return at > 0 and number <= self._last[at - 1]

    def __len__(self) -> int:
        """How many numbers."""
        return sum(last - first + 1 for first, last in zip(self._first, self._last, strict=True))


class NonceLedger:
    """Of one NIC, over all contexts, queues and lives of the device.

    ``forgotten``: nonces that a later use would not be recognised by. ``uncompared``: uses of a
    nonce that was used before, where too little is left of the earlier record to compare.
    """

    def __init__(self, records: int = RECORDS, sealed_octets: int = SEALED_OCTETS) -> None:
        self.seen = 0
        self.repeated = 0
        self.uncompared = 0
        self.forgotten = 0
        self._most = records
        self._most_sealed = sealed_octets
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self._old: OrderedDict[bytes, Ranges] = OrderedDict()
        self._kept: deque[tuple[Entry, tuple[memoryview, ...], int]] = deque()
        self._octets = 0
        self._backing: object = None

    def __len__(self) -> int:
        """Records that are remembered one by one."""
        return len(self._entries)

    def look(self, key: bytes, record: Record) -> Reuse | None:
        """Is ``record``, as far as it has come, another one than its nonce was used for?

        ``key`` is a digest; its length is always the same.
        """
        before = self._entries.get(key + record.nonce)
        return None if before is None else self._compare(before, record)[0]

    def note(
        self, key: bytes, tisn: int, record: Record, message: int | None = None
    ) -> Reuse | None:
        """A record, of an SMT ``message`` or none, has ended or was given up."""
        self.seen += 1
        name = key + record.nonce
        before = self._entries.get(name)
        if before is None:
            if self._old and self._was_used(name):
                self.repeated += 1
                self.uncompared += 1
            self._add(name, Entry(record.aad, record.tag, record.ciphertext, tisn, message))
            return None
        self.repeated += 1
        reuse, compared = self._compare(before, record)
        if reuse is None and not compared:
            self.uncompared += 1
        if reuse is None and (before.tag is None or record.tag is not None):
            self._improve(before, record)
        return reuse

    @staticmethod
    def _compare(before: Entry, record: Record) -> tuple[Reuse | None, bool]:
        """What differs, and whether enough was there to say that nothing does."""
        if before.aad != record.aad:
            return Reuse(before, "associated data (record number, type or length)"), True
        if before.tag is not None and record.tag is not None:
            return (None if before.tag == record.tag else Reuse(before, "plaintext")), True
        if not _octets(record.ciphertext):
            return None, True  # nothing was encrypted
        if before.sealed is None:
            return None, False
        old, new = b"".join(before.sealed), b"".join(record.ciphertext)
        length = min(len(old), len(new))
        return (None if old[:length] == new[:length] else Reuse(before, "plaintext")), True

    def _improve(self, entry: Entry, record: Record) -> None:
        """The same record again: keep of it what says most."""
        if record.tag is not None:
            entry.tag = record.tag
        if entry.sealed is None or _octets(record.ciphertext) > _octets(entry.sealed):
            self._keep(entry, record.ciphertext)

    def _add(self, name: bytes, entry: Entry) -> None:
        self._entries[name] = entry
        self._keep(entry, entry.sealed or ())
        if len(self._entries) > self._most:
            oldest, _ = self._entries.popitem(last=False)
            self._retire(oldest)

    def _keep(self, entry: Entry, sealed: tuple[memoryview, ...]) -> None:
        """Keep ``sealed`` until what came later fills the ring."""
        entry.sealed = sealed
        size = 0
        for piece in sealed:
            if piece.obj is not self._backing:  # a piece keeps all of its packet
                self._backing = piece.obj
                size += memoryview(piece.obj).nbytes
        kept = self._kept
        kept.append((entry, sealed, size))
        self._octets += size
        while self._octets > self._most_sealed or len(kept) > 2 * self._most:
            old, its, size = kept.popleft()
            self._octets -= size
            if old.sealed is its:
                old.sealed = None

    def _retire(self, name: bytes) -> None:
        """Remember of a record that is forgotten at least that its nonce was used."""
        key, number = name[:-EXPLICIT], int.from_bytes(name[-EXPLICIT:], "big")
        ranges = self._old.get(key)
        if ranges is None:
            ranges = self._old[key] = Ranges()
            if len(self._old) > KEYS:
                self.forgotten += len(self._old.popitem(last=False)[1])
        self.forgotten += ranges.add(number)

    def _was_used(self, name: bytes) -> bool:
        ranges = self._old.get(name[:-EXPLICIT])
        return ranges is not None and int.from_bytes(name[-EXPLICIT:], "big") in ranges


def _octets(pieces: tuple[memoryview, ...]) -> int:
    return sum(map(len, pieces))
