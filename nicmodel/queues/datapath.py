# SPDX-License-Identifier: GPL-2.0-or-later
"""All that moves: queues by number, doorbells, a frame's way out and in.

The command interface creates, modifies and destroys queues here; it has allocated the numbers and
checked that what a queue refers to exists.

A frame's way out: doorbell -> ``Sq.run`` -> ``Gather`` -> ``offload.segment``, ``offload.checksum``
-> ``Mac`` -> egress. Its way in: ``Mac`` -> ``Receiver`` -> ``Rq.receive`` -> ``Cq.post`` ->
``Eq.post`` -> MSI-X.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

from nicmodel.clock import Scheduler
from nicmodel.frame import Traffic
from nicmodel.memory import GuestMemory
from nicmodel.objects.counters import PortCounters
from nicmodel.objects.port import PortState
from nicmodel.objects.queue import CqConfig, EqConfig, QueueState, RqConfig, SqConfig
from nicmodel.objects.store import Objects
from nicmodel.offload.segment import OtherLso
from nicmodel.queues.arbiter import Arbiter
from nicmodel.queues.cq import Cq
from nicmodel.queues.eq import Eq
from nicmodel.queues.gather import Gather
from nicmodel.queues.lro import Lro
from nicmodel.queues.mac import Mac
from nicmodel.queues.receiver import Receiver
from nicmodel.queues.rq import Rq
from nicmodel.queues.sq import Egress, Sq
from nicmodel.queues.striding import StridingRq
from nicmodel.queues.tls_rx import TlsRx
from nicmodel.queues.tls_tx import TlsTx
from nicmodel.trace.events import DoorbellIgnored
from nicmodel.trace.tracer import Tracer
from nicmodel.units import CounterSet, Cqn, Dekn, Eqn, Rqn, Sqn, Tirn, Tisn

TURN = 16
"""WQEs that one send queue may execute before the next one has its turn."""

TURN_OCTETS = 1 << 18
"""Bytes on the wire after which a turn ends too: four of TCP's large sends."""

TURNS = 16
"""Turns before the event loop sees to other work."""

RUN_OCTETS = 1 << 20
"""Bytes on the wire after which it does so too. The last WQE may go beyond, by what ``MAX_LSO``
and ``MAX_SEGMENTS`` permit."""

SHORTEST_PERIOD_US = 1000
"""Completion moderation with a shorter period ends with the batch of work, which takes about as
long: a guest under emulation is so much slower than the periods that its driver chooses for it."""


Queue = Eq | Cq | Sq | Rq
"""What moves."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How this card behaves where cards differ."""

    arbiter: Arbiter = field(default_factory=Arbiter)
    other_lso: OtherLso = OtherLso.REPLICATE


