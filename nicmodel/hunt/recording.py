# SPDX-License-Identifier: GPL-2.0-or-later
"""A recording: what the send queues of one NIC were given, with the data that their WQEs name.

It consists of *rounds*. The device had executed nothing of a round when all of it was posted, so
the driver cannot have known, and the queues of a round may be served in any order; what comes in a
later round may depend on that it was. The file has a JSON object a line; it holds keys and texts.
"""

import json
import os
import stat
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from io import TextIOBase
from pathlib import Path
from typing import Any

from nicmodel.errors import UserError
from nicmodel.objects.tls import Dek
from nicmodel.objects.transport import Tis
from nicmodel.offload.segment import OtherLso
from nicmodel.spec.tls import TlsOpmod
from nicmodel.spec.wqe import CtrlSeg, WqeOpcode
from nicmodel.units import Dekn, Pdn, Tdn, Tisn

VERSION = 1
_DATA = (WqeOpcode.SEND, WqeOpcode.LSO)
_TIS_SHIFT = 8
_PSV_TIS_AT = CtrlSeg.SIZE


@dataclass(frozen=True, slots=True)
class Posted:
    """One WQE. ``number`` counts what was posted from 0, ``index`` is that of its first WQEBB.

    ``data`` are the bytes that its data segments name, inline ones too.
    """

    number: int
    sqn: int
    index: int
    wqe: bytes = field(repr=False)
    data: bytes = field(default=b"", repr=False)

    @property
    def opcode(self) -> int:
        """Of its control segment."""
        return self.wqe[3]

    @property
    def tisn(self) -> int:
        """The TIS whose context it uses, 0 if it uses none."""
        control = CtrlSeg.decode(self.wqe)
        if control.opcode in (*_DATA, WqeOpcode.DUMP):
            return control.imm >> _TIS_SHIFT
        if control.opmod != TlsOpmod.TIS:
            return 0
        if control.opcode == WqeOpcode.UMR:
            return control.imm >> _TIS_SHIFT
        if control.opcode == WqeOpcode.SET_PSV:
            return int.from_bytes(self.wqe[_PSV_TIS_AT : _PSV_TIS_AT + 4], "big") & 0xFFFFFF
        return 0

    @property
    def sends(self) -> bool:
        """Is it a packet?"""
        return self.opcode in _DATA

    def nothing(self) -> "Posted":
        """A NOP of the same length in its place."""
        control = CtrlSeg.decode(self.wqe)
        first = replace(control, opcode=WqeOpcode.NOP, opmod=0, imm=0).encode()
        return replace(self, wqe=first + bytes(len(self.wqe) - len(first)), data=b"")


@dataclass(frozen=True, slots=True)
class Queue:
    """A send queue of 1 << ``log_size`` WQEBBs."""

    sqn: int
    log_size: int
    pd: int


@dataclass(frozen=True, slots=True)
class Gone:
    """A TIS or key exists no longer."""

    kind: str
    number: int


Change = Dek | Tis | Queue | Gone


@dataclass(frozen=True, slots=True)
class Round:
    """``changes`` happened before any of ``posted``, which are in the order in which they rang."""

    changes: tuple[Change, ...]
    posted: tuple[Posted, ...]

    @property
    def queues(self) -> int:
        """How many have something in it."""
        return len({one.sqn for one in self.posted})


@dataclass(frozen=True, slots=True)
class Recording:
    """``order``: the WQEs by number in the order that the file is about, None: as posted."""

    nic: str
    other_lso: OtherLso
    rounds: tuple[Round, ...]
    ended: str = ""
    order: tuple[int, ...] | None = None

    @property
    def posted(self) -> Iterator[Posted]:
        """All WQEs as they were posted."""
        return (one for part in self.rounds for one in part.posted)

    def only(self, numbers: set[int]) -> "Recording":
        """Of the WQEs only these; all changes stay."""
        rounds = tuple(
            Round(part.changes, tuple(one for one in part.posted if one.number in numbers))
            for part in self.rounds
        )
        return replace(self, rounds=rounds)


