# SPDX-License-Identifier: GPL-2.0-or-later
"""Counters of port and PCIe link (``en_stats.c``).

Bytes of the port include the FCS (counters.rst of the driver: "including Ethernet header and FCS").
Groups that are zero count what the model cannot have: full buffers, bit errors, PCIe errors.
"""

from collections.abc import Callable

from nicmodel.command.firmware import Firmware
from nicmodel.command.registers.declaration import LOCAL_PORT, Register, bad_param
from nicmodel.objects.counters import SIZES, PortCounters, Traffic
from nicmodel.objects.port import FCS
from nicmodel.spec.layout import Layout
from nicmodel.spec.port_counters import (
    Eth2819CntrsGrpDataLayout,
    Eth2863CntrsGrpDataLayout,
    Eth8023CntrsGrpDataLayout,
    EthPerPrioGrpDataLayout,
    MpcntGroup,
    MpcntReg,
    PhysLayerCntrs,
    PpcntGroup,
    PpcntReg,
)
from nicmodel.spec.registers import RegisterId


def _bytes(traffic: Traffic) -> int:
    return traffic.octets + FCS * traffic.packets


def _eth_802_3(counters: PortCounters, _priority: int) -> Layout:
    rx, tx = counters.rx.by_class, counters.tx.by_class
    return Eth8023CntrsGrpDataLayout(
        a_frames_transmitted_ok=tx.total.packets,
        a_frames_received_ok=rx.total.packets,
        a_octets_transmitted_ok=_bytes(tx.total),
        a_octets_received_ok=_bytes(rx.total),
        a_multicast_frames_xmitted_ok=tx.multicast.packets,
        a_broadcast_frames_xmitted_ok=tx.broadcast.packets,
        a_multicast_frames_received_ok=rx.multicast.packets,
        a_broadcast_frames_received_ok=rx.broadcast.packets,
        a_frame_too_long_errors=counters.rx_oversize,
        a_mac_control_frames_received=counters.rx_control,
        a_pause_mac_ctrl_frames_received=counters.rx_pause,
        a_unsupported_opcodes_received=counters.rx_control - counters.rx_pause,
    )


def _eth_2863(counters: PortCounters, _priority: int) -> Layout:
    rx, tx = counters.rx.by_class, counters.tx.by_class
    return Eth2863CntrsGrpDataLayout(
        if_in_octets=_bytes(rx.total),
        if_in_ucast_pkts=rx.unicast.packets,
        if_in_errors=counters.rx_oversize,
        if_out_octets=_bytes(tx.total),
        if_out_ucast_pkts=tx.unicast.packets,
        if_out_discards=counters.tx_discards,
        if_in_multicast_pkts=rx.multicast.packets,
        if_in_broadcast_pkts=rx.broadcast.packets,
        if_out_multicast_pkts=tx.multicast.packets,
        if_out_broadcast_pkts=tx.broadcast.packets,
    )


def _sizes(sizes: list[int]) -> dict[str, int]:
    """Frames by class of size under the names of the group: 64, 65to127 and so on."""
    low = (SIZES[0], *(high + 1 for high in SIZES[:-1]))
    names = (f"{a}to{b}" if a != b else f"{a}" for a, b in zip(low, SIZES, strict=True))
    return {
        f"ether_stats_pkts{name}octets": count for name, count in zip(names, sizes, strict=True)
    }


def _eth_2819(counters: PortCounters, _priority: int) -> Layout:
    rx = counters.rx.by_class
    return Eth2819CntrsGrpDataLayout(
        ether_stats_octets=_bytes(rx.total),
        ether_stats_pkts=rx.total.packets,
        ether_stats_broadcast_pkts=rx.broadcast.packets,
        ether_stats_multicast_pkts=rx.multicast.packets,
        ether_stats_oversize_pkts=counters.rx_oversize,
        **_sizes(counters.rx.sizes),
    )


def _per_priority(counters: PortCounters, priority: int) -> Layout:
    rx, tx = counters.rx.priority(priority), counters.tx.priority(priority)
    return EthPerPrioGrpDataLayout(
        rx_octets=_bytes(rx),
        rx_frames=rx.packets,
        tx_octets=_bytes(tx),
        tx_frames=tx.packets,
        rx_pause=0 if priority else counters.rx_pause,  # "global" is read from priority 0
    )


def _physical_layer(counters: PortCounters, _priority: int) -> Layout:
    return PhysLayerCntrs(link_down_events=counters.link_downs & 0xFFFFFFFF)


_GROUPS: dict[PpcntGroup, Callable[[PortCounters, int], Layout]] = {
    PpcntGroup.IEEE_802_3: _eth_802_3,
    PpcntGroup.RFC_2863: _eth_2863,
    PpcntGroup.RFC_2819: _eth_2819,
    PpcntGroup.PER_PRIORITY: _per_priority,
    PpcntGroup.PHYSICAL_LAYER: _physical_layer,
}


def _read_ppcnt(firmware: Firmware, request: PpcntReg) -> PpcntReg:
    if request.clr:
        raise bad_param("port counters cannot be cleared")
    try:
        group = PpcntGroup(request.grp)
    except ValueError:
        raise bad_param(f"there is no counter group {request.grp:#x}") from None
    counters = b""
    if make := _GROUPS.get(group):
        counters = make(firmware.counters, request.prio_tc).encode()
    return PpcntReg(
        local_port=LOCAL_PORT,
        grp=group,
        prio_tc=request.prio_tc,
        counter_set=counters.ljust(len(request.counter_set), b"\0"),
    )


def _read_mpcnt(_firmware: Firmware, request: MpcntReg) -> MpcntReg:
    if request.clr or request.grp not in set(MpcntGroup):
        raise bad_param(f"there is no PCIe counter group {request.grp:#x} to read")
    return MpcntReg(grp=request.grp)


REGISTERS = (
    Register(RegisterId.PPCNT, PpcntReg, _read_ppcnt),
    Register(RegisterId.MPCNT, MpcntReg, _read_mpcnt),
)
