# SPDX-License-Identifier: GPL-2.0-or-later
"""The port and the vport behind it, as firmware remembers them."""

from dataclasses import dataclass
from enum import IntEnum

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


@dataclass(frozen=True, slots=True)
class PortState:
    """``admin``: what the driver wants (PAOS); ``carrier``: the wire's link. ``mtu`` in bytes."""

    admin: PortStatus = PortStatus.UP
    carrier: bool = True
    mtu: int = DEFAULT_MTU

    @property
    def up(self) -> bool:
        """Does the port carry traffic?"""
        return self.carrier and self.admin is PortStatus.UP

    @property
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
