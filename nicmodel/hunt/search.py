# SPDX-License-Identifier: GPL-2.0-or-later
"""Draws orders until one is wrong, and makes what is wrong small.

A *packet* is a SEND or LSO with all that brings its context into step for it. What is left out is
left out as whole packets, and only if the rest is right as it was posted: then it is the order that
breaks it. Of the orders of the rest the shortest is the one with the fewest turns.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from random import Random

from nicmodel.hunt.recording import Posted, Recording
from nicmodel.hunt.replay import Order, Outcome, Wrong, as_posted, execute, regrouped
from nicmodel.sanitizer.options import SanitizerOptions
from nicmodel.spec.wqe import WqeOpcode

STAYING = (0.0, 0.5, 0.9, 0.98)
"""How likely a queue has the next turn too; each order draws one of these."""

MAX_ORDERS = 5000
"""Orders that are tried for the shortest one."""


@dataclass(frozen=True, slots=True)
class Found:
    """An order that is wrong: ``recording`` has no other WQEs than it needs, and the order.

    ``seed``: which draw found it, None if it is the order as posted. ``records``: with which
    record of its context each packet begins if all is executed as posted.
    """

    seed: int | None
    wrong: Wrong
    recording: Recording
    records: dict[int, int]


class Hunt:
    """Draws orders of ``recording``; ``random`` gives each draw its numbers."""

    def __init__(
        self, recording: Recording, options: SanitizerOptions, random: Callable[[int], Random]
    ) -> None:
        self.recording = recording
        self._options = options
        self._random = random
        self._right = execute(recording, as_posted(recording), options)

    @property
    def choices(self) -> int:
        """In how many rounds there is more than one order."""
        return sum(part.queues > 1 for part in self.recording.rounds)

    def try_posted(self) -> Found | None:
        """Is it wrong already as it was posted?"""
        wrong = self._right.wrong
        if wrong is None:
            return None
        numbers = [one.number for one in self.recording.posted if one.number <= wrong.at.number]
        return self._found(None, wrong, self.recording.only(set(numbers)), None)

    def try_seed(self, seed: int) -> Found | None:
        """Draw an order; if it is wrong, what is left of it."""
        order = drawn(self.recording, self._random(seed))
        wrong = self._wrong(self.recording, order)
        if wrong is None:
            return None
        return self._small(seed, order, wrong)

    def _wrong(self, recording: Recording, order: Order) -> Wrong | None:
        return execute(recording, order, self._options, self._right.sent).wrong

    def _small(self, seed: int, order: Order, wrong: Wrong) -> Found:
        done = _until(order, wrong.at)
        packets = [one for one in packets_of(self.recording) if not done.isdisjoint(one)]
        numbers = [one.number for part in order for one in part]

        def breaks(some: Sequence[frozenset[int]]) -> bool:
            kept = frozenset[int]().union(*some)
            rest = self.recording.only(set(kept))
            return (
                self._wrong(rest, as_posted(rest)) is None
                and self._wrong(rest, regrouped(rest, numbers)) is not None
            )

        if breaks(packets):
            packets = _fewest(packets, breaks)
        rest = self.recording.only(set(frozenset[int]().union(*packets)))
        order = self._fewest_turns(rest, regrouped(rest, numbers))
        found = self._wrong(rest, order)
        assert found is not None
        return self._found(seed, found, rest, [one.number for part in order for one in part])

    def _fewest_turns(self, rest: Recording, order: Order) -> Order:
        """The order that is wrong with the fewest turns of queues, round by round."""
        best = [list(part) for part in order]
        owner = {n: packet for packet in packets_of(rest) for n in packet}
        for number, part in enumerate(rest.rounds):
            if part.queues < 2:
                continue
            best[number] = list(part.posted)
            if self._wrong(rest, best) is not None:
                continue  # the order of this round does not matter
            best[number] = list(order[number])
            tried = 0
            for turns in range(part.queues, _turns(best[number]) + 1):
                for one in interleavings(_steps(part.posted, owner), turns):
                    tried += 1
                    again = [*best[:number], one, *best[number + 1 :]]
                    if self._wrong(rest, again) is not None:
                        best = again
                        break
                    if tried > MAX_ORDERS:
                        break
                else:
                    continue
                break
        return best

    def _found(
        self,
        seed: int | None,
        wrong: Wrong,
        recording: Recording,
        order: Sequence[int] | None,
    ) -> Found:
        rounds = tuple(part for part in recording.rounds if part.posted or part.changes)
        small = replace(recording, rounds=rounds, order=None if order is None else tuple(order))
        return Found(seed, wrong, small, self._right.records)


def replay(recording: Recording, options: SanitizerOptions) -> Outcome:
    """Execute the order that the recording is about."""
    posted = as_posted(recording)
    right = execute(recording, posted, options)
    if recording.order is None or right.wrong is not None:
        return right
    order = regrouped(recording, recording.order)
    outcome = execute(recording, order, options, right.sent)
    outcome.records = right.records
    return outcome


def drawn(recording: Recording, random: Random) -> Order:
    """An order of each round in which every queue keeps its own."""
    staying = random.choice(STAYING)
    order = []
    for part in recording.rounds:
        lines = _lines(part.posted)
        if len(lines) < 2:
            order.append(list(part.posted))
            continue
        out: list[Posted] = []
        line = random.choice(lines)
        while lines:
            if not line or random.random() >= staying:
                line = random.choice(lines)
            out.append(line.pop())
            if not line:
                lines.remove(line)
        order.append(out)
    return order


def packets_of(recording: Recording) -> list[frozenset[int]]:
    """Which WQEs, by number, are there for which packet: those of its context that precede it.

    What belongs to no packet stands alone.
    """
    waiting: dict[int, list[int]] = {}
    fenced: dict[int, int] = {}
    packets: list[frozenset[int]] = []
    for one in recording.posted:
        tisn = one.tisn
        if one.opcode == WqeOpcode.NOP and fenced.get(one.sqn):
            waiting.setdefault(fenced.pop(one.sqn), []).append(one.number)
            continue
        fenced[one.sqn] = tisn if tisn and not one.sends else 0
        if tisn and not one.sends:
            waiting.setdefault(tisn, []).append(one.number)
        else:
            packets.append(frozenset([*waiting.pop(tisn, []), one.number]))
    packets += map(frozenset, waiting.values())
    return packets


def interleavings(steps: Sequence[Sequence[Posted]], turns: int) -> Iterator[list[Posted]]:
    """All orders of a round with so many turns of queues, first those that are most as posted.

    ``steps`` are WQEs of one queue that stay together, in the order in which they were posted.
    """
    lines: dict[int, list[Sequence[Posted]]] = {}
    for step in steps:
        lines.setdefault(step[0].sqn, []).append(step)
    queues = [lines[sqn] for sqn in lines]

    def rest(at: tuple[int, ...], last: int, left: int) -> Iterator[list[Sequence[Posted]]]:
        open_ = [n for n, line in enumerate(queues) if at[n] < len(line)]
        if not open_:
            if not left:
                yield []
            return
        if left + (last in open_) < len(open_):
            return
        for n in sorted(open_, key=lambda n: queues[n][at[n]][0].number):
            if n != last and not left:
                continue
            behind = tuple(k + (m == n) for m, k in enumerate(at))
            for others in rest(behind, n, left - (n != last)):
                yield [queues[n][at[n]], *others]

    for order in rest((0,) * len(queues), -1, turns):
        yield [one for step in order for one in step]


def _steps(posted: Sequence[Posted], owner: dict[int, frozenset[int]]) -> list[list[Posted]]:
    """WQEs that stay together: a packet, or all that stands before it for its context."""
    steps: list[list[Posted]] = []
    last: dict[int, tuple[frozenset[int], bool]] = {}
    open_: dict[int, list[Posted]] = {}
    for one in posted:
        what = owner[one.number], one.sends
        if last.get(one.sqn) != what:
            open_[one.sqn] = []
            steps.append(open_[one.sqn])
        last[one.sqn] = what
        open_[one.sqn].append(one)
    return steps


def _turns(posted: Sequence[Posted]) -> int:
    return sum(1 for _ in groupby(posted, lambda one: one.sqn))


def _lines(posted: Sequence[Posted]) -> list[list[Posted]]:
    """The WQEs of each queue, last one first."""
    lines: dict[int, list[Posted]] = {}
    for one in reversed(posted):
        lines.setdefault(one.sqn, []).append(one)
    return list(lines.values())


def _until(order: Order, last: Posted) -> set[int]:
    """What is executed up to ``last``."""
    done: set[int] = set()
    for one in (one for part in order for one in part):
        done.add(one.number)
        if one.number == last.number:
            break
    return done


def _fewest(
    packets: Sequence[frozenset[int]], breaks: Callable[[Sequence[frozenset[int]]], bool]
) -> list[frozenset[int]]:
    """Delta debugging (Zeller): leave out more and more, until no single packet can be missed."""
    packets = list(packets)
    size = max(1, len(packets) // 2)
    while True:
        start, left_out = 0, False
        while start < len(packets):
            rest = packets[:start] + packets[start + size :]
            if rest and breaks(rest):
                packets, left_out = rest, True
            else:
                start += size
        if size == 1 and not left_out:
            return packets
        size = max(1, size // 2)
