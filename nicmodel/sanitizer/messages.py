# SPDX-License-Identifier: GPL-2.0-or-later
"""The plaintext sentinel of SMT: messages that leave without the engine though it has their key.

Software may encrypt any record of them, so that is no finding; what the key has not encrypted is.
Packets are put together as they leave, one record at a time for each session: what is cut at the
NIC or just above it comes whole. Packets that are sent again alone are counted, not judged.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from nicmodel.frame import Frame, Traffic
from nicmodel.offload.smt.packet import DataPacket
from nicmodel.offload.tls.cipher import RecordCipher
from nicmodel.offload.tls.record import CONTENT_TYPES, HEADER, MAX_PLAINTEXT, TAG, RecordHeader
from nicmodel.sanitizer import packets
from nicmodel.sanitizer.accounts import Accounts
from nicmodel.sanitizer.sentinel import genuine

SESSIONS = 1024
"""Sessions that are remembered; the one that the engine used longest ago goes first."""

_PREFIX = HEADER + 8
"""Bytes before the text: header and explicit nonce, which is the record's number."""


@dataclass(slots=True)
class Session:
    """Messages between two ends, one direction, that a context encrypts.

    ``text`` is what was put together of the record at ``place``: id of the message, offset in it.
    ``reported``: plaintext of it was told since the engine was used last.
    """

    key: bytes
    tisn: int
    dekn: int
    cipher: RecordCipher
    text: bytearray = field(default_factory=bytearray)
    place: tuple[int, int] | None = None
    packets: int = 0
    reported: bool = False


@dataclass(frozen=True, slots=True)
class Clear:
    """``octets`` of message ``message`` that no key has encrypted; ``record`` if there is one."""

    session: Session
    sqn: int
    wqe: int
    message: int
    record: int | None
    octets: int


class MessageSentinel:
    """Of one NIC; ``tell`` is told of the first record whenever a session leaves the engine."""

    def __init__(self, accounts: Accounts, tell: Callable[[Clear], None]) -> None:
        self.sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._accounts = accounts
        self._tell = tell

    def offloaded(self, key: bytes, tisn: int, dekn: int, cipher: RecordCipher) -> None:
        """The engine encrypts for the session of these ends."""
        session = self.sessions.get(key)
        if session is None or session.dekn != dekn:
            session = self.sessions[key] = Session(key, tisn, dekn, cipher)
            if len(self.sessions) > SESSIONS:
                self.sessions.popitem(last=False)
        session.tisn = tisn
        session.reported = False
        self.sessions.move_to_end(key)

    def key_destroyed(self, dekn: int) -> None:
        """Whoever has the same ends next is somebody else."""
        for key in [key for key, one in self.sessions.items() if one.dekn == dekn]:
            self._drop(self.sessions.pop(key))

    def plain(self, traffic: Traffic, sqn: int, wqe: int) -> None:
        """Traffic of WQE ``wqe`` leaves that did not pass the engine; there are sessions."""
        if packets.message(traffic.head, traffic.length) is None:
            return
        for view in (traffic.data,) if isinstance(traffic, Frame) else traffic.views():
            found = packets.message(view, len(view))
            session = self.sessions.get(found[0]) if found is not None else None
            if found is not None and session is not None:
                self._packet(session, found[1], bytes(view[found[1].start : found[2]]), sqn, wqe)

    def _packet(
        self, session: Session, packet: DataPacket, payload: bytes, sqn: int, wqe: int
    ) -> None:
        place = packet.sender_id, packet.offset
        if packet.index == 0:
            self._drop(session)
            session.place = place
        elif session.place != place or session.packets != packet.index:
            self._drop(session)
            self._accounts.unjudged_octets += len(payload)
            return
        session.text += payload
        session.packets += 1
        text = session.text
        size = _size(text)
        if len(text) < size:
            return
        number = int.from_bytes(text[HEADER:_PREFIX], "big")
        record = bytes(text[:size]) if size else b""
        if record and genuine(session.cipher, number, record):
            self._accounts.software_records += 1
        elif not session.reported:
            session.reported = True
            known = number if record else None
            self._tell(Clear(session, sqn, wqe, packet.sender_id, known, len(text)))
        session.text.clear()
        session.place = None

    def _drop(self, session: Session) -> None:
        self._accounts.unjudged_octets += len(session.text)
        session.text.clear()
        session.place = None
        session.packets = 0


def _size(text: bytearray) -> int:
    """Bytes of the record that ``text`` begins; 0 if it begins none."""
    if len(text) < HEADER:
        return 0
    header = RecordHeader.parse(text)
    overhead = _PREFIX - HEADER + TAG
    if (
        header.type not in CONTENT_TYPES
        or not overhead <= header.length <= MAX_PLAINTEXT + overhead
    ):
        return 0
    return HEADER + header.length
