# SPDX-License-Identifier: GPL-2.0-or-later
"""The sanitizer of one NIC: watches its engine, queues and events, and says what is wrong.

It changes nothing: what leaves corrupt, because the driver was wrong, leaves corrupt. Each check is
told once for a cause: a context that was reported to stand at the wrong place is not looked at
until it gets parameters again.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from nicmodel.frame import Origin, Traffic
from nicmodel.objects.queue import QueueState
from nicmodel.offload.smt.packet import INDEX_BITS, DataPacket, record_number
from nicmodel.offload.tls.cipher import RecordCipher
from nicmodel.offload.tls.record import TAG, Buffer
from nicmodel.offload.tls.stream import Record
from nicmodel.queues.datapath import Datapath
from nicmodel.queues.sq import Sq
from nicmodel.queues.tls_watch import Use
from nicmodel.sanitizer import packets
from nicmodel.sanitizer.accounts import PROGRESS_OCTETS, STATIC_OCTETS, Accounts, Limits
from nicmodel.sanitizer.context import Context
from nicmodel.sanitizer.findings import (
    BadUse,
    EncryptedTwice,
    Finding,
    Kind,
    LeftInClear,
    LimitExceeded,
    MissingResync,
    NeedlessResync,
    NonceReused,
    NotStarted,
    Policy,
    SecondQueue,
    TornDown,
    WentOnInSoftware,
    WrongRecordNumber,
)
from nicmodel.sanitizer.ledger import NonceLedger, Reuse
from nicmodel.sanitizer.messages import Clear, MessageSentinel
from nicmodel.sanitizer.options import SanitizerOptions
from nicmodel.sanitizer.sentinel import Flow, Judgement, Plain, Sentinel
from nicmodel.spec.smt import SmtProtocol
from nicmodel.spec.tls import TlsStaticParams, TlsVersion
from nicmodel.spec.wqe import WqeOpcode
from nicmodel.trace.events import CommandDone, DoorbellIgnored, QueueError
from nicmodel.trace.tracer import Record as TraceRecord
from nicmodel.trace.tracer import Severity, Tracer

WAITING = 4096
"""WQEs in rings that are looked at when somebody may be about to use a context wrongly."""

TWICE_EVERY = 64
"""Beside the first record after each resync, one record of so many is tried for whether it was
encrypted before the engine got it: that costs as much as encrypting it."""

_DATA = (WqeOpcode.SEND, WqeOpcode.LSO, WqeOpcode.DUMP)
_LOSING = ("MODIFY_SQ", "DESTROY_SQ")
"""Commands after which WQEs may be gone that were posted."""

_NUMBERS = (1 << 64) - 1


class Sanitizer:
    """It implements ``TlsWatch`` and ``Sink``, and ``sees`` what send queues send.

    ``frozen`` is told of a finding whose policy is to freeze, once. ``findings`` counts all of them
    by kind, also those that are ignored.
    """

    def __init__(
        self,
        options: SanitizerOptions,
        tracer: Tracer,
        frozen: Callable[[Finding], None] = lambda _: None,
    ) -> None:
        self.findings: Counter[Kind] = Counter()
        self.ledger = NonceLedger()
        self.accounts = Accounts()
        self._options = options
        self._tracer = tracer
        self._frozen: Callable[[Finding], None] | None = frozen
        self.start(tuple)

    def start(self, queues: Callable[[], Iterable[object]]) -> None:
        """Forget all contexts; ``queues`` gives those whose rings may hold WQEs."""
        self._queues = queues
        self.accounts = Accounts()
        self.sentinel = Sentinel(self.accounts, self._judged)
        self.messages = MessageSentinel(self.accounts, self._in_clear)
        self._limits = Limits(self._options.limits)
        self._contexts: dict[int, Context] = {}
        self._of_dek: dict[int, set[int]] = {}
        self._epoch = 0
        self._encrypted: deque[dict[Kind, int | None]] = deque()
        """What was found of each packet that has passed the engine and is yet to leave."""
        self._untried = 0
        self._refused: Use | None = None
        self._injected = False
        self._said: dict[Kind, int | None] = {}
        """What was found of the packet in work, and the TIS."""

    def begin(self, datapath: Datapath) -> None:
        """A life of the device begins. What nonces were used for stays remembered."""
        self.start(datapath.queues)
        datapath.sees = self.sees
        datapath.tls_tx.watches = (*datapath.tls_tx.watches, self)

    # what leaves

    def sees(self, sq: Sq, traffic: Traffic) -> None:
        """A send queue hands traffic to the port; what was found is the verdict on it."""
        if self._encrypted:
            said = self._encrypted.popleft()
            if said and traffic.origin is not None:
                verdict = f"{traffic.origin.verdict}, found: {', '.join(said)}"
                traffic.origin = replace(traffic.origin, verdict=verdict)
        elif self.sentinel.flows or self.messages.sessions:
            self._said = {}
            self.sentinel.plain(traffic, sq.config.sqn, sq.index)
            if self.messages.sessions:
                self.messages.plain(traffic, sq.config.sqn, sq.index)
            if self._said:
                tisn = next(iter(self._said.values()))
                verdict = f"not encrypted, found: {', '.join(self._said)}"
                traffic.origin = Origin("SQ", sq.config.sqn, sq.index, tisn or 0, (), verdict, 0, 0)

    def _judged(self, judgement: Judgement, sent: Plain) -> None:
        flow = judgement.flow
        where: dict[str, Any] = {
            "sqn": sent.sqn,
            "wqe": sent.wqe,
            "tisn": flow.tisn,
            "dek": flow.dekn,
            "record": judgement.number,
        }
        name = packets.name(flow.key)
        if judgement.genuine:
            self._find(WentOnInSoftware(flow=name, **where))
        else:
            self._find(
                LeftInClear(flow=name, tcp_sn=judgement.sn, octets=judgement.octets, **where)
            )

    def _in_clear(self, clear: Clear) -> None:
        session = clear.session
        self._find(
            LeftInClear(
                flow=packets.name(session.key[1:]),
                tcp_sn=None,
                octets=clear.octets,
                sqn=clear.sqn,
                wqe=clear.wqe,
                tisn=session.tisn,
                dek=session.dekn,
                record=clear.record,
                message=clear.message,
            )
        )

    # the engine

    def static_params(self, use: Use, params: TlsStaticParams, cipher: RecordCipher) -> None:
        """See ``TlsWatch``."""
        context = self._context(use)
        old = context.dekn
        accounts = self.accounts
        accounts.params_octets += STATIC_OCTETS
        if context.install(params, cipher):
            self._release(context.tisn, old)
            self._of_dek.setdefault(params.dek_index, set()).add(context.tisn)
            self._occupancy(+1)
        self._used(use)
        self._check_limits(use)

    def progress_params(self, use: Use) -> None:
        """See ``TlsWatch``."""
        context = self._used(use)
        accounts = self.accounts
        accounts.params_octets += PROGRESS_OCTETS
        times = context.begin(self._epoch)
        accounts.resyncs += times > 0
        accounts.resyncs_per_record = max(accounts.resyncs_per_record, times)
        self._check_limits(use)

    def dump(self, use: Use, octets: int) -> None:
        """See ``TlsWatch``."""
        context = self._used(use)
        self._starts(use, context)
        context.feed(octets)
        context.dumped += octets
        self.accounts.dumps += 1
        self.accounts.dump_octets += octets
        self._check_limits(use)

    def send(self, use: Use, header: Buffer, octets: int) -> None:
        """See ``TlsWatch``."""
        self._said = {}
        self._encrypted.append(self._said)
        context = self._contexts.get(use.tisn)
        if context is None or context.sqn != use.sqn:
            context = self._used(use)
        if context.pending:
            self._starts(use, context)
        found = packets.connection(header, len(header) + octets)
        context.message = self._message(context, header, octets) if found is None else None
        if found is not None:
            key, tcp_at = found
            sn = packets.sequence(header, tcp_at)
            flow = context.flow
            if flow is None or flow.key != key:
                self._in_flow(context, key, sn)
                flow = context.flow
            if context.next_sn is None:
                context.first_sn = sn - context.fed & packets.MASK
                self._placed(use, context)
            elif sn != context.next_sn and not context.quiet:
                self._jumped(use, context, sn)
            context.next_sn = sn = sn + octets & packets.MASK
            if flow is not None:
                flow.sent(sn)
        if context.stood is not None:
            if context.stood == context.position and not context.quiet:
                self._find(NeedlessResync(octets=context.dumped, **self._where(use, context)))
            context.stood = None
        context.fed += octets

    def passed(
        self, use: Use, data: Buffer, records: Sequence[Record], unfinished: Record | None
    ) -> None:
        """See ``TlsWatch``."""
        context = self._contexts[use.tisn]
        if records:
            if self._as_ever(context, records):
                self._untried += len(records)
                if not context.checked or self._untried >= TWICE_EVERY:
                    self._try(use, context, records[0], data)
            else:
                for record in records:
                    if record.tag is not None:
                        self._numbered(use, context, record)
                        self._note(use, context, record)
                        self._untried += 1
                        if not context.checked or self._untried >= TWICE_EVERY:
                            self._try(use, context, record, data)
            self.accounts.records += len(records)
            context.done(records)
        if unfinished is not None and unfinished.nonce:
            if not self._goes_on(context, unfinished):
                self._numbered(use, context, unfinished)
                self._reused(use, context, unfinished, self._look(context, unfinished))
            context.ahead(unfinished)

    def gave_up(self, use: Use, record: Record) -> None:
        """See ``TlsWatch``."""
        context = self._contexts.get(use.tisn)
        if context is not None and context.cipher is not None and record.nonce:
            self._note(use, context, record)

    def refused(self, use: Use, reason: str) -> None:
        """See ``TlsWatch``; the error of the queue that follows is the finding."""
        self._refused = use

    def tis_destroyed(self, tisn: int) -> None:
        """See ``TlsWatch``."""
        context = self._contexts.get(tisn)
        if context is not None:
            self._torn_down({tisn}, "TIS")
            self._release(tisn, context.dekn)
            del self._contexts[tisn]

    def dek_destroyed(self, dekn: int) -> None:
        """See ``TlsWatch``."""
        tisns = self._of_dek.get(dekn)
        if tisns:
            self._torn_down(tisns, "DEK")
            for tisn in tuple(tisns):
                self._release(tisn, dekn)
                self._contexts[tisn].dekn = None
        self.messages.key_destroyed(dekn)

    # events

    def write(self, record: TraceRecord) -> None:
        """See ``Sink.write``: what the model has refused already is a finding too."""
        event = record.event
        injected, self._injected = self._injected, event.severity is Severity.INJECTED
        if isinstance(event, QueueError):
            refused, self._refused = self._refused, None
            if event.kind == "SQ":
                self._epoch += 1
                self._encrypted.clear()
            if injected:
                return
            where: dict[str, Any] = {}
            if event.kind == "SQ":
                where = {"sqn": event.number, "wqe": event.index}
            if refused is not None and refused.sqn == event.number:
                context = self._contexts.get(refused.tisn)
                where["tisn"] = refused.tisn
                where["dek"] = None if context is None else context.dekn
            what = event.reason if event.kind == "SQ" else event.sentence()
            self._find(BadUse(reason=what, **where))
        elif isinstance(event, DoorbellIgnored):
            self._find(BadUse(reason=event.sentence()))
        elif isinstance(event, CommandDone) and event.opcode in _LOSING:
            self._epoch += 1

    # what others ask

    def status(self) -> dict[str, Any]:
        """Findings, counters and what was forgotten, as JSON has it."""
        ledger = self.ledger
        return {
            "findings": {kind.value: self.findings[kind] for kind in Kind},
            **self.accounts.as_dict(),
            "nonces": ledger.seen,
            "nonces_repeated": ledger.repeated,
            "nonces_uncompared": ledger.uncompared,
            "nonces_forgotten": ledger.forgotten,
            "flows_forgotten": self.sentinel.forgotten,
        }

    def summary(self) -> str | None:
        """What there was, in a line; None if there was nothing."""
        accounts, ledger = self.accounts, self.ledger
        found = ", ".join(f"{count} {kind}" for kind, count in self.findings.items() if count)
        if not ledger.seen and not found:
            return None
        line = (
            f"sanitizer: findings: {found or 'none'}; {ledger.seen} records, "
            f"{accounts.resyncs} resyncs, {accounts.params_octets} bytes of parameters, "
            f"{accounts.dump_octets} of DUMPs, at most {accounts.most_contexts} contexts"
        )
        if ledger.uncompared or ledger.forgotten:
            line += (
                f"; {ledger.uncompared} repeated nonces could not be compared, "
                f"{ledger.forgotten} were forgotten"
            )
        if accounts.software_records or accounts.unjudged_octets:
            line += (
                f"; without TIS {accounts.software_records} encrypted records and "
                f"{accounts.unjudged_octets} bytes that could not be judged"
            )
        return line

    # checks

    def _context(self, use: Use) -> Context:
        context = self._contexts.get(use.tisn)
        if context is None:
            context = self._contexts[use.tisn] = Context(use.tisn)
        return context

    def _used(self, use: Use) -> Context:
        """The context; is another queue in the middle of using it?"""
        context = self._context(use)
        if context.sqn != use.sqn:
            before, context.sqn = context.sqn, use.sqn
            if before is not None:
                found = self._waits({use.tisn}, but=use.sqn)
                if found is not None and not context.quiet:
                    self._second_queue(use, context, *found[:2])
        return context

    def _second_queue(self, use: Use, context: Context, sqn: int, wqe: int) -> None:
        context.quiet = True
        self._find(SecondQueue(other_sqn=sqn, other_wqe=wqe, **self._where(use, context)))

    def _starts(self, use: Use, context: Context) -> None:
        if context.pending and not context.quiet:
            context.quiet = True
            self._find(NotStarted(**self._where(use, context)))

    def _in_flow(self, context: Context, key: bytes, sn: int) -> None:
        """The context encrypts for the connection ``key``."""
        if context.cipher is None:
            return
        start = sn - context.fed & packets.MASK
        context.flow = Flow(key, context.tisn, context.dekn or 0, context.cipher, start)
        self.sentinel.offloaded(context.flow)

    def _message(self, context: Context, header: Buffer, octets: int) -> DataPacket | None:
        """The message that the context encrypts for, if it is one."""
        found = packets.message(header, len(header) + octets)
        if found is None:
            return None
        if context.cipher is not None and context.dekn is not None:
            self.messages.offloaded(found[0], context.tisn, context.dekn, context.cipher)
        return found[1]

    def _jumped(self, use: Use, context: Context, sn: int) -> None:
        """The packet is not the one that the context expects."""
        found = self._waits({use.tisn}, but=use.sqn)
        if found is not None:
            self._second_queue(use, context, *found[:2])
            return
        context.quiet = True
        assert context.next_sn is not None
        flow = context.flow
        plain = None if flow is None else flow.plain
        if (
            flow is not None
            and plain is not None
            and (plain.sn, plain.end) == (context.next_sn, sn)
            and True not in flow.reported
        ):
            # whoever encrypts in software does not come back to the engine
            if False not in flow.reported:
                self._judged(Judgement(flow, False, context.number, plain.sn, plain.octets), plain)
        else:
            where = self._where(use, context)
            self._find(MissingResync(expected_tcp_sn=context.next_sn, tcp_sn=sn, **where))

    def _placed(self, use: Use, context: Context) -> None:
        """It is known now which bytes the context was set up for."""
        known = context.known_number()
        if known is None or known == context.number:
            context.note_start()
        elif not context.quiet:
            context.quiet = True
            by = "earlier packets with these bytes say"
            self._find(WrongRecordNumber(meant=known, by=by, **self._where(use, context)))

    def _numbered(self, use: Use, context: Context, record: Record) -> None:
        """Is the number that the context uses that of the data?"""
        cipher = context.cipher
        if context.quiet or cipher is None or cipher.version is not TlsVersion.TLS_1_2:
            return
        written = int.from_bytes(record.nonce[4:], "big")
        offset = written - record.number & _NUMBERS
        message = context.message
        if message is not None:
            meant = record_number(message.variant, message.sender_id, 0)
            if message.variant is SmtProtocol.A and record.number >> INDEX_BITS != (
                meant >> INDEX_BITS
            ):
                context.quiet = True
                meant |= written & (1 << INDEX_BITS) - 1
                where = self._where(use, context, record.number)
                by = "the id of its message says"
                self._find(WrongRecordNumber(meant=meant, by=by, **where))
                return
            context.offset = 0  # an SMT record carries its number as explicit nonce
        if context.offset is None:
            context.offset = offset
        elif context.offset != offset:
            context.quiet = True
            meant = record.number + offset - context.offset & _NUMBERS
            where = self._where(use, context, record.number)
            earlier = ", beside those of earlier records," if message is None else ""
            by = f"its explicit nonce{earlier} says"
            self._find(WrongRecordNumber(meant=meant, by=by, **where))
            return
        if context.base is None:
            context.base = int.from_bytes(record.nonce, "big") - record.number
            context.name = cipher.digest + record.nonce[:4]

    def _as_ever(self, context: Context, records: Sequence[Record]) -> bool:
        """Do numbers and nonces go on, and are these new? Then they are noted."""
        base = context.base
        if base is None or context.quiet or context.message is not None:
            return False
        for record in records:
            if record.tag is None or int.from_bytes(record.nonce, "big") - record.number != base:
                return False
        first = base + records[0].number & _NUMBERS
        return self.ledger.rising(context.name, context.tisn, first, records)

    def _goes_on(self, context: Context, record: Record) -> bool:
        """The same of one that has not ended."""
        number = int.from_bytes(record.nonce, "big")
        return (
            number - record.number == context.base
            and not context.quiet
            and context.message is None
            and self.ledger.fresh(context.name, number & _NUMBERS)
        )

    def _try(self, use: Use, context: Context, record: Record, data: Buffer) -> None:
        context.checked = True
        self._untried = 0
        placeholder = bytes(data[record.end - TAG : record.end])
        if len(placeholder) == TAG and record.end >= TAG:
            self._try_twice(use, context, record, placeholder)

    def _try_twice(self, use: Use, context: Context, record: Record, placeholder: bytes) -> None:
        """Was what went in encrypted already? What came out is the plaintext then.

        So encrypting what came out gives what went in, and the tag that it had.
        """
        if context.cipher is None or not any(map(len, record.ciphertext)):
            return
        again = context.cipher.aead.encrypt(record.nonce, b"".join(record.ciphertext), record.aad)
        if again[-TAG:] == placeholder:
            self._find(EncryptedTwice(**self._where(use, context, record.number)))

    def _note(self, use: Use, context: Context, record: Record) -> None:
        assert context.cipher is not None
        message = None if context.message is None else context.message.sender_id
        reuse = self.ledger.note(context.cipher.digest, context.tisn, record, message)
        self._reused(use, context, record, reuse)

    def _look(self, context: Context, record: Record) -> Reuse | None:
        assert context.cipher is not None
        return self.ledger.look(context.cipher.digest, record)

    def _reused(self, use: Use, context: Context, record: Record, reuse: Reuse | None) -> None:
        if reuse is None or context.reused == record.nonce:
            return
        context.reused = record.nonce
        version = context.cipher.version if context.cipher is not None else None
        number = int.from_bytes(reuse.before_aad[:8], "big")
        self._find(
            NonceReused(
                nonce=record.nonce,
                before_tisn=reuse.before_tisn,
                before_record=number if version is TlsVersion.TLS_1_2 else record.number,
                before_message=reuse.before_message,
                differs=reuse.differs,
                **self._where(use, context, record.number),
            )
        )

    def _waits(
        self, tisns: set[int], *, but: int | None = None, opcodes: Sequence[int] | None = None
    ) -> tuple[int, int, int] | None:
        """The first WQE for one of ``tisns`` that waits in a ring but that of ``but``.

        Its queue, index and TIS. With ``opcodes`` only such a WQE counts.
        """
        left = WAITING
        for queue in self._queues():
            if not isinstance(queue, Sq) or queue.config.sqn == but:
                continue
            if queue.state is not QueueState.RDY:
                continue
            for index, opcode, tisn in queue.waiting(left):
                left -= 1
                if tisn in tisns and (opcodes is None or opcode in opcodes):
                    return queue.config.sqn, index, tisn
        return None

    def _torn_down(self, tisns: set[int], what: str) -> None:
        found = self._waits(tisns, opcodes=_DATA)
        if found is not None:
            sqn, wqe, tisn = found
            where = self._where(Use(sqn, wqe, tisn), self._contexts[tisn])
            self._find(TornDown(destroyed=what, **where))

    # bookkeeping

    def _release(self, tisn: int, dekn: int | None) -> None:
        """The context has no longer this key."""
        if dekn is None:
            return
        users = self._of_dek.get(dekn)
        if users is not None and tisn in users:
            users.remove(tisn)
            if not users:
                del self._of_dek[dekn]
            self._occupancy(-1)

    def _occupancy(self, change: int) -> None:
        accounts = self.accounts
        accounts.contexts += change
        accounts.keys = len(self._of_dek)
        accounts.most_contexts = max(accounts.most_contexts, accounts.contexts)
        accounts.most_keys = max(accounts.most_keys, accounts.keys)

    def _check_limits(self, use: Use) -> None:
        for name, most, count in self._limits.exceeded(self.accounts):
            where = self._where(use, self._contexts[use.tisn])
            self._find(LimitExceeded(limit=name.replace("_", " "), most=most, count=count, **where))

    def _where(self, use: Use, context: Context, record: int | None = None) -> dict[str, Any]:
        return {
            "sqn": use.sqn,
            "wqe": use.wqe,
            "tisn": use.tisn,
            "dek": context.dekn,
            "record": context.number if record is None else record,
            "message": None if context.message is None else context.message.sender_id,
        }

    def _find(self, finding: Finding) -> None:
        policy = self._options.policies[finding.KIND]
        self.findings[finding.KIND] += 1
        if policy is Policy.IGNORE:
            return
        self._said[finding.KIND] = finding.tisn
        finding = replace(finding, policy=policy)
        self._tracer.emit(finding)
        if policy is Policy.FREEZE and self._frozen is not None:
            tell, self._frozen = self._frozen, None
            tell(finding)
