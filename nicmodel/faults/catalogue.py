# SPDX-License-Identifier: GPL-2.0-or-later
"""The catalogue of faults: one frozen dataclass a kind, its first line is what a person reads.

A fault has *occasions* (a WQE, a completion, a command, a heartbeat): it lets ``after`` of them
pass, then fires at each with ``probability`` until it has fired ``count`` times.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from nicmodel.objects.store import Objects
from nicmodel.pci.init_segment import HealthSyndrome
from nicmodel.spec.cqe import CqeSyndrome
from nicmodel.spec.opcodes import CommandOpcode
from nicmodel.spec.status import CommandStatus

OBJECT_KINDS = tuple(table.kind.replace(" ", "-") for table in Objects().tables())
"""Kinds of objects that can run out."""

EVER = 0
"""``count`` of a fault that never ends."""


class WorkQueue(StrEnum):
    """Which side of the data path."""

    SQ = "sq"
    RQ = "rq"


class EventQueue(StrEnum):
    """Event queues by what they report."""

    COMPLETION = "completion"
    COMMAND = "command"
    ASYNC = "async"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Base of all kinds. ``count`` 0 is without end; ``probability`` draws from the run's seed."""

    KIND: ClassVar[str]
    EXAMPLE: ClassVar[str]
    """Keys and values as the command line takes them."""
    after: int = 0
    count: int = 1
    probability: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkFault(Fault):
    """Base of what happens to a WQE of ``queue``.

    Without ``number`` it is any receive queue, or any send queue that has a TIS.
    """

    queue: WorkQueue = WorkQueue.SQ
    number: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CqeError(WorkFault):
    """A WQE ends with an error CQE of ``syndrome``, and its queue is in error."""

    KIND: ClassVar[str] = "cqe-error"
    EXAMPLE: ClassVar[str] = "queue=sq syndrome=LOCAL_PROT_ERR after=10"
    syndrome: CqeSyndrome = CqeSyndrome.LOCAL_QP_OP_ERR


@dataclass(frozen=True, slots=True, kw_only=True)
class LateCompletion(WorkFault):
    """A CQE is written ``delay_ms`` late; those behind it in its queue wait too."""

    KIND: ClassVar[str] = "late-completion"
    EXAMPLE: ClassVar[str] = "queue=sq delay_ms=200 count=5"
    delay_ms: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class LostCompletion(WorkFault):
    """A CQE is never written, though the WQE was executed."""

    KIND: ClassVar[str] = "lost-completion"
    EXAMPLE: ClassVar[str] = "queue=sq number=0x13 count=0"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandFailure(Fault):
    """A command is refused with ``status`` and ``syndrome`` and not executed."""

    KIND: ClassVar[str] = "command-failure"
    EXAMPLE: ClassVar[str] = "command=CREATE_SQ status=NO_RES syndrome=0x1234"
    command: CommandOpcode
    status: CommandStatus = CommandStatus.INT_ERR
    syndrome: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandTimeout(Fault):
    """A command is looked at only ``delay_ms`` later, 0 is never.

    The driver does not get over a command that is never answered: its slot is lost, and recovery
    from a fatal error waits for all slots (``cmd.c`` mlx5_cmd_flush).
    """

    KIND: ClassVar[str] = "command-timeout"
    EXAMPLE: ClassVar[str] = "command=ACCESS_REG delay_ms=70000"
    command: CommandOpcode
    delay_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Health(Fault):
    """The health buffer shows ``syndrome``; ``fatal`` asks for a restart. Occasion: a heartbeat."""

    KIND: ClassVar[str] = "health"
    EXAMPLE: ClassVar[str] = "syndrome=FW_ERR fatal=true"
    syndrome: HealthSyndrome = HealthSyndrome.FW_ERR
    fatal: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceDisabled(Fault):
    """The device says of itself that it serves no driver (``nic_interface``)."""

    KIND: ClassVar[str] = "interface-disabled"
    EXAMPLE: ClassVar[str] = "after=4"


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenCounter(Fault):
    """The health counter stands still, for ``count`` heartbeats of half a second."""

    KIND: ClassVar[str] = "frozen-counter"
    EXAMPLE: ClassVar[str] = "count=30"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFault(Fault):
    """Base of what happens to an EQE; without ``number`` it is any EQ that reports ``reports``."""

    reports: EventQueue = EventQueue.COMPLETION
    number: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LostInterrupt(EventFault):
    """An EQE is written and its MSI-X vector is not raised."""

    KIND: ClassVar[str] = "lost-interrupt"
    EXAMPLE: ClassVar[str] = "reports=completion after=100"


@dataclass(frozen=True, slots=True, kw_only=True)
class WedgedEq(EventFault):
    """An EQ takes no EQE: ``count`` events are lost, 0 is all."""

    KIND: ClassVar[str] = "wedged-eq"
    EXAMPLE: ClassVar[str] = "reports=async count=0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhaustion(Fault):
    """No object can be created when ``limit`` of its kind are alive."""

    KIND: ClassVar[str] = "exhaustion"
    EXAMPLE: ClassVar[str] = "objects=SQ limit=4 status=LIM count=0"
    objects: str
    limit: int = 0
    status: CommandStatus = CommandStatus.NO_RES


CATALOGUE: dict[str, type[Fault]] = {
    kind.KIND: kind
    for kind in (
        CqeError,
        LateCompletion,
        LostCompletion,
        CommandFailure,
        CommandTimeout,
        Health,
        InterfaceDisabled,
        FrozenCounter,
        LostInterrupt,
        WedgedEq,
        Exhaustion,
    )
}
"""All kinds by name."""
