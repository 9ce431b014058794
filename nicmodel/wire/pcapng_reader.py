# SPDX-License-Identifier: GPL-2.0-or-later
"""Read the Ethernet frames of a pcapng file (draft-ietf-opsawg-pcapng), whoever wrote it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import BinaryIO

from nicmodel.errors import UserError
from nicmodel.wire.pcapng import (
    BYTE_ORDER_MAGIC,
    COMMENT,
    EPB_FLAGS,
    IF_NAME,
    IF_TSRESOL,
    INTERFACE,
    LINKTYPE_ETHERNET,
    PACKET,
    SECTION,
)
from nicmodel.wire.port import Way

_MAX_BLOCK = 1 << 24
"""Longest block that is read, bytes; Wireshark's bound."""

_LEAST = 12
"""Bytes of an empty block."""

_DEFAULT_RESOLUTION = 6
"""Time stamps are in us if the interface does not say."""


@dataclass(frozen=True, slots=True)
class Captured:
    """A frame: ``number`` counts from 1 as other tools do, ``time`` is in ns since 1970.

    ``interface`` is its name, empty if it has none. ``way`` is None if the capture does not say.
    """

    number: int
    interface: str
    time: int
    way: Way | None
    data: bytes
    comment: str = ""


@dataclass(frozen=True, slots=True)
class _Interface:
    name: str
    ethernet: bool
    unit: int
    """Ticks of its clock in a second."""


def read(path: Path) -> Iterator[Captured]:
    """Yield the whole Ethernet frames in order; a block that is cut off ends the file.

    Raises UserError when the file cannot be read or is no pcapng file.
    """
    try:
        with path.open("rb") as file:
            yield from _blocks(file, path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def _blocks(file: BinaryIO, path: Path) -> Iterator[Captured]:
    order = ""
    interfaces: list[_Interface] = []
    number = 0
    while len(head := file.read(8)) == 8:
        if int.from_bytes(head[:4], "little") == SECTION:
            magic = file.read(4)
            order = {BYTE_ORDER_MAGIC: "<"}.get(int.from_bytes(magic, "little"), "")
            if int.from_bytes(magic, "big") == BYTE_ORDER_MAGIC:
                order = ">"
            interfaces = []
            file.seek(-4, 1)
        if not order:
            raise UserError(f"{path} is no pcapng file; 'editcap -F pcapng' makes one of others")
        kind, length = Struct(f"{order}II").unpack(head)
        if not _LEAST <= length <= _MAX_BLOCK or length % 4:
            raise UserError(f"{path} has a block of {length} bytes: it is damaged")
        body = file.read(length - 8)
        if len(body) < length - 8:
            return
        body = body[:-4]
        if kind == INTERFACE and len(body) >= 8:
            interfaces.append(_interface(body, order))
        elif kind == PACKET and len(body) >= 20:
            number += 1
            frame = _packet(number, body, order, interfaces)
            if frame is not None:
                yield frame


def _interface(body: bytes, order: str) -> _Interface:
    options = dict(_options(body, 8, order))
    resolution = (options.get(IF_TSRESOL) or bytes([_DEFAULT_RESOLUTION]))[0]
    unit = 1 << (resolution & 0x7F) if resolution & 0x80 else 10 ** (resolution & 0x7F)
    (link_type,) = Struct(f"{order}H").unpack_from(body)
    name = options.get(IF_NAME, b"").decode(errors="replace")
    return _Interface(name, link_type == LINKTYPE_ETHERNET, unit)


def _packet(number: int, body: bytes, order: str, interfaces: list[_Interface]) -> Captured | None:
    index, high, low, captured, original = Struct(f"{order}5I").unpack_from(body)
    if index >= len(interfaces) or captured != original or 20 + captured > len(body):
        return None
    interface = interfaces[index]
    if not interface.ethernet:
        return None
    time = (high << 32 | low) * 1_000_000_000 // interface.unit
    options = dict(_options(body, 20 + captured + -captured % 4, order))
    flags = int.from_bytes(options.get(EPB_FLAGS, b""), "little" if order == "<" else "big") & 3
    way = Way(flags) if flags in list(Way) else None
    comment = options.get(COMMENT, b"").decode(errors="replace")
    return Captured(number, interface.name, time, way, body[20 : 20 + captured], comment)


def _options(body: bytes, at: int, order: str) -> Iterator[tuple[int, bytes]]:
    head = Struct(f"{order}HH")
    while at + 4 <= len(body):
        code, length = head.unpack_from(body, at)
        if not code:
            return
        yield code, body[at + 4 : at + 4 + length]
        at += 4 + length + -length % 4
