# SPDX-License-Identifier: GPL-2.0-or-later
"""What the sanitizer finds: one event class for each thing that can be wrong, with its sentence.

The sentence says what is wrong and why that is bad; which queue, WQE, TIS, key and record stand
before it and in fields.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from nicmodel.offload.smt.packet import INDEX_BITS, record_number
from nicmodel.spec.smt import SmtProtocol
from nicmodel.trace.tracer import Event, Severity


class Kind(StrEnum):
    """What a policy can be chosen for."""

    NONCE = "nonce"
    """A nonce used twice under one key for different data."""
    PLAINTEXT = "plaintext"
    """Data of an offloaded connection that leave unencrypted, or encrypted twice."""
    SEQUENCE = "sequence"
    """A context that encrypts other data, or under another number, than it should."""
    RESYNC = "resync"
    """Resyncs that nothing asked for, and limits on what resyncs and contexts cost."""
    OBJECT = "object"
    """Objects and queues that are used wrongly."""
    FALLBACK = "fallback"
    """An offloaded connection that goes on in software, rightly encrypted."""


class Policy(StrEnum):
    """What becomes of a finding."""

    IGNORE = "ignore"
    """It is counted."""
    REPORT = "report"
    """It is an event, on stderr and in the file of events."""
    FAIL = "fail"
    """The run's exit status is 1 too."""
    FREEZE = "freeze"
    """The NICs and their guests stand still too, for a debugger."""


def number(value: int) -> str:
    """A record number: large ones are composed, and are read in hexadecimal."""
    return str(value) if value < 1 << 16 else f"{value:#x}"


