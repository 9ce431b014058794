# SPDX-License-Identifier: GPL-2.0-or-later
"""Queues with a sanitizer, and a driver that does with them what ``ktls_tx.c`` does."""

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from nicmodel.objects.queue import QueueState, SqConfig, WqConfig, WqType
from nicmodel.queues.sq import Sq
from nicmodel.sanitizer.findings import Finding, Kind, Policy
from nicmodel.sanitizer.options import SanitizerOptions
from nicmodel.sanitizer.sanitizer import Sanitizer
from nicmodel.units import Cqn, GuestAddr, Pdn, Sqn
from tests.unit.offload.tls.records import plain12
from tests.unit.queues.rig import DATA_AT, DBR_AT, LOG_SQ, SQ_AT, Rig, pages
from tests.unit.queues.tls import (
    post_dump,
    post_lso,
    post_params,
    post_progress,
    post_send,
    tls_objects,
)


class Watched(Rig):
    """A rig whose engine, queue and events a sanitizer watches."""

    def __init__(self, options: SanitizerOptions | None = None, **policies: Policy) -> None:
        super().__init__()
        chosen = dict.fromkeys(Kind, Policy.REPORT) | {
            Kind(name): policy for name, policy in policies.items()
        }
        self.frozen: list[Finding] = []
        self.sanitizer = Sanitizer(
            options or SanitizerOptions(MappingProxyType(chosen)),
            self.tracer,
            self.frozen.append,
        )
        self.tracer.add(self.sanitizer)
        self.queues = [self.sq]
        self.sanitizer.start(lambda: self.queues)
        self.tls.watches = (self.sanitizer,)
        self.sq.tap(self.sanitizer.sees)

    @property
    def findings(self) -> list[Finding]:
        return [r.event for r in self.sink.records if isinstance(r.event, Finding)]

    def reuse_memory(self) -> None:
        """What was placed in guest memory is no longer needed."""
        self._data = DATA_AT


class SecondQueue(Rig):
    """SQ 8 of the same NIC as ``first``, with memory of its own."""

    def __init__(self, first: Watched) -> None:
        super().__init__()
        self.objects, self.tls = first.objects, first.tls
        wq = WqConfig(
            WqType.CYCLIC, LOG_SQ, 6, Pdn(1), GuestAddr(DBR_AT), pages(SQ_AT, 64 << LOG_SQ)
        )
        self.sq = Sq(
            SqConfig(Sqn(8), Cqn(5), (), 0, wq, reg_umr=True),
            self.memory,
            self.gather,
            self.cq,
            first.sent.append,
            lambda: 0,
            first.tracer,
            first.tls,
            first.tls_rx,
        )
        self.sq.modify(QueueState.RDY)
        self.sq.tap(first.sanitizer.sees)
        first.queues.append(self.sq)

    def post(self, opcode: int, body: bytes = b"", **more: Any) -> int:
        return super().post(opcode, body, **{"sqn": 8, **more})


def doorbell(rig: Rig) -> None:
    """Move the doorbell record without letting the queue run."""
    rig.memory.store_be32(DBR_AT + 4, rig.posted & 0xFFFF)


def record(number: int, text: bytes, *, iv: int = 0, kind: int = 23) -> bytes:
    """A record whose explicit nonce is ``iv`` more than its number."""
    return plain12(text, ((number + iv) % (1 << 64)).to_bytes(8, "big"), kind)


@dataclass
class Sender:
    """A connection as kernel and driver send it: all that it sends goes through ``packet``.

    ``start``: TCP sequence of the first record; ``first``: its number; ``iv``: explicit nonce less
    record number. ``expected`` is the driver's idea of where the context stands.
    """

    rig: Watched
    start: int = 1000
    first: int = 0
    iv: int = 0
    queue: Rig | None = None
    tisn: int = 0
    dek: int = 0
    records: list[tuple[int, bytes]] = field(default_factory=list)
    expected: int | None = None
    posted: int = 0

    def __post_init__(self) -> None:
        if not self.tisn:
            self.tisn, self.dek = tls_objects(self.rig)
        self.posted = self.first

    @property
    def stream(self) -> bytes:
        return b"".join(data for _, data in self.records)

    def write(self, text: bytes, *, kind: int = 23) -> None:
        """The kernel makes a record of ``text``."""
        number = (self.first + len(self.records)) % (1 << 64)
        self.records.append((number, record(number, text, iv=self.iv, kind=kind)))

    def at(self, offset: int) -> tuple[int, int]:
        """Number and beginning of the record with the byte at ``offset``."""
        begin = 0
        for number, data in self.records:
            if offset < begin + len(data):
                return number, begin
            begin += len(data)
        raise ValueError(offset)

    def packet(self, begin: int, end: int, *, mss: int = 0, tisn: int | None = None) -> int:
        """Post bytes ``begin`` to ``end`` of the stream as the driver does; index of the WQE."""
        rig = self.queue or self.rig
        seq = self.start + begin & 0xFFFFFFFF
        if self.expected is None:
            post_params(rig, self.tisn, self.dek, self.first)
            self.expected = 0
        if begin != self.expected:
            self.resync(rig, begin)
        self.expected = end
        return self.send(rig, self.tisn if tisn is None else tisn, begin, end, seq, mss)

    def send(self, rig: Rig, tisn: int, begin: int, end: int, seq: int, mss: int = 0) -> int:
        data = self.stream[begin:end]
        if mss:
            return post_lso(rig, tisn, data, mss, seq=seq, ce=2)
        return post_send(rig, tisn, data, seq=seq, ce=2)

    def resync(self, rig: Rig, begin: int, *, number: int | None = None) -> None:
        """``mlx5e_ktls_tx_handle_ooo``."""
        meant, record_at = self.at(begin)
        number = meant if number is None else number
        if number != self.posted:
            post_params(rig, self.tisn, self.dek, number)
            self.posted = number
        else:
            post_progress(rig, self.tisn)
        dumped = self.stream[record_at:begin]
        for at in range(0, len(dumped), 1500):
            post_dump(rig, self.tisn, dumped[at : at + 1500])

    def ring(self) -> None:
        rig = self.queue or self.rig
        rig.ring()
        rig.consume()
        self.rig.reuse_memory()
