# SPDX-License-Identifier: GPL-2.0-or-later
"""Counters that the data path raises and commands report (VPORT_COUNTER, PPCNT, VNIC_ENV)."""

from bisect import bisect_left
from dataclasses import dataclass, field

from nicmodel.frame import Traffic as WireTraffic
from nicmodel.frame import Train
from nicmodel.objects.port import FCS

PRIORITIES = 8

SIZES = (64, 127, 255, 511, 1023, 1518, 2047, 4095, 8191, 10239)
"""Longest frame of each class of RFC 2819 as PPCNT has them, bytes with FCS."""

_LONGEST = SIZES[-1] - FCS
_CLASS = bytes(bisect_left(SIZES, length + FCS) for length in range(_LONGEST + 1))
"""Class of size by length without FCS."""

_BROADCAST = b"\xff\xff\xff\xff\xff\xff"
_TCI = 14
"""Offset of the tag's priority."""

_TAGS = (b"\x81\x00", b"\x88\xa8")


@dataclass(slots=True)
class Traffic:
    """Frames and bytes; bytes without FCS."""

    packets: int = 0
    octets: int = 0

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(self.packets + other.packets, self.octets + other.octets)

    def __sub__(self, other: "Traffic") -> "Traffic":
        return Traffic(self.packets - other.packets, self.octets - other.octets)


@dataclass(slots=True)
class Direction:
    """Traffic in one direction by class of destination address."""

    unicast: Traffic = field(default_factory=Traffic)
    multicast: Traffic = field(default_factory=Traffic)
    broadcast: Traffic = field(default_factory=Traffic)

    def count(self, destination: bytes | bytearray, packets: int, octets: int) -> None:
        """Count ``packets`` frames with ``octets`` bytes in all, sent to MAC ``destination``."""
        if not destination[0] & 1:
            kind = self.unicast
        elif destination == _BROADCAST:
            kind = self.broadcast
        else:
            kind = self.multicast
        kind.packets += packets
        kind.octets += octets

    @property
    def total(self) -> Traffic:
        """All of it."""
        return self.unicast + self.multicast + self.broadcast

    def __add__(self, other: "Direction") -> "Direction":
        return Direction(
            self.unicast + other.unicast,
            self.multicast + other.multicast,
            self.broadcast + other.broadcast,
        )

    def __sub__(self, other: "Direction") -> "Direction":
        return Direction(
            self.unicast - other.unicast,
            self.multicast - other.multicast,
            self.broadcast - other.broadcast,
        )


@dataclass(slots=True)
class WireDirection:
    """What crossed the port in one direction.

    ``tagged``: frames with a VLAN tag by the priority in it; ``sizes``: frames by ``SIZES``, which
    hardware reports of what it receives only.
    """

    by_class: Direction = field(default_factory=Direction)
    tagged: list[Traffic] = field(default_factory=lambda: [Traffic() for _ in range(PRIORITIES)])
    sizes: list[int] = field(default_factory=lambda: [0] * len(SIZES))

    def count(self, head: bytes | bytearray, traffic: WireTraffic) -> None:
        """Count traffic that begins with ``head`` by class and priority."""
        packets, octets = traffic.count, traffic.octets
        if head[0] & 1:
            self.by_class.count(head[:6], packets, octets)
        else:
            unicast = self.by_class.unicast
            unicast.packets += packets
            unicast.octets += octets
        if head[12:14] in _TAGS and len(head) > _TCI:
            priority = self.tagged[head[_TCI] >> 5]
            priority.packets += packets
            priority.octets += octets

    def measure(self, traffic: WireTraffic) -> None:
        """Count traffic by size; longer frames than there are classes count as the longest."""
        sizes = self.sizes
        if isinstance(traffic, Train):
            sizes[_CLASS[min(traffic.width, _LONGEST)]] += traffic.count - len(traffic.shorter)
            for _, length in traffic.shorter:
                sizes[_CLASS[min(length, _LONGEST)]] += 1
        else:
            sizes[_CLASS[min(traffic.length, _LONGEST)]] += 1

    def priority(self, number: int) -> Traffic:
        """Traffic of one priority; what has no tag has priority 0."""
        own = self.tagged[number]
        if number:
            return own
        return self.by_class.total - sum(self.tagged, Traffic()) + own


@dataclass(slots=True)
class PortCounters:
    """What port and vport have seen since the device was reset.

    ``rx`` and ``tx`` crossed the port. ``filtered`` arrived and did not reach the vport; ``looped``
    went from the vport to itself and did not cross the port.
    """

    rx: WireDirection = field(default_factory=WireDirection)
    tx: WireDirection = field(default_factory=WireDirection)
    filtered: Direction = field(default_factory=Direction)
    looped: Direction = field(default_factory=Direction)
    rx_steering_discards: int = 0
    """Frames that no flow table entry wanted."""
    rx_oversize: int = 0
    """Frames longer than the MTU of the port."""
    tx_discards: int = 0
    """Frames sent while the port was down."""
    rx_control: int = 0
    """MAC control frames."""
    rx_pause: int = 0
    """MAC control frames that ask for a pause."""
    link_downs: int = 0
    """How often the port went down."""

    @property
    def vport_rx(self) -> Direction:
        """What the vport received."""
        return self.rx.by_class - self.filtered + self.looped

    @property
    def vport_tx(self) -> Direction:
        """What the vport sent."""
        return self.tx.by_class + self.looped