class Datapath:
    """The moving parts of one NIC; ``created`` is told of each new one."""

    def __init__(
        self,
        memory: GuestMemory,
        objects: Objects,
        counters: PortCounters,
        interrupt: Callable[[int], None],
        port: Callable[[], PortState],
        egress: Egress,
        scheduler: Scheduler,
        timestamp: Callable[[], int],
        tracer: Tracer,
        settings: Settings | None = None,
    ) -> None:
        self._memory = memory
        self._interrupt = interrupt
        self._scheduler = scheduler
        self._timestamp = timestamp
        self._tracer = tracer
        self._gather = Gather(memory, objects)
        self._eqs: dict[Eqn, Eq] = {}
        self._cqs: dict[Cqn, Cq] = {}
        self._sqs: dict[Sqn, Sq] = {}
        self._rqs: dict[Rqn, Rq] = {}
        settings = settings or Settings()
        self._arbiter = settings.arbiter
        self._other_lso = settings.other_lso
        self._reporting: list[Cq] = []
        self._out_of_buffer: dict[CounterSet, int] = {}
        self._continuing = False
        self._rings: Callable[[Sq], None] | None = None
        self.created: Callable[[Queue], None] = lambda _: None
        self._frozen = False
        self.sees: Callable[[Sq, Traffic], None] | None = None
        """Is shown what each send queue made from now on sends; None costs nothing."""
        self.completes: Callable[[int, int], None] | None = None
        """Is told what each send queue made from now on completes; see ``Sq.completes``."""
        self._lro = Lro()
        self.tls_tx = TlsTx(objects)
        """The contexts that encrypt."""
        self.tls_rx = TlsRx(memory, objects, tracer)
        """The contexts that decrypt."""
        self.receiver = Receiver(objects, self._rqs, counters, timestamp, self._lro, self.tls_rx)
        self._mac = Mac(objects.l2, counters, port, egress, self.receiver.receive)

    @property
    def frozen(self) -> bool:
        """Execute no WQE, not even the rest of a turn."""
        return self._frozen

    @frozen.setter
    def frozen(self, value: bool) -> None:
        self._frozen = value
        for sq in self._sqs.values():
            sq.stop()

    def queues(self) -> Iterator[Queue]:
        """All that there are."""
        return chain(self._eqs.values(), self._cqs.values(), self._sqs.values(), self._rqs.values())

    def cq(self, cqn: Cqn) -> Cq:
        """A completion queue that exists."""
        return self._cqs[cqn]

    def create_eq(self, config: EqConfig) -> None:
        """Start event queue ``config.eqn``."""
        eq = self._eqs[config.eqn] = Eq(config, self._memory, self._interrupt, self._tracer)
        self.created(eq)

    def destroy_eq(self, eqn: Eqn) -> None:
        """Stop it; nothing of it is touched after this returns."""
        del self._eqs[eqn]

    def create_cq(self, config: CqConfig) -> None:
        """Start completion queue ``config.cqn``; its EQ exists."""
        cq = self._cqs[config.cqn] = Cq(
            config,
            self._memory,
            self._eqs[config.eqn],
            self.post_event,
            self._reporting.append,
            self._tracer,
        )
        self.created(cq)

    def modify_cq(self, config: CqConfig) -> None:
        """Replace the configuration (moderation) of ``config.cqn``."""
        self._cqs[config.cqn].config = config

    def destroy_cq(self, cqn: Cqn) -> None:
        """Stop it."""
        self._cqs.pop(cqn).broken = True

    def create_sq(self, config: SqConfig) -> None:
        """Create send queue ``config.sqn`` in state RST; its CQ exists."""
        sq = self._sqs[config.sqn] = Sq(
            config,
            self._memory,
            self._gather,
            self._cqs[config.cqn],
            self._mac.transmit,
            self._timestamp,
            self._tracer,
            self.tls_tx,
            self.tls_rx,
            self._other_lso,
        )
        if self.sees is not None:
            sq.tap(self.sees)
        sq.completes = self.completes
        self.created(sq)

    def sq_state(self, sqn: Sqn) -> QueueState:
        """State as QUERY_SQ reports it."""
        return self._sqs[sqn].state

    def modify_sq(self, sqn: Sqn, state: QueueState) -> None:
        """Move to ``state``; the command has checked that the transition is legal.

        What is posted is flushed in ERR. A queue that has been reset waits for a doorbell: the
        driver leaves the doorbell record as it was (``en/reporter_tx.c`` mlx5e_reset_txqsq_cc_pc).
        """
        self._sqs[sqn].modify(state)
        if state is QueueState.ERR:
            self._arbiter.ring(sqn)
        elif state is QueueState.RST:
            self._arbiter.forget(sqn)

    def destroy_sq(self, sqn: Sqn) -> None:
        """Stop it."""
        del self._sqs[sqn]
        self._arbiter.forget(sqn)

    def create_rq(self, config: RqConfig) -> None:
        """Create receive queue ``config.rqn`` in state RST; its CQ exists."""
        strides = config.wq.strides
        parts = (self._memory, self._gather, self._cqs[config.cqn], self._tracer)
        rq = Rq(config, *parts) if strides is None else StridingRq(config, strides, *parts)
        self._rqs[config.rqn] = rq
        self.created(rq)

    def configure_rq(self, config: RqConfig) -> None:
        """Replace the configuration (VLAN stripping) of ``config.rqn`` while it runs."""
        self._rqs[config.rqn].config = config

    def rq_state(self, rqn: Rqn) -> QueueState:
        """State as QUERY_RQ reports it."""
        return self._rqs[rqn].state

    def modify_rq(self, rqn: Rqn, state: QueueState) -> None:
        """Move to ``state``."""
        self._rqs[rqn].modify(state)

    def destroy_rq(self, rqn: Rqn) -> None:
        """Stop it."""
        rq = self._rqs.pop(rqn)
        rq.modify(QueueState.RST)  # an LRO session may still hold frames for it
        counter_set = rq.config.counter_set
        before = self._out_of_buffer.get(counter_set, 0)
        self._out_of_buffer[counter_set] = before + rq.out_of_buffer

    def tis_destroyed(self, tisn: Tisn) -> None:
        """A TIS with TLS is gone, and its context with it."""
        self.tls_tx.tis_destroyed(tisn)

    def tir_destroyed(self, tirn: Tirn) -> None:
        """A TIR with TLS is gone, and its context with it."""
        self.tls_rx.tir_destroyed(tirn)

    def dek_destroyed(self, dekn: Dekn) -> None:
        """An encryption key is gone; contexts that name it no longer work."""
        self.tls_tx.dek_destroyed(dekn)

    def out_of_buffer(self, counter_set: CounterSet) -> int:
        """Frames dropped for want of a receive WQE since reset, by queue counter set."""
        alive = (rq for rq in self._rqs.values() if rq.config.counter_set == counter_set)
        return self._out_of_buffer.get(counter_set, 0) + sum(rq.out_of_buffer for rq in alive)

    def post_event(self, event_type: int, sub_type: int, data: bytes) -> None:
        """Post an EQE to the EQ whose ``event_mask`` has ``event_type``.

        ``data`` goes to EQE offset 0x20 (at most 28 bytes). No EQ may want it: then it is lost.
        """
        for eq in self._eqs.values():
            if eq.config.event_mask >> event_type & 1:
                eq.post(event_type, sub_type, data)

    def update_eq(self, eqn: Eqn, consumer: int, *, arm: bool) -> None:
        """EQ doorbell: consumed up to ``consumer`` (24 bit)."""
        eq = self._eqs.get(eqn)
        if eq is None:
            self._tracer.emit(DoorbellIgnored("EQ", eqn, "no such queue"))
        else:
            eq.doorbell(consumer, arm=arm)

    def arm_cq(self, cqn: Cqn, consumer: int) -> None:
        """CQ doorbell: event wanted for the CQE after ``consumer`` (24 bit)."""
        cq = self._cqs.get(cqn)
        if cq is None:
            self._tracer.emit(DoorbellIgnored("CQ", cqn, "no such queue"))
        else:
            cq.arm(consumer)

    def ring_sq(self, sqn: Sqn) -> None:
        """SQ doorbell: the doorbell record has moved. Executed by ``run``."""
        sq = self._sqs.get(sqn)
        if sq is None:
            self._tracer.emit(DoorbellIgnored("SQ", sqn, "no such queue"))
        elif self._rings is not None:
            self._rings(sq)
        else:
            self._arbiter.ring(sqn)

    def hold(self, rings: Callable[[Sq], None] | None) -> None:
        """From now on ``rings`` is told of SQ doorbells, and runs the queues; None: as before."""
        self._rings = rings
        while rings is not None and self._arbiter:
            sq = self._sqs.get(self._arbiter.next())
            if sq is not None:
                rings(sq)

    def run(self) -> None:
        """Serve the send queues whose doorbell rang, then report completions.

        The arbiter says who is next; a turn ends after ``TURN`` WQEs or ``TURN_OCTETS``. What is
        left after ``TURNS`` turns or ``RUN_OCTETS`` is done when the event loop comes back. A
        queue that no other waits for has its turns at once: longer rows cost less.
        """
        arbiter = self._arbiter
        turns, octets = TURNS, RUN_OCTETS
        while arbiter and turns and octets > 0 and not self._frozen:
            sqn = arbiter.next()
            taken, room = (1, min(TURN_OCTETS, octets)) if arbiter else (turns, octets)
            turns -= taken
            sq = self._sqs.get(sqn)
            if sq is not None:
                before = sq.octets
                if sq.run(taken * TURN, room):
                    arbiter.again(sqn)
                octets -= sq.octets - before
        if arbiter and not self._continuing and not self._frozen:
            self._continuing = True
            self._scheduler.call_soon(self._continue)
        if self._reporting or self._lro:
            self.report()

    def _continue(self) -> None:
        self._continuing = False
        self.run()

    def receive(self, traffic: Traffic) -> None:
        """Take traffic from the wire; completions are reported by ``report``."""
        self._mac.receive(traffic)
        if (self._reporting or self._lro) and not self._continuing:
            self._continuing = True
            self._scheduler.call_soon(self._continue)

    def report(self) -> None:
        """Fire the events of armed completion queues as their moderation says.

        LRO sessions end with the batch of work, so that their completions are among these.
        """
        if self._lro:
            self._lro.flush()
        reporting, self._reporting[:] = list(self._reporting), []
        for cq in reporting:
            config = cq.config
            if config.period < SHORTEST_PERIOD_US or 0 < config.max_count <= cq.unreported:
                cq.fire()
            else:
                over = partial(cq.expire, cq.first_unreported)
                self._scheduler.call_later(config.period / 1e6, over)

    def reset(self) -> None:
        """Forget every queue."""
        for cq in self._cqs.values():
            cq.broken = True
        for queues in (self._eqs, self._cqs, self._sqs, self._rqs):
            queues.clear()
        self._arbiter.clear()
        self._reporting.clear()
        self._lro.clear()
        self.tls_tx.clear()
        self.tls_rx.clear()
        self._out_of_buffer.clear()