class Writer:
    """A new file that only its owner can read. Raises UserError when it cannot be created.

    Writing raises OSError.
    """

    def __init__(self, path: Path, nic: str, other_lso: OtherLso) -> None:
        self.octets = 0
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            if stat.S_ISREG(os.fstat(fd).st_mode):
                os.fchmod(fd, 0o600)
        except OSError as error:
            raise UserError(f"cannot create recording {path}: {error.strerror}") from error
        self._file: TextIOBase = os.fdopen(fd, "w")
        self._line(recording=VERSION, nic=nic, lso=other_lso.value)

    def change(self, change: Change) -> None:
        """Add what happened before the WQEs of the round that begins."""
        match change:
            case Dek():
                self._line(dek=change.dekn, pd=change.pd, key=change.key.hex())
            case Tis():
                self._line(tis=change.tisn, tls=change.tls_en, pd=change.pd)
            case Queue():
                self._line(sq=change.sqn, log_size=change.log_size, pd=change.pd)
            case Gone():
                self._line(gone=change.kind, number=change.number)

    def posted(self, one: Posted) -> None:
        """Add a WQE."""
        more = {"data": b64encode(one.data).decode()} if one.data else {}
        self._line(wqe=one.number, sqn=one.sqn, index=one.index, bytes=one.wqe.hex(), **more)

    def round(self) -> None:
        """All so far are done before anything that follows was posted."""
        self._line(round=True)
        self._file.flush()

    def order(self, numbers: Sequence[int]) -> None:
        """The order that the file is about."""
        self._line(order=list(numbers))

    def close(self, why: str) -> None:
        """End it."""
        try:
            self._line(ended=why)
        finally:
            self._file.close()

    def _line(self, **values: Any) -> None:
        line = json.dumps(values, separators=(",", ":")) + "\n"
        self.octets += len(line)
        self._file.write(line)


def save(recording: Recording, path: Path) -> None:
    """Write a recording. Raises UserError when that cannot be."""
    writer = Writer(path, recording.nic, recording.other_lso)
    try:
        for part in recording.rounds:
            for change in part.changes:
                writer.change(change)
            for one in part.posted:
                writer.posted(one)
            writer.round()
        if recording.order is not None:
            writer.order(recording.order)
        writer.close(recording.ended)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def load(path: Path) -> Recording:
    """Read a file of ``Writer``; a last line that is cut is left out. Raises UserError."""
    try:
        text = path.read_text()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no recording: it is not text") from error
    lines = text.rpartition("\n")[0].splitlines()
    number = 1
    try:
        first = json.loads(lines[0])
        nic, lso, version = str(first["nic"]), OtherLso(first["lso"]), first["recording"]
        reader = _Reader()
        while version == VERSION and number < len(lines):
            number += 1
            reader.line(json.loads(lines[number - 1]))
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise UserError(f"{path} is no recording: line {number} makes no sense") from error
    if version != VERSION:
        raise UserError(f"{path} is a recording of version {version}, and {VERSION} is known")
    return reader.recording(nic, lso)


class _Reader:
    def __init__(self) -> None:
        self._rounds: list[Round] = []
        self._changes: list[Change] = []
        self._posted: list[Posted] = []
        self._ended = "it was not ended"
        self._order: tuple[int, ...] | None = None

    def line(self, values: dict[str, Any]) -> None:
        match values:
            case {"dek": number, "pd": pd, "key": key}:
                self._changes.append(Dek(Dekn(number), Pdn(pd), bytes.fromhex(key)))
            case {"tis": number, "tls": tls, "pd": pd}:
                self._changes.append(Tis(Tisn(number), 0, tls, Tdn(0), Pdn(pd)))
            case {"sq": number, "log_size": log_size, "pd": pd}:
                if not 0 <= log_size <= 16:
                    raise ValueError(log_size)
                self._changes.append(Queue(number, log_size, pd))
            case {"gone": ("dek" | "tis") as kind, "number": number}:
                self._changes.append(Gone(kind, number))
            case {"wqe": number, "sqn": sqn, "index": index, "bytes": wqe}:
                data = b64decode(values.get("data", ""))
                raw = bytes.fromhex(wqe)
                if len(raw) < CtrlSeg.SIZE:
                    raise ValueError(wqe)
                self._posted.append(Posted(number, sqn, index, raw, data))
            case {"round": True}:
                self._rounds.append(Round(tuple(self._changes), tuple(self._posted)))
                self._changes, self._posted = [], []
            case {"order": order}:
                self._order = tuple(map(int, order))
            case {"ended": why}:
                self._ended = why
            case _:
                raise ValueError(values)

    def recording(self, nic: str, other_lso: OtherLso) -> Recording:
        return Recording(nic, other_lso, tuple(self._rounds), self._ended, self._order)
