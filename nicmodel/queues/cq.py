# SPDX-License-Identifier: GPL-2.0-or-later
"""Completion queues."""

from collections.abc import Callable

from nicmodel.errors import DmaFault
from nicmodel.memory import GuestMemory
from nicmodel.objects.queue import CqConfig
from nicmodel.queues.eq import Eq
from nicmodel.queues.ring import Ring
from nicmodel.spec.cqe import CQE_SIZE
from nicmodel.spec.eqe import CqErrorSyndrome, EqeComp, EqeCqErr, EventType
from nicmodel.trace.events import QueueError
from nicmodel.trace.tracer import Tracer

_INDEX = 0xFFFFFF
_LAST = CQE_SIZE - 1


class Cq:
    """One completion queue.

    Arming: ``arm(ci)`` with ``ci`` equal to the producer waits for the next CQE, with any other
    ``ci`` fires at once; firing posts one COMP event and disarms (``cq.h`` mlx5_cq_arm; measured).
    ``pending`` is told when an armed queue has something to report, and again when it has as much
    as moderation waits for; ``fire`` reports it.
    """

    def __init__(
        self,
        config: CqConfig,
        memory: GuestMemory,
        eq: Eq,
        error_event: Callable[[int, int, bytes], None],
        pending: Callable[["Cq"], None],
        tracer: Tracer,
    ) -> None:
        self.config = config
        self.producer = 0
        self.armed = False
        self.broken = False
        self.unreported = 0
        self._ring = Ring(memory, config.buffer, config.log_size, CQE_SIZE.bit_length() - 1)
        self._memory = memory
        self._eq = eq
        self._error_event = error_event
        self._pending = pending
        self._tracer = tracer
        self._consumer = 0
        self._log_size = config.log_size
        self._comp = EqeComp(cqn=config.cqn).encode()

    def post(self, cqe: bytes | bytearray) -> None:
        """Append a CQE of 64 bytes; its owner bit is set here. A broken queue takes nothing."""
        if self.broken:
            return
        producer = self.producer
        if (producer - self._consumer) & _INDEX >= self._ring.size and not self._refresh():
            return
        try:
            page, at = self._ring.locate(producer)
        except DmaFault as fault:
            self._break(CqErrorSyndrome.ACCESS, str(fault))
            return
        page[at : at + _LAST] = cqe[:_LAST]
        page[at + _LAST] = cqe[_LAST] & 0xFE | producer >> self._log_size & 1
        self.producer = producer + 1 & _INDEX
        if self.armed:
            self._posted(1)
        else:
            self.unreported += 1

    def post_many(self, cqes: bytearray) -> None:
        """``post`` CQEs of one opcode that lie one after the other."""
        done, number, size = 0, len(cqes) // CQE_SIZE, self._ring.size
        left = memoryview(cqes)
        for _ in range(number):  # each time one at least
            if done == number or self.broken:
                return
            producer = self.producer
            room = size - (producer - self._consumer & _INDEX)
            if room < number - done:
                if not self._refresh():
                    return
                # an overrun that is ignored leaves no room either
                room = max(1, size - (producer - self._consumer & _INDEX))
            try:
                page, at = self._ring.locate(producer)
            except DmaFault as fault:
                self._break(CqErrorSyndrome.ACCESS, str(fault))
                return
            count = min(room, number - done, (len(page) - at) // CQE_SIZE)
            octets = count * CQE_SIZE
            last = left[_LAST] & 0xFE | producer >> self._log_size & 1
            left[_LAST:octets:CQE_SIZE] = bytes((last ^ 1,)) * count
            page[at : at + octets] = left[:octets]
            # the driver's only now that the rest is there
            page[at + _LAST : at + octets : CQE_SIZE] = bytes((last,)) * count
            left = left[octets:]
            done += count
            self.producer = producer + count & _INDEX
            self._posted(count)

    def _posted(self, count: int) -> None:
        """``count`` CQEs more to report."""
        before, self.unreported = self.unreported, self.unreported + count
        if self.armed and (not before or before < self.config.max_count <= self.unreported):
            self._pending(self)

    def arm(self, consumer: int) -> None:
        """The driver has seen CQEs up to ``consumer`` (24 bit) and wants an event for the next."""
        self.armed = True
        if consumer != self.producer:
            self.fire()
        else:
            self.unreported = 0

    def fire(self) -> None:
        """Post the COMP event if the queue is armed."""
        if self.armed and not self.broken:
            self.armed = False
            self.unreported = 0
            self._eq.post(EventType.COMP, 0, self._comp)

    @property
    def first_unreported(self) -> int:
        """Index of the CQE that began the moderation period."""
        return (self.producer - self.unreported) & _INDEX

    def expire(self, first: int) -> None:
        """The moderation period that CQE ``first`` began is over; it may have ended earlier."""
        if self.unreported and first == self.first_unreported:
            self.fire()

    def _refresh(self) -> bool:
        """Read the consumer index from the doorbell record; false if the queue is full."""
        try:
            self._consumer = self._memory.load_be32(self.config.dbr_addr) & _INDEX
        except DmaFault as fault:
            self._break(CqErrorSyndrome.ACCESS, str(fault))
            return False
        if (self.producer - self._consumer) & _INDEX >= self._ring.size:
            if self.config.overrun_ignore:
                return True
            self._break(CqErrorSyndrome.OVERRUN, "overrun: a completion had no room")
            return False
        return True

    def _break(self, syndrome: CqErrorSyndrome, reason: str) -> None:
        self.broken = True
        self._tracer.emit(QueueError("CQ", self.config.cqn, self.producer, reason))
        data = EqeCqErr(cqn=self.config.cqn, syndrome=syndrome).encode()
        self._error_event(EventType.CQ_ERROR, 0, data)
