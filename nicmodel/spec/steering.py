# SPDX-License-Identifier: GPL-2.0-or-later
"""Flow tables, groups and entries (``mlx5_ifc.h``)."""

from enum import IntEnum

from nicmodel.spec.layout import Layout, bits, layout, nested, raw, tail, u8, u16, u32, u64
from nicmodel.units import GroupId, TableId


class MissAction(IntEnum):
    """``table_miss_action`` (MLX5_FLOW_TABLE_MISS_ACTION_*)."""

    DEFAULT = 0
    """NIC receive: drop."""
    FORWARD = 1
    """Go on in table ``table_miss_id``."""


class DestinationType(IntEnum):
    """``destination_type`` (MLX5_FLOW_DESTINATION_TYPE_*)."""

    VPORT = 0x0
    """A vport: e-switch only."""
    FLOW_TABLE = 0x1
    """Go on in a flow table."""
    TIR = 0x2
    """Receive."""


@layout(0x28, ifc="flow_table_context")
class FlowTableContext(Layout):
    """A flow table: its level, size and what happens on a miss."""

    reformat_en: bool = bits(0x0, 31, 31)
    decap_en: bool = bits(0x0, 30, 30)
    sw_owner: bool = bits(0x0, 29, 29)
    termination_table: bool = bits(0x0, 28, 28)
    table_miss_action: MissAction = bits(0x0, 27, 24)
    level: int = u8(0x1)
    log_size: int = u8(0x3)
    table_miss_id: TableId = bits(0x4, 23, 0)
    lag_master_next_table_id: int = bits(0x8, 23, 0)
    sw_owner_icm_root_1: int = u64(0x18)
    sw_owner_icm_root_0: int = u64(0x20)


@layout(0x40, ifc="fte_match_set_lyr_2_4")
class FteMatchSetLyr24(Layout):
    """Match fields of layers 2 to 4."""

    smac_47_16: int = u32(0x0)
    smac_15_0: int = u16(0x4)
    ethertype: int = u16(0x6)
    dmac_47_16: int = u32(0x8)
    dmac_15_0: int = u16(0xC)
    first_prio: int = bits(0xC, 15, 13)
    first_cfi: bool = bits(0xC, 12, 12)
    first_vid: int = bits(0xC, 11, 0)
    ip_protocol: int = u8(0x10)
    ip_dscp: int = bits(0x10, 23, 18)
    ip_ecn: int = bits(0x10, 17, 16)
    cvlan_tag: bool = bits(0x10, 15, 15)
    svlan_tag: bool = bits(0x10, 14, 14)
    frag: bool = bits(0x10, 13, 13)
    ip_version: int = bits(0x10, 12, 9)
    tcp_flags: int = bits(0x10, 8, 0)
    tcp_sport: int = u16(0x14)
    tcp_dport: int = u16(0x16)
    ipv4_ihl: int = bits(0x18, 15, 12)
    ttl_hoplimit: int = u8(0x1B)
    udp_sport: int = u16(0x1C)
    udp_dport: int = u16(0x1E)
    src_ipv4_src_ipv6: bytes = raw(0x20, 16)
    dst_ipv4_dst_ipv6: bytes = raw(0x30, 16)


@layout(0x40, ifc="fte_match_set_misc")
class FteMatchSetMisc(Layout):
    """Further match fields."""

    gre_c_present: bool = bits(0x0, 31, 31)
    gre_k_present: bool = bits(0x0, 29, 29)
    gre_s_present: bool = bits(0x0, 28, 28)
    source_vhca_port: int = bits(0x0, 27, 24)
    source_sqn: int = bits(0x0, 23, 0)
    source_eswitch_owner_vhca_id: int = u16(0x4)
    source_port: int = u16(0x6)
    outer_second_prio: int = bits(0x8, 31, 29)
    outer_second_cfi: bool = bits(0x8, 28, 28)
    outer_second_vid: int = bits(0x8, 27, 16)
    inner_second_prio: int = bits(0x8, 15, 13)
    inner_second_cfi: bool = bits(0x8, 12, 12)
    inner_second_vid: int = bits(0x8, 11, 0)
    outer_second_cvlan_tag: bool = bits(0xC, 31, 31)
    inner_second_cvlan_tag: bool = bits(0xC, 30, 30)
    outer_second_svlan_tag: bool = bits(0xC, 29, 29)
    inner_second_svlan_tag: bool = bits(0xC, 28, 28)
    gre_protocol: int = u16(0xE)
    gre_key: int = u32(0x10)
    vxlan_vni: int = bits(0x14, 31, 8)
    bth_opcode: int = u8(0x17)
    geneve_vni: int = bits(0x18, 31, 8)
    geneve_tlv_option_0_exist: bool = bits(0x18, 1, 1)
    geneve_oam: bool = bits(0x18, 0, 0)
    outer_ipv6_flow_label: int = bits(0x1C, 19, 0)
    inner_ipv6_flow_label: int = bits(0x20, 19, 0)
    geneve_opt_len: int = bits(0x24, 21, 16)
    geneve_protocol_type: int = u16(0x26)
    bth_dst_qp: int = bits(0x28, 23, 0)
    outer_esp_spi: int = u32(0x30)


@layout(0x200, ifc="fte_match_param")
class FteMatchParam(Layout):
    """All match fields: a value, or a mask as group criteria."""

    outer_headers: FteMatchSetLyr24 = nested(0x0)
    misc_parameters: FteMatchSetMisc = nested(0x40)
    inner_headers: FteMatchSetLyr24 = nested(0x80)
    misc_parameters_2: bytes = raw(0xC0, 64)
    misc_parameters_3: bytes = raw(0x100, 64)
    misc_parameters_4: bytes = raw(0x140, 64)
    misc_parameters_5: bytes = raw(0x180, 64)


@layout(0x8, ifc="dest_format_struct")
class DestFormatStruct(Layout):
    """One destination of an entry."""

    destination_type: DestinationType = u8(0x0)
    destination_id: int = bits(0x0, 23, 0)
    destination_eswitch_owner_vhca_id_valid: bool = bits(0x4, 31, 31)
    packet_reformat: bool = bits(0x4, 30, 30)
    destination_eswitch_owner_vhca_id: int = u16(0x6)


@layout(0x300, ifc="flow_context")
class FlowContext(Layout):
    """A flow table entry; its destinations follow."""

    group_id: GroupId = u32(0x4)
    flow_tag: int = bits(0x8, 23, 0)
    action: int = u16(0xE)
    extended_destination: bool = bits(0x10, 31, 31)
    flow_source: int = bits(0x10, 29, 28)
    encrypt_decrypt_type: int = bits(0x10, 27, 24)
    destination_list_size: int = bits(0x10, 23, 0)
    flow_counter_list_size: int = bits(0x14, 23, 0)
    packet_reformat_id: int = u32(0x18)
    modify_header_id: int = u32(0x1C)
    encrypt_decrypt_obj_id: int = u32(0x24)
    match_value: FteMatchParam = nested(0x40)
    destination: tuple[DestFormatStruct, ...] = tail(0x300)
