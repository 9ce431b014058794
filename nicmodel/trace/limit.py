# SPDX-License-Identifier: GPL-2.0-or-later
"""A bound on what a guest can make us write: it may cause events as fast as it rings doorbells."""

from dataclasses import dataclass

from nicmodel.trace.events import EventsOmitted
from nicmodel.trace.tracer import Event, Record, Sink

BURST = 10_000
"""Events of one kind and NIC that are written however fast they come: a driver's life has fewer."""

RATE = 100
"""Events of one kind and NIC that are written each second from then on."""

_COST = 10**9 // RATE
"""Time that pays for one event, ns."""


@dataclass(slots=True)
class _Bucket:
    """``credit`` is in ns; ``time`` is that of the last record."""

    time: int
    credit: int = BURST * _COST
    omitted: int = 0


class Limited:
    """Passes records on until one kind of event of one NIC comes too fast, and says what it omits.

    A token bucket that fills with the time of the records. What was omitted is written as
    ``EventsOmitted`` before the next record of that kind, or by ``close``.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._buckets: dict[tuple[str, type[Event]], _Bucket] = {}

    def write(self, record: Record) -> None:
        """See ``Sink.write``."""
        key = (record.nic, type(record.event))
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(record.time)
        bucket.credit = min(BURST * _COST, bucket.credit + record.time - bucket.time)
        bucket.time = record.time
        if bucket.credit < _COST:
            bucket.omitted += 1
            return
        bucket.credit -= _COST
        self._confess(key, bucket)
        self._sink.write(record)

    def close(self) -> None:
        """Say what was omitted last; the sink stays open."""
        for key, bucket in self._buckets.items():
            self._confess(key, bucket)

    def _confess(self, key: tuple[str, type[Event]], bucket: _Bucket) -> None:
        if bucket.omitted:
            nic, kind = key
            omitted = EventsOmitted(kind.__name__, bucket.omitted)
            bucket.omitted = 0
            self._sink.write(Record(bucket.time, nic, omitted))
