# SPDX-License-Identifier: GPL-2.0-or-later
"""Counter registers of ACCESS_REG and their groups (``mlx5_ifc.h``)."""

from enum import IntEnum

from nicmodel.spec.layout import Layout, bits, layout, raw, u8, u32, u64


class PpcntGroup(IntEnum):
    """``grp`` of PPCNT (``device.h`` MLX5_*_COUNTERS_GROUP)."""

    IEEE_802_3 = 0x0
    """IEEE 802.3."""
    RFC_2863 = 0x1
    """Interfaces."""
    RFC_2819 = 0x2
    """RMON."""
    RFC_3635 = 0x3
    """Ethernet-like interfaces; zero here."""
    ETHERNET_EXTENDED = 0x5
    """Vendor's extension: fullness of buffers that the model does not have, so zero."""
    PER_PRIORITY = 0x10
    """By priority."""
    PER_TRAFFIC_CLASS = 0x11
    """By traffic class: losses of the same buffers, so zero."""
    PHYSICAL_LAYER = 0x12
    """Physical layer."""
    PER_TRAFFIC_CLASS_CONGESTION = 0x13
    """Congestion by traffic class; zero here."""
    PHYSICAL_LAYER_STATISTICAL = 0x16
    """Bit errors; the wire has none, so zero."""


class MpcntGroup(IntEnum):
    """``grp`` of MPCNT (``device.h`` MLX5_PCIE_*_COUNTERS_GROUP)."""

    PERFORMANCE = 0x0
    """Errors and stalls of the PCIe link: there are none."""


@layout(0x100, ifc="ppcnt_reg")
class PpcntReg(Layout):
    """Port counters; ``counter_set`` depends on ``grp``."""

    swid: int = u8(0x0)
    local_port: int = u8(0x1)
    pnat: int = bits(0x0, 15, 14)
    grp: int = bits(0x0, 5, 0)
    clr: bool = bits(0x4, 31, 31)
    prio_tc: int = bits(0x4, 2, 0)
    counter_set: bytes = raw(0x8, 0xF8)


@layout(0x100, ifc="mpcnt_reg")
class MpcntReg(Layout):
    """PCIe counters."""

    pcie_index: int = u8(0x1)
    grp: int = bits(0x0, 5, 0)
    clr: bool = bits(0x4, 31, 31)
    counter_set: bytes = raw(0x8, 0xF8)


@layout(0xF8, ifc="eth_802_3_cntrs_grp_data_layout")
class Eth8023CntrsGrpDataLayout(Layout):
    """IEEE 802.3 counters."""

    a_frames_transmitted_ok: int = u64(0x0)
    a_frames_received_ok: int = u64(0x8)
    a_frame_check_sequence_errors: int = u64(0x10)
    a_alignment_errors: int = u64(0x18)
    a_octets_transmitted_ok: int = u64(0x20)
    a_octets_received_ok: int = u64(0x28)
    a_multicast_frames_xmitted_ok: int = u64(0x30)
    a_broadcast_frames_xmitted_ok: int = u64(0x38)
    a_multicast_frames_received_ok: int = u64(0x40)
    a_broadcast_frames_received_ok: int = u64(0x48)
    a_in_range_length_errors: int = u64(0x50)
    a_out_of_range_length_field: int = u64(0x58)
    a_frame_too_long_errors: int = u64(0x60)
    a_symbol_error_during_carrier: int = u64(0x68)
    a_mac_control_frames_transmitted: int = u64(0x70)
    a_mac_control_frames_received: int = u64(0x78)
    a_unsupported_opcodes_received: int = u64(0x80)
    a_pause_mac_ctrl_frames_received: int = u64(0x88)
    a_pause_mac_ctrl_frames_transmitted: int = u64(0x90)


@layout(0xF8, ifc="eth_2863_cntrs_grp_data_layout")
class Eth2863CntrsGrpDataLayout(Layout):
    """RFC 2863 counters."""

    if_in_octets: int = u64(0x0)
    if_in_ucast_pkts: int = u64(0x8)
    if_in_discards: int = u64(0x10)
    if_in_errors: int = u64(0x18)
    if_in_unknown_protos: int = u64(0x20)
    if_out_octets: int = u64(0x28)
    if_out_ucast_pkts: int = u64(0x30)
    if_out_discards: int = u64(0x38)
    if_out_errors: int = u64(0x40)
    if_in_multicast_pkts: int = u64(0x48)
    if_in_broadcast_pkts: int = u64(0x50)
    if_out_multicast_pkts: int = u64(0x58)
    if_out_broadcast_pkts: int = u64(0x60)


@layout(0xF8, ifc="eth_2819_cntrs_grp_data_layout")
class Eth2819CntrsGrpDataLayout(Layout):
    """RFC 2819 counters."""

    ether_stats_drop_events: int = u64(0x0)
    ether_stats_octets: int = u64(0x8)
    ether_stats_pkts: int = u64(0x10)
    ether_stats_broadcast_pkts: int = u64(0x18)
    ether_stats_multicast_pkts: int = u64(0x20)
    ether_stats_crc_align_errors: int = u64(0x28)
    ether_stats_undersize_pkts: int = u64(0x30)
    ether_stats_oversize_pkts: int = u64(0x38)
    ether_stats_fragments: int = u64(0x40)
    ether_stats_jabbers: int = u64(0x48)
    ether_stats_collisions: int = u64(0x50)
    ether_stats_pkts64octets: int = u64(0x58)
    ether_stats_pkts65to127octets: int = u64(0x60)
    ether_stats_pkts128to255octets: int = u64(0x68)
    ether_stats_pkts256to511octets: int = u64(0x70)
    ether_stats_pkts512to1023octets: int = u64(0x78)
    ether_stats_pkts1024to1518octets: int = u64(0x80)
    ether_stats_pkts1519to2047octets: int = u64(0x88)
    ether_stats_pkts2048to4095octets: int = u64(0x90)
    ether_stats_pkts4096to8191octets: int = u64(0x98)
    ether_stats_pkts8192to10239octets: int = u64(0xA0)


@layout(0xF8, ifc="eth_per_prio_grp_data_layout")
class EthPerPrioGrpDataLayout(Layout):
    """Counters of one priority."""

    rx_octets: int = u64(0x0)
    rx_frames: int = u64(0x20)
    tx_octets: int = u64(0x28)
    tx_frames: int = u64(0x48)
    rx_pause: int = u64(0x50)
    rx_pause_duration: int = u64(0x58)
    tx_pause: int = u64(0x60)
    tx_pause_duration: int = u64(0x68)
    rx_pause_transition: int = u64(0x70)
    rx_discards: int = u64(0x78)
    device_stall_minor_watermark_cnt: int = u64(0x80)
    device_stall_critical_watermark_cnt: int = u64(0x88)


@layout(0xF8, ifc="phys_layer_cntrs")
class PhysLayerCntrs(Layout):
    """Physical layer counters that can be other than zero here."""

    link_down_events: int = u32(0xC0)
