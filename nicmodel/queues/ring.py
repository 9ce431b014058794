# SPDX-License-Identifier: GPL-2.0-or-later
"""A queue's buffer in guest memory: entries of a power-of-two size in a list of pages."""

from nicmodel.errors import CommandError
from nicmodel.memory import GuestMemory
from nicmodel.objects.queue import PageList
from nicmodel.spec.status import CommandStatus
from nicmodel.units import GuestAddr


class Ring:
    """``1 << log_size`` entries of ``1 << log_stride`` bytes.

    Indices run on without a mask; entry ``index`` is the one modulo the size. Pages are looked up
    once and kept as views until the memory table changes. Every access may raise DmaFault.
    """

    def __init__(
        self, memory: GuestMemory, buffer: PageList, log_size: int, log_stride: int
    ) -> None:
        needed = -(-(1 << log_size + log_stride) // buffer.page_size)
        if len(buffer.pages) < needed:
            raise CommandError(
                CommandStatus.BAD_PARAM,
                f"the queue needs {needed} pages and has {len(buffer.pages)}",
            )
        self.size = 1 << log_size
        self.stride = 1 << log_stride
        self._mask = self.size - 1
        self._log_stride = log_stride
        self._memory = memory
        self._pages = buffer.pages
        self._page_size = buffer.page_size
        self._page_shift = buffer.page_size.bit_length() - 1
        self._page_mask = buffer.page_size - 1
        self._views: list[memoryview | None] = [None] * needed
        self._generation = memory.generation

    def address(self, index: int) -> GuestAddr:
        """Guest address of an entry."""
        offset = (index & self._mask) << self._log_stride
        return GuestAddr(self._pages[offset >> self._page_shift] + (offset & self._page_mask))

    def locate(self, index: int) -> tuple[memoryview, int]:
        """The page that holds an entry, and the entry's offset in it."""
        memory = self._memory
        if self._generation != memory.generation:
            self._views = [None] * len(self._views)
            self._generation = memory.generation
        offset = (index & self._mask) << self._log_stride
        number = offset >> self._page_shift
        page = self._views[number]
        if page is None:
            length = min(self._page_size, self.size * self.stride)
            page = self._views[number] = memory.view(self._pages[number], length)
        return page, offset & self._page_mask

    def read(self, index: int, length: int) -> bytes:
        """Copy ``length`` bytes from an entry on; they may run over pages and wrap around."""
        page, offset = self.locate(index)
        out = bytes(page[offset : offset + length])
        while len(out) < length:
            index += (len(page) - offset) >> self._log_stride
            page, offset = self.locate(index)
            out += page[offset : offset + length - len(out)]
        return out
