# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenarios: what is started on which guest, and what must hold then, as a user writes it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from string import ascii_lowercase
from typing import Any

from nicmodel.entry import Entry
from nicmodel.sanitizer.findings import Kind
from nicmodel.sanitizer.options import options as check_sanitizer
from nicmodel.wire.rule import rule as check_rule

HOST = "host"
"""Where a step runs on the host, in the namespace with the tap."""

STEP_SECONDS = 30


@dataclass(frozen=True)
class Step:
    """A command in a guest; ``background``: it runs on, and is ended after the last step.

    ``status`` is its exit status (None: of no interest), ``output`` must be found in what it
    writes to stdout and stderr, ``absent`` must not. ``ready`` is a shell condition to wait for.
    """

    place: str
    guest: str
    command: str
    background: bool
    status: int | None
    output: re.Pattern[str] | None
    absent: re.Pattern[str] | None
    ready: str
    seconds: int


@dataclass(frozen=True)
class Count:
    """How often something must be seen: ``what`` is an event's name or a display filter."""

    place: str
    what: str
    least: int
    most: int | None
    port: str = ""
    """Guest at whose NIC frames are counted."""

    def problem(self, seen: int) -> str | None:
        """Say what is wrong with that many, if anything is."""
        if seen < self.least:
            return (
                f"{self.place}: {self.what} was seen {seen} times, at least {self.least} expected"
            )
        if self.most is not None and seen > self.most:
            return f"{self.place}: {self.what} was seen {seen} times, at most {self.most} expected"
        return None


@dataclass(frozen=True)
class Scenario:
    """One story; guests are called a, b and so on, and have address 10.77.0.1, .2 and so on."""

    name: str
    guests: int
    memory_mib: int
    cpus: int
    steps: tuple[Step, ...]
    events: tuple[Count, ...] = ()
    frames: tuple[Count, ...] = ()
    links: tuple[Mapping[str, Any], ...] = ()
    sanitizer: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[str, ...] = ()
    """Kinds that the sanitizer may find; any other finding fails the scenario."""
    record: bool = False
    """Record what the send queues are given in the steps, for ``nicmodel hunt``."""

    @property
    def seconds(self) -> int:
        """The longest time that it may take once the guests are up."""
        return sum(step.seconds * (2 if step.ready else 1) for step in self.steps)


def scenario(entry: Entry) -> Scenario:
    """Read ``[[scenario]]``. Raises UserError for what makes no sense."""
    keys = ("name", "guests", "memory", "cpus", "step", "event", "frames", "link", "sanitizer")
    entry.check_keys((*keys, "findings", "record"))
    guests = _between(entry, "guests", 2, 1, len(ascii_lowercase))
    names = tuple(ascii_lowercase[:guests])
    steps = tuple(_step(one, names) for one in entry.tables("step"))
    if not steps:
        raise entry.fault("step", "there is none; add [[scenario.step]] with guest and run")
    return Scenario(
        entry.name(),
        guests,
        _between(entry, "memory", 512, 128, 1 << 20),
        _between(entry, "cpus", 2, 1, 64),
        steps,
        tuple(_event(one) for one in entry.tables("event")),
        tuple(_frames(one, names) for one in entry.tables("frames")),
        tuple(_link(one, names) for one in entry.tables("link")),
        _sanitizer(entry.table("sanitizer")),
        _findings(entry),
        entry.flag("record"),
    )


def _step(entry: Entry, names: tuple[str, ...]) -> Step:
    keys = ("guest", "run", "start", "ready", "status", "output", "absent", "timeout")
    entry.check_keys(keys)
    if ("run" in entry.values) == ("start" in entry.values):
        raise entry.fault("run", "a step has either run or start; write one of them")
    background = "start" in entry.values
    # what is ended from outside has no status of its own, unless one is asked for
    status = None if background and "status" not in entry.values else entry.whole("status", 0)
    return Step(
        entry.place,
        entry.known("guest", (*names, HOST), names[0]),
        _command(entry, "start" if background else "run"),
        background,
        status,
        _pattern(entry, "output"),
        _pattern(entry, "absent"),
        _command(entry, "ready") if "ready" in entry.values else "",
        _between(entry, "timeout", STEP_SECONDS, 1, 24 * 3600),
    )


def _command(entry: Entry, key: str) -> str:
    value = entry.values[key]
    if not isinstance(value, str) or not value.strip():
        raise entry.fault(key, "write a command in quotes")
    return value


def _pattern(entry: Entry, key: str) -> re.Pattern[str] | None:
    if key not in entry.values:
        return None
    try:
        return re.compile(entry.text(key), re.MULTILINE)
    except re.error as error:
        raise entry.fault(key, f"this is no regular expression: {error}") from error


def _event(entry: Entry) -> Count:
    entry.check_keys(("event", "least", "most"))
    return _count(entry, entry.text("event"))


def _frames(entry: Entry, names: tuple[str, ...]) -> Count:
    entry.check_keys(("filter", "guest", "least", "most"))
    return _count(entry, entry.text("filter"), entry.known("guest", names, names[0]))


def _count(entry: Entry, what: str, port: str = "") -> Count:
    most = _between(entry, "most", 0, 0, 1 << 62) if "most" in entry.values else None
    least = _between(entry, "least", 1 if most is None else 0, 0, 1 << 62)
    return Count(entry.place, what, least, most, port)


def _link(entry: Entry, names: tuple[str, ...]) -> Mapping[str, Any]:
    entry.known("nic", (*names, HOST))
    check_rule(entry, also=("nic",))
    return entry.values


def _sanitizer(entry: Entry) -> Mapping[str, Any]:
    check_sanitizer(entry)
    return entry.values


def _findings(entry: Entry) -> tuple[str, ...]:
    kinds = entry.texts("findings")
    for kind in kinds:
        Entry(entry.place, {"findings": kind}).known("findings", Kind)
    return kinds


def _between(entry: Entry, key: str, default: int, least: int, most: int) -> int:
    value = entry.whole(key, default)
    if not least <= value <= most:
        raise entry.fault(key, f"write a number from {least} to {most} instead of {value}")
    return value
