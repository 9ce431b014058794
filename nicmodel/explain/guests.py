# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tracepoints of SMT in a guest have said, on the clock of the captures.

A file is what the guest's tracefs gives (kernel: Documentation/trace/ftrace.rst) with its clock
``tai``, behind readings that lay this clock beside the host's.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nicmodel.errors import UserError

SUFFIX = ".ftrace"
"""Of the files; before it stands the name of the guest, which its NIC has, too."""

_READING = re.compile(r"# clock: guest (\d+) host (\d+) error (\d+)")
_LOST = re.compile(r"# entries-in-buffer/entries-written: (\d+)/(\d+)")
# a guest may write what it likes: numbers have an end
_LINE = re.compile(
    r"\s*(.+)-(\d{1,10})\s+\[(\d{1,5})\]\s+\S+\s+(\d{1,12})\.(\d{6}): smt_(\w+): (.*)"
)
_VALUE = re.compile(r"(\w+)=(\S+)")


@dataclass(frozen=True, slots=True)
class Reading:
    """Both clocks at one time, ns since 1970; ``error`` is by how much the host's may be wrong."""

    guest: int
    host: int
    error: int

    def __str__(self) -> str:
        return f"# clock: guest {self.guest} host {self.host} error {self.error}"


@dataclass(frozen=True, slots=True)
class Told:
    """A tracepoint was passed. ``time``: ns since 1970 of the host. ``kind``: without ``smt_``.

    ``process`` is who had the CPU: for what a packet or timer causes, anybody.
    """

    time: int
    kind: str
    process: str
    values: dict[str, str]

    def number(self, name: str) -> int:
        """A value that is a number; one that is not there is 0."""
        text = self.values.get(name, "")
        return int(text) if re.fullmatch(r"-?\d{1,20}", text) else 0


@dataclass(frozen=True, slots=True)
class GuestTrace:
    """What one guest has said, in order; ``error``: by how many ns its times may be wrong.

    ``lost`` events before the first one had no room any more.
    """

    guest: str
    error: int
    lost: int
    told: tuple[Told, ...]


def load(path: Path) -> GuestTrace:
    """Read one file. Raises UserError."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError as why:
        raise UserError(f"cannot read {path}: {why.strerror}") from why
    readings: list[Reading] = []
    lost, told = 0, []
    for line in lines:
        if found := _READING.fullmatch(line):
            readings.append(Reading(*map(int, found.groups())))
        elif found := _LOST.match(line):
            lost = int(found[2]) - int(found[1])
        elif found := _LINE.fullmatch(line):
            process, number, cpu, seconds, micros, kind, rest = found.groups()
            told.append(
                Told(
                    int(seconds) * 10**9 + int(micros) * 1000,
                    kind,
                    f"{_shown(process)}, process {number}, CPU {int(cpu)}",
                    dict(_VALUE.findall(rest)),
                )
            )
    if not readings:
        raise UserError(f"{path} does not say how the guest's clock runs; it is no trace of ours")
    on_host = [
        Told(_host(readings, one.time), one.kind, one.process, one.values)
        for one in sorted(told, key=lambda one: one.time)
    ]
    error = max(reading.error for reading in readings)
    return GuestTrace(path.name.removesuffix(SUFFIX), error, lost, tuple(on_host))


def _shown(name: str) -> str:
    """A program may give itself a name that a terminal obeys."""
    return "".join(letter if letter.isprintable() else "?" for letter in name.strip())


def _host(readings: Sequence[Reading], time: int) -> int:
    """Between the first and the last reading the clocks run apart evenly."""
    first, last = readings[0], readings[-1]
    ahead = first.host - first.guest
    if last.guest > first.guest:
        drift = last.host - last.guest - ahead
        ahead += drift * (time - first.guest) // (last.guest - first.guest)
    return time + ahead


def aligned(error: int, bounds: Iterable[tuple[int | None, int | None]]) -> tuple[int, int]:
    """By how many ns a guest's times have to be moved so that no effect is before its cause.

    ``error`` is that of its clock, ``bounds`` how far the move must go at least and may go at most.
    The second number is by how much the moved times may still be wrong.
    """
    pairs = list(bounds)
    least = max((lower for lower, _ in pairs if lower is not None), default=-error)
    most = min((upper for _, upper in pairs if upper is not None), default=max(error, least))
    move = min(max(0, least), most)
    least, most = max(least, -error), min(most, error)
    if least <= move <= most:
        return move, max(most - move, move - least)
    return move, max(error, abs(move))  # between two readings it may have erred by more
