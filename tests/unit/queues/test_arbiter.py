# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose turn it is, under each policy."""

from random import Random

import pytest

from nicmodel.queues.arbiter import Arbiter, Policy
from nicmodel.units import Sqn


def turns(arbiter: Arbiter, work: dict[int, int], rings: dict[int, list[int]]) -> list[int]:
    """Serve until all is done; ``work``: turns that each queue needs, ``rings``: doorbells that
    ring after so many turns."""
    order = []
    for sqn in work:
        arbiter.ring(Sqn(sqn))
    while arbiter:
        sqn = arbiter.next()
        order.append(int(sqn))
        work[sqn] -= 1
        for other in rings.get(len(order), ()):
            arbiter.ring(Sqn(other))
        if work[sqn]:
            arbiter.again(sqn)
    return order


@pytest.mark.parametrize(
    ("policy", "order"),
    [
        (Policy.FAIR, [1, 2, 3, 1, 2, 3, 1]),
        (Policy.GREEDY, [1, 1, 1, 2, 2, 3, 3]),
        (Policy.REVERSE, [3, 2, 1, 3, 2, 1, 1]),
    ],
)
def test_each_policy_has_its_order(policy: Policy, order: list[int]) -> None:
    assert turns(Arbiter(policy), {1: 3, 2: 2, 3: 2}, {}) == order


@pytest.mark.parametrize(
    ("policy", "order"),
    [
        (Policy.FAIR, [1, 2, 3, 1, 2, 3]),
        (Policy.GREEDY, [1, 1, 2, 2, 3, 3]),
        (Policy.REVERSE, [3, 1, 2, 3, 1, 2]),
    ],
)
def test_a_doorbell_in_between_moves_only_the_last_rung(policy: Policy, order: list[int]) -> None:
    assert turns(Arbiter(policy), {1: 2, 2: 2, 3: 2}, {1: [1]}) == order


def drawn(seed: str) -> list[int]:
    return turns(Arbiter(Policy.RANDOM, Random(seed)), dict.fromkeys(range(8), 4), {})


def test_a_draw_depends_on_the_seed_alone() -> None:
    assert drawn("1/arbitration/a") == drawn("1/arbitration/a")
    assert drawn("1/arbitration/a") != drawn("2/arbitration/a")
    assert sorted(drawn("x")) == sorted(list(range(8)) * 4)


@pytest.mark.parametrize("policy", Policy)
def test_a_queue_that_is_gone_has_no_turn(policy: Policy) -> None:
    arbiter = Arbiter(policy)
    for sqn in (1, 2):
        arbiter.ring(Sqn(sqn))
    arbiter.forget(Sqn(1))
    arbiter.forget(Sqn(5))
    assert arbiter.next() == 2
    assert not arbiter
    arbiter.ring(Sqn(1))
    arbiter.clear()
    assert not arbiter
