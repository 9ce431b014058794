# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run has left: frames of its captures, and its events on the clock of the captures."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nicmodel.errors import UserError
from nicmodel.explain import guests
from nicmodel.explain.guests import GuestTrace
from nicmodel.frame import Headers
from nicmodel.offload.parse import parse
from nicmodel.offload.smt.packet import DataPacket, find_data
from nicmodel.spec.smt import (
    SmtAckA,
    SmtAckEntryA,
    SmtCommonA,
    SmtCommonB,
    SmtGrantA,
    SmtProtocol,
    SmtResendA,
    SmtType,
)
from nicmodel.wire.capture import CLEAR_SUFFIX
from nicmodel.wire.comment import Sent, read_sent
from nicmodel.wire.keyfile import Flow
from nicmodel.wire.pcapng_reader import Captured, read
from nicmodel.wire.port import Way


@dataclass(frozen=True, slots=True)
class Control:
    """A packet of SMT that carries no data: what it asks or says, in words."""

    kind: SmtType
    sender_id: int
    words: str
    acked: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Sight:
    """A frame at a port: ``nic`` has sent or received it. ``sent``: what its crypto engine says.

    ``time`` is in ns since 1970.
    """

    file: str
    number: int
    time: int
    nic: str
    way: Way | None
    source: bytes
    flow: Flow
    frame: bytes
    data: DataPacket | None = None
    control: Control | None = None
    sent: Sent | None = None

    @property
    def octets(self) -> int:
        """Bytes of the frame."""
        return len(self.frame)


@dataclass(frozen=True, slots=True)
class Left:
    """All that is left of a run. ``events`` have their ``time`` in ns since 1970."""

    sights: tuple[Sight, ...]
    events: tuple[dict[str, Any], ...]
    traces: tuple[GuestTrace, ...] = ()


def load(paths: Sequence[Path]) -> Left:
    """Read captures, and events and traces beside them; of a folder all that are in it.

    Raises UserError.
    """
    captures: dict[Path, None] = {}
    events: dict[Path, None] = {}
    traces: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            captures |= dict.fromkeys(sorted(path.rglob("*.pcapng")))
            events |= dict.fromkeys(sorted(path.rglob("*.jsonl")))
            traces |= dict.fromkeys(sorted(path.rglob(f"*{guests.SUFFIX}")))
        else:
            captures[path] = None
            events |= dict.fromkeys(sorted(path.parent.glob("*.jsonl")))
            traces |= dict.fromkeys(sorted(path.parent.glob(f"*{guests.SUFFIX}")))
    if not captures:
        where = ", ".join(map(str, paths))
        raise UserError(f"{where} has no capture; 'nicmodel up --capture' and tests make them")
    return Left(
        tuple(
            sorted((one for path in captures for one in _frames(path)), key=lambda one: one.time)
        ),
        tuple(
            sorted((one for path in events for one in _events(path)), key=lambda one: one["time"])
        ),
        tuple(guests.load(path) for path in traces),
    )


def _frames(path: Path) -> Iterator[Sight]:
    for captured in read(path):
        if captured.interface.endswith(CLEAR_SUFFIX):
            continue
        headers = parse(captured.data, len(captured.data))
        if headers is None or not headers.ip_version or headers.frag:
            continue
        sent = read_sent(captured.comment)
        if headers.ip_version == 4 and headers.ip_proto in list(SmtProtocol):
            sight = _smt(path.name, captured, headers, sent)
        else:
            sight = _sight(path.name, captured, headers, headers.sport, headers.dport, sent)
        if sight is not None:
            yield sight


def _sight(
    file: str,
    captured: Captured,
    headers: Headers,
    sport: int,
    dport: int,
    sent: Sent | None,
    *,
    data: DataPacket | None = None,
    control: Control | None = None,
) -> Sight:
    return Sight(
        file,
        captured.number,
        captured.time,
        captured.interface,
        captured.way,
        headers.src,
        Flow(headers.ip_proto, headers.src_ip, sport, headers.dst_ip, dport),
        captured.data,
        data,
        control,
        sent,
    )


def _smt(file: str, captured: Captured, headers: Headers, sent: Sent | None) -> Sight | None:
    data = find_data(captured.data[: headers.l3_end], headers.l3_end)
    if data is not None:
        return _sight(file, captured, headers, data.sport, data.dport, sent, data=data)
    body = captured.data[headers.l4_offset : headers.l3_end]
    variant = SmtProtocol(headers.ip_proto)
    if len(body) < max(SmtCommonA.SIZE, SmtCommonB.SIZE):
        return None
    common: SmtCommonA | SmtCommonB = (
        SmtCommonA.decode(body) if variant is SmtProtocol.A else SmtCommonB.decode(body)
    )
    if common.type not in list(SmtType):
        return None
    kind = SmtType(common.type)
    words, acked = _words(variant, kind, body)
    control = Control(kind, common.sender_id, words, acked)
    return _sight(file, captured, headers, common.sport, common.dport, None, control=control)


_WORDS = {
    SmtType.GRANT: "permits more",
    SmtType.RESEND: "asks for bytes again",
    SmtType.UNKNOWN: "does not know the message",
    SmtType.BUSY: "says that it lives and sends nothing now",
    SmtType.NEED_ACK: "asks for an acknowledgement",
    SmtType.ACK: "acknowledges",
}


def _words(variant: SmtProtocol, kind: SmtType, body: bytes) -> tuple[str, tuple[int, ...]]:
    """What a control packet says, and which RPCs it acknowledges; of B only what kind it is."""
    words = _WORDS.get(kind, f"sends {kind.name}")
    if variant is SmtProtocol.A:
        if kind is SmtType.GRANT and len(body) >= SmtGrantA.SIZE:
            return f"permits bytes up to {SmtGrantA.decode(body).offset}", ()
        if kind is SmtType.RESEND and len(body) >= SmtResendA.SIZE:
            resend = SmtResendA.decode(body)
            if resend.length:
                end = resend.offset + resend.length
                return f"asks again for bytes {resend.offset} to {end - 1}", ()
            return "asks whether the sender lives", ()
        if kind is SmtType.ACK and len(body) >= SmtAckA.SIZE:
            count = min(SmtAckA.decode(body).num_acks, 5)
            entries = (
                SmtAckEntryA.decode(body, SmtAckA.SIZE + at * SmtAckEntryA.SIZE).client_id
                for at in range(count)
                if len(body) >= SmtAckA.SIZE + (at + 1) * SmtAckEntryA.SIZE
            )
            return words, tuple(entries)
    return words, ()


_OF_USE = ("RunBegan", "TlsTxBegun", "TlsTxCompleted", "FrameImpaired", '"finding"')
"""What lines have that matter: most events do not."""


def _events(path: Path) -> Iterator[dict[str, Any]]:
    """Events of a NIC process; those of a run that does not say when it began have no place."""
    offset: int | None = None
    try:
        with path.open(errors="replace") as lines:
            for line in lines:
                if not any(word in line for word in _OF_USE):
                    continue
                try:
                    event = json.loads(line)
                except ValueError:
                    continue  # the last line of a process that was killed
                if not isinstance(event, dict) or not isinstance(event.get("time"), int):
                    continue
                if event.get("event") == "RunBegan":
                    offset = event["epoch"] - event["time"]
                elif offset is not None:
                    yield event | {"time": event["time"] + offset}
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
