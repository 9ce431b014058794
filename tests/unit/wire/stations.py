# SPDX-License-Identifier: GPL-2.0-or-later
"""Stations for tests of the wire, and frames for them to send."""

from dataclasses import dataclass, field

import numpy as np

from nicmodel.frame import Frame, Traffic, Train
from nicmodel.trace.tracer import ListSink, Tracer
from nicmodel.wire.fabric import Fabric
from nicmodel.wire.link import Link
from nicmodel.wire.port import Port
from nicmodel.wire.switch import Switch

BROADCAST = b"\xff" * 6


def mac(number: int) -> bytes:
    """A unicast address."""
    return b"\x02" + number.to_bytes(5, "big")


def frame(dst: bytes, src: bytes, payload: bytes = b"", tag: bytes = b"") -> Frame:
    """A frame of an experimental EtherType, padded to the shortest on the wire."""
    return Frame((dst + src + tag + b"\x88\xb5" + payload).ljust(60, b"\0"))


def train(dst: bytes, src: bytes, count: int, width: int = 100, last: int = 80) -> Train:
    """Frames with their number, modulo 256, in each byte of payload."""
    rows = np.zeros((count, width + 4), np.uint8)
    head = np.frombuffer(dst + src + b"\x88\xb5", np.uint8)
    for index, row in enumerate(rows):
        row[:14] = head
        row[14:] = index & 0xFF
    return Train(rows, width, last)


@dataclass
class Clock:
    """A clock that the test turns."""

    now: int = 0

    def __call__(self) -> int:
        return self.now


class Station:
    """Owner of a port that keeps what it got and may answer at once."""

    def __init__(self, name: str, answer: Frame | None = None) -> None:
        self.port = Port(name, self)
        self.got: list[Traffic] = []
        self.carriers: list[bool] = []
        self.depth = 0
        self.deepest = 0
        self._answer = answer

    def receive(self, traffic: Traffic) -> None:
        self.depth += 1
        self.deepest = max(self.deepest, self.depth)
        self.got.append(traffic)
        if self._answer is not None:
            self.port.send(self._answer)
        self.depth -= 1

    def carrier(self, up: bool) -> None:
        self.carriers.append(up)

    def take(self) -> list[Traffic]:
        """What has arrived since the last call."""
        got, self.got = self.got, []
        return got


@dataclass
class Net:
    """A fabric whose events the test sees."""

    sink: ListSink = field(default_factory=ListSink)
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.tracer = Tracer("wire", self.clock, (self.sink,))
        self.fabric = Fabric(self.tracer)

    def pair(self) -> tuple[Station, Station, Link]:
        """Two stations on one cable."""
        a, b = Station("a"), Station("b")
        return a, b, Link(self.fabric, a.port, b.port)

    def star(self, count: int) -> tuple[Switch, list[Station], list[Link]]:
        """Stations around one switch."""
        switch = Switch("sw", self.clock)
        stations = [Station(f"s{index}") for index in range(count)]
        links = [Link(self.fabric, s.port, switch.add_port(s.port.name)) for s in stations]
        return switch, stations, links
