# SPDX-License-Identifier: GPL-2.0-or-later
"""What the wire has to tell; each at most once per object, counters say how often."""

from dataclasses import dataclass

from nicmodel.trace.tracer import Event


@dataclass(frozen=True, slots=True)
class FrameLoop(Event):
    """Traffic crossed more links than any sane network has, or flooding multiplied it."""

    port: str

    def sentence(self) -> str:
        """See ``Event.sentence``."""
        return (
            f"a frame loops and is dropped at port {self.port}; "
            "check that switches are cabled as a tree"
        )


@dataclass(frozen=True, slots=True)
class TapLost(Event):
    """The host took the tap away."""

    tap: str
    reason: str

    def sentence(self) -> str:
        """See ``Event.sentence``."""
        return f"tap {self.tap} is gone: {self.reason}"


@dataclass(frozen=True, slots=True)
class CaptureStopped(Event):
    """A capture file could not be written; traffic goes on without it."""

    file: str
    reason: str

    def sentence(self) -> str:
        """See ``Event.sentence``."""
        return f"capture {self.file} stopped, what it has is whole: {self.reason}"


@dataclass(frozen=True, slots=True)
class FrameImpaired(Event):
    """A rule of a link touched a frame; delay and rate alone are not told of.

    ``frame`` counts the frames of the direction since the rules were set, ``rule`` the rules of the
    direction, both from 1. ``bits`` are those that were flipped, at most 16 of them.
    """

    link: str
    frame: int
    length: int
    deed: str
    rule: int
    bits: tuple[int, ...] = ()

    def sentence(self) -> str:
        """See ``Event.sentence``."""
        bits = f" at bit {', '.join(map(str, self.bits))}" if self.bits else ""
        frame = f"frame {self.frame} ({self.length} bytes)"
        return f"{self.link}: {frame} {self.deed}{bits} by rule {self.rule}"
