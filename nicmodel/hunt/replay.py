# SPDX-License-Identifier: GPL-2.0-or-later
"""Carries a recording out in some order, by the queues, engine and sanitizer of the model.

An order is wrong if the sanitizer finds something, or if a packet leaves in other bytes than when
all is executed as it was posted: what a context encrypts must not depend on what other queues do.
Where the sanitizer only says that luck decides, luck is tried instead.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from nicmodel.frame import Frame, Traffic
from nicmodel.hunt.recording import Change, Gone, Posted, Queue, Recording
from nicmodel.memory import GuestMemory, MemoryRegion
from nicmodel.objects.queue import (
    CqConfig,
    EqConfig,
    PageList,
    QueueState,
    SqConfig,
    WqConfig,
    WqType,
)
from nicmodel.objects.store import Objects
from nicmodel.objects.tls import Dek
from nicmodel.objects.transport import Tis
from nicmodel.queues.cq import Cq
from nicmodel.queues.eq import Eq
from nicmodel.queues.gather import Gather
from nicmodel.queues.sq import Sq
from nicmodel.queues.tls_rx import TlsRx
from nicmodel.queues.tls_tx import TlsTx
from nicmodel.sanitizer.findings import Finding, Policy, number
from nicmodel.sanitizer.options import SanitizerOptions
from nicmodel.sanitizer.sanitizer import Sanitizer
from nicmodel.spec.wqe import SEND_WQE_BB
from nicmodel.trace.tracer import Record, Tracer
from nicmodel.units import PAGE_SIZE, Cqn, Dekn, Eqn, GuestAddr, Pdn, Sqn, Tisn, Uar

DIFFERS = "differs"
"""The kind of what is wrong where no finding says it."""

_LOG_BB = SEND_WQE_BB.bit_length() - 1
_DBR_SEND = 4
_CQ_DBR = 0x800
"""Behind the entries of EQ and CQ, in the first page."""
_ALL = 1 << 62

Order = Sequence[Sequence[Posted]]
"""What is executed, round by round."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """What was wrong first: while which WQE was executed, its kind, and a sentence."""

    at: Posted
    kind: str
    sentence: str


@dataclass(slots=True)
class Outcome:
    """What came of an order, up to what was wrong.

    ``sent`` has a digest of what each WQE sent, ``records`` the record that its payload began
    with; both by the number of the WQE. Digests are good within one process.
    """

    wrong: Wrong | None = None
    sent: dict[int, int] = field(default_factory=dict)
    records: dict[int, int] = field(default_factory=dict)


class _Given(Gather):
    """Gives the data of the WQE in work."""

    given: bytes = b""

    def segments(self, wqe: bytes, at: int) -> list[memoryview]:
        return [memoryview(self.given)] if self.given else []


class _Device:
    """As much of a NIC as its send queues need."""

    def __init__(self, recording: Recording, options: SanitizerOptions) -> None:
        self.outcome = Outcome()
        self.work: Posted | None = None
        queues = {
            change.sqn: change
            for part in recording.rounds
            for change in part.changes
            if isinstance(change, Queue)
        }
        sizes = [SEND_WQE_BB << queue.log_size for queue in queues.values()]
        memory = self._memory = GuestMemory.anonymous(
            [MemoryRegion(0, PAGE_SIZE + sum(PAGE_SIZE + _pages(size) for size in sizes))]
        )
        self._objects = Objects()
        self._lso = recording.other_lso
        self._tracer = Tracer(recording.nic, lambda: 0, (self,))
        self._gather = _Given(memory, self._objects)
        self.sanitizer = Sanitizer(options, self._tracer)
        self._tracer.add(self.sanitizer)
        self._tls = TlsTx(self._objects)
        # the sanitizer is told of no queues: it would say that luck decides, and look no further
        self._tls.watches = (self.sanitizer,)
        self._tls.origins = True
        self._tls_rx = TlsRx(memory, self._objects, self._tracer)
        page = PageList((GuestAddr(0),), PAGE_SIZE)
        eq = Eq(EqConfig(Eqn(1), 4, Uar(0), 0, 0, page), memory, lambda _: None, self._tracer)
        self._cq = Cq(
            CqConfig(Cqn(1), 4, Uar(0), Eqn(1), GuestAddr(_CQ_DBR), 0, 0, True, page),
            memory,
            eq,
            lambda *_: None,
            lambda _: None,
            self._tracer,
        )
        self._cq.broken = True  # it takes nothing
        self._sqs: dict[int, Sq] = {}
        self._rings: dict[int, tuple[int, int, int]] = {}
        at = PAGE_SIZE
        for queue in queues.values():
            dbr, at = at, at + PAGE_SIZE
            size = SEND_WQE_BB << queue.log_size
            self._rings[queue.sqn] = (dbr, at, size)
            self._sqs[queue.sqn] = self._queue(queue, dbr, at, size)
            at += _pages(size)

    def _queue(self, queue: Queue, dbr: int, at: int, size: int) -> Sq:
        pages = PageList(tuple(GuestAddr(n) for n in range(at, at + size, PAGE_SIZE)), PAGE_SIZE)
        wq = WqConfig(WqType.CYCLIC, queue.log_size, _LOG_BB, Pdn(queue.pd), GuestAddr(dbr), pages)
        sq = Sq(
            SqConfig(Sqn(queue.sqn), Cqn(1), (), 0, wq),
            self._memory,
            self._gather,
            self._cq,
            self._sent,
            lambda: 0,
            self._tracer,
            self._tls,
            self._tls_rx,
            self._lso,
        )
        sq.modify(QueueState.RDY)
        sq.tap(self.sanitizer.sees)
        return sq

    def change(self, change: Change) -> None:
        """Objects come and go."""
        objects = self._objects
        match change:
            case Dek():
                objects.deks.put(change.dekn, change)
            case Tis():
                objects.tises.put(change.tisn, change)
            case Gone("dek", gone):
                objects.deks.remove(Dekn(gone))
                self._tls.dek_destroyed(Dekn(gone))
            case Gone(_, gone):
                objects.tises.remove(Tisn(gone))
                self._tls.tis_destroyed(Tisn(gone))

    def execute(self, one: Posted) -> None:
        """Let the queue execute this WQE, as the only one that is posted."""
        dbr, ring, size = self._rings[one.sqn]
        for at in range(0, len(one.wqe), SEND_WQE_BB):
            start = (one.index * SEND_WQE_BB + at) % size
            self._memory.write(ring + start, one.wqe[at : at + SEND_WQE_BB])
        blocks = -(-len(one.wqe) // SEND_WQE_BB)
        self._memory.store_be32(dbr + _DBR_SEND, one.index + blocks & 0xFFFF)
        self.work, self._gather.given = one, one.data
        sq = self._sqs[one.sqn]
        sq.consumer = one.index
        sq.run(1, _ALL)

    def write(self, record: Record) -> None:
        """See ``Sink.write``: the first finding is what is wrong."""
        event = record.event
        if isinstance(event, Finding) and event.policy is not Policy.IGNORE:
            self._is_wrong(event.KIND, event.sentence())

    def _is_wrong(self, kind: str, sentence: str) -> None:
        if self.outcome.wrong is None and self.work is not None:
            self.outcome.wrong = Wrong(self.work, kind, sentence)

    def _sent(self, traffic: Traffic) -> None:
        if self.work is not None and self.work.tisn:
            data = traffic.data if isinstance(traffic, Frame) else b"".join(traffic.views())
            self.outcome.sent[self.work.number] = hash(bytes(data))
            if traffic.origin is not None:
                self.outcome.records[self.work.number] = traffic.origin.records[0].number


def execute(
    recording: Recording,
    order: Order,
    options: SanitizerOptions,
    right: Mapping[int, int] | None = None,
) -> Outcome:
    """Execute ``order``, a list for each round of ``recording``, until something is wrong.

    ``right``: what each packet must be, by the number of its WQE.
    """
    device = _Device(recording, options)
    outcome = device.outcome
    for part, posted in zip(recording.rounds, order, strict=True):
        for change in part.changes:
            device.change(change)
        for one in posted:
            device.execute(one)
            if outcome.wrong is None and right is not None:
                outcome.wrong = _compare(one, outcome, right)
            if outcome.wrong is not None:
                return outcome
    return outcome


def _pages(size: int) -> int:
    """Bytes of the pages that hold so many."""
    return -(-size // PAGE_SIZE) * PAGE_SIZE


def _compare(one: Posted, outcome: Outcome, right: Mapping[int, int]) -> Wrong | None:
    if outcome.sent.get(one.number) == right.get(one.number):
        return None
    record = outcome.records.get(one.number)
    under = "" if record is None else f" under record number {number(record)}"
    return Wrong(
        one,
        DIFFERS,
        f"SQ {one.sqn:#x}, WQE {one.index:#x}, TIS {one.tisn:#x}: the packet is encrypted{under} "
        "and is not the one that leaves when all is executed as it was posted",
    )


def as_posted(recording: Recording) -> Order:
    """The order of the doorbells."""
    return [part.posted for part in recording.rounds]


def regrouped(recording: Recording, numbers: Iterable[int]) -> Order:
    """The WQEs ``numbers``, in this order within each round."""
    place = {number: at for at, number in enumerate(numbers)}
    return [
        sorted(
            (one for one in part.posted if one.number in place), key=lambda one: place[one.number]
        )
        for part in recording.rounds
    ]
