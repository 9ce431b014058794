# SPDX-License-Identifier: GPL-2.0-or-later
"""The catalogue of events."""

from dataclasses import dataclass
from typing import ClassVar

from nicmodel.trace.tracer import Event, Severity


@dataclass(frozen=True, slots=True)
class FrontendAttached(Event):
    """A front-end has finished its handshake."""

    regions: int

    def sentence(self) -> str:
        """See ``Event.sentence``."""
        return f"a front-end is attached, guest memory has {self.regions} regions"


@dataclass(frozen=True, slots=True)
class FrontendDetached(Event):
    """The front-end is gone; DMA has stopped."""

    reason: str

    def sentence(self) -> str:
        """See ``Event.sentence``."""
        return f"the front-end is gone: {self.reason}"


@dataclass(frozen=True, slots=True)
class FrontendKeptWaiting(Event):
    """A front-end wants to connect, and this process has no room for it."""

    severity: ClassVar[Severity] = Severity.GUEST_FAULT
    reason: str

    def sentence(self) -> str:
        """See ``Event.sentence``."""
        return f"a front-end has to wait: {self.reason}"


@dataclass(frozen=True, slots=True)
class DeviceReset(Event):
    """PCI reset, FLR or a new firmware life: every object is forgotten."""

    cause: str

    def sentence(self) -> str:
        """See ``Event.sentence``."""
        return f"device reset: {self.cause}"


@dataclass(frozen=True, slots=True)
class CommandDone(Event):
    """A command was executed; ``status`` 0 is OK."""

    opcode: str
    op_mod: int
    status: str
    syndrome: int

    def sentence(self) -> str:
        """See ``Event.sentence``."""
        return f"{self.opcode} op_mod {self.op_mod:#x}: {self.status}"


@dataclass(frozen=True, slots=True)
class RunBegan(Event):
    """A NIC process begins; ``epoch`` is the time of this event as captures have it.

    That is in ns since 1970.
    """

    epoch: int
    seed: int

    def sentence(self) -> str:
        """See ``Event.sentence``."""
        return f"a run with seed {self.seed} begins"


@dataclass(frozen=True, slots=True)
class CommandRefused(Event):
    """A command ended with a status other than OK."""

    severity: ClassVar[Severity] = Severity.GUEST_FAULT
    opcode: str
    op_mod: int
    status: str
    reason: str

    def sentence(self) -> str:
        """See ``Event.sentence``."""
        return f"{self.opcode} op_mod {self.op_mod:#x} refused with {self.status}: {self.reason}"


@dataclass(frozen=True, slots=True)
class CommandUndelivered(Event):
    """A command entry or its mailboxes could not be read or written."""

    severity: ClassVar[Severity] = Severity.GUEST_FAULT
    slot: int
    delivery: str
    reason: str

    def sentence(self) -> str:
        """See ``Event.sentence``."""
        return f"command slot {self.slot} not delivered ({self.delivery}): {self.reason}"


@dataclass(frozen=True, slots=True)
class UnknownCommand(Event):
    """An opcode that the model does not have."""

    severity: ClassVar[Severity] = Severity.UNIMPLEMENTED
    opcode: int
    op_mod: int

    def sentence(self) -> str:
        """See ``Event.sentence``."""
        return f"command opcode {self.opcode:#x} op_mod {self.op_mod:#x} is not implemented"


@dataclass(frozen=True, slots=True)
class UnknownRegister(Event):
    """ACCESS_REG of a register that the model does not have."""

    severity: ClassVar[Severity] = Severity.UNIMPLEMENTED
    register: int
    write: bool

    def sentence(self) -> str:
        """See ``Event.sentence``."""
        verb = "write" if self.write else "read"
        return f"{verb} of register {self.register:#x} is not implemented"


@dataclass(frozen=True, slots=True)
class UnknownMmio(Event):
    """A BAR 0 write to an offset that means nothing."""

    severity: ClassVar[Severity] = Severity.UNIMPLEMENTED
    offset: int
    data: bytes

    def sentence(self) -> str:
        """See ``Event.sentence``."""
        return f"BAR 0 write of {self.data.hex()} to {self.offset:#x} means nothing"


@dataclass(frozen=True, slots=True)
class DoorbellIgnored(Event):
    """A doorbell named a queue that does not exist or may not ring there."""

    severity: ClassVar[Severity] = Severity.GUEST_FAULT
    kind: str
    number: int
    reason: str

    def sentence(self) -> str:
        """See ``Event.sentence``."""
        return f"{self.kind} doorbell of {self.number:#x} ignored: {self.reason}"


@dataclass(frozen=True, slots=True)
class QueueError(Event):
    """A queue went to its error state."""

    severity: ClassVar[Severity] = Severity.GUEST_FAULT
    kind: str
    number: int
    index: int
    reason: str

    def sentence(self) -> str:
        """See ``Event.sentence``."""
        return f"{self.kind} {self.number:#x} is in error at index {self.index}: {self.reason}"


@dataclass(frozen=True, slots=True)
class LinkChanged(Event):
    """The port's operational state changed."""

    up: bool

    def sentence(self) -> str:
        """See ``Event.sentence``."""
        return f"link is {'up' if self.up else 'down'}"


@dataclass(frozen=True, slots=True)
class EventsOmitted(Event):
    """The guest caused events faster than they are written; the counts of events have them all."""

    severity: ClassVar[Severity] = Severity.GUEST_FAULT
    kind: str
    count: int

    def sentence(self) -> str:
        """See ``Event.sentence``."""
        return f"{self.count} events {self.kind} came too fast to be written"
