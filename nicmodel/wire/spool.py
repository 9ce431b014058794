# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory that one process puts entries into and another one takes them out of, in order.

Linux memory of a file without a name (memfd_create(2)), so it is there as long as either lives.
Entries begin below ``LAP`` and never wrap; behind the last one of a lap the next one is at 0. Each
side writes words of its own, of 8 bytes and aligned; who reads has been told by a message, or knows
that the other one is dead.
"""

import mmap
import os
from struct import Struct

LAP = 4 << 20
"""Bytes in which entries begin: what is on its way, but for the last entry."""

LONGEST = 60 << 20
"""Bytes of an entry at most. What is never used is no memory."""

TOLD = Struct("<QQ")
"""What the taker is told: entries that are there, and whether to answer when it has taken them."""

_WORDS = 64
"""Bytes of words before the entries."""

_PUT, _TAKEN, _ERROR = range(3)
"""Words: entries put; entries taken and where the next one is; errno of the taker."""

_AT_BITS = 26
_AT = (1 << _AT_BITS) - 1

_SIZE = Struct("<I")
_ALIGN = 8


class Spool:
    """One end of it; ``fd`` is that of the memory, None to make a new one."""

    def __init__(self, fd: int | None = None) -> None:
        if fd is None:
            fd = os.memfd_create("nicmodel-capture")
            os.ftruncate(fd, _WORDS + LAP + LONGEST)
        self.fd = fd
        """It may be closed when the other end has it."""
        memory = memoryview(mmap.mmap(fd, 0))
        self._words = memory[:_WORDS].cast("Q")
        self._entries = memory[_WORDS:]
        self._at = 0
        self.count = 0
        """Entries that this end has put or taken."""

    # who puts

    def room(self, size: int) -> memoryview | None:
        """Where the next entry of ``size`` bytes goes, None while what is there is in the way."""
        taken = self._words[_TAKEN]
        free_to = taken & _AT
        empty = taken >> _AT_BITS == self.count
        if not empty and (self._at == free_to or self._at < free_to <= self._at + size + 16):
            return None
        start = self._at + _SIZE.size
        return self._entries[start : start + size]

    def put(self, size: int) -> None:
        """What ``room`` gave is filled with ``size`` bytes."""
        _SIZE.pack_into(self._entries, self._at, size)
        self._step(size)
        self._words[_PUT] = self.count

    @property
    def error(self) -> int:
        """Errno that the taker has met, or 0."""
        return self._words[_ERROR]

    # who takes

    @property
    def there(self) -> int:
        """Entries that were put so far."""
        return self._words[_PUT]

    def take(self) -> memoryview:
        """The next entry, which is there; until ``done``."""
        (size,) = _SIZE.unpack_from(self._entries, self._at)
        start = self._at + _SIZE.size
        return self._entries[start : start + size]

    def done(self, size: int) -> None:
        """The entry of ``size`` bytes is no longer needed."""
        self._step(size)
        self._words[_TAKEN] = self.count << _AT_BITS | self._at

    def fail(self, error: int) -> None:
        """Tell an errno."""
        self._words[_ERROR] = error

    def _step(self, size: int) -> None:
        self.count += 1
        at = self._at + _SIZE.size + size
        self._at = 0 if at >= LAP else at + -at % _ALIGN
