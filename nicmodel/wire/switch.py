# SPDX-License-Identifier: GPL-2.0-or-later
"""Switch: learns where MAC addresses are, per VLAN, and floods what it does not know.

It does what an unmanaged IEEE 802.1Q bridge does whose every port is a member of every VLAN:

* tagged frames pass unchanged; addresses are learned per VLAN (independent learning, 802.1Q 8.8.8),
  an untagged frame and one with a priority tag (VID 0) belong to VLAN 0;
* multicast, broadcast and unknown destinations go to every other port; nothing goes back to where
  it came from;
* 01:80:c2:00:00:00 to 0f (pause, LACP, LLDP, spanning tree) concern the link they are on and are
  not forwarded (802.1Q table 8-1); the switch speaks none of these protocols itself;
* a group address as source is not learned; the frame is forwarded, for the wire is there to show
  what was sent.
"""

from collections import OrderedDict
from dataclasses import dataclass

from nicmodel.frame import Traffic
from nicmodel.trace.tracer import Clock
from nicmodel.wire.port import Port

AGEING_NS = 300 * 10**9
"""An address that has been silent for so long is forgotten (802.1Q table 8-6, recommended)."""

ADDRESSES_PER_PORT = 1024
"""A port that shows more addresses loses its own oldest, never those of other ports."""

_RESERVED = bytes.fromhex("0180c20000")
_C_TAG = b"\x81\x00"
_S_TAG = b"\x88\xa8"
_S_VLAN = 0x1000
"""Tells service VLANs from customer VLANs of the same number in the key."""

Key = tuple[int, bytes]
"""VLAN and MAC address."""


@dataclass(slots=True)
class SwitchCounts:
    """Frames by what became of them."""

    forwarded: int = 0
    flooded: int = 0
    filtered: int = 0
    """The destination is where the frame came from."""
    reserved: int = 0
    malformed: int = 0
    """Too short for its Ethernet header or VLAN tag."""


class SwitchPort:
    """One port of a switch, as the owner of ``port``."""

    def __init__(self, switch: "Switch", name: str) -> None:
        self.port = Port(name, self)
        self.addresses: OrderedDict[Key, None] = OrderedDict()
        """What was learned here, oldest first."""
        self._switch = switch

    def receive(self, traffic: Traffic) -> None:
        """See ``Endpoint.receive``."""
        self._switch.forward(self, traffic)

    def carrier(self, up: bool) -> None:
        """See ``Endpoint.carrier``."""
        if not up:
            self._switch.forget(self)


@dataclass(slots=True)
class _Place:
    """Where an address is; ``seen`` is the time of the last frame from there, ns."""

    port: SwitchPort
    seen: int


class Switch:
    """A learning switch. ``clock`` gives monotonic ns and ages the addresses."""

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self.counts = SwitchCounts()
        self._clock = clock
        self._ports: list[SwitchPort] = []
        self._places: dict[Key, _Place] = {}

    def add_port(self, name: str) -> Port:
        """Add a port, to be linked to something."""
        added = SwitchPort(self, f"{self.name}.{name}")
        self._ports.append(added)
        return added.port

    def forward(self, ingress: SwitchPort, traffic: Traffic) -> None:
        """Learn from and pass on what arrived at ``ingress``; a train goes by its head."""
        head = traffic.head
        vlan = _vlan(head)
        if vlan is None:
            self.counts.malformed += traffic.count
            return
        now = self._clock()
        if not head[6] & 1:
            self._learn(ingress, (vlan, bytes(head[6:12])), now)
        if not head[0] & 1:
            place = self._places.get((vlan, bytes(head[0:6])))
            if place is not None and now - place.seen <= AGEING_NS:
                if place.port is ingress:
                    self.counts.filtered += traffic.count
                else:
                    self.counts.forwarded += traffic.count
                    place.port.port.send(traffic)
                return
        elif head[0:5] == _RESERVED and head[5] <= 0x0F:
            self.counts.reserved += traffic.count
            return
        self.counts.flooded += traffic.count
        for egress in self._ports:
            if egress is not ingress and egress.port.up:
                egress.port.send(traffic)

    def forget(self, port: SwitchPort) -> None:
        """Forget all addresses learned at ``port``."""
        for key in port.addresses:
            del self._places[key]
        port.addresses.clear()

    def known(self) -> int:
        """Number of addresses that the switch remembers."""
        return len(self._places)

    def _learn(self, ingress: SwitchPort, key: Key, now: int) -> None:
        place = self._places.get(key)
        if place is not None and place.port is ingress:
            place.seen = now
            ingress.addresses.move_to_end(key)
            return
        if place is not None:
            del place.port.addresses[key]
        if len(ingress.addresses) >= ADDRESSES_PER_PORT:
            oldest, _ = ingress.addresses.popitem(last=False)
            del self._places[oldest]
        self._places[key] = _Place(ingress, now)
        ingress.addresses[key] = None


def _vlan(head: bytes | bytearray) -> int | None:
    """VLAN of a frame by its outer tag, 0 if untagged; None if the header is not complete."""
    if len(head) < 14:
        return None
    tag = head[12:14]
    if tag not in (_C_TAG, _S_TAG):
        return 0
    if len(head) < 18:
        return None
    vid = (head[14] << 8 | head[15]) & 0xFFF
    return vid | _S_VLAN if vid and tag == _S_TAG else vid
