# SPDX-License-Identifier: GPL-2.0-or-later
"""Typed events and where they go.

An event is a frozen dataclass that derives from ``Event``; its docstring is its meaning, its
``sentence`` is what a person reads. Tests assert on events, never on text.
"""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import Enum, StrEnum
from typing import ClassVar, Protocol, TextIO, TypeVar

Clock = Callable[[], int]
"""Monotonic time, ns; injected so that tests own it."""


class Severity(StrEnum):
    """How much an event matters."""

    INFO = "info"
    """The device's normal life."""
    INJECTED = "injected"
    """The device did wrong what the run had asked it to do wrong."""
    GUEST_FAULT = "guest-fault"
    """The guest did something that hardware would refuse."""
    FINDING = "finding"
    """The sanitizer says that something is wrong which hardware would not notice."""
    UNIMPLEMENTED = "unimplemented"
    """The guest asked for something that the model does not have; ``--strict`` fails the run."""


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events."""

    severity: ClassVar[Severity] = Severity.INFO

    def sentence(self) -> str:
        """The event as one sentence for a person."""
        raise NotImplementedError


E = TypeVar("E", bound=Event)


@dataclass(frozen=True, slots=True)
class Record:
    """An event with where and when: ``nic`` is the device's name, ``time`` in ns."""

    time: int
    nic: str
    event: Event


class Sink(Protocol):
    """Where records go."""

    def write(self, record: Record) -> None:
        """Take one record; must not raise for a full disk or closed pipe more than once."""


class Tracer:
    """One NIC's source of events; counts every event by its class name."""

    def __init__(self, nic: str, clock: Clock, sinks: tuple[Sink, ...] = ()) -> None:
        self.nic = nic
        self.counts: Counter[str] = Counter()
        self._clock = clock
        self._sinks = sinks

    def add(self, sink: Sink) -> None:
        """Hand every event to ``sink`` too, after the others."""
        self._sinks = (*self._sinks, sink)

    def emit(self, event: Event) -> None:
        """Count the event and hand it to every sink."""
        self.counts[type(event).__name__] += 1
        if self._sinks:
            record = Record(self._clock(), self.nic, event)
            for sink in self._sinks:
                sink.write(record)


class ListSink:
    """Keeps every record in order; for tests."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, record: Record) -> None:
        """Append the record."""
        self.records.append(record)

    def of(self, kind: type[E]) -> list[E]:
        """All events of one class, in order."""
        return [r.event for r in self.records if isinstance(r.event, kind)]


class TextSink:
    """One line a record: seconds, NIC, severity, sentence. ``least`` hides what matters less."""

    def __init__(self, stream: TextIO, least: Severity = Severity.INFO) -> None:
        self._stream = stream
        self._hidden = {Severity.INFO} if least is not Severity.INFO else set()

    def write(self, record: Record) -> None:
        """Print the record unless its severity is hidden."""
        event = record.event
        if event.severity not in self._hidden:
            self._stream.write(
                f"{record.time / 1e9:.6f} {record.nic} {event.severity}: {event.sentence()}\n"
            )
            self._stream.flush()


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, bytes):
        return value.hex()
    return value


class JsonlSink:
    """One JSON object a record: time, nic, event, severity, sentence, and the event's fields."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, record: Record) -> None:
        """Append the record as a line."""
        event = record.event
        line = {
            "time": record.time,
            "nic": record.nic,
            "event": type(event).__name__,
            "severity": event.severity.value,
            "sentence": event.sentence(),
            **{name: _plain(value) for name, value in asdict(event).items()},
        }
        self._stream.write(json.dumps(line) + "\n")
        self._stream.flush()
