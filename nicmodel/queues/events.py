# SPDX-License-Identifier: GPL-2.0-or-later
"""Events of queues and of what they feed."""

from dataclasses import dataclass
from typing import ClassVar

from nicmodel.trace.tracer import Event, Severity


@dataclass(frozen=True, slots=True)
class TlsRxResyncAsked(Event):
    """A receive context has found what looks like a record header and marked its frame."""

    tirn: int
    tcp_sn: int

    def sentence(self) -> str:
        """See ``Event.sentence``."""
        return f"TIR {self.tirn:#x} asks which TLS record begins at TCP sequence {self.tcp_sn}"


@dataclass(frozen=True, slots=True)
class TlsRxResyncAnswered(Event):
    """The driver has said which record begins where; ``used``: it was what had been asked."""

    tirn: int
    tcp_sn: int
    number: int
    used: bool

    def sentence(self) -> str:
        """See ``Event.sentence``."""
        answer = f"TLS record {self.number} begins at TCP sequence {self.tcp_sn}"
        return f"TIR {self.tirn:#x} was told that {answer}{'' if self.used else ', unasked'}"


@dataclass(frozen=True, slots=True)
class TlsRxForged(Event):
    """A received record has a wrong tag."""

    tirn: int
    number: int

    def sentence(self) -> str:
        """See ``Event.sentence``."""
        return f"TIR {self.tirn:#x}: TLS record {self.number} is not authentic"


@dataclass(frozen=True, slots=True)
class TlsRxEnded(Event):
    """A receive context is gone: frames and bytes that it decrypted, questions, wrong tags."""

    tirn: int
    packets: int
    octets: int
    asked: int
    forged: int

    def sentence(self) -> str:
        """See ``Event.sentence``."""
        return (
            f"TIR {self.tirn:#x} has decrypted {self.packets} frames of {self.octets} bytes, asked "
            f"{self.asked} times for the record, and found {self.forged} records not authentic"
        )


@dataclass(frozen=True, slots=True)
class TlsRxIgnored(Event):
    """A WQE has TLS parameters for a TIR that does not exist."""

    severity: ClassVar[Severity] = Severity.GUEST_FAULT
    tirn: int

    def sentence(self) -> str:
        """See ``Event.sentence``."""
        return f"TLS parameters for TIR {self.tirn:#x} change nothing: there is no such TIR"


@dataclass(frozen=True, slots=True)
class TlsTxBegun(Event):
    """A transmit context was told with which record it goes on: it is new, or a resync."""

    sqn: int
    wqe: int
    tisn: int
    record: int

    def sentence(self) -> str:
        """See ``Event.sentence``."""
        return (
            f"SQ {self.sqn:#x} WQE {self.wqe}: TIS {self.tisn:#x} expects record {self.record} next"
        )


@dataclass(frozen=True, slots=True)
class TlsTxCompleted(Event):
    """The first completion behind a packet that a context has encrypted."""

    sqn: int
    wqe: int

    def sentence(self) -> str:
        """See ``Event.sentence``."""
        return f"SQ {self.sqn:#x}: all up to WQE {self.wqe} is complete"
