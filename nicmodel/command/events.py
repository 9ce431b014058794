# SPDX-License-Identifier: GPL-2.0-or-later
"""Events of the command interface beyond the common catalogue."""

from dataclasses import dataclass
from typing import ClassVar

from nicmodel.trace.tracer import Event, Severity


@dataclass(frozen=True, slots=True)
class ObjectsLeft(Event):
    """TEARDOWN_HCA found objects that the driver had not destroyed."""

    severity: ClassVar[Severity] = Severity.GUEST_FAULT
    kinds: tuple[tuple[str, int], ...]

    def sentence(self) -> str:
        """See ``Event.sentence``."""
        found = ", ".join(f"{count} {kind}" for kind, count in self.kinds)
        return f"teardown left behind: {found}"


@dataclass(frozen=True, slots=True)
class DoorbellWithoutCommand(Event):
    """The command doorbell named a slot that the driver still owns, or no queue is set."""

    severity: ClassVar[Severity] = Severity.GUEST_FAULT
    slot: int
    reason: str

    def sentence(self) -> str:
        """See ``Event.sentence``."""
        return f"command doorbell of slot {self.slot} ignored: {self.reason}"
