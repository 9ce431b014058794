# SPDX-License-Identifier: GPL-2.0-or-later
"""Records what the send queues of a running NIC are given.

A card that executes at once leaves no room for races, so while it records it waits for ``hold``
seconds after a doorbell; what came meanwhile is a round, executed as it was posted.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from nicmodel.clock import Scheduler
from nicmodel.errors import DmaFault, QueueFault
from nicmodel.hunt.events import RecordingEnded
from nicmodel.hunt.recording import Change, Gone, Posted, Queue, Writer
from nicmodel.memory import GuestMemory
from nicmodel.objects.queue import QueueState
from nicmodel.objects.store import Objects
from nicmodel.objects.tls import Dek
from nicmodel.objects.transport import Tis
from nicmodel.offload.segment import OtherLso
from nicmodel.queues.datapath import Datapath
from nicmodel.queues.gather import DATA_AT, Gather, inline_headers, send_segment
from nicmodel.queues.sq import Sq
from nicmodel.spec.tls import TlsOpmod
from nicmodel.spec.wqe import SEND_WQE_BB, CtrlSeg, WqeOpcode
from nicmodel.trace.tracer import Tracer

MAX_OCTETS = 256 << 20
"""Longest file."""

HOLD_US = 5000
"""How long a doorbell waits for others if nothing else is said, microseconds."""

MAX_HOLD_US = 1_000_000
"""Much longer, and the driver takes the queue for stuck."""

MAX_DATA = 1 << 18
"""What one WQE may name; a longer one fails when it is executed."""

_ALL = 1 << 62
BY_USER = "its user has ended it"


class Recorder:
    """Records into a new file ``path`` from now on, until ``end`` or until it must end.

    It must when a queue goes to error, for what that left undone is not known, and when the file
    is too long or cannot be written: with an event. A context that was in use when it began is left
    out until it gets new parameters. Raises UserError when the file cannot be created.
    """

    def __init__(
        self,
        path: Path,
        nic: str,
        hold: float,
        datapath: Datapath,
        memory: GuestMemory,
        objects: Objects,
        other_lso: OtherLso,
        scheduler: Scheduler,
        tracer: Tracer,
        ended: Callable[[], None],
    ) -> None:
        self.posted = 0
        self.rounds = 0
        self._path = path
        self._hold = hold
        self._datapath = datapath
        self._objects = objects
        self._gather = Gather(memory, objects)
        self._scheduler = scheduler
        self._tracer = tracer
        self._told = ended
        self._writer: Writer | None = Writer(path, nic, other_lso)
        self._rung: dict[Sq, None] = {}
        self._noted: list[tuple[Sq, int, bytes]] = []
        self._next: dict[Sq, int] = {}
        """Index behind what is noted."""
        self._deks: dict[int, Dek] = {}
        self._tises: dict[int, Tis] = {}
        self._queues: dict[Sq, None] = {}
        self._why = ""
        """Why it must end."""
        self._strange = {
            tis.tisn: tis for tis in objects.tises.values() if datapath.tls_tx.begun(tis.tisn)
        }
        """Contexts of which nothing is known."""
        datapath.hold(self._ring)

    def end(self) -> None:
        """Execute what waits, and close the file."""
        if not self._datapath.frozen:
            self._round()
        self._end(BY_USER)

    def drop(self, why: str) -> None:
        """Close the file; the queues are gone."""
        self._rung.clear()
        self._end(why)

    def _ring(self, sq: Sq) -> None:
        """A doorbell: note what is new, so that the order of doorbells is known."""
        if not self._rung:
            self._scheduler.call_later(self._hold, self._time)
        self._rung[sq] = None
        if sq.state is QueueState.RDY:
            try:
                self._note(sq)
            except (QueueFault, DmaFault) as fault:
                self._why = f"SQ {sq.config.sqn:#x}: {fault}"
        elif sq.state is QueueState.ERR:
            self._why = f"SQ {sq.config.sqn:#x} is in error"

    def _note(self, sq: Sq) -> None:
        for index, wqe in sq.posted(self._next.get(sq, sq.consumer)):
            self._noted.append((sq, index, wqe))
            self._next[sq] = _end_of(index, wqe)

    def _time(self) -> None:
        if self._writer is None:
            return
        if self._datapath.frozen:
            self._scheduler.call_later(self._hold, self._time)
            return
        self._round()

    def _round(self) -> None:
        """Write what was noted, and execute it in that order."""
        noted, self._noted = self._noted, []
        self._next.clear()
        self._why = self._why or self._write(noted)
        for sq, run in groupby(noted, itemgetter(0)):
            wqes = list(run)
            if not any(sq is queue for queue in self._datapath.queues()):
                self._why = self._why or f"SQ {sq.config.sqn:#x} is gone"
                continue
            sq.run(len(wqes), _ALL)
            if sq.consumer != _end_of(*wqes[-1][1:]) or sq.state is not QueueState.RDY:
                self._why = self._why or f"SQ {sq.config.sqn:#x} is in error or was reset"
        if self._why:
            self._end(self._why)
        else:
            self._rung.clear()
            self._datapath.report()

    def _write(self, noted: Sequence[tuple[Sq, int, bytes]]) -> str:
        """Write a round; why the recording must end."""
        writer = self._writer
        if writer is None or not noted:
            return ""
        try:
            for change in self._changes(dict.fromkeys(sq for sq, _, _ in noted)):
                writer.change(change)
            posted = [
                Posted(self.posted + number, sq.config.sqn, index, wqe)
                for number, (sq, index, wqe) in enumerate(noted)
            ]
            strange = self._acquainted(posted)
            for one in posted:
                writer.posted(self._complete(one, strange))
            writer.round()
        except OSError as error:
            return error.strerror or str(error)
        except (QueueFault, DmaFault) as fault:
            return str(fault)
        self.posted += len(posted)
        self.rounds += 1
        if writer.octets > MAX_OCTETS:
            return f"it has {writer.octets >> 20} MiB"
        return ""

    def _changes(self, queues: Iterable[Sq]) -> Iterable[Change]:
        """What has come and gone since the last round."""
        objects = self._objects
        tises: dict[int, Tis] = {tis.tisn: tis for tis in objects.tises.values() if tis.tls_en}
        deks: dict[int, Dek] = {dek.dekn: dek for dek in objects.deks.values()}
        for number, tis in self._tises.items():
            if tises.get(number) is not tis:
                yield Gone("tis", number)
        for number, dek in self._deks.items():
            if deks.get(number) is not dek:
                yield Gone("dek", number)
        yield from (dek for number, dek in deks.items() if self._deks.get(number) is not dek)
        yield from (tis for number, tis in tises.items() if self._tises.get(number) is not tis)
        self._tises, self._deks = tises, deks
        self._strange = {n: tis for n, tis in self._strange.items() if tises.get(n) is tis}
        for sq in queues:
            if sq not in self._queues:
                self._queues[sq] = None
                yield Queue(sq.config.sqn, sq.config.wq.log_size, sq.config.wq.pd)

    def _acquainted(self, posted: list[Posted]) -> set[int]:
        """Numbers of WQEs that use contexts of which nothing is known.

        One is known from its static parameters on, if but one queue uses it in this round.
        """
        unknown: set[int] = set()
        for tisn in tuple(self._strange):
            uses = [one for one in posted if one.tisn == tisn]
            static = next((one for one in uses if one.opcode == WqeOpcode.UMR), None)
            known = static is not None and len({one.sqn for one in uses}) == 1
            if known:
                del self._strange[tisn]
            begin = static.number if known and static is not None else self.posted + len(posted)
            unknown |= {one.number for one in uses if one.number < begin}
        return unknown

    def _complete(self, one: Posted, strange: set[int]) -> Posted:
        """The WQE with its data; a NOP for what does not send. Raises QueueFault."""
        control = CtrlSeg.decode(one.wqe)
        if one.number in strange:
            return one.nothing()
        if control.opcode in (WqeOpcode.SEND, WqeOpcode.LSO):
            size = send_segment(one.wqe)[5]
            at = inline_headers(one.wqe, size)[1] if size else DATA_AT
        elif control.opcode == WqeOpcode.DUMP:
            at = CtrlSeg.SIZE
        elif control.opmod == TlsOpmod.TIS or control.opcode == WqeOpcode.NOP:
            return one
        else:
            return one.nothing()
        pieces = self._gather.segments(one.wqe, at)
        if sum(map(len, pieces)) > MAX_DATA:
            raise QueueFault(f"WQE {one.index:#x} of SQ {one.sqn:#x} names too much", 0)
        return Posted(one.number, one.sqn, one.index, one.wqe, b"".join(pieces))

    def _end(self, why: str) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            writer.close(why)
        except OSError as error:
            why = error.strerror or str(error)
        self._datapath.hold(None)
        if self._rung:
            for sq in self._rung:
                self._datapath.ring_sq(sq.config.sqn)
            self._datapath.run()
        self._tracer.emit(RecordingEnded(str(self._path), self.rounds, self.posted, why))
        self._told()


def _end_of(index: int, wqe: bytes) -> int:
    """Index behind a WQE."""
    return index + -(-len(wqe) // SEND_WQE_BB) & 0xFFFF
