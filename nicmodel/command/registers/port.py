# SPDX-License-Identifier: GPL-2.0-or-later
"""Port registers: link, speed, MTU, flow control, FEC (``port.c``, ``en/port.c``)."""

from dataclasses import replace

from nicmodel.command.firmware import Firmware
from nicmodel.command.registers.declaration import LOCAL_PORT, Register, bad_param
from nicmodel.objects.port import LINK_MODES, MAX_MTU, FecMode, LinkMode, PortStatus
from nicmodel.spec.registers import PaosReg, PfccReg, PmtuReg, PplmReg, PtysReg, RegisterId

PROTO_MASK_EN = 4
"""``proto_mask`` of Ethernet (``port.h`` MLX5_PTYS_EN)."""

CONNECTOR_DA = 7
"""``connector_type`` of a direct-attach cable (``port.h`` MLX5E_PORT_DA)."""

AN_COMPLETE = 1
"""``an_status`` (``port.h`` MLX5_AN_COMPLETE)."""


def _legacy(modes: tuple[LinkMode, ...]) -> int:
    return sum(mode.legacy for mode in modes)


def _extended(modes: tuple[LinkMode, ...]) -> int:
    return sum(mode.extended for mode in modes)


def _read_ptys(firmware: Firmware, request: PtysReg) -> PtysReg:
    if request.proto_mask != PROTO_MASK_EN:
        raise bad_param("the port speaks Ethernet only")
    port = firmware.port
    oper = (port.mode,) if port.mode else ()
    negotiated = bool(oper) and not port.an_disabled
    # of the two tables one has what is wanted (en_ethtool.c get_link_ksettings)
    return PtysReg(
        local_port=LOCAL_PORT,
        proto_mask=PROTO_MASK_EN,
        an_disable_admin=port.an_disabled,
        an_disable_cap=True,
        an_status=AN_COMPLETE if negotiated else 0,
        ext_eth_proto_capability=_extended(LINK_MODES),
        eth_proto_capability=_legacy(LINK_MODES),
        ext_eth_proto_admin=_extended(port.modes) if port.extended else 0,
        eth_proto_admin=0 if port.extended else _legacy(port.modes),
        ext_eth_proto_oper=_extended(oper),
        eth_proto_oper=_legacy(oper),
        data_rate_oper=oper[0].speed // 100 if oper else 0,
        connector_type=CONNECTOR_DA,
        eth_proto_lp_advertise=_extended(port.line_modes) if negotiated else 0,
    )


def _write_ptys(firmware: Firmware, request: PtysReg) -> None:
    extended = bool(request.ext_eth_proto_admin)
    asked = request.ext_eth_proto_admin or request.eth_proto_admin
    known = _extended(LINK_MODES) if extended else _legacy(LINK_MODES)
    if not asked or asked & ~known or (extended and request.eth_proto_admin):
        raise bad_param("the port does not have this speed")
    wanted = frozenset(
        mode.speed for mode in LINK_MODES if asked & (mode.extended if extended else mode.legacy)
    )
    firmware.set_port(
        replace(
            firmware.port,
            wanted=wanted,
            extended=extended,
            an_disabled=request.an_disable_admin,
        )
    )


def _read_paos(firmware: Firmware, _request: PaosReg) -> PaosReg:
    port = firmware.port
    return PaosReg(
        local_port=LOCAL_PORT,
        admin_status=port.admin,
        oper_status=PortStatus.UP if port.up else PortStatus.DOWN,
    )


def _write_paos(firmware: Firmware, request: PaosReg) -> None:
    try:
        status = PortStatus(request.admin_status)
    except ValueError:
        raise bad_param(f"there is no admin_status {request.admin_status}") from None
    firmware.set_port(replace(firmware.port, admin=status))


def _read_pmtu(firmware: Firmware, _request: PmtuReg) -> PmtuReg:
    mtu = firmware.port.mtu
    return PmtuReg(local_port=LOCAL_PORT, max_mtu=MAX_MTU, admin_mtu=mtu, oper_mtu=mtu)


def _write_pmtu(firmware: Firmware, request: PmtuReg) -> None:
    if not 0 < request.admin_mtu <= MAX_MTU:
        raise bad_param(f"an MTU of {request.admin_mtu} is not possible")
    firmware.set_port(replace(firmware.port, mtu=request.admin_mtu))


def _read_pfcc(firmware: Firmware, _request: PfccReg) -> PfccReg:
    port = firmware.port
    return PfccReg(local_port=LOCAL_PORT, pptx=port.pause_tx, pprx=port.pause_rx)


def _write_pfcc(firmware: Firmware, request: PfccReg) -> None:
    if request.pfctx or request.pfcrx:
        raise bad_param("flow control by priority is not offered")
    firmware.set_port(replace(firmware.port, pause_tx=request.pptx, pause_rx=request.pprx))


_FEC_FIELDS = {10_000: "10g_40g", 40_000: "10g_40g", 25_000: "25g", 50_000: "50g", 100_000: "100g"}
"""Part of PPLM by speed."""


def _read_pplm(firmware: Firmware, _request: PplmReg) -> PplmReg:
    chosen, active = dict(firmware.port.fec), firmware.port.active_fec
    fields: dict[str, int] = {}
    for mode in LINK_MODES:
        if part := _FEC_FIELDS.get(mode.speed):
            fields[f"fec_override_cap_{part}"] = sum(1 << fec for fec in mode.fec)
            if mode.speed in chosen:
                fields[f"fec_override_admin_{part}"] = 1 << chosen[mode.speed]
    return PplmReg(
        local_port=LOCAL_PORT, fec_mode_active=0 if active is None else 1 << active, **fields
    )


def _write_pplm(firmware: Firmware, request: PplmReg) -> None:
    chosen: list[tuple[int, FecMode]] = []
    for mode in LINK_MODES:
        part = _FEC_FIELDS.get(mode.speed)
        bits = getattr(request, f"fec_override_admin_{part}") if part else 0
        if not bits:
            continue
        if bits & bits - 1 or bits.bit_length() - 1 not in mode.fec:
            raise bad_param(f"{mode.speed} Mbit/s does not have FEC {bits:#x}")
        chosen.append((mode.speed, FecMode(bits.bit_length() - 1)))
    firmware.set_port(replace(firmware.port, fec=tuple(chosen)))


REGISTERS = (
    Register(RegisterId.PTYS, PtysReg, _read_ptys, _write_ptys),
    Register(RegisterId.PAOS, PaosReg, _read_paos, _write_paos),
    Register(RegisterId.PMTU, PmtuReg, _read_pmtu, _write_pmtu),
    Register(RegisterId.PFCC, PfccReg, _read_pfcc, _write_pfcc),
    Register(RegisterId.PPLM, PplmReg, _read_pplm, _write_pplm),
)
