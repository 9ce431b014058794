# SPDX-License-Identifier: GPL-2.0-or-later
"""The port and the vport behind it, as firmware remembers them."""

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

MAX_MTU = 9978
"""``pmtu_reg.max_mtu``: longest frame that the port takes, bytes, with Ethernet header and FCS."""

DEFAULT_MTU = 1522
"""MTU after reset; the driver asks for 1522 when Linux says 1500 (``en.h`` MLX5E_SW2HW_MTU)."""


FCS = 4
"""Frame check sequence, bytes: the MTU of the port counts it, frames of the model have none."""


class PortStatus(IntEnum):
    """``paos_reg.admin_status`` and ``oper_status``."""

    UP = 1
    """Wanted up, or carrying traffic."""
    DOWN = 2
    """Wanted down, or not carrying traffic."""


class FecMode(IntEnum):
    """Forward error correction; the bit number in PPLM (``en/port.h`` MLX5E_FEC_*)."""

    NOFEC = 0
    """None."""
    FIRECODE = 1
    """Firecode, "BaseR" of ethtool."""
    RS_528_514 = 2
    """Reed-Solomon."""


@dataclass(frozen=True, slots=True)
class LinkMode:
    """What the port can speak: ``speed`` in Mbit/s.

    ``legacy`` and ``extended``: bits of PTYS' two tables (``port.h`` mlx5e_link_mode and
    mlx5e_ext_link_mode); ``fec``: what it may use, ``usual_fec`` unless asked for another.
    """

    speed: int
    legacy: int
    extended: int
    fec: tuple[FecMode, ...] = (FecMode.NOFEC,)
    usual_fec: FecMode = FecMode.NOFEC


_OLD_FEC = (FecMode.NOFEC, FecMode.FIRECODE)
_ANY_FEC = (*_OLD_FEC, FecMode.RS_528_514)
_RS_FEC = (FecMode.NOFEC, FecMode.RS_528_514)

LINK_MODES = (
    LinkMode(1_000, legacy=1 << 0, extended=1 << 1),
    LinkMode(10_000, legacy=1 << 12, extended=1 << 4, fec=_OLD_FEC),
    LinkMode(25_000, legacy=1 << 27, extended=1 << 6, fec=_ANY_FEC, usual_fec=_ANY_FEC[2]),
    LinkMode(40_000, legacy=1 << 6, extended=1 << 5, fec=_OLD_FEC),
    LinkMode(50_000, legacy=1 << 30, extended=1 << 7, fec=_ANY_FEC, usual_fec=_ANY_FEC[2]),
    LinkMode(100_000, legacy=1 << 20, extended=1 << 9, fec=_RS_FEC, usual_fec=_RS_FEC[1]),
)
"""Modes of a 100 Gbit/s card with a direct-attach cable, slowest first; *assumption*."""


@dataclass(frozen=True)
class PortState:
    """The port. ``mtu`` in bytes, with Ethernet header and FCS.

    ``admin``: what the driver wants (PAOS); ``carrier`` and ``line_speed``: the wire's link and the
    Mbit/s of it, None if it takes any. ``wanted``: the speeds that the driver wants (PTYS), empty
    for all; ``extended``: it said so in the extended table; ``an_disabled``: without negotiation.
    ``fec``: the mode wanted, by speed (PPLM). ``pause_rx``, ``pause_tx``: PFCC.
    """

    admin: PortStatus = PortStatus.UP
    carrier: bool = True
    mtu: int = DEFAULT_MTU
    line_speed: int | None = None
    wanted: frozenset[int] = frozenset()
    extended: bool = True
    an_disabled: bool = False
    fec: tuple[tuple[int, FecMode], ...] = ()
    pause_rx: bool = True
    pause_tx: bool = True

    @property
    def modes(self) -> tuple[LinkMode, ...]:
        """The modes that the driver wants."""
        return tuple(mode for mode in LINK_MODES if not self.wanted or mode.speed in self.wanted)

    @property
    def line_modes(self) -> tuple[LinkMode, ...]:
        """The modes of the line: one, the slowest that it fits into, if it has a speed."""
        if self.line_speed is None or self.line_speed > LINK_MODES[-1].speed:
            return LINK_MODES
        return tuple(mode for mode in LINK_MODES if mode.speed >= self.line_speed)[:1]

    @cached_property
    def agreed(self) -> LinkMode | None:
        """The fastest mode that driver and line agree on."""
        fit = [mode for mode in self.modes if mode in self.line_modes]
        return fit[-1] if fit else None

    @property
    def mode(self) -> LinkMode | None:
        """The mode in use."""
        return self.agreed if self.up else None

    @property
    def active_fec(self) -> FecMode | None:
        """Forward error correction in use."""
        mode = self.mode
        return dict(self.fec).get(mode.speed, mode.usual_fec) if mode else None

    @cached_property
    def up(self) -> bool:
        """Does the port carry traffic?"""
        return self.carrier and self.admin is PortStatus.UP and self.agreed is not None

    @cached_property
    def longest(self) -> int:
        """Longest frame that the port takes from the wire, bytes without FCS."""
        return self.mtu - FCS


class AllowedList(IntEnum):
    """``allowed_list_type`` of the vport context (MLX5_NVPRT_LIST_TYPE_*)."""

    UC = 0x0
    """Unicast addresses."""
    MC = 0x1
    """Multicast addresses."""
    VLAN = 0x2
    """VLANs."""


@dataclass(frozen=True, slots=True)
class Vport:
    """What the driver has told about its vport. Addresses are 6 bytes."""

    mac: bytes
    mtu: int = DEFAULT_MTU
    promisc_uc: bool = False
    promisc_mc: bool = False
    promisc_all: bool = False
    uc: tuple[bytes, ...] = ()
    mc: tuple[bytes, ...] = ()
    vlans: tuple[int, ...] = ()


class L2Table:
    """The filter by MAC before the vport (multi-physical-function switch, ``lib/mpfs.c``).

    ``entries``: MAC of 6 bytes by index; ``own``: the same as a set. ``promiscuous``: the vport
    wants what no entry wants.
    """

    def __init__(self) -> None:
        self.entries: dict[int, bytes] = {}
        self.own: frozenset[bytes] = frozenset()
        self.promiscuous = False

    def put(self, index: int, mac: bytes | None) -> bytes | None:
        """Write the entry at ``index``, None to remove it; returns what was there."""
        before = self.entries.pop(index, None)
        if mac is not None:
            self.entries[index] = mac
        self.own = frozenset(self.entries.values())
        return before

    def clear(self) -> None:
        """Forget everything."""
        self.entries.clear()
        self.own = frozenset()
        self.promiscuous = False
