# SPDX-License-Identifier: GPL-2.0-or-later
"""Port: where a NIC, a switch or a host tap meets the wire."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from nicmodel.frame import Traffic


class Endpoint(Protocol):
    """Who owns a port: gets what arrives there.

    Traffic may be shared with other receivers (a switch floods one object to many ports), so a
    receiver never modifies it.
    """

    def receive(self, traffic: Traffic) -> None:
        """Take what has arrived."""

    def carrier(self, up: bool) -> None:
        """The link came up, went down, or has another speed."""


class Line(Protocol):
    """What a port is plugged into."""

    def carry(self, source: "Port", traffic: Traffic) -> None:
        """Take traffic that ``source`` sends towards the other end."""

    def update(self) -> None:
        """A port at one end was enabled or disabled."""


class Way(IntEnum):
    """Direction as the owner of the port sees it."""

    IN = 1
    OUT = 2


class Watcher(Protocol):
    """Sees all that crosses a port; must not modify it."""

    def saw(self, way: Way, traffic: Traffic) -> None:
        """Take note of traffic in direction ``way``."""


@dataclass(slots=True)
class PortCounts:
    """Frames and bytes (no FCS) that crossed the port; ``dropped`` are frames without carrier."""

    sent: int = 0
    sent_octets: int = 0
    received: int = 0
    received_octets: int = 0
    dropped: int = 0


class Port:
    """A named attachment point. ``owner`` gets what arrives and hears of the carrier.

    It has carrier (``up``) when it is connected to a line whose both ends are enabled. ``speed`` is
    that of the line in Mbit/s, None if the line takes any.
    """

    def __init__(self, name: str, owner: Endpoint) -> None:
        self.name = name
        self.counts = PortCounts()
        self.up = False
        self.speed: int | None = None
        self.enabled = True
        self._owner = owner
        self._line: Line | None = None
        self._watchers: tuple[Watcher, ...] = ()

    def connect(self, line: Line) -> None:
        """Plug in; the line tells the carrier. Raises ValueError if something is plugged in."""
        if self._line is not None:
            raise ValueError(f"port {self.name} is connected already")
        self._line = line

    def enable(self, up: bool) -> None:
        """Switch this end on or off (administrative state); both ends' carrier follows."""
        self.enabled = up
        if self._line is not None:
            self._line.update()

    def watch(self, watcher: Watcher) -> None:
        """Let ``watcher`` see all that crosses from now on."""
        self._watchers += (watcher,)

    def send(self, traffic: Traffic) -> None:
        """Called by the owner: put traffic on the line; without carrier it is lost."""
        counts = self.counts
        if not self.up or self._line is None:
            counts.dropped += traffic.count
            return
        counts.sent += traffic.count
        counts.sent_octets += traffic.octets
        for watcher in self._watchers:
            watcher.saw(Way.OUT, traffic)
        self._line.carry(self, traffic)

    def receive(self, traffic: Traffic) -> None:
        """Called by the line: traffic has arrived; lost if the carrier went while in flight."""
        counts = self.counts
        if not self.up:
            counts.dropped += traffic.count
            return
        counts.received += traffic.count
        counts.received_octets += traffic.octets
        for watcher in self._watchers:
            watcher.saw(Way.IN, traffic)
        self._owner.receive(traffic)

    def carrier(self, up: bool) -> None:
        """Called by the line: the carrier is there or gone."""
        if up is not self.up:
            self.up = up
            self._owner.carrier(up)

    def pace(self, speed: int | None) -> None:
        """Called by the line: its speed is ``speed`` Mbit/s from now on; None: it takes any."""
        if speed != self.speed:
            self.speed = speed
            self._owner.carrier(self.up)
