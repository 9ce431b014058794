# SPDX-License-Identifier: GPL-2.0-or-later
"""Work queue elements: what the driver writes into send and receive queues (``qp.h``).

A send WQE is a control segment, then segments as its opcode says, in units of 16 bytes (DS); it
takes whole basic blocks (WQEBB) of 64 bytes. A receive WQE is a list of data segments.
"""

from enum import IntEnum, IntFlag

from nicmodel.spec.layout import Layout, bits, ints, layout, u8, u16, u32, u64
from nicmodel.units import GuestAddr, Mkey, Sqn

SEND_WQE_BB = 64
"""Bytes of a WQEBB (``MLX5_SEND_WQE_BB``)."""

SEND_WQE_DS = 16
"""Bytes of one DS unit (``MLX5_SEND_WQE_DS``)."""

INVALID_LKEY = 0x100
"""The lkey that ends a scatter list (``MLX5_INVALID_LKEY``)."""

INLINE_SEG = 0x80000000
"""Bit of ``byte_count``: the data follow in the WQE (``MLX5_INLINE_SEG``). In a receive WQE it
means "start padding" (``MLX5_HW_START_PADDING``)."""

ETH_INLINE_SIZE = 0x3FF
"""Bits of ``inline_hdr.sz`` that hold the length of the inline headers."""

ETH_INSERT_VLAN = 0x8000
"""Bit of ``insert.type``: insert ``vlan_tci`` instead of inline headers
(``MLX5_ETH_WQE_INSERT_VLAN``)."""

ETH_INSERT_SVLAN = 0x0001
"""With ETH_INSERT_VLAN: the tag is an S-tag, 802.1ad (``MLX5_ETH_WQE_SVLAN``)."""


class WqeOpcode(IntEnum):
    """What a send WQE asks for (``device.h`` MLX5_OPCODE_*); those that Ethernet queues may see."""

    NOP = 0x00
    """Nothing; completes if it asks for a completion."""
    SEND = 0x0A
    """One frame: inline headers and gathered data."""
    LSO = 0x0E
    """One large packet to be cut into segments of ``mss`` bytes."""
    SET_PSV = 0x20
    """Set the progress parameters of an offload context (kTLS: opmod 1 TIS, 2 TIR)."""
    GET_PSV = 0x21
    """Write the progress parameters of an offload context to memory."""
    DUMP = 0x23
    """Run data through an offload context without sending them."""
    UMR = 0x25
    """Update a memory key, or the static parameters of an offload context (opmod 1 TIS, 2 TIR)."""
    ENHANCED_MPSW = 0x29
    """Many complete frames, one data segment each, with common offload flags."""
    ACCESS_ASO = 0x2D
    """Access an advanced steering operation object."""


class FmCeSe(IntFlag):
    """Flags in ``fm_ce_se``: fence mode, completion, solicited event."""

    SOLICITED = 0x02
    """Ring solicited-only arms."""
    CQ_UPDATE = 0x08
    """Write a CQE (``MLX5_WQE_CTRL_CQ_UPDATE``)."""
    FENCE_INITIATOR_SMALL = 0x20
    """Wait until earlier UMRs have finished (``MLX5_FENCE_MODE_INITIATOR_SMALL``)."""
    FENCE = 0x80
    """Wait until earlier WQEs have finished."""


CE_MASK = 0x0C
"""Bits of ``fm_ce_se`` with the completion mode; CQ_UPDATE alone asks for a CQE always."""


class EthCsFlags(IntFlag):
    """``cs_flags`` of the Ethernet segment (``MLX5_ETH_WQE_L3_CSUM`` ...)."""

    L3_INNER = 0x10
    """Compute the inner IPv4 header checksum."""
    L4_INNER = 0x20
    """Compute the inner TCP or UDP checksum."""
    L3 = 0x40
    """Compute the IPv4 header checksum."""
    L4 = 0x80
    """Compute the TCP or UDP checksum."""


@layout(0x10, c="mlx5_wqe_ctrl_seg")
class CtrlSeg(Layout):
    """First segment of every send WQE. ``opcode`` may be none of WqeOpcode."""

    opmod: int = bits(0x0, 31, 24, of="opmod_idx_opcode")
    wqe_index: int = bits(0x0, 23, 8, of="opmod_idx_opcode")
    opcode: int = bits(0x0, 7, 0, of="opmod_idx_opcode")
    sqn: Sqn = bits(0x4, 31, 8, of="qpn_ds")
    ds: int = bits(0x4, 5, 0, of="qpn_ds")
    fm_ce_se: int = u8(0xB)
    imm: int = u32(0xC)
    """Also ``umr_mkey`` and ``tis_tir_num`` (tisn << 8)."""


