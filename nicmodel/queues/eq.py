# SPDX-License-Identifier: GPL-2.0-or-later
"""Event queues: what raises MSI-X vectors."""

from collections.abc import Callable
from struct import Struct

from nicmodel.errors import DmaFault
from nicmodel.memory import GuestMemory
from nicmodel.objects.queue import EqConfig
from nicmodel.queues.ring import Ring
from nicmodel.spec.eqe import EQE_SIZE
from nicmodel.trace.events import QueueError
from nicmodel.trace.tracer import Tracer

_INDEX = 0xFFFFFF
_BODY = Struct(">xBxB28x28s3x")
"""``spec.eqe.Eqe`` but for its last byte: type, sub_type, data."""
_OWNER_AT = EQE_SIZE - 1


class Eq:
    """One event queue.

    An EQE fires the vector if the queue is armed, and disarms it; arming a queue that has
    unconsumed entries fires at once (``eq.c``; measured: without it the driver hangs in bring-up).
    """

    def __init__(
        self,
        config: EqConfig,
        memory: GuestMemory,
        interrupt: Callable[[int], None],
        tracer: Tracer,
    ) -> None:
        self.config = config
        self.producer = 0
        self.consumer = 0
        self.armed = False
        self._log_size = config.log_size
        self._ring = Ring(memory, config.buffer, config.log_size, EQE_SIZE.bit_length() - 1)
        self._interrupt = interrupt
        self._tracer = tracer

    def post(self, event_type: int, sub_type: int, data: bytes) -> None:
        """Append an EQE with ``data`` (at most 28 bytes). A full or unreachable queue loses it."""
        if (self.producer - self.consumer) & _INDEX >= self._ring.size:
            self._error("overrun: an event is lost")
            return
        try:
            page, at = self._ring.locate(self.producer)
        except DmaFault as fault:
            self._error(str(fault))
            return
        _BODY.pack_into(page, at, event_type, sub_type, data)
        # the owner bit hands the entry over: last
        page[at + _OWNER_AT] = self.producer >> self._log_size & 1
        self.producer = self.producer + 1 & _INDEX
        if self.armed:
            self.armed = False
            self.interrupt()

    def doorbell(self, consumer: int, *, arm: bool) -> None:
        """The driver has consumed up to ``consumer`` (24 bit) and may want the next event."""
        self.consumer = consumer
        if not arm:
            return
        if consumer != self.producer:
            self.armed = False
            self.interrupt()
        else:
            self.armed = True

    def interrupt(self) -> None:
        """Raise the vector."""
        self._interrupt(self.config.vector)

    def _error(self, reason: str) -> None:
        self._tracer.emit(QueueError("EQ", self.config.eqn, self.producer, reason))
