# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a context stands: what it expects, as far as one can tell from outside."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from nicmodel.offload.smt.packet import DataPacket
from nicmodel.offload.tls.cipher import RecordCipher
from nicmodel.offload.tls.record import next_number
from nicmodel.offload.tls.stream import Record
from nicmodel.sanitizer.packets import MASK
from nicmodel.sanitizer.sentinel import Flow
from nicmodel.spec.tls import TlsStaticParams

RESYNCED = 16
"""Records whose resyncs are counted one by one, for each context."""


@dataclass(frozen=True, slots=True)
class Position:
    """``rest`` bytes of record ``number`` have passed."""

    number: int
    rest: int


@dataclass(slots=True)
class Context:
    """One TIS.

    ``dekn`` is None while it has no key that exists. ``sqn``: who used it last. ``given``: what
    static parameters have brought, ``cipher``: what is in force since the progress parameters after
    them. ``offset``: explicit nonce less record number, 64 bit, the same for all records of one key
    object. ``base``: all 12 bytes of nonce less record number. ``name``: key and salt, for the
    ledger. ``next_sn``: TCP sequence of the byte that it expects, None until a packet says it.
    ``message``: of the packet that was sent last, if that was SMT.
    ``epoch``: that of the run when the progress parameters came (``Sanitizer``). ``quiet``: it is
    known to stand at the wrong place, until it gets parameters again. ``reused``: the nonce that
    was reported last.
    """

    tisn: int
    dekn: int | None = None
    cipher: RecordCipher | None = None
    given: RecordCipher | None = None
    initial: int = 0
    sqn: int | None = None
    offset: int | None = None
    base: int | None = None
    name: bytes = b""
    started: bool = False
    pending: bool = False
    quiet: bool = False
    epoch: int = -1
    next_sn: int | None = None
    first_sn: int | None = None
    fed: int = 0
    ended: int = 0
    number: int = 0
    dumped: int = 0
    reused: bytes = b""
    checked: bool = False
    stood: Position | None = None
    flow: Flow | None = None
    message: DataPacket | None = None
    resynced: dict[int, int] = field(default_factory=dict)

    @property
    def position(self) -> Position:
        """What has passed since the progress parameters."""
        return Position(self.number, self.fed - self.ended)

    def install(self, params: TlsStaticParams, cipher: RecordCipher) -> bool:
        """New static parameters; is it another key than before?"""
        self.pending = True
        self.initial = params.initial_record_number
        same = self.given is not None and self.given.digest == cipher.digest
        self.given = cipher
        if same and self.dekn == params.dek_index:
            return False
        self.dekn = params.dek_index
        self.offset = None
        self.started = False
        self.stood = None
        self.flow = None
        self.resynced = {}
        return True

    def begin(self, epoch: int) -> int:
        """Progress parameters; how often this record has been resynced now, 0 for the first ones.

        ``epoch`` changes when WQEs may have been lost: then nobody knows where the driver means the
        context to stand.
        """
        known = self.started and not self.quiet and self.epoch == epoch and self.fed > 0
        self.stood = self.position if known else None
        resync, self.started = self.started, True
        self.cipher = self.given
        self.pending = self.quiet = self.checked = False
        self.reused = b""
        self.base = None
        self.epoch = epoch
        self.next_sn = self.first_sn = None
        self.fed = self.ended = self.dumped = 0
        self.number = self.initial
        if not resync:
            return 0
        times = self.resynced[self.number] = self.resynced.pop(self.number, 0) + 1
        if len(self.resynced) > RESYNCED:
            del self.resynced[next(iter(self.resynced))]
        return times

    def feed(self, octets: int) -> None:
        """Bytes pass."""
        self.fed += octets

    def known_number(self) -> int | None:
        """The number of the record that it is in, as earlier packets of the connection had it."""
        if self.flow is None or self.first_sn is None:
            return None
        return self.flow.starts.get(self.first_sn + self.ended & MASK)

    def note_start(self) -> None:
        """Remember where the record begins that it is in."""
        self._note(self.ended, self.number)

    def done(self, records: Sequence[Record]) -> None:
        """Records that have ended in one run of the stream."""
        first, last = records[0], records[-1]
        before = self.ended + first.octets - first.end  # what ``end`` counts from
        self.ended = before + last.end
        self.number = next_number(last.number)
        if self.flow is not None and self.first_sn is not None and not self.quiet:
            sn = self.first_sn + before
            self.flow.note_all(
                {sn + record.end & MASK: next_number(record.number) for record in records}
            )

    def ahead(self, record: Record) -> None:
        """Of the record in progress the length is known."""
        self._note(self.ended + record.octets, next_number(record.number))

    def _note(self, at: int, number: int) -> None:
        if self.flow is not None and self.first_sn is not None and not self.quiet:
            self.flow.note(self.first_sn + at & MASK, number)
