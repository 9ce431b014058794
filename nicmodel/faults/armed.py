# SPDX-License-Identifier: GPL-2.0-or-later
"""A fault in a NIC: when it fires."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from nicmodel.faults.catalogue import EVER, Fault
from nicmodel.faults.events import FaultInjected
from nicmodel.queues.cq import Cq
from nicmodel.trace.tracer import Tracer


@dataclass(slots=True)
class Held:
    """CQEs that wait, in order, and what writes one."""

    post: Callable[[bytes], None]
    cqes: list[bytes]


class Armed:
    """A fault with its number, its own random numbers and its count.

    ``spent`` is called when it has fired for the last time.
    """

    def __init__(
        self, number: int, fault: Fault, random: Random, tracer: Tracer, spent: Callable[[], None]
    ) -> None:
        self.number = number
        self.fault = fault
        self.fired = 0
        self.late: dict[Cq, Held] = {}
        """Completions that wait because of it."""
        self.slots: set[int] = set()
        """Slots whose commands wait because of it."""
        self._left = fault.after
        self._random = random
        self._tracer = tracer
        self._spent = spent

    @property
    def over(self) -> bool:
        """Will it never fire again?"""
        return self.fault.count != EVER and self.fired >= self.fault.count

    @property
    def done(self) -> bool:
        """Is there nothing more to expect of it?"""
        return self.over and not self.late and not self.slots

    def release(self, cq: Cq) -> None:
        """Write the CQEs that wait in ``cq``."""
        if held := self.late.pop(cq, None):
            for cqe in held.cqes:
                held.post(cqe)
        if self.done:
            self._spent()

    def take(self, slot: int) -> bool:
        """Does the command in ``slot`` wait? It is served now."""
        if slot not in self.slots:
            return False
        self.slots.remove(slot)
        if self.done:
            self._spent()
        return True

    def fires(self, what: str) -> bool:
        """Here is an occasion: does it fire? ``what`` says for a person what happens then."""
        fault = self.fault
        if self.over:
            return False
        if self._left:
            self._left -= 1
            return False
        if fault.probability < 1 and self._random.random() >= fault.probability:
            return False
        self.fired += 1
        self._tracer.emit(FaultInjected(self.number, fault.KIND, self.fired, what))
        if self.done:
            self._spent()
        return True
