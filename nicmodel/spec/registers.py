# SPDX-License-Identifier: GPL-2.0-or-later
"""Port registers of ACCESS_REG (``mlx5_ifc.h``)."""

from enum import IntEnum

from nicmodel.spec.layout import Layout, bits, layout, nested, raw, u8, u16, u32, u64


class RegisterId(IntEnum):
    """``register_id`` (``driver.h`` MLX5_REG_*): those that the model has."""

    PMLP = 0x5002
    """Module and lanes."""
    PMTU = 0x5003
    """MTU."""
    PTYS = 0x5004
    """Type and speed."""
    PAOS = 0x5006
    """Administrative and operational status."""
    PFCC = 0x5007
    """Flow control."""
    PPCNT = 0x5008
    """Counters."""
    HOST_ENDIANNESS = 0x7004
    """Byte order of the host; the device does not care."""
    DTOR = 0xC00E
    """How long the driver shall wait for what (default timeouts)."""


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
    """Vendor's extension; zero here."""
    PER_PRIORITY = 0x10
    """By priority; zero here."""
    PER_TRAFFIC_CLASS = 0x11
    """By traffic class; zero here."""
    PHYSICAL_LAYER = 0x12
    """Physical layer; zero here."""
    PER_TRAFFIC_CLASS_CONGESTION = 0x13
    """Congestion by traffic class; zero here."""
    PHYSICAL_LAYER_STATISTICAL = 0x16
    """Physical layer statistics; zero here."""


@layout(0x40, ifc="ptys_reg")
class PtysReg(Layout):
    """Port type and speed."""

    an_disable_admin: bool = bits(0x0, 30, 30)
    an_disable_cap: bool = bits(0x0, 29, 29)
    local_port: int = u8(0x1)
    proto_mask: int = bits(0x0, 2, 0)
    an_status: int = bits(0x4, 31, 28)
    data_rate_oper: int = u16(0x6)
    ext_eth_proto_capability: int = u32(0x8)
    eth_proto_capability: int = u32(0xC)
    ib_link_width_capability: int = u16(0x10)
    ib_proto_capability: int = u16(0x12)
    ext_eth_proto_admin: int = u32(0x14)
    eth_proto_admin: int = u32(0x18)
    ib_link_width_admin: int = u16(0x1C)
    ib_proto_admin: int = u16(0x1E)
    ext_eth_proto_oper: int = u32(0x20)
    eth_proto_oper: int = u32(0x24)
    ib_link_width_oper: int = u16(0x28)
    ib_proto_oper: int = u16(0x2A)
    connector_type: int = bits(0x2C, 3, 0)
    eth_proto_lp_advertise: int = u32(0x30)


@layout(0x10, ifc="paos_reg")
class PaosReg(Layout):
    """Port administrative and operational status."""

    swid: int = u8(0x0)
    local_port: int = u8(0x1)
    admin_status: int = bits(0x0, 11, 8)
    oper_status: int = bits(0x0, 3, 0)
    ase: bool = bits(0x4, 31, 31)
    ee: bool = bits(0x4, 30, 30)
    e: int = bits(0x4, 1, 0)


@layout(0x10, ifc="pmtu_reg")
class PmtuReg(Layout):
    """Port MTU."""

    local_port: int = u8(0x1)
    max_mtu: int = u16(0x4)
    admin_mtu: int = u16(0x8)
    oper_mtu: int = u16(0xC)


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


@layout(0x20, ifc="pfcc_reg")
class PfccReg(Layout):
    """Port flow control."""

    local_port: int = u8(0x1)
    ppan_mask_n: bool = bits(0x0, 4, 4)
    minor_stall_mask: bool = bits(0x0, 3, 3)
    critical_stall_mask: bool = bits(0x0, 2, 2)
    ppan: int = bits(0x4, 31, 28)
    prio_mask_tx: int = u8(0x5)
    prio_mask_rx: int = u8(0x7)
    pptx: bool = bits(0x8, 31, 31)
    aptx: bool = bits(0x8, 30, 30)
    pptx_mask_n: bool = bits(0x8, 29, 29)
    pfctx: int = u8(0x9)
    pprx: bool = bits(0xC, 31, 31)
    aprx: bool = bits(0xC, 30, 30)
    pprx_mask_n: bool = bits(0xC, 29, 29)
    pfcrx: int = u8(0xD)
    device_stall_minor_watermark: int = u16(0x10)
    device_stall_critical_watermark: int = u16(0x12)


@layout(0x40, ifc="pmlp_reg")
class PmlpReg(Layout):
    """Port module and lane mapping."""

    rxtx: bool = bits(0x0, 31, 31)
    local_port: int = u8(0x1)
    width: int = u8(0x3)
    lane0_module_mapping: int = u32(0x4)
    lane1_module_mapping: int = u32(0x8)
    lane2_module_mapping: int = u32(0xC)
    lane3_module_mapping: int = u32(0x10)


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


@layout(0x4, ifc="default_timeout")
class DefaultTimeout(Layout):
    """A time that the driver shall wait; ``to_multiplier`` 0 is milliseconds."""

    to_multiplier: int = bits(0x0, 31, 29)
    to_value: int = bits(0x0, 19, 0)


@layout(0x40, ifc="dtor_reg")
class DtorReg(Layout):
    """Default timeouts (``lib/tout.c``)."""

    pcie_toggle_to: DefaultTimeout = nested(0x4)
    health_poll_to: DefaultTimeout = nested(0x14)
    full_crdump_to: DefaultTimeout = nested(0x18)
    fw_reset_to: DefaultTimeout = nested(0x1C)
    flush_on_err_to: DefaultTimeout = nested(0x20)
    pci_sync_update_to: DefaultTimeout = nested(0x24)
    tear_down_to: DefaultTimeout = nested(0x28)
    fsm_reactivate_to: DefaultTimeout = nested(0x2C)
    reclaim_pages_to: DefaultTimeout = nested(0x30)
    reclaim_vfs_pages_to: DefaultTimeout = nested(0x34)
