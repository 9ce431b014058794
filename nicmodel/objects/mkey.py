# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory keys: which addresses a descriptor may name, and where they lie in guest memory."""

import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from nicmodel.errors import QueueFault
from nicmodel.spec.cqe import CqeSyndrome
from nicmodel.spec.wqe import MTT_SIZE
from nicmodel.units import GuestAddr, Mkey, Pdn


@dataclass(frozen=True, slots=True)
class MemoryKey:
    """``mkc`` in mode PA: addresses are physical. ``length`` 0 with ``all`` covers all memory."""

    lkey: Mkey
    pd: Pdn
    everything: bool
    start: GuestAddr
    length: int


@dataclass(slots=True, eq=False)
class TranslatedKey:
    """``mkc`` in mode MTT: addresses from ``start`` on lie in pages of 1 << ``page_shift`` bytes.

    ``table`` has one entry a page, the page's address with flags in its low bits, which are not
    looked at: the driver leaves them 0 for a page that is written (``en_main.c``
    mlx5e_create_umr_mkey). While the key is ``free`` nothing may use it; a UMR changes both, if
    ``umr`` permits.
    """

    lkey: Mkey
    pd: Pdn
    start: int
    length: int
    page_shift: int
    umr: bool
    free: bool
    table: "array[int]"

    def update(self, first: int, entries: bytes) -> bool:
        """Replace entries from ``first`` on by big-endian ones; false if they are outside."""
        words = mtts(entries)
        if first + len(words) > len(self.table):
            return False
        self.table[first : first + len(words)] = words
        return True

    def check(self, addr: int, length: int) -> None:
        """May ``length`` bytes at ``addr`` be used, and have they entries? QueueFault if not."""
        if self.free:
            self._refuse(f"lkey {self.lkey:#x} is free")
        last = addr + length - 1
        beyond = (last >> self.page_shift) - (self.start >> self.page_shift) >= len(self.table)
        if addr < self.start or last >= self.start + self.length or beyond:
            self._refuse(f"{length} bytes at {addr:#x} are outside lkey {self.lkey:#x}")

    def pieces(self, addr: int, length: int) -> Iterator[tuple[GuestAddr, int]]:
        """Guest address and length of each piece of ``length`` bytes at ``addr``, in order.

        Raises QueueFault with the syndrome of the error CQE.
        """
        self.check(addr, length)
        shift = self.page_shift
        mask = (1 << shift) - 1
        number = (addr >> shift) - (self.start >> shift)
        offset = addr & mask
        while length:
            piece = min(length, mask + 1 - offset)
            yield GuestAddr((self.table[number] & ~mask) + offset), piece
            length -= piece
            number += 1
            offset = 0

    def _refuse(self, reason: str) -> None:
        raise QueueFault(reason, CqeSyndrome.LOCAL_PROT_ERR)


def mtts(data: bytes) -> "array[int]":
    """Big-endian translation entries of ``MTT_SIZE`` bytes as numbers; an incomplete one is cut."""
    words = array("Q", data[: len(data) - len(data) % MTT_SIZE])
    if sys.byteorder == "little":
        words.byteswap()
    return words
