# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of each frame of one direction of a link: a function of the seed and the frames.

Time has no part in it, nor has what became of other frames: each rule judges every frame as it was
sent, in the order of sending. So who has the frames and the seed can judge again and gets the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from nicmodel.wire.match import Seen
from nicmodel.wire.rule import Rule


@dataclass(slots=True)
class Fate:
    """What the rules together do to one frame; ``why`` has each deed with its rule, from 1."""

    why: list[tuple[str, int]]
    lost: bool = False
    copies: int = 0
    """How many beside the frame itself."""
    flips: tuple[int, ...] = ()
    """Bits that change; bit 0 is the highest of the first byte."""
    behind: int = 0
    """How many later frames pass first, at most within ``hold`` ns."""
    hold: int = 0
    delay: int = 0
    """ns."""
    rates: tuple[int, ...] = ()
    """Rules (from 1) whose rate it must keep to."""


class Judge:
    """Judges the frames of one direction by ``rules``, from the first frame on."""

    def __init__(self, rules: Sequence[Rule], seed: str) -> None:
        self.frames = 0
        """Judged so far."""
        self._random = Random(seed)
        self._courts = [_Court(number, rule, self._random) for number, rule in enumerate(rules, 1)]

    def judge(self, data: bytes | bytearray | memoryview) -> Fate | None:
        """The fate of the next frame; None if it just passes."""
        self.frames += 1
        seen = Seen(data, self.frames)
        fate: Fate | None = None
        for court in self._courts:
            fate = court.judge(seen, fate)
        return fate


class _Court:
    """One rule and what it remembers."""

    def __init__(self, number: int, rule: Rule, random: Random) -> None:
        self._number = number
        self._rule = rule
        self._random = random
        self._matched = 0
        self._losing = False
        self._rolls = [
            (rule.loss, self._lose),
            (rule.corrupt, self._corrupt),
            (rule.duplicate, self._duplicate),
            (rule.reorder, self._reorder),
        ]
        self._rolls = [(chance, deed) for chance, deed in self._rolls if chance]

    def judge(self, seen: Seen, fate: Fate | None) -> Fate | None:
        """``fate`` with what this rule does."""
        rule = self._rule
        if rule.match is not None and not rule.match(seen):
            return fate
        if rule.nth is not None:
            self._matched += 1
            first, last = rule.nth
            if self._matched < first or (last is not None and self._matched > last):
                return fate
        if rule.enter:
            if self._random.random() < (rule.leave if self._losing else rule.enter):
                self._losing = not self._losing
            if self._losing:
                fate = fate or Fate([])
                self._lose(fate, seen)
        for chance, deed in self._rolls:
            if self._random.random() < chance:
                fate = fate or Fate([])
                deed(fate, seen)
        if rule.delay or rule.jitter:
            fate = fate or Fate([])
            fate.delay += max(0, rule.delay + self._jitter())
        if rule.rate:
            fate = fate or Fate([])
            fate.rates += (self._number,)
        return fate

    def _jitter(self) -> int:
        jitter = self._rule.jitter
        if not jitter:
            return 0
        if self._rule.normal:
            return round(self._random.gauss(0, jitter))
        return round(self._random.uniform(-jitter, jitter))

    def _lose(self, fate: Fate, _seen: Seen) -> None:
        fate.lost = True
        fate.why.append(("lost", self._number))

    def _corrupt(self, fate: Fate, seen: Seen) -> None:
        first, last = self._rule.corrupt_bytes
        end = len(seen.data) if last is None else min(last + 1, len(seen.data))
        bits = (end - first) * 8
        if bits <= 0:
            return
        count = min(self._rule.corrupt_bits, bits)
        flips = self._random.sample(range(first * 8, end * 8), count)
        fate.flips += tuple(sorted(flips))
        fate.why.append(("corrupted", self._number))

    def _duplicate(self, fate: Fate, _seen: Seen) -> None:
        fate.copies += 1
        fate.why.append(("duplicated", self._number))

    def _reorder(self, fate: Fate, _seen: Seen) -> None:
        fate.behind = max(fate.behind, self._rule.reorder_by)
        fate.hold = max(fate.hold, self._rule.reorder_ns)
        fate.why.append(("reordered", self._number))


def flipped(data: bytes | bytearray | memoryview, bits: Sequence[int]) -> bytes:
    """``data`` with some bits changed; a bit that is named twice is not."""
    changed = bytearray(data)
    for bit in bits:
        changed[bit >> 3] ^= 0x80 >> (bit & 7)
    return bytes(changed)
