# SPDX-License-Identifier: GPL-2.0-or-later
"""What a capture says of each frame that a crypto engine has touched."""

import re
from dataclasses import dataclass

from nicmodel.frame import Origin

_CONTEXTS = {"SQ": "TIS", "RQ": "TIR"}
_SENT = re.compile(
    r"SQ 0x(?P<sqn>[0-9a-f]+) WQE (?P<wqe>\d+) TIS 0x(?P<tisn>[0-9a-f]+)"
    r"(?:, records? (?P<first>\d+)(?:-(?P<last>\d+))?)?: (?P<verdict>.*)"
)


@dataclass(frozen=True, slots=True)
class Sent:
    """What the comment on a frame that was sent says; ``records`` is empty where it is silent."""

    sqn: int
    wqe: int
    tisn: int
    records: range
    verdict: str


def read_sent(comment: str) -> Sent | None:
    """Read a comment of ``comments``, padded or not; None if it is another one."""
    found = _SENT.fullmatch(comment.rstrip())
    if found is None:
        return None
    first, last = found["first"], found["last"] or found["first"]
    records = range(int(first), int(last) + 1) if first else range(0)
    where = int(found["sqn"], 16), int(found["wqe"]), int(found["tisn"], 16)
    return Sent(*where, records, found["verdict"])


def comments(origin: Origin, count: int) -> list[tuple[str, int]]:
    """Sentences on ``count`` frames in order, and how many frames in a row each is for.

    "SQ 0x12 WQE 7 TIS 0x3, records 4-5: encrypted": the bytes of the frame are of these records.
    """
    head, tail = f"{_CONTEXTS[origin.queue]} {origin.context:#x}", f": {origin.verdict}"
    if origin.number is not None:
        head = f"{origin.queue} {origin.number:#x} WQE {origin.wqe} {head}"
    step = origin.step
    said: list[tuple[str, int]] = []
    frame = 0  # the one that comes next
    here: list[int] = []  # its records
    for part in origin.records:
        first, last = part.start // step, min((part.end - 1) // step, count - 1)
        if first > frame:
            said.append((head + _which(here) + tail, 1))
            if first > frame + 1:
                said.append((head + tail, first - frame - 1))
            frame, here = first, []
        here.append(part.number)
        if last > frame:
            said.append((head + _which(here) + tail, 1))
            here = [part.number]
            if last > frame + 1:
                said.append((head + _which(here) + tail, last - frame - 1))
            frame = last
    if frame < count:
        said.append((head + _which(here) + tail, 1))
        if frame + 1 < count:
            said.append((head + tail, count - frame - 1))
    return said


def _which(numbers: list[int]) -> str:
    if not numbers:
        return ""
    if len(numbers) == 1:
        return f", record {numbers[0]}"
    return f", records {numbers[0]}-{numbers[-1]}"
