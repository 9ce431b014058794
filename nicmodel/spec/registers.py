# SPDX-License-Identifier: GPL-2.0-or-later
"""Port registers of ACCESS_REG (``mlx5_ifc.h``)."""

from enum import IntEnum

from nicmodel.spec.layout import Layout, bits, layout, nested, raw, tail, u8, u16, u32


class RegisterId(IntEnum):
    """``register_id`` (``driver.h`` MLX5_REG_*): those that the model has."""

    QCAM = 0x4019
    """Which registers of quality of service there are: none."""
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
    PPLM = 0x5023
    """Forward error correction."""
    PCAM = 0x507F
    """Which port registers there are, and their features."""
    HOST_ENDIANNESS = 0x7004
    """Byte order of the host; the device does not care."""
    MCIA = 0x9014
    """Memory of the cable's module."""
    MPCNT = 0x9051
    """PCIe counters."""
    MCQS = 0x9060
    """Firmware components and their state."""
    MCQI = 0x9061
    """Version of a firmware component."""
    MCAM = 0x907F
    """Which management registers there are, and their features."""
    SBCAM = 0xB01F
    """Buffers of the port: none."""
    DTOR = 0xC00E
    """How long the driver shall wait for what (default timeouts)."""


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


@layout(0x4, ifc="lane_2_module_mapping")
class Lane2ModuleMapping(Layout):
    """Where a lane of the port lies."""

    rx_lane: int = bits(0x0, 27, 24)
    tx_lane: int = bits(0x0, 19, 16)
    module: int = u8(0x3)


@layout(0x50, ifc="pplm_reg")
class PplmReg(Layout):
    """Forward error correction by speed; bits are ``1 << FecMode``."""

    local_port: int = u8(0x1)
    fec_mode_active: int = bits(0xC, 23, 0)
    fec_override_cap_56g: int = bits(0x10, 19, 16)
    fec_override_cap_100g: int = bits(0x10, 15, 12)
    fec_override_cap_50g: int = bits(0x10, 11, 8)
    fec_override_cap_25g: int = bits(0x10, 7, 4)
    fec_override_cap_10g_40g: int = bits(0x10, 3, 0)
    fec_override_admin_56g: int = bits(0x14, 19, 16)
    fec_override_admin_100g: int = bits(0x14, 15, 12)
    fec_override_admin_50g: int = bits(0x14, 11, 8)
    fec_override_admin_25g: int = bits(0x14, 7, 4)
    fec_override_admin_10g_40g: int = bits(0x14, 3, 0)


@layout(0x90, ifc="mcia_reg")
class MciaReg(Layout):
    """Bytes of the module's memory; ``status`` 0 is good."""

    l: bool = bits(0x0, 31, 31)  # noqa: E741 -- the name in mlx5_ifc.h
    module: int = u8(0x1)
    status: int = u8(0x3)
    i2c_device_address: int = u8(0x4)
    page_number: int = u8(0x5)
    device_address: int = u16(0x6)
    size: int = u16(0xA)
    dwords: bytes = raw(0x10, 0x80)


@layout(0x10, ifc="pcam_regs_5000_to_507f")
class PcamRegs5000To507f(Layout):
    """Port registers that there are."""

    pplm: bool = bits(0x8, 3, 3)
    pbmc: bool = bits(0xC, 12, 12)
    pptb: bool = bits(0xC, 11, 11)
    ppcnt: bool = bits(0xC, 8, 8)


@layout(0x10, ifc="pcam_enhanced_features")
class PcamEnhancedFeatures(Layout):
    """Features of port registers."""

    fec_50g_per_lane_in_pplm: bool = bits(0xC, 23, 23, of="fec_50G_per_lane_in_pplm")
    ptys_extended_ethernet: bool = bits(0xC, 13, 13)
    pfcc_mask: bool = bits(0xC, 9, 9)
    per_lane_error_counters: bool = bits(0xC, 5, 5)
    rx_buffer_fullness_counters: bool = bits(0xC, 4, 4)
    ptys_connector_type: bool = bits(0xC, 3, 3)
    ppcnt_discard_group: bool = bits(0xC, 1, 1)
    ppcnt_statistical_group: bool = bits(0xC, 0, 0)


@layout(0x50, ifc="pcam_reg")
class PcamReg(Layout):
    """Port capability mask."""

    feature_group: int = u8(0x1)
    access_reg_group: int = u8(0x3)
    port_access_reg_cap_mask: PcamRegs5000To507f = nested(0x8)
    feature_cap_mask: PcamEnhancedFeatures = nested(0x28)


@layout(0x10, ifc="mcam_access_reg")
class McamAccessReg(Layout):
    """Management registers of group 0 that there are."""

    mcqi: bool = bits(0x0, 1, 1)
    mcqs: bool = bits(0x0, 0, 0)


@layout(0x10, ifc="mcam_enhanced_features")
class McamEnhancedFeatures(Layout):
    """Features of management registers."""

    mcia_32dwords: bool = bits(0x8, 2, 2)
    pcie_outbound_stalled: bool = bits(0xC, 4, 4)
    tx_overflow_buffer_pkt: bool = bits(0xC, 3, 3)
    pcie_performance_group: bool = bits(0xC, 0, 0)


@layout(0x48, ifc="mcam_reg")
class McamReg(Layout):
    """Management capability mask."""

    feature_group: int = u8(0x1)
    access_reg_group: int = u8(0x3)
    mng_access_reg_cap_mask: McamAccessReg = nested(0x8)
    mng_feature_cap_mask: McamEnhancedFeatures = nested(0x28)


@layout(0x48, ifc="qcam_reg")
class QcamReg(Layout):
    """Quality of service capability mask."""

    feature_group: int = u8(0x1)
    access_reg_group: int = u8(0x3)


@layout(0x10, ifc="mcqs_reg")
class McqsReg(Layout):
    """State of a firmware component."""

    last_index_flag: bool = bits(0x0, 31, 31)
    component_index: int = u16(0x2)
    identifier: int = u16(0x6)
    component_status: int = bits(0x8, 8, 4)
    component_update_state: int = bits(0x8, 3, 0)


@layout(0x18, ifc="mcqi_reg")
class McqiReg(Layout):
    """Information on a firmware component; ``data`` depends on ``info_type``."""

    read_pending_component: bool = bits(0x0, 31, 31)
    component_index: int = u16(0x2)
    info_type: int = bits(0x8, 4, 0)
    info_size: int = u32(0xC)
    offset: int = u32(0x10)
    data_size: int = u16(0x16)
    data: bytes = tail(0x18)


@layout(0x7C, ifc="mcqi_version")
class McqiVersion(Layout):
    """``data`` of MCQI: a version as a number, 8, 8 and 16 bits."""

    version_string_length: int = u8(0x3)
    version: int = u32(0x4)
    version_string: bytes = raw(0x20, 92)


@layout(0x4C, ifc="sbcam_reg")
class SbcamReg(Layout):
    """Capabilities of the port's buffers."""

    feature_group: int = u8(0x1)
    access_reg_group: int = u8(0x3)
    cap_total_buffer_size: int = u32(0x40)
    cap_cell_size: int = u16(0x44)
    cap_max_pg_buffers: int = u8(0x46)
    cap_num_pool_supported: int = u8(0x47)


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
