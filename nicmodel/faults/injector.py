# SPDX-License-Identifier: GPL-2.0-or-later
"""The faults of one NIC: added and removed at any time, kept over the device's lives."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from nicmodel.clock import Scheduler
from nicmodel.command.interface import CommandInterface
from nicmodel.errors import UserError
from nicmodel.faults.armed import Armed
from nicmodel.faults.catalogue import Fault
from nicmodel.faults.hooks import Part, free, hook
from nicmodel.objects.store import Objects
from nicmodel.pci.init_segment import InitSegment
from nicmodel.queues.datapath import Datapath
from nicmodel.trace.tracer import Tracer


@dataclass(frozen=True, slots=True)
class Reach:
    """What faults can be for in one life of the device."""

    datapath: Datapath
    objects: Objects
    commands: CommandInterface
    init_segment: InitSegment

    def parts(self) -> Iterator[Part]:
        """Every part, completion queues before those that complete there."""
        yield self.commands
        yield self.init_segment
        yield from self.objects.tables()
        yield from self.datapath.queues()


class Injector:
    """``nic.faults``: ``add`` puts a fault in place at once, whatever the device does.

    A fault draws its random numbers from ``seed``, the NIC's name and its own number, so that a run
    with the same faults replays.
    """

    def __init__(self, nic: str, seed: int, scheduler: Scheduler, tracer: Tracer) -> None:
        self._name = nic
        self._seed = seed
        self._scheduler = scheduler
        self._tracer = tracer
        self._armed: dict[int, Armed] = {}
        self._added = 0
        self._reach: Reach | None = None

    def __iter__(self) -> Iterator[Armed]:
        return iter(self._armed.values())

    def add(self, fault: Fault) -> int:
        """Put ``fault`` in place; return its number, which ``remove`` takes."""
        self._added += 1
        number = self._added
        random = Random(f"{self._seed}/fault/{self._name}/{number}")
        self._armed[number] = Armed(number, fault, random, self._tracer, self._settle_soon)
        self._settle()
        return number

    def remove(self, number: int) -> None:
        """Take a fault away; completions that are late because of it come now. UserError if not."""
        armed = self._armed.pop(number, None)
        if armed is None:
            raise UserError(f"NIC {self._name} has no fault {number}; it may be over")
        for cq in tuple(armed.late):
            armed.release(cq)
        if self._reach is not None:
            self._reach.datapath.report()
        self._settle()

    def begin(self, reach: Reach) -> None:
        """A life of the device begins."""
        self._reach = reach
        self._settle()

    def end(self) -> None:
        """The life is over: what was late in it will not come."""
        self._reach = None
        for armed in self._armed.values():
            armed.late.clear()
            armed.slots.clear()

    def _settle_soon(self) -> None:
        """A fault may be over; the part that says so is in the middle of its work."""
        self._scheduler.call_soon(self._settle)

    def _settle(self) -> None:
        """Forget the faults that are over, and hook every part anew."""
        self._armed = {n: armed for n, armed in self._armed.items() if not armed.done}
        reach = self._reach
        if reach is None:
            return
        reach.datapath.created = self._hook if self._armed else _leave_alone
        for part in reach.parts():
            free(part)
        for part in reach.parts() if self._armed else ():
            self._hook(part)

    def _hook(self, part: Part) -> None:
        assert self._reach is not None
        hook(part, list(self._armed.values()), self._reach.datapath, self._scheduler)


def _leave_alone(_part: Part) -> None:
    """No fault is for what was created."""
