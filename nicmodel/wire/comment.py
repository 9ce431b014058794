# SPDX-License-Identifier: GPL-2.0-or-later
"""What a capture says of each frame that a crypto engine has touched."""

from nicmodel.frame import Origin

_CONTEXTS = {"SQ": "TIS", "RQ": "TIR"}


def comments(origin: Origin, count: int) -> list[str]:
    """A sentence on each of ``count`` frames.

    "SQ 0x12 WQE 7 TIS 0x3, records 4-5: encrypted": the bytes of the frame are of these records.
    """
    head, tail = f"{_CONTEXTS[origin.queue]} {origin.context:#x}", f": {origin.verdict}"
    if origin.number is not None:
        head = f"{origin.queue} {origin.number:#x} WQE {origin.wqe} {head}"
    step = origin.step
    said: list[str] = []
    here: list[int] = []  # records of the frame that comes next
    for part in origin.records:
        first, last = part.start // step, min((part.end - 1) // step, count - 1)
        if first > len(said):
            said.append(head + _which(here) + tail)
            said += [head + tail] * (first - len(said))
            here = []
        here.append(part.number)
        if last > len(said):
            said.append(head + _which(here) + tail)
            here = [part.number]
            said += [head + _which(here) + tail] * (last - len(said))
    if len(said) < count:
        said.append(head + _which(here) + tail)
        said += [head + tail] * (count - len(said))
    return said


def _which(numbers: list[int]) -> str:
    if not numbers:
        return ""
    if len(numbers) == 1:
        return f", record {numbers[0]}"
    return f", records {numbers[0]}-{numbers[-1]}"
