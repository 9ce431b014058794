# SPDX-License-Identifier: GPL-2.0-or-later
"""Gather a command's input and scatter its output (``cmd.c`` mlx5_copy_to_msg, alloc_ent).

Lengths alone say how much there is: the driver reuses chains that are longer than the message and
hold stale data, so ``next`` of the last block that is needed means nothing.
"""

from typing import Protocol

from nicmodel.errors import ModelError
from nicmodel.spec.mailbox import INLINE, MAILBOX_ALIGNMENT, CmdLayout, CmdProtBlock
from nicmodel.spec.status import DeliveryStatus
from nicmodel.units import GuestAddr

MAX_MESSAGE = (1 << 20) + 0x1000
"""Longest input or output, bytes: bounds what a guest can make us gather. The driver's longest is
CREATE_MKEY with up to 1 MiB of translations (``en.h`` MLX5E_MAX_RQ_NUM_MTTS)."""

DATA = len(CmdProtBlock().data)
"""Bytes of a message in one block."""


class Memory(Protocol):
    """Guest memory; both raise DmaFault."""

    def read(self, addr: int, length: int) -> bytes:
        """Copy ``length`` bytes at ``addr``."""
        ...

    def write(self, addr: int, data: bytes) -> None:
        """Store ``data`` at ``addr``."""
        ...


class DeliveryError(ModelError):
    """The entry or a chain is malformed; the command is not executed."""

    def __init__(self, delivery: DeliveryStatus, message: str) -> None:
        super().__init__(message)
        self.delivery = delivery


def gather(memory: Memory, entry: CmdLayout) -> bytes:
    """The whole input of ``entry``. Raises DeliveryError, DmaFault."""
    if not 0 < entry.inlen <= MAX_MESSAGE:
        raise DeliveryError(
            DeliveryStatus.IN_LENGTH_ERR, f"an input of {entry.inlen} bytes is not possible"
        )
    parts = [entry.input]
    left = entry.inlen - INLINE
    addr = entry.in_ptr
    number = 0
    while left > 0:
        _aligned(addr, DeliveryStatus.IN_PTR_ALIGN_ERR)
        block = CmdProtBlock.decode(memory.read(addr, CmdProtBlock.SIZE))
        _check(block, entry.token, number)
        parts.append(block.data)
        left -= DATA
        addr = block.next
        number += 1
    return b"".join(parts)[: entry.inlen]


def output_blocks(memory: Memory, entry: CmdLayout) -> tuple[GuestAddr, ...]:
    """Addresses of the blocks for the output of ``entry``; checked before the command runs, so
    that a broken chain cannot lose a reply. Raises DeliveryError, DmaFault.
    """
    if not 0 < entry.outlen <= MAX_MESSAGE:
        raise DeliveryError(
            DeliveryStatus.OUT_LENGTH_ERR, f"an output of {entry.outlen} bytes is not possible"
        )
    found: list[GuestAddr] = []
    left = entry.outlen - INLINE
    addr = entry.out_ptr
    while left > 0:
        _aligned(addr, DeliveryStatus.OUT_PTR_ALIGN_ERR)
        block = CmdProtBlock.decode(memory.read(addr, CmdProtBlock.SIZE))
        _check(block, entry.token, len(found))
        found.append(addr)
        left -= DATA
        addr = block.next
    return tuple(found)


def scatter(memory: Memory, entry_addr: int, blocks: tuple[GuestAddr, ...], output: bytes) -> None:
    """Write exactly ``output``: first the inline bytes, then the blocks. Raises DmaFault."""
    inline = CmdLayout.SPANS["output"].start // 8
    memory.write(entry_addr + inline, output[:INLINE])
    for number, addr in enumerate(blocks):
        start = INLINE + number * DATA
        memory.write(addr, output[start : start + DATA])


def _aligned(addr: int, delivery: DeliveryStatus) -> None:
    if addr % MAILBOX_ALIGNMENT:
        raise DeliveryError(delivery, f"mailbox address {addr:#x} is not aligned")


def _check(block: CmdProtBlock, token: int, number: int) -> None:
    if block.token != token:
        raise DeliveryError(
            DeliveryStatus.TOK_ERR, f"mailbox {number} has token {block.token}, not {token}"
        )
    if block.block_num != number:
        raise DeliveryError(
            DeliveryStatus.BAD_BLK_NUM, f"mailbox {number} says it is number {block.block_num}"
        )