@layout(0x10, c="mlx5_wqe_eth_seg")
class EthSeg(Layout):
    """Offloads of a SEND, LSO or ENHANCED_MPSW."""

    swp_outer_l4_offset: int = u8(0x0)
    swp_outer_l3_offset: int = u8(0x1)
    swp_inner_l4_offset: int = u8(0x2)
    swp_inner_l3_offset: int = u8(0x3)
    cs_flags: int = u8(0x4)
    swp_flags: int = u8(0x5)
    mss: int = u16(0x6)
    flow_table_metadata: int = u32(0x8)
    inline_hdr_sz: int = u16(0xC, of="inline_hdr.sz")
    """Length of the inline headers (ETH_INLINE_SIZE), or ``insert.type`` (ETH_INSERT_VLAN)."""
    inline_hdr_start: int = u16(0xE, of="inline_hdr.start")
    """First two inline bytes, or ``insert.vlan_tci``."""


@layout(0x10, c="mlx5_wqe_data_seg")
class DataSeg(Layout):
    """Where data lie, or where they go."""

    byte_count: int = u32(0x0)
    lkey: Mkey = u32(0x4)
    addr: GuestAddr = u64(0x8)


@layout(0x30, c="mlx5_wqe_umr_ctrl_seg")
class UmrCtrlSeg(Layout):
    """What a UMR changes."""

    flags: int = u8(0x0)
    xlt_octowords: int = u16(0x4)
    bsf_octowords: int = u16(0x6)
    """Also ``xlt_offset``."""
    mkey_mask: int = u64(0x8)
    xlt_offset_47_16: int = u32(0x10)


class UmrFlags(IntFlag):
    """``flags`` of ``UmrCtrlSeg`` (MLX5_UMR_*)."""

    TRANSLATION_OFFSET_EN = 0x10
    """Entries from ``xlt_offset`` on change; without it, from the first on."""
    CHECK_NOT_FREE = 0x20
    """Fail if the key is free."""
    CHECK_FREE = 0x40
    """Fail if the key is not free."""
    INLINE = 0x80
    """Translation entries or parameters follow in the WQE."""


MKEY_MASK_FREE = 1 << 29
"""``mkey_mask``: take ``free`` from the key segment (``MLX5_MKEY_MASK_FREE``)."""

XLT_OCTOWORD = 16
"""Bytes of a translation octoword; it holds two MTTs (``MLX5_OCTWORD``)."""

MTT_SIZE = 8
"""Bytes of a translation entry (``mlx5_mtt``)."""


@layout(0x40, c="mlx5_mkey_seg")
class MkeySeg(Layout):
    """Key context in a UMR; ``mkey_mask`` says which fields count."""

    free: bool = bits(0x0, 30, 30, of="status")
    qpn_mkey7_0: int = u32(0x4)
    flags_pd: int = u32(0xC)
    start_addr: int = u64(0x10)
    len: int = u64(0x18)
    bsfs_octo_size: int = u32(0x20)
    xlt_oct_size: int = u32(0x34)
    log2_page_size: int = u8(0x3B)


@layout(0x10, c="mlx5_wqe_srq_next_seg")
class NextSeg(Layout):
    """First segment of a WQE in a linked list; data segments follow."""

    next_wqe_index: int = u16(0x2)
    signature: int = u8(0x4)


@layout(0x10, c="mlx5_seg_set_psv")
class SetPsvSeg(Layout):
    """Segment of a SET_PSV; kTLS puts its progress parameters in its place."""

    psv_num: int = u32(0x0)
    syndrome: int = u16(0x4)
    status: int = u16(0x6)
    transient_sig: int = u32(0x8)
    ref_tag: int = u32(0xC)


@layout(0x30, c="mlx5_seg_get_psv")
class GetPsvSeg(Layout):
    """Segment of a GET_PSV: which contexts, and where their state is written."""

    num_psv: int = u8(0x13)
    l_key: Mkey = u32(0x14)
    va: GuestAddr = u64(0x18)
    psv_index: tuple[int, ...] = ints(0x20, 32, 4)
