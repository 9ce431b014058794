# SPDX-License-Identifier: GPL-2.0-or-later
"""ACCESS_REG: port registers (``port.c``, ``en/port.c``, ``en_stats.c``)."""

from collections.abc import Callable
from dataclasses import replace

from nicmodel.command.declaration import command
from nicmodel.command.firmware import Firmware, HcaState
from nicmodel.errors import CommandError
from nicmodel.objects.counters import PortCounters
from nicmodel.objects.port import MAX_MTU, PortStatus
from nicmodel.spec.commands import AccessRegisterIn, AccessRegisterOut
from nicmodel.spec.layout import Layout
from nicmodel.spec.opcodes import CommandOpcode
from nicmodel.spec.registers import (
    DefaultTimeout,
    DtorReg,
    Eth2819CntrsGrpDataLayout,
    Eth2863CntrsGrpDataLayout,
    Eth8023CntrsGrpDataLayout,
    PaosReg,
    PfccReg,
    PmlpReg,
    PmtuReg,
    PpcntGroup,
    PpcntReg,
    PtysReg,
    RegisterId,
)
from nicmodel.spec.status import CommandStatus
from nicmodel.trace.events import UnknownRegister

WRITE = 0
"""``op_mod`` of a write."""

READ = 1
"""``op_mod`` of a read."""

ETH_PROTO = 1 << 20
"""``eth_proto_*`` bit of 100GBASE-CR4 (``port.h`` MLX5E_100GBASE_CR4)."""

PROTO_MASK_EN = 4
"""``proto_mask`` of Ethernet (``port.h`` MLX5_PTYS_EN)."""

CONNECTOR_DA = 7
"""``connector_type`` of a direct-attach cable (``port.h`` MLX5E_PORT_DA)."""

LANES = 4
"""Lanes of the port."""

LOCAL_PORT = 1
"""The only port."""

TIMEOUTS = DtorReg(
    pcie_toggle_to=DefaultTimeout(to_value=2000),
    health_poll_to=DefaultTimeout(to_value=2000),
    full_crdump_to=DefaultTimeout(to_value=60_000),
    fw_reset_to=DefaultTimeout(to_value=58_000),
    flush_on_err_to=DefaultTimeout(to_value=2000),
    pci_sync_update_to=DefaultTimeout(to_value=2000),
    tear_down_to=DefaultTimeout(to_value=3000),
    fsm_reactivate_to=DefaultTimeout(to_value=5000),
    reclaim_pages_to=DefaultTimeout(to_value=5000),
    reclaim_vfs_pages_to=DefaultTimeout(to_value=120_000),
)
"""What the driver would wait without being told (``lib/tout.c`` tout_def_sw_val); it adds the first
to ``fw_reset_to`` and ``tear_down_to`` to ``pci_sync_update_to``."""

Handler = Callable[[Firmware, bytes, bool], Layout]
"""Takes the data, padded to the register, and whether they are written; returns the register."""


def _ptys(firmware: Firmware, data: bytes, write: bool) -> PtysReg:
    request = PtysReg.decode(data)
    if request.proto_mask != PROTO_MASK_EN:
        raise CommandError(CommandStatus.BAD_PARAM, "the port speaks Ethernet only")
    if write and request.eth_proto_admin & ~ETH_PROTO:
        raise CommandError(CommandStatus.BAD_PARAM, "the port does not have this speed")
    return PtysReg(
        local_port=LOCAL_PORT,
        proto_mask=PROTO_MASK_EN,
        an_disable_cap=False,
        eth_proto_capability=ETH_PROTO,
        eth_proto_admin=ETH_PROTO,
        eth_proto_oper=ETH_PROTO if firmware.port.up else 0,
        connector_type=CONNECTOR_DA,
    )


def _paos(firmware: Firmware, data: bytes, write: bool) -> PaosReg:
    request = PaosReg.decode(data)
    if write:
        try:
            firmware.set_admin(PortStatus(request.admin_status))
        except ValueError:
            raise CommandError(
                CommandStatus.BAD_PARAM, f"there is no admin_status {request.admin_status}"
            ) from None
    port = firmware.port
    return PaosReg(
        local_port=LOCAL_PORT,
        admin_status=port.admin,
        oper_status=PortStatus.UP if port.up else PortStatus.DOWN,
    )


def _pmtu(firmware: Firmware, data: bytes, write: bool) -> PmtuReg:
    request = PmtuReg.decode(data)
    if write:
        if not 0 < request.admin_mtu <= MAX_MTU:
            raise CommandError(
                CommandStatus.BAD_PARAM, f"an MTU of {request.admin_mtu} is not possible"
            )
        firmware.port = replace(firmware.port, mtu=request.admin_mtu)
    mtu = firmware.port.mtu
    return PmtuReg(local_port=LOCAL_PORT, max_mtu=MAX_MTU, admin_mtu=mtu, oper_mtu=mtu)


def _pfcc(firmware: Firmware, data: bytes, write: bool) -> PfccReg:
    request = PfccReg.decode(data)
    if write and (request.pptx or request.pprx or request.pfctx or request.pfcrx):
        raise CommandError(CommandStatus.BAD_PARAM, "the port does not send or obey pause frames")
    return PfccReg(local_port=LOCAL_PORT)


