# SPDX-License-Identifier: GPL-2.0-or-later
"""Link: a cable between two ports, without delay or loss."""

from nicmodel.frame import Traffic
from nicmodel.wire.fabric import Fabric
from nicmodel.wire.port import Port


class Link:
    """An ideal cable between ports ``a`` and ``b``: full duplex, in order, no delay.

    A link that impairs what it carries derives from this and replaces ``carry``. The carrier is up
    while the cable is plugged in and both ports are enabled.
    """

    def __init__(self, fabric: Fabric, a: Port, b: Port) -> None:
        self._fabric = fabric
        self._a = a
        self._b = b
        self._plugged = True
        a.connect(self)
        b.connect(self)
        self.update()

    @property
    def up(self) -> bool:
        """Is there a carrier?"""
        return self._plugged and self._a.enabled and self._b.enabled

    def plug(self, plugged: bool) -> None:
        """Pull the cable, or plug it in again."""
        self._plugged = plugged
        self.update()

    def update(self) -> None:
        """See ``Line.update``."""
        self._a.carrier(self.up)
        self._b.carrier(self.up)

    def carry(self, source: Port, traffic: Traffic) -> None:
        """See ``Line.carry``."""
        self._fabric.deliver(self.far(source), traffic)

    def far(self, port: Port) -> Port:
        """The other end."""
        return self._b if port is self._a else self._a
