# SPDX-License-Identifier: GPL-2.0-or-later
"""The device's DMA space: the only place that touches guest memory, and the only range checks.

Every descriptor fetch passes through ``GuestMemory.read``, so the region of the last access stays
in three attributes and an access inside it costs two comparisons. While bus mastering is off that
window is empty, which makes the check for it free.
"""

import contextlib
import fcntl
import mmap
import os
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from socket import htonl, ntohl
from typing import Final

from nicmodel.errors import Access, DmaFault, ProtocolError

MAX_REGIONS: Final = 64
"""Regions that a front-end may map at once: a PC has two or three, a full set of DIMMs 32."""

PAGE: Final = mmap.ALLOCATIONGRANULARITY
END_OF_SPACE: Final = 1 << 64

_NOWHERE: Final = mmap.mmap(-1, PAGE)
"""What the window of the last access shows while it is empty."""


@dataclass(frozen=True, slots=True)
class MemoryRegion:
    """Bytes [mmap_offset, mmap_offset + size) of a file are DMA addresses from guest_addr on."""

    guest_addr: int
    size: int
    mmap_offset: int = 0


class _Mapping:
    """One mapped region; ``start`` and ``end`` are DMA addresses."""

    __slots__ = ("end", "pages", "region", "start", "view", "words")

    def __init__(self, region: MemoryRegion, pages: mmap.mmap) -> None:
        self.region = region
        self.start = region.guest_addr
        self.end = region.guest_addr + region.size
        self.pages = pages
        self.view = memoryview(pages)
        self.words = self.view.cast("I")

    def release(self) -> None:
        self.words.release()
        self.view.release()
        # A caller may still hold a view that he was given. He must not keep it; when he drops it
        # the last reference is gone and the pages are unmapped.
        with contextlib.suppress(BufferError):
            self.pages.close()


def require_sealed(fd: int, what: str) -> None:
    """Refuse a file that its owner can truncate under us, which would kill us with SIGBUS.

    Raises ProtocolError unless ``fd`` is a memfd with F_SEAL_SHRINK.
    """
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        seals = 0
    if not seals & fcntl.F_SEAL_SHRINK:
        raise ProtocolError(f"{what} is not a sealed memfd (F_SEAL_SHRINK), so it could be cut")


