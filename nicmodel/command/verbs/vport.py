# SPDX-License-Identifier: GPL-2.0-or-later
"""The vport: context, state, counters, and the filter before it (``vport.c``, ``lib/mpfs.c``)."""

from dataclasses import replace

from nicmodel.command.declaration import command
from nicmodel.command.firmware import Firmware
from nicmodel.command.verbs.hca import own_function
from nicmodel.errors import CommandError
from nicmodel.objects.counters import Traffic
from nicmodel.objects.port import MAX_MTU, AllowedList, PortStatus, Vport
from nicmodel.spec.commands import (
    DeleteL2TableEntryIn,
    Done,
    ModifyNicVportContextIn,
    QueryNicVportContextIn,
    QueryNicVportContextOut,
    QueryVnicEnvIn,
    QueryVnicEnvOut,
    QueryVportCounterIn,
    QueryVportCounterOut,
    QueryVportStateIn,
    QueryVportStateOut,
    SetL2TableEntryIn,
)
from nicmodel.spec.opcodes import CommandOpcode
from nicmodel.spec.status import CommandStatus
from nicmodel.spec.vport import (
    MacAddressLayout,
    NicVportContext,
    TrafficCounter,
    VnicDiagnosticStatistics,
)

MAX_LIST = 1 << 12
"""Most entries of one list (``log_max_current_mc_list``); the others are shorter."""

_OFFERED = frozenset(("mtu", "promisc", "permanent_address", "addresses_list"))
"""Members of ``field_select`` that the model keeps."""


def mac_layout(mac: bytes) -> MacAddressLayout:
    """A MAC of 6 bytes as the lists have it."""
    return MacAddressLayout(
        mac_addr_47_32=int.from_bytes(mac[:2], "big"), mac_addr_31_0=int.from_bytes(mac[2:], "big")
    )


def mac_bytes(layout: MacAddressLayout) -> bytes:
    """The 6 bytes of a MAC."""
    return layout.encode()[2:]


def _allowed(kind: int) -> AllowedList:
    try:
        return AllowedList(kind)
    except ValueError:
        raise CommandError(
            CommandStatus.BAD_PARAM, f"there is no allowed_list_type {kind}"
        ) from None


def _entries(vport: Vport, kind: AllowedList) -> tuple[int, ...]:
    """A list as its 64-bit entries."""
    if kind is AllowedList.VLAN:
        return tuple(vid << 32 for vid in vport.vlans)
    listed = vport.uc if kind is AllowedList.UC else vport.mc
    return tuple(int.from_bytes(mac, "big") for mac in listed)


@command(
    CommandOpcode.QUERY_NIC_VPORT_CONTEXT,
    request=QueryNicVportContextIn,
    reply=QueryNicVportContextOut,
)
def query_nic_vport_context(
    firmware: Firmware, request: QueryNicVportContextIn
) -> QueryNicVportContextOut:
    """Report MAC, MTU, GUIDs, promiscuous modes and one list of the vport."""
    own_function(request.other_vport, request.vport_number)
    vport = firmware.vport
    kind = _allowed(request.allowed_list_type)
    entries = _entries(vport, kind)
    # EUI-64 from the MAC, as GUIDs are made.
    guid = int.from_bytes(firmware.mac[:3] + b"\x03\x00" + firmware.mac[3:], "big")
    return QueryNicVportContextOut(
        nic_vport_context=NicVportContext(
            mtu=vport.mtu,
            system_image_guid=guid,
            port_guid=guid,
            node_guid=guid,
            promisc_uc=vport.promisc_uc,
            promisc_mc=vport.promisc_mc,
            promisc_all=vport.promisc_all,
            allowed_list_type=kind,
            allowed_list_size=len(entries),
            permanent_address=mac_layout(vport.mac),
            current_uc_mac_address=entries,
        )
    )


@command(CommandOpcode.MODIFY_NIC_VPORT_CONTEXT, request=ModifyNicVportContextIn, reply=Done)
def modify_nic_vport_context(firmware: Firmware, request: ModifyNicVportContextIn) -> Done:
    """Keep MTU, MAC, promiscuous modes or one list of the vport; a promiscuous one gets all."""
    own_function(request.other_vport, request.vport_number)
    select, context, vport = request.field_select, request.nic_vport_context, firmware.vport
    for name in select.SPANS:
        if getattr(select, name) and name not in _OFFERED:
            raise CommandError(CommandStatus.BAD_PARAM, f"{name} of the vport cannot be modified")
    if select.mtu:
        if context.mtu > MAX_MTU:
            raise CommandError(CommandStatus.BAD_PARAM, f"an MTU of {context.mtu} is too large")
        vport = replace(vport, mtu=context.mtu)
    if select.permanent_address:
        vport = replace(vport, mac=mac_bytes(context.permanent_address))
    if select.promisc:
        vport = replace(
            vport,
            promisc_uc=context.promisc_uc,
            promisc_mc=context.promisc_mc,
            promisc_all=context.promisc_all,
        )
        firmware.objects.l2.promiscuous = vport.promisc_uc or vport.promisc_all
    if select.addresses_list:
        vport = _with_list(vport, context)
    firmware.vport = vport
    return Done()


