# SPDX-License-Identifier: GPL-2.0-or-later
"""Events of faults."""

from dataclasses import dataclass
from typing import ClassVar

from nicmodel.trace.tracer import Event, Severity


@dataclass(frozen=True, slots=True)
class FaultInjected(Event):
    """A fault has fired: the device does wrong what it would have done right.

    ``number`` is the fault's, ``times`` how often it has fired so far.
    """

    severity: ClassVar[Severity] = Severity.INJECTED
    number: int
    kind: str
    times: int
    what: str

    def sentence(self) -> str:
        """See ``Event.sentence``."""
        return f"fault {self.number} injected: {self.what}"
