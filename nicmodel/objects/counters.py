# SPDX-License-Identifier: GPL-2.0-or-later
"""Counters that the data path raises and commands report (VPORT_COUNTER, PPCNT, Q_COUNTER)."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Traffic:
    """Frames and bytes; bytes without FCS."""

    packets: int = 0
    octets: int = 0


@dataclass(slots=True)
class Direction:
    """One direction of the port by class of destination address."""

    unicast: Traffic = field(default_factory=Traffic)
    multicast: Traffic = field(default_factory=Traffic)
    broadcast: Traffic = field(default_factory=Traffic)

    def count(self, destination: bytes | bytearray, packets: int, octets: int) -> None:
        """Count ``packets`` frames with ``octets`` bytes in all, sent to MAC ``destination``."""
        if not destination[0] & 1:
            kind = self.unicast
        elif destination == b"\xff\xff\xff\xff\xff\xff":
            kind = self.broadcast
        else:
            kind = self.multicast
        kind.packets += packets
        kind.octets += octets

    @property
    def packets(self) -> int:
        """All frames."""
        return self.unicast.packets + self.multicast.packets + self.broadcast.packets

    @property
    def octets(self) -> int:
        """All bytes."""
        return self.unicast.octets + self.multicast.octets + self.broadcast.octets


@dataclass(slots=True)
class PortCounters:
    """What the port has seen since the device was reset."""

    rx: Direction = field(default_factory=Direction)
    tx: Direction = field(default_factory=Direction)
    rx_steering_discards: int = 0
    """Frames that no flow table entry wanted."""
    rx_oversize: int = 0
    """Frames longer than the MTU of the port."""
