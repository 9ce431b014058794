# SPDX-License-Identifier: GPL-2.0-or-later
"""Events of recordings."""

from dataclasses import dataclass

from nicmodel.trace.tracer import Event


@dataclass(frozen=True, slots=True)
class RecordingEnded(Event):
    """A recording is complete, or could not go on."""

    file: str
    rounds: int
    wqes: int
    reason: str

    def sentence(self) -> str:
        """See ``Event.sentence``."""
        return f"{self.file} has {self.wqes} WQEs in {self.rounds} rounds; {self.reason}"
