# SPDX-License-Identifier: GPL-2.0-or-later
"""What a send WQE carries: inline headers, and data segments as pieces of guest memory."""

from struct import Struct
from typing import Protocol

from nicmodel.errors import DmaFault, QueueFault
from nicmodel.memory import GuestMemory
from nicmodel.objects.mkey import TranslatedKey
from nicmodel.spec.cqe import CqeSyndrome
from nicmodel.spec.wqe import ETH_INLINE_SIZE, ETH_INSERT_VLAN, INLINE_SEG, SEND_WQE_DS

_SEG = Struct(">IIQ")
"""``DataSeg`` as the hot path reads it: byte_count, lkey, addr."""
_SEND = Struct(">12xI4xBBHIHH")
_INLINE_AT = 0x1E

DATA_AT = 0x20
"""Where data segments begin behind an Ethernet segment without inline headers."""


def send_segment(wqe: bytes) -> tuple[int, int, int, int, int, int, int]:
    """``imm`` of the control segment, and ``EthSeg`` from cs_flags on.

    That is cs_flags, swp_flags, mss, metadata, inline size, inline start. Raises QueueFault.
    """
    if len(wqe) < DATA_AT:
        raise QueueFault("no Ethernet segment", CqeSyndrome.LOCAL_QP_OP_ERR)
    return _SEND.unpack_from(wqe)


def inline_headers(wqe: bytes, size: int) -> tuple[bytes, int]:
    """Inline headers (none if a VLAN tag is to be inserted), and where data segments begin.

    ``size``: that of the Ethernet segment. Raises QueueFault.
    """
    if size & ETH_INSERT_VLAN:
        return b"", DATA_AT
    length = size & ETH_INLINE_SIZE
    data_at = DATA_AT + (max(0, length - 2) + 15 & ~15)
    if data_at > len(wqe):
        raise QueueFault("inline headers end behind the WQE", CqeSyndrome.LOCAL_LENGTH_ERR)
    return wqe[_INLINE_AT : _INLINE_AT + length], data_at


class Keys(Protocol):
    """What the memory keys permit."""

    def translate(self, lkey: int, addr: int, length: int) -> int:
        """Guest address of ``length`` bytes at ``addr`` under ``lkey``.

        Raises QueueFault with the syndrome of the error CQE.
        """
        ...

    def translated_key(self, lkey: int) -> TranslatedKey | None:
        """The key with translation that ``lkey`` names, or None."""
        ...


class Gather:
    """Reads the data segments of send WQEs under the rules of the memory ``keys``."""

    def __init__(self, memory: GuestMemory, keys: Keys) -> None:
        self.translate = keys.translate
        self._memory = memory
        self.keys = keys

    def segments(self, wqe: bytes, at: int) -> list[memoryview]:
        """The bytes that each segment of ``wqe`` from offset ``at`` on means, in order.

        The pieces are views of guest memory, to be read once. Raises QueueFault with the syndrome
        of the error CQE for a segment that lies outside the WQE, the key or the memory.
        """
        end = len(wqe)
        pieces = []
        while at < end:
            count, lkey, addr = _SEG.unpack_from(wqe, at)
            if count & INLINE_SEG:
                count &= ~INLINE_SEG
                start = at + 4
                if start + count > end:
                    raise QueueFault("inline data end behind the WQE", CqeSyndrome.LOCAL_LENGTH_ERR)
                pieces.append(memoryview(wqe)[start : start + count])
                at += -(-(4 + count) // SEND_WQE_DS) * SEND_WQE_DS
                continue
            at += SEND_WQE_DS
            if count:
                pieces.append(self.view(lkey, addr, count))
        return pieces

    def view(self, lkey: int, addr: int, length: int) -> memoryview:
        """``length`` bytes at ``addr`` under ``lkey``, as a view of guest memory."""
        try:
            return self._memory.view(self.translate(lkey, addr, length), length)
        except DmaFault as fault:
            raise QueueFault(str(fault), CqeSyndrome.LOCAL_PROT_ERR) from fault