class GuestMemory:
    """Guest RAM by DMA address; every access outside it raises DmaFault.

    Accesses are of one byte or more. They may cross from one region into an adjacent one, except
    ``view`` and those of one word.
    """

    __slots__ = (
        "_enabled",
        "_end",
        "_mappings",
        "_pages",
        "_start",
        "_starts",
        "_view",
        "_words",
        "generation",
    )

    def __init__(self) -> None:
        self.generation = 0
        """Changes whenever a region goes or bus mastering changes: views from before are void."""
        self._mappings: list[_Mapping] = []
        self._starts: list[int] = []
        self._enabled = False
        self._forget_last()

    @classmethod
    def anonymous(cls, regions: Sequence[MemoryRegion]) -> "GuestMemory":
        """Memory of its own with bus mastering on, for tests; mmap offsets are ignored."""
        memory = cls()
        for region in regions:
            fd = os.memfd_create("guest-ram", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            try:
                os.ftruncate(fd, region.size)
                fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
                memory.map(MemoryRegion(region.guest_addr, region.size), fd)
            finally:
                os.close(fd)
        memory.enabled = True
        return memory

    @property
    def enabled(self) -> bool:
        """Bus mastering; every access while it is off raises DmaFault."""
        return self._enabled

    @enabled.setter
    def enabled(self, value: bool) -> None:
        self._enabled = value
        self._forget_last()

    @property
    def regions(self) -> tuple[MemoryRegion, ...]:
        """The mapped regions by rising address."""
        return tuple(mapping.region for mapping in self._mappings)

    def map(self, region: MemoryRegion, fd: int) -> None:
        """Map a region of ``fd``, which stays the caller's to close.

        Raises ProtocolError for a region that is empty, unaligned, overlapping, beyond the end of
        the file or of the address space, one too many, or in a file that could be cut.
        """
        start, size, offset = region.guest_addr, region.size, region.mmap_offset
        if len(self._mappings) >= MAX_REGIONS:
            raise ProtocolError(f"more than {MAX_REGIONS} memory regions")
        if size <= 0 or start < 0 or offset < 0 or (start | size | offset) % PAGE:
            raise ProtocolError(f"memory region {start:#x}+{size:#x} is not made of whole pages")
        if start + size > END_OF_SPACE:
            raise ProtocolError(f"memory region {start:#x}+{size:#x} passes the end of 64 bits")
        at = bisect_right(self._starts, start)
        overlaps_left = at > 0 and self._mappings[at - 1].end > start
        overlaps_right = at < len(self._starts) and self._starts[at] < start + size
        if overlaps_left or overlaps_right:
            raise ProtocolError(f"memory region {start:#x}+{size:#x} overlaps another one")
        require_sealed(fd, f"memory region {start:#x}+{size:#x}")
        if os.fstat(fd).st_size < offset + size:
            raise ProtocolError(f"memory region {start:#x}+{size:#x} is larger than its file")
        try:
            pages = mmap.mmap(fd, size, mmap.MAP_SHARED, offset=offset)
        except (OSError, ValueError, OverflowError) as error:
            raise ProtocolError(f"memory region {start:#x}+{size:#x}: {error}") from error
        self._mappings.insert(at, _Mapping(region, pages))
        self._starts.insert(at, start)

    def unmap(self, guest_addr: int, size: int) -> None:
        """Forget exactly this region; raises ProtocolError when it is not mapped so."""
        at = bisect_right(self._starts, guest_addr) - 1
        if at < 0 or self._starts[at] != guest_addr or self._mappings[at].region.size != size:
            raise ProtocolError(f"memory region {guest_addr:#x}+{size:#x} is not mapped")
        self._forget_last()
        del self._starts[at]
        self._mappings.pop(at).release()

    def clear(self) -> None:
        """Forget every region."""
        self._forget_last()
        self._starts.clear()
        while self._mappings:
            self._mappings.pop().release()

    def read(self, addr: int, length: int) -> bytes:
        """Copy ``length`` bytes out of guest memory."""
        if addr < self._start or addr + length > self._end:
            mapping = self._find(addr, length, "read")
            if addr + length > mapping.end:
                pieces = self._pieces(mapping, addr, length, "read")
                return b"".join([m.pages[first:last] for m, first, last in pieces])
        offset = addr - self._start
        return self._pages[offset : offset + length]

    def read_into(self, addr: int, target: memoryview) -> None:
        """Fill ``target`` (bytes, contiguous) from guest memory."""
        length = len(target)
        mapping = self._find(addr, length, "read")
        done = 0
        for piece, first, last in self._pieces(mapping, addr, length, "read"):
            target[done : done + last - first] = piece.view[first:last]
            done += last - first

    def write(self, addr: int, data: bytes | bytearray | memoryview) -> None:
        """Copy ``data`` into guest memory; nothing is written when any byte is outside."""
        length = len(data)
        if addr < self._start or addr + length > self._end:
            mapping = self._find(addr, length, "write")
            if addr + length > mapping.end:
                source = memoryview(data)
                done = 0
                for piece, first, last in self._pieces(mapping, addr, length, "write"):
                    piece.pages[first:last] = source[done : done + last - first]
                    done += last - first
                return
        offset = addr - self._start
        self._pages[offset : offset + length] = data

    def scatter(self, addrs: Sequence[int], pieces: Sequence[bytes | memoryview]) -> None:
        """``write`` each piece to its address; those before one that is outside are written."""
        for addr, data in zip(addrs, pieces, strict=True):
            offset = addr - self._start
            end = offset + len(data)
            if offset < 0 or end > self._end - self._start:
                self.write(addr, data)
            else:
                self._pages[offset:end] = data

    def view(self, addr: int, length: int) -> memoryview:
        """Writable bytes of guest memory without a copy, all in one region.

        The guest may change them at any time. A view must not be used any more when
        ``generation`` has changed.
        """
        if addr < self._start or addr + length > self._end:
            mapping = self._find(addr, length, "write")
            if addr + length > mapping.end:
                raise DmaFault(addr, length, "write")
        offset = addr - self._start
        return self._view[offset : offset + length]

    def load_be32(self, addr: int) -> int:
        """Read an aligned big-endian word in one access, as a doorbell record must be read."""
        if addr < self._start or addr + 4 > self._end:
            self._find(addr, 4, "read")
        if addr & 3:
            raise DmaFault(addr, 4, "read")
        return ntohl(self._words[(addr - self._start) >> 2])

    def store_be32(self, addr: int, value: int) -> None:
        """Write an aligned big-endian word in one access."""
        if addr < self._start or addr + 4 > self._end:
            self._find(addr, 4, "write")
        if addr & 3:
            raise DmaFault(addr, 4, "write")
        self._words[(addr - self._start) >> 2] = htonl(value)

    def store_u8(self, addr: int, value: int) -> None:
        """Write one byte, as the ownership byte of an entry must be written: after the rest."""
        if addr < self._start or addr >= self._end:
            self._find(addr, 1, "write")
        self._pages[addr - self._start] = value

    def _forget_last(self) -> None:
        self.generation += 1
        self._start = END_OF_SPACE
        self._end = 0
        self._pages = _NOWHERE
        self._view = memoryview(_NOWHERE)
        self._words = self._view.cast("I")

    def _find(self, addr: int, length: int, access: Access) -> _Mapping:
        """The mapping where the access begins, which becomes the window of the last access."""
        at = bisect_right(self._starts, addr) - 1
        if not self._enabled or at < 0 or length < 0 or addr >= self._mappings[at].end:
            raise DmaFault(addr, length, access)
        mapping = self._mappings[at]
        self._start = mapping.start
        self._end = mapping.end
        self._pages = mapping.pages
        self._view = mapping.view
        self._words = mapping.words
        return mapping

    def _pieces(
        self, mapping: _Mapping, addr: int, length: int, access: Access
    ) -> list[tuple[_Mapping, int, int]]:
        """Cut an access at region borders: mapping, first and last offset of each piece."""
        end = addr + length
        at = bisect_right(self._starts, mapping.start) - 1
        pieces = []
        position = addr
        while True:
            stop = min(end, mapping.end)
            pieces.append((mapping, position - mapping.start, stop - mapping.start))
            position = stop
            if position == end:
                return pieces
            at += 1
            if at == len(self._mappings) or self._starts[at] != position:
                raise DmaFault(addr, length, access)
            mapping = self._mappings[at]
