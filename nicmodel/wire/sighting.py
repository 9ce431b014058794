# SPDX-License-Identifier: GPL-2.0-or-later
"""What was seen at a port, as bytes from the process that sees to the one that writes."""

import marshal
from dataclasses import dataclass
from struct import Struct
from typing import Any

import numpy as np

from nicmodel.frame import Clear, Frame, Origin, RecordPart, Traffic, Train
from nicmodel.wire.port import Way

_HEAD = Struct("<QIIIIIIBBH")
"""Time, rows (0: a frame), stride, width, last, length of what follows: origin, clear; way, number
of interfaces, the first one; the second one is the next number."""

NEW_INTERFACE = 0xFF
"""In place of a way: what follows is the name and description of a new interface."""


@dataclass(slots=True)
class Sighting:
    """``traffic`` crossed a port at ``time`` (ns since 1970).

    It is written to interface ``first``, and to ``first + 1`` in clear if there are two.
    """

    time: int
    way: Way
    traffic: Traffic
    first: int
    interfaces: int = 1


def interface(name: str, description: str) -> bytes:
    """A new interface."""
    text = marshal.dumps((name, description))
    return _HEAD.pack(0, 0, 0, 0, 0, len(text), 0, NEW_INTERFACE, 0, 0) + text


def size(traffic: Traffic, origin: bytes, clear: int) -> int:
    """Bytes of ``pack``."""
    octets = len(traffic.data) if isinstance(traffic, Frame) else traffic.rows.nbytes
    return _HEAD.size + len(origin) + octets + clear


def origin_bytes(origin: Origin) -> bytes:
    """All of it but the clear payload."""
    records = [(part.number, part.start, part.end) for part in origin.records]
    return marshal.dumps(
        (
            (origin.queue, origin.number, origin.wqe, origin.context),
            records,
            (origin.verdict, origin.payload_at, origin.step),
        )
    )


def pack(room: memoryview, sighting: Sighting, origin: bytes, clear: Clear) -> None:
    """Fill ``room`` of ``size`` bytes."""
    traffic = sighting.traffic
    if isinstance(traffic, Frame):
        data: Any = traffic.data
        shape = (0, 0, 0, len(data))
    else:
        rows = traffic.rows
        data = rows.reshape(-1).data
        shape = (len(rows), rows.shape[1], traffic.width, traffic.last)
    _HEAD.pack_into(
        room, 0, sighting.time, *shape, len(origin), len(clear),
        sighting.way, sighting.interfaces, sighting.first,
    )  # fmt: skip
    at = _HEAD.size
    if origin:
        end = at + len(origin)
        room[at:end] = origin
        at = end
    end = at + len(data)
    room[at:end] = data
    if clear:
        room[end:] = clear


def unpack(entry: memoryview) -> Sighting | tuple[str, str]:
    """A sighting, whose bytes are those of ``entry``, or name and description of an interface."""
    time, count, stride, width, last, origin_size, clear_size, way, interfaces, first = (
        _HEAD.unpack_from(entry)
    )
    at = _HEAD.size + origin_size
    meta = entry[_HEAD.size : at]
    if way == NEW_INTERFACE:
        name, description = marshal.loads(meta)
        return name, description
    end = len(entry) - clear_size
    origin = None
    if origin_size:
        (queue, number, wqe, context), records, (verdict, payload_at, step) = marshal.loads(meta)
        parts = tuple([RecordPart(*record) for record in records])
        clear = entry[end:] if clear_size else None
        origin = Origin(queue, number, wqe, context, parts, verdict, payload_at, step, clear)
    data = entry[at:end]
    traffic: Traffic
    if count:
        traffic = Train(np.frombuffer(data, np.uint8).reshape(count, stride), width, last)
    else:
        traffic = Frame(bytes(data))
    traffic.origin = origin
    return Sighting(time, Way(way), traffic, first, interfaces)
