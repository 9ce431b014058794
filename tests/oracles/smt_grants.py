# SPDX-License-Identifier: GPL-2.0-or-later
"""What a receiver of plain SMT messages grants to their senders, as its port has seen both.

It sees data before the receiver does, so what it takes for awaited is no more than really is.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.oracles.capture import Captured
from tests.oracles.smt import DATA, FRAMING, HEADER, PROTOCOL

GRANT = 0x11
_SMT = 14 + 20
"""Where the transport's header begins."""

_RESENT = _SMT + HEADER - 2

Request = tuple[int, int]
"""Port of the client, and its id."""


@dataclass
class Grants:
    """``awaited``: bytes that were granted, and not here, at most. ``octets`` of requests came.

    ``unscheduled``: the priorities of data that needs no grant, by the length of its message; what
    is sent again has that which was asked for.
    ``control``: those of all other packets. ``wrong`` are sentences.
    """

    awaited: int = 0
    octets: int = 0
    unscheduled: defaultdict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    control: set[int] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)


@dataclass
class _Message:
    length: int
    granted: int
    came: int = 0
    parts: set[int] = field(default_factory=set)

    @property
    def awaited(self) -> int:
        return max(0, self.granted - self.came)


def look(frames: Iterable[Captured], server: int) -> Grants:
    """Look at requests to a server port, at what it grants, and at the priorities of all."""
    found = Grants()
    requests: dict[Request, _Message] = {}
    for one in frames:
        frame = one.data
        if frame[12:14] != b"\x08\0" or frame[23] != PROTOCOL:
            continue
        words = [int.from_bytes(frame[at : at + 4], "big") for at in range(62, 82, 4)]
        sport, dport = (int.from_bytes(frame[at : at + 2], "big") for at in (_SMT, _SMT + 2))
        kind, sender_id = frame[_SMT + 13], int.from_bytes(frame[54:62], "big")
        priority = frame[15] >> 5
        if server not in (sport, dport):
            continue
        if kind != DATA:
            found.control.add(priority)
        if kind == DATA and not one.outbound and not sender_id & 1:
            length, unscheduled, _, offset = words[:4]
            message = requests.setdefault((sport, sender_id), _Message(length, unscheduled))
            size = int.from_bytes(frame[16:18], "big") - 20 - HEADER - FRAMING
            # a segment goes whole as soon as its first byte may
            begin = int.from_bytes(frame[48:50] + frame[52:54], "big")
            if begin and begin >= message.granted:
                found.wrong.append(f"data of {begin}, granted are {message.granted}")
            if offset not in message.parts:
                message.parts.add(offset)
                message.came += size
                found.octets += size
            if offset < unscheduled and not frame[_RESENT]:
                found.unscheduled[length].add(priority)
        if kind == GRANT and one.outbound and sender_id & 1:
            message = requests[dport, sender_id ^ 1]
            if not message.granted <= words[0] <= message.length:
                found.wrong.append(f"{words[0]} of {message.length} after {message.granted}")
            message.granted = words[0]
            found.awaited = max(found.awaited, sum(each.awaited for each in requests.values()))
    return found