def _pmlp(firmware: Firmware, data: bytes, write: bool) -> PmlpReg:
    if write:
        raise CommandError(CommandStatus.BAD_PARAM, "the lanes of the port are fixed")
    return PmlpReg(local_port=LOCAL_PORT, width=LANES)


def _eth_802_3(counters: PortCounters) -> Layout:
    rx, tx = counters.rx, counters.tx
    return Eth8023CntrsGrpDataLayout(
        a_frames_transmitted_ok=tx.packets,
        a_frames_received_ok=rx.packets,
        a_octets_transmitted_ok=tx.octets,
        a_octets_received_ok=rx.octets,
        a_multicast_frames_xmitted_ok=tx.multicast.packets,
        a_broadcast_frames_xmitted_ok=tx.broadcast.packets,
        a_multicast_frames_received_ok=rx.multicast.packets,
        a_broadcast_frames_received_ok=rx.broadcast.packets,
        a_frame_too_long_errors=counters.rx_oversize,
    )


def _eth_2863(counters: PortCounters) -> Layout:
    rx, tx = counters.rx, counters.tx
    return Eth2863CntrsGrpDataLayout(
        if_in_octets=rx.octets,
        if_in_ucast_pkts=rx.unicast.packets,
        if_out_octets=tx.octets,
        if_out_ucast_pkts=tx.unicast.packets,
        if_in_multicast_pkts=rx.multicast.packets,
        if_in_broadcast_pkts=rx.broadcast.packets,
        if_out_multicast_pkts=tx.multicast.packets,
        if_out_broadcast_pkts=tx.broadcast.packets,
    )


def _eth_2819(counters: PortCounters) -> Layout:
    rx = counters.rx
    return Eth2819CntrsGrpDataLayout(
        ether_stats_octets=rx.octets,
        ether_stats_pkts=rx.packets,
        ether_stats_broadcast_pkts=rx.broadcast.packets,
        ether_stats_multicast_pkts=rx.multicast.packets,
    )


_GROUPS: dict[PpcntGroup, Callable[[PortCounters], Layout]] = {
    PpcntGroup.IEEE_802_3: _eth_802_3,
    PpcntGroup.RFC_2863: _eth_2863,
    PpcntGroup.RFC_2819: _eth_2819,
}


def _ppcnt(firmware: Firmware, data: bytes, write: bool) -> PpcntReg:
    request = PpcntReg.decode(data)
    if write or request.clr:
        raise CommandError(CommandStatus.BAD_PARAM, "port counters cannot be cleared")
    try:
        group = PpcntGroup(request.grp)
    except ValueError:
        raise CommandError(
            CommandStatus.BAD_PARAM, f"there is no counter group {request.grp:#x}"
        ) from None
    counters = b""
    if make := _GROUPS.get(group):
        counters = make(firmware.counters).encode()
    return PpcntReg(
        local_port=LOCAL_PORT,
        grp=group,
        prio_tc=request.prio_tc,
        counter_set=counters.ljust(len(request.counter_set), b"\0"),
    )


def _host_endianness(firmware: Firmware, data: bytes, write: bool) -> Layout:
    if not write:
        raise CommandError(CommandStatus.BAD_PARAM, "HOST_ENDIANNESS can only be written")
    return _Nothing()


def _dtor(firmware: Firmware, data: bytes, write: bool) -> DtorReg:
    if write:
        raise CommandError(CommandStatus.BAD_PARAM, "DTOR can only be read")
    return TIMEOUTS


class _Nothing(Layout):
    """A register without data of its own."""

    __slots__ = ()

    def encode(self) -> bytes:
        """No bytes."""
        return b""


REGISTERS: dict[int, tuple[Handler, int]] = {
    RegisterId.PTYS: (_ptys, PtysReg.SIZE),
    RegisterId.PAOS: (_paos, PaosReg.SIZE),
    RegisterId.PMTU: (_pmtu, PmtuReg.SIZE),
    RegisterId.PFCC: (_pfcc, PfccReg.SIZE),
    RegisterId.PMLP: (_pmlp, PmlpReg.SIZE),
    RegisterId.PPCNT: (_ppcnt, PpcntReg.SIZE),
    RegisterId.DTOR: (_dtor, DtorReg.SIZE),
    RegisterId.HOST_ENDIANNESS: (_host_endianness, 0),
}
"""Handler and bytes of each register."""


@command(
    CommandOpcode.ACCESS_REG,
    request=AccessRegisterIn,
    reply=AccessRegisterOut,
    requires=HcaState.ENABLED,
)
def access_register(firmware: Firmware, request: AccessRegisterIn) -> AccessRegisterOut:
    """Read or write a port register: PTYS, PAOS, PMTU, PFCC, PMLP, PPCNT, DTOR, HOST_ENDIANNESS."""
    write = request.op_mod == WRITE
    if request.op_mod not in (READ, WRITE):
        raise CommandError(CommandStatus.BAD_PARAM, f"ACCESS_REG has no op_mod {request.op_mod}")
    known = REGISTERS.get(request.register_id)
    if known is None:
        firmware.tracer.emit(UnknownRegister(request.register_id, write))
        raise CommandError(
            CommandStatus.BAD_PARAM, f"there is no register {request.register_id:#x}"
        )
    handler, size = known
    register = handler(firmware, request.register_data.ljust(size, b"\0"), write)
    return AccessRegisterOut(register_data=register.encode())
