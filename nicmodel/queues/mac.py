# SPDX-License-Identifier: GPL-2.0-or-later
"""Between wire and vport: what the port takes, counts, filters, and sends back (``lib/mpfs.c``)."""

from collections.abc import Callable
from typing import Protocol

from nicmodel.frame import Frame, Traffic
from nicmodel.objects.counters import PortCounters
from nicmodel.objects.port import L2Table, PortState

_HEADER = 14
"""Bytes of an Ethernet header; what is shorter is no frame."""

_MAC_CONTROL = b"\x88\x08"
_PAUSE = b"\x00\x01"


class Deliver(Protocol):
    """Takes what the vport receives."""

    def __call__(self, traffic: Traffic, *, looped: bool) -> None:
        """``looped``: the vport sent it itself."""


class Mac:
    """The port's MAC and the filter behind it.

    ``port`` gives the port's state; ``egress`` puts traffic on the wire.
    """

    def __init__(
        self,
        table: L2Table,
        counters: PortCounters,
        port: Callable[[], PortState],
        egress: Callable[[Traffic], None],
        deliver: Deliver,
    ) -> None:
        self._table = table
        self._counters = counters
        self._port = port
        self._egress = egress
        self._deliver = deliver

    def transmit(self, traffic: Traffic) -> None:
        """Take traffic of the vport: to the wire, or back if it is for the vport itself."""
        head, counters = _head(traffic), self._counters
        if bytes(head[:6]) in self._table.own:
            counters.looped.count(head[:6], traffic.count, traffic.octets)
            self._deliver(traffic, looped=True)
        elif self._port().up:
            counters.tx.count(head, traffic)
            self._egress(traffic)
        else:
            counters.tx_discards += traffic.count

    def receive(self, traffic: Traffic) -> None:
        """Take traffic of one flow from the wire.

        It is lost while the port is down, frames beyond the MTU always; MAC control frames end
        here, and unicast that neither the table nor a promiscuous vport wants.
        """
        port, counters = self._port(), self._counters
        if not port.up:
            return
        if traffic.length > port.longest:
            # of a train the last frame may be short enough
            fitting = [one for one in traffic.frames() if one.length <= port.longest]
            counters.rx_oversize += traffic.count - len(fitting)
            for one in fitting:
                self.receive(one)
            return
        head = _head(traffic)
        if len(head) < _HEADER:
            return
        counters.rx.count(head, traffic)
        counters.rx.measure(traffic)
        if head[12:14] == _MAC_CONTROL:
            counters.rx_control += traffic.count
            counters.rx_pause += traffic.count if head[14:16] == _PAUSE else 0
        elif head[0] & 1 or bytes(head[:6]) in self._table.own or self._table.promiscuous:
            self._deliver(traffic, looped=False)
            return
        counters.filtered.count(head[:6], traffic.count, traffic.octets)


def _head(traffic: Traffic) -> bytes | bytearray:
    """At least the leading bytes; those of a frame without a copy."""
    return traffic.data if isinstance(traffic, Frame) else traffic.head