def place(record: int | None, message: int | None) -> str:
    """Where a record is: its number, or for SMT the message and which of its records.

    A number that is not that of a record of the message is shown as it is.
    """
    if record is None:
        return "" if message is None else f"message {message:#x}"
    if message is None:
        return f"record {number(record)}"
    own = record >> INDEX_BITS in (0, record_number(SmtProtocol.A, message, 0) >> INDEX_BITS)
    which = str(record & (1 << INDEX_BITS) - 1) if own else number(record)
    return f"message {message:#x} record {which}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding(Event):
    """Base of all findings. What is not known, or means nothing there, is None.

    ``sqn`` and ``wqe`` are the send queue and the index of the WQE's first WQEBB; ``dek`` is the
    number of the key object, ``record`` the context's record number. ``message``: id of the SMT
    message that was being sent, as its sender has it.
    """

    severity: ClassVar[Severity] = Severity.FINDING
    KIND: ClassVar[Kind]
    policy: Policy = Policy.REPORT
    sqn: int | None = None
    wqe: int | None = None
    tisn: int | None = None
    dek: int | None = None
    record: int | None = None
    message: int | None = None

    def sentence(self) -> str:
        """See ``Event.sentence``."""
        parts = [
            f"{name} {value:#x}"
            for name, value in (
                ("SQ", self.sqn),
                ("WQE", self.wqe),
                ("TIS", self.tisn),
                ("DEK", self.dek),
            )
            if value is not None
        ]
        if where := place(self.record, self.message):
            parts.append(where)
        return f"{self.KIND}: {', '.join(parts)}{': ' if parts else ''}{self.what()}"

    def what(self) -> str:
        """What is wrong and why, without the place."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class NonceReused(Finding):
    """Two different records under one key have the same nonce."""

    KIND: ClassVar[Kind] = Kind.NONCE
    nonce: bytes
    before_tisn: int
    before_record: int | None
    differs: str
    before_message: int | None = None

    def what(self) -> str:
        """See ``Finding.what``."""
        before = place(self.before_record, self.before_message)
        return (
            f"nonce {self.nonce.hex()} was used before, for {before} of TIS {self.before_tisn:#x} "
            f"under the same key, and the {self.differs} is another one now, so the two "
            "ciphertexts reveal each other and tags can be forged"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftInClear(Finding):
    """Bytes of an offloaded connection left without TIS, and its key did not encrypt them.

    ``tcp_sn`` is None for a session of SMT.
    """

    KIND: ClassVar[Kind] = Kind.PLAINTEXT
    flow: str
    tcp_sn: int | None
    octets: int

    def what(self) -> str:
        """See ``Finding.what``."""
        where = f"from TCP sequence {self.tcp_sn} on of the offloaded connection"
        if self.tcp_sn is None:
            where = "of the offloaded session"
        return (
            f"{self.octets} bytes {where} {self.flow} left by a WQE that names no TIS, and they "
            "are no record that its key has encrypted, so plaintext is on the wire"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptedTwice(Finding):
    """What was given to the engine was encrypted already."""

    KIND: ClassVar[Kind] = Kind.PLAINTEXT

    def what(self) -> str:
        """See ``Finding.what``."""
        return (
            "what the WQE gave to the engine was encrypted with this key and nonce already, and "
            "encrypting it again undoes that, so plaintext is on the wire"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingResync(Finding):
    """The TCP sequence jumped, and nobody told the context."""

    KIND: ClassVar[Kind] = Kind.SEQUENCE
    expected_tcp_sn: int
    tcp_sn: int

    def what(self) -> str:
        """See ``Finding.what``."""
        return (
            f"the packet begins at TCP sequence {self.tcp_sn} but the context stands at "
            f"{self.expected_tcp_sn} and no parameters were posted in between (a resync is "
            "missing), so the packet is encrypted as other bytes than it carries and the peer "
            "cannot decrypt it"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongRecordNumber(Finding):
    """The context counts another record than the data are."""

    KIND: ClassVar[Kind] = Kind.SEQUENCE
    meant: int
    by: str

    def what(self) -> str:
        """See ``Finding.what``."""
        cut = self.record is not None and self.record == self.meant & 0xFFFFFFFF != self.meant
        why = " (of which only the lower 32 bits were used)" if cut else ""
        return (
            f"the context encrypts it as record {number(self.record or 0)} but {self.by} that it "
            f"is record {number(self.meant)}{why}, so its tag is that of another record and the "
            "peer cannot authenticate it"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NotStarted(Finding):
    """Data came for a context whose new static parameters no SET_PSV has put in force."""

    KIND: ClassVar[Kind] = Kind.SEQUENCE

    def what(self) -> str:
        """See ``Finding.what``."""
        return (
            "the context has new static parameters and got data before a SET_PSV, so it goes on "
            "where it stood instead of at its initial record"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedlessResync(Finding):
    """A resync that moved a context to where it stood."""

    KIND: ClassVar[Kind] = Kind.RESYNC
    octets: int

    def what(self) -> str:
        """See ``Finding.what``."""
        return (
            f"parameters and DUMPs of {self.octets} bytes moved the context to where it stood "
            "already, so the driver does not know what the context expects (does it compare "
            "numbers of different width?)"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitExceeded(Finding):
    """More of something than the run permits."""

    KIND: ClassVar[Kind] = Kind.RESYNC
    limit: str
    most: int
    count: int

    def what(self) -> str:
        """See ``Finding.what``."""
        return f"{self.limit} is {self.count}, and the run permits {self.most}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondQueue(Finding):
    """Two queues use one context at the same time."""

    KIND: ClassVar[Kind] = Kind.OBJECT
    other_sqn: int
    other_wqe: int

    def what(self) -> str:
        """See ``Finding.what``."""
        return (
            f"the WQE uses the context while WQE {self.other_wqe:#x} of SQ {self.other_sqn:#x} for "
            "the same context still waits; there is no order between queues, so what the context "
            "expects when this is executed is a matter of luck"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TornDown(Finding):
    """A context's key or TIS was destroyed while its data wait in a ring."""

    KIND: ClassVar[Kind] = Kind.OBJECT
    destroyed: str

    def what(self) -> str:
        """See ``Finding.what``."""
        return (
            f"the {self.destroyed} of the context was destroyed while this WQE with its data waits "
            "in the ring, so the data leave under no key or another one"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BadUse(Finding):
    """A queue or object was used in a way that hardware refuses."""

    KIND: ClassVar[Kind] = Kind.OBJECT
    reason: str

    def what(self) -> str:
        """See ``Finding.what``."""
        return self.reason


@dataclass(frozen=True, slots=True, kw_only=True)
class WentOnInSoftware(Finding):
    """A connection that had a context sends records that software has encrypted."""

    KIND: ClassVar[Kind] = Kind.FALLBACK
    flow: str

    def what(self) -> str:
        """See ``Finding.what``."""
        return (
            f"the offloaded connection {self.flow} goes on without TIS: this record was encrypted "
            "in software, rightly"
        )
