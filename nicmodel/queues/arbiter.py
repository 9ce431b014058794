# SPDX-License-Identifier: GPL-2.0-or-later
"""Which send queue is next: a card promises no order, so a run may choose one that hurts.

Whatever the policy, what a queue may do in its turn and all queues in one run is bounded
(``Datapath.run``), and the same doorbells with the same seed give the same order.
"""

from collections import OrderedDict
from enum import StrEnum
from random import Random

from nicmodel.units import Sqn


class Policy(StrEnum):
    """In which order send queues with posted WQEs have their turns."""

    FAIR = "fair"
    """One after the other, as their doorbells rang."""
    GREEDY = "greedy"
    """A queue goes on until it is empty."""
    REVERSE = "reverse"
    """The queue whose doorbell rang last is first; behind its turn it is the last."""
    RANDOM = "random"
    """Each turn is drawn."""


class Arbiter:
    """The send queues that have work, in the order of their turns. ``random`` draws for RANDOM."""

    def __init__(self, policy: Policy = Policy.FAIR, random: Random | None = None) -> None:
        self._policy = policy
        self._random = random or Random(0)
        self._line: OrderedDict[Sqn, None] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._line)

    def ring(self, sqn: Sqn) -> None:
        """The doorbell of ``sqn`` rang."""
        self._line[sqn] = None
        if self._policy is Policy.REVERSE:
            self._line.move_to_end(sqn, last=False)

    def next(self) -> Sqn:
        """Take the queue out whose turn it is; there must be one."""
        if self._policy is not Policy.RANDOM:
            return self._line.popitem(last=False)[0]
        chosen = self._random.choice(list(self._line))
        del self._line[chosen]
        return chosen

    def again(self, sqn: Sqn) -> None:
        """The turn of ``sqn`` is over and it has posted WQEs left."""
        self._line[sqn] = None
        if self._policy is Policy.GREEDY:
            self._line.move_to_end(sqn, last=False)

    def forget(self, sqn: Sqn) -> None:
        """``sqn`` is gone."""
        self._line.pop(sqn, None)

    def clear(self) -> None:
        """All are gone."""
        self._line.clear()