def _with_list(vport: Vport, context: NicVportContext) -> Vport:
    size = context.allowed_list_size
    if size > min(MAX_LIST, len(context.current_uc_mac_address)):
        raise CommandError(
            CommandStatus.BAD_INP_LEN,
            f"{size} list entries are announced, {len(context.current_uc_mac_address)} follow",
        )
    entries = context.current_uc_mac_address[:size]
    kind = _allowed(context.allowed_list_type)
    if kind is AllowedList.VLAN:
        return replace(vport, vlans=tuple(entry >> 32 & 0xFFF for entry in entries))
    macs = tuple((entry & (1 << 48) - 1).to_bytes(6, "big") for entry in entries)
    return replace(vport, uc=macs) if kind is AllowedList.UC else replace(vport, mc=macs)


@command(CommandOpcode.QUERY_VPORT_STATE, request=QueryVportStateIn, reply=QueryVportStateOut)
def query_vport_state(firmware: Firmware, request: QueryVportStateIn) -> QueryVportStateOut:
    """Report whether the port is wanted up and is up."""
    own_function(request.other_vport, request.vport_number)
    port = firmware.port
    return QueryVportStateOut(admin_state=port.admin is PortStatus.UP, state=port.up)


def _traffic(traffic: Traffic) -> TrafficCounter:
    return TrafficCounter(packets=traffic.packets, octets=traffic.octets)


@command(CommandOpcode.QUERY_VPORT_COUNTER, request=QueryVportCounterIn, reply=QueryVportCounterOut)
def query_vport_counter(firmware: Firmware, request: QueryVportCounterIn) -> QueryVportCounterOut:
    """Report frames and bytes by class of destination; clearing is refused."""
    own_function(request.other_vport, request.vport_number)
    if request.clear:
        raise CommandError(CommandStatus.BAD_PARAM, "vport counters cannot be cleared")
    rx, tx = firmware.counters.vport_rx, firmware.counters.vport_tx
    return QueryVportCounterOut(
        received_eth_broadcast=_traffic(rx.broadcast),
        transmitted_eth_broadcast=_traffic(tx.broadcast),
        received_eth_unicast=_traffic(rx.unicast),
        transmitted_eth_unicast=_traffic(tx.unicast),
        received_eth_multicast=_traffic(rx.multicast),
        transmitted_eth_multicast=_traffic(tx.multicast),
    )


@command(CommandOpcode.QUERY_VNIC_ENV, request=QueryVnicEnvIn, reply=QueryVnicEnvOut)
def query_vnic_env(firmware: Firmware, request: QueryVnicEnvIn) -> QueryVnicEnvOut:
    """Report frames that no flow table entry wanted, and what the port lost while it was down."""
    own_function(request.other_vport, request.vport_number)
    counters = firmware.counters
    return QueryVnicEnvOut(
        vport_env=VnicDiagnosticStatistics(
            nic_receive_steering_discard=counters.rx_steering_discards,
            transmit_discard_vport_down=counters.tx_discards,
        )
    )


@command(CommandOpcode.SET_L2_TABLE_ENTRY, request=SetL2TableEntryIn, reply=Done)
def set_l2_table_entry(firmware: Firmware, request: SetL2TableEntryIn) -> Done:
    """Let unicast to a MAC through from the wire, and back if the vport itself sends it."""
    if request.table_index >> firmware.profile.general.log_max_l2_table:
        raise CommandError(CommandStatus.BAD_PARAM, f"there is no entry {request.table_index}")
    if request.vlan_valid:
        raise CommandError(CommandStatus.BAD_PARAM, "entries with a VLAN are not supported")
    firmware.objects.l2.put(request.table_index, mac_bytes(request.mac_address))
    return Done()


@command(CommandOpcode.DELETE_L2_TABLE_ENTRY, request=DeleteL2TableEntryIn, reply=Done)
def delete_l2_table_entry(firmware: Firmware, request: DeleteL2TableEntryIn) -> Done:
    """Forget a MAC."""
    if firmware.objects.l2.put(request.table_index, None) is None:
        raise CommandError(CommandStatus.BAD_RES, f"there is no entry {request.table_index}")
    return Done()
