# SPDX-License-Identifier: GPL-2.0-or-later
"""How a command reaches the device: queue entries and mailbox blocks (``device.h``, ``cmd.c``)."""

from nicmodel.spec.layout import Layout, bits, layout, raw, u8, u16, u32, u64
from nicmodel.units import GuestAddr

LOG_CMDQ_SIZE = 5
"""log2 of the number of command slots, as the initialization segment tells the driver."""

LOG_CMDQ_STRIDE = 6
"""log2 of the bytes from one slot to the next."""

PCI_CMD_XPORT = 7
"""``type`` of every entry (``cmd.c`` MLX5_PCI_CMD_XPORT)."""

INLINE = 16
"""Bytes of input, and of output, in the entry itself."""

MAILBOX_ALIGNMENT = 1024
"""Mailbox blocks are aligned to this many bytes (``cmd.c`` create_msg_cache)."""

STATUS_OWN = 0x3F
"""Offset of ``status_own``: the byte that hands the entry back, to be written last."""

HEADER = 8
"""Bytes that every request and every reply starts with."""


@layout(0x40, c="mlx5_cmd_layout")
class CmdLayout(Layout):
    """A slot of the command queue. Lengths count the inline bytes too."""

    type: int = u8(0x0)
    inlen: int = u32(0x4)
    in_ptr: GuestAddr = u64(0x8)
    input: bytes = raw(0x10, 16, of="in")
    output: bytes = raw(0x20, 16, of="out")
    out_ptr: GuestAddr = u64(0x30)
    outlen: int = u32(0x38)
    token: int = u8(0x3C)
    sig: int = u8(0x3D)
    delivery: int = bits(0x3C, 7, 1, of="status_own")
    hardware_owns: bool = bits(0x3C, 0, 0, of="status_own")


@layout(0x240, c="mlx5_cmd_prot_block")
class CmdProtBlock(Layout):
    """A mailbox block: 512 bytes of a message."""

    data: bytes = raw(0x0, 512)
    next: GuestAddr = u64(0x230)
    block_num: int = u32(0x238)
    token: int = u8(0x23D)
    ctrl_sig: int = u8(0x23E)
    sig: int = u8(0x23F)


@layout(0x10, ifc="alloc_pd_in")
class RequestHeader(Layout):
    """What every request starts with."""

    opcode: int = u16(0x0)
    uid: int = u16(0x2)
    op_mod: int = u16(0x6)


@layout(0x10, ifc="alloc_pd_out")
class ReplyHeader(Layout):
    """What every reply starts with."""

    status: int = u8(0x0)
    syndrome: int = u32(0x4)
