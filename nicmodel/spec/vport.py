# SPDX-License-Identifier: GPL-2.0-or-later
"""Vport contexts and counters (``mlx5_ifc.h``)."""

from nicmodel.spec.layout import Layout, bits, layout, nested, tail, u16, u32, u64


@layout(0x8, ifc="mac_address_layout")
class MacAddressLayout(Layout):
    """A MAC address in a list."""

    mac_addr_47_32: int = u16(0x2)
    mac_addr_31_0: int = u32(0x4)


@layout(0x8, ifc="vlan_layout")
class VlanLayout(Layout):
    """A VLAN in a list."""

    vlan: int = bits(0x0, 11, 0)


@layout(0x100, ifc="nic_vport_context")
class NicVportContext(Layout):
    """What the driver tells and asks about its vport; the entries of one list follow."""

    min_wqe_inline_mode: int = bits(0x0, 26, 24)
    disable_mc_local_lb: bool = bits(0x0, 2, 2)
    disable_uc_local_lb: bool = bits(0x0, 1, 1)
    roce_en: bool = bits(0x0, 0, 0)
    arm_change_event: bool = bits(0x4, 31, 31)
    event_on_mtu: bool = bits(0x4, 4, 4)
    event_on_promisc_change: bool = bits(0x4, 3, 3)
    event_on_vlan_change: bool = bits(0x4, 2, 2)
    event_on_mc_address_change: bool = bits(0x4, 1, 1)
    event_on_uc_address_change: bool = bits(0x4, 0, 0)
    vhca_id_type: bool = bits(0x8, 31, 31)
    affiliation_criteria: int = bits(0x8, 19, 16)
    affiliated_vhca_id: int = u16(0xA)
    mtu: int = u16(0x26)
    system_image_guid: int = u64(0x28)
    port_guid: int = u64(0x30)
    node_guid: int = u64(0x38)
    qkey_violation_counter: int = u16(0x68)
    promisc_uc: bool = bits(0xF0, 31, 31)
    promisc_mc: bool = bits(0xF0, 30, 30)
    promisc_all: bool = bits(0xF0, 29, 29)
    allowed_list_type: int = bits(0xF0, 26, 24)
    allowed_list_size: int = bits(0xF0, 11, 0)
    permanent_address: MacAddressLayout = nested(0xF4)
    current_uc_mac_address: tuple[int, ...] = tail(0x100, 64)


@layout(0x4, ifc="modify_nic_vport_field_select")
class ModifyNicVportFieldSelect(Layout):
    """Which fields MODIFY_NIC_VPORT_CONTEXT changes."""

    affiliation: bool = bits(0x0, 13, 13)
    disable_uc_local_lb: bool = bits(0x0, 11, 11)
    disable_mc_local_lb: bool = bits(0x0, 10, 10)
    node_guid: bool = bits(0x0, 9, 9)
    port_guid: bool = bits(0x0, 8, 8)
    min_inline: bool = bits(0x0, 7, 7)
    mtu: bool = bits(0x0, 6, 6)
    change_event: bool = bits(0x0, 5, 5)
    promisc: bool = bits(0x0, 4, 4)
    permanent_address: bool = bits(0x0, 3, 3)
    addresses_list: bool = bits(0x0, 2, 2)
    roce_en: bool = bits(0x0, 1, 1)


@layout(0x10, ifc="traffic_counter")
class TrafficCounter(Layout):
    """Frames and bytes."""

    packets: int = u64(0x0)
    octets: int = u64(0x8)


@layout(0x200, ifc="vnic_diagnostic_statistics")
class VnicDiagnosticStatistics(Layout):
    """What happened to the vport that should not."""

    counter_error_queues: int = u32(0x0)
    total_error_queues: int = u32(0x4)
    nic_receive_steering_discard: int = u64(0x10)
    receive_discard_vport_down: int = u64(0x18)
    transmit_discard_vport_down: int = u64(0x20)
    internal_rq_out_of_buffer: int = u32(0x3C)
    eth_wqe_too_small: int = u32(0x44)
