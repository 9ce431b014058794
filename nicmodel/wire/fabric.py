# SPDX-License-Identifier: GPL-2.0-or-later
"""Fabric: what is in flight between ports, delivered in order and without recursion."""

from collections import deque

from nicmodel.frame import Traffic
from nicmodel.trace.tracer import Tracer
from nicmodel.wire.events import FrameLoop
from nicmodel.wire.port import Port

HOP_LIMIT = 16
"""Links that traffic may cross; IEEE 802.1D recommends at most 7 bridges in a row."""

PENDING_LIMIT = 1024
"""Deliveries that may wait; one flooding needs as many as the switch has ports."""


class Fabric:
    """All deliveries of one network go through here, first in, first out.

    What a receiver sends while it receives waits until it has returned, so the stack does not grow
    with the network, and it inherits the hop count of what it was receiving, so a loop of switches
    ends: at most ``HOP_LIMIT * PENDING_LIMIT`` deliveries follow one frame.
    """

    def __init__(self, tracer: Tracer) -> None:
        self.looped = 0
        """Frames dropped by the limits."""
        self.hops = 0
        """Links crossed by the traffic being received now; 0 outside of a delivery."""
        self._tracer = tracer
        self._pending: deque[tuple[Port, Traffic, int]] = deque()
        self._delivering = False

    def deliver(self, port: Port, traffic: Traffic, hops: int | None = None) -> None:
        """Let ``port`` receive, before this returns or, inside a delivery, right after it.

        A link that holds traffic back notes ``self.hops`` when it takes it and passes that here.
        """
        hops = (self.hops if hops is None else hops) + 1
        if hops > HOP_LIMIT or len(self._pending) >= PENDING_LIMIT:
            if not self.looped:
                self._tracer.emit(FrameLoop(port.name))
            self.looped += traffic.count
            return
        self._pending.append((port, traffic, hops))
        if self._delivering:
            return
        self._delivering = True
        try:
            while self._pending:
                port, traffic, self.hops = self._pending.popleft()
                port.receive(traffic)
        finally:
            self.hops = 0
            self._delivering = False
