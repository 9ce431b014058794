# SPDX-License-Identifier: GPL-2.0-or-later
"""Bugs of a driver that encrypts messages: the sanitizer names each of them.

``fixtures/smt-bugs.patch`` has them, and a switch. Without a bug: ``test_smt_offload.py``.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from nicmodel.testbed import driver
from nicmodel.testbed.agent import GuestProcess
from nicmodel.testbed.lab import Lab
from tests.vm.conftest import Captures
from tests.vm.msgtx import PATCHES, SOURCE
from tests.vm.pair import Pair, boot_pair
from tests.vm.smt import SmtPair
from tests.vm.test_smt_offload import policy, traffic, wait_for

pytestmark = [pytest.mark.findings, pytest.mark.timeout(300)]

BUGS = SOURCE.with_name("smt-bugs.patch")
SWITCH = "/sys/module/mlx5_core/parameters/smt_bug"
NAMES = ("wrong-queue", "missing-resync", "compared-32", "cut-32", "torn-down", "no-tis")
NUMBER = {name: number for number, name in enumerate(NAMES, 1)}


@pytest.fixture(scope="module")
def smt_pair(lab: Lab, captures: Captures) -> Iterator[SmtPair]:
    """Guests whose driver is right until it is told to have a bug; only devices encrypt."""
    chosen = lab.on(nic_driver=driver.Choice(True, (*PATCHES, BUGS)))
    pair = boot_pair(chosen, "smtb", vcpus=2, capture=False)
    captures.add(pair)
    made = SmtPair(pair, chosen.folder)
    for vm in (pair.a, pair.b):
        made.load(vm)
    policy("required", pair.a, pair.b)
    yield made
    captures.end(pair)


@contextmanager
def bug(smt_pair: SmtPair, name: str) -> Iterator[None]:
    """Guest a's driver has a bug meanwhile."""
    smt_pair.a.run(f"echo {NUMBER[name]} >{SWITCH}")
    try:
        yield
    finally:
        smt_pair.a.run(f"echo 0 >{SWITCH}")


def first(pair: Pair, event: str) -> dict[str, Any]:
    """The first new finding, of this kind: a sentence with all that names the place."""
    deadline = time.monotonic() + 20
    while not (found := pair.new_findings()):
        assert time.monotonic() < deadline, "nothing was found"
        time.sleep(0.05)
    one = found[0]
    assert one["event"] == event, one
    for where in ("sqn", "wqe", "tisn", "dek", "record"):
        assert one[where] is not None, one
    print(one["sentence"])
    return one


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("missing-resync", "WrongRecordNumber"),
        ("compared-32", "NeedlessResync"),
        ("cut-32", "WrongRecordNumber"),
        ("no-tis", "LeftInClear"),
    ],
)
def test_under_traffic(smt_pair: SmtPair, name: str, event: str) -> None:
    """Of messages with two records each."""
    a, pair = smt_pair.a, smt_pair.pair
    with traffic(smt_pair, a, load="20000:2:1000000") as (client, _):
        wait_for(smt_pair, a, "tx_hw_messages", 10)
        client.kill("STOP")
        assert pair.new_findings() == []
        with bug(smt_pair, name):
            before = smt_pair.stats(a)
            client.kill("CONT")
            wait_for(smt_pair, a, "tx_hw_segments", 2, before)
    found = first(pair, event)
    assert found["message"] is not None
    if event == "WrongRecordNumber":
        assert found["meant"] >> 16 == found["message"] % (1 << 49) >> 1
        assert found["meant"] != found["record"]


@contextmanager
def stopped(smt_pair: SmtPair) -> Iterator[GuestProcess]:
    """A client that has sent some messages, by turns on both queues, and got all answers."""
    a = smt_pair.a
    before = smt_pair.stats(a)
    lost = before["tx_messages"] - before["rx_messages"]
    with traffic(smt_pair, a, "--roam", load="1000:4:1000000") as (client, _):
        wait_for(smt_pair, a, "tx_hw_messages", 20)
        client.kill("STOP")
        sums = "/^tx_messages/ { n += $2 } /^rx_messages/ { n -= $2 }"
        a.wait_until(f"awk '{sums} END {{ exit n != {lost} }}' /proc/net/smt")
        assert smt_pair.pair.new_findings() == []
        yield client


def test_a_context_used_on_a_second_queue(smt_pair: SmtPair) -> None:
    """New messages are in both rings when the NIC looks, whichever it takes first.

    What it took last the first time it does not take first the second time.
    """
    a, pair = smt_pair.a, smt_pair.pair
    with stopped(smt_pair) as client, bug(smt_pair, "wrong-queue"):
        for _ in range(2):
            before = smt_pair.stats(a)
            with pair.stalled():
                client.kill("CONT")
                wait_for(smt_pair, a, "tx_hw_segments", 4, before)
                client.kill("STOP")
            wait_for(smt_pair, a, "rx_messages", 4, before)
        client.kill("CONT")
    found = first(pair, "SecondQueue")
    assert found["other_sqn"] != found["sqn"]


def test_a_context_torn_down_while_its_data_wait(smt_pair: SmtPair) -> None:
    with (
        stopped(smt_pair) as client,
        smt_pair.pair.stalled(),
        bug(smt_pair, "torn-down"),
    ):
        client.kill("CONT")
        # the driver itself says when it is about to destroy the context
        smt_pair.a.wait_until(f"grep -qx 0 {SWITCH}", timeout=20)
    found = first(smt_pair.pair, "TornDown")
    assert found["destroyed"] == "TIS"
