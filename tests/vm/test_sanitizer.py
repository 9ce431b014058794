# SPDX-License-Identifier: GPL-2.0-or-later
"""Bugs that real projects had, put into the real driver: the sanitizer names each of them.

``fixtures/bug-*.patch`` are the bugs; one build of the driver has all of them, and a switch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nicmodel.testbed import driver
from nicmodel.testbed.lab import Lab
from tests.vm.conftest import Captures, revive
from tests.vm.ktls import conversation, no_software, talk
from tests.vm.pair import Pair, boot_pair
from tests.vm.traffic import MEBI

SWITCH = "/sys/module/mlx5_core/parameters/ktls_bug"
PATCHES = tuple(sorted((Path(__file__).parent / "fixtures").glob("bug-*.patch")))
NUMBER = {path.stem.split("-", 2)[2]: int(path.stem.split("-")[1]) for path in PATCHES}

DATA = "tcp.len > 0"


@pytest.fixture(scope="module")
def _buggy(lab: Lab, captures: Captures) -> Iterator[Pair]:
    made = boot_pair(lab.on(nic_driver=driver.Choice(True, PATCHES)), "bug", vcpus=4)
    captures.add(made)
    yield made
    captures.end(made)


@pytest.fixture
def buggy(_buggy: Pair) -> Pair:
    """Guests whose driver is right until it is told to have a bug."""
    revive(_buggy)
    _buggy.a.run(f"echo 0 >{SWITCH}")
    _buggy.new_findings()
    return _buggy


@contextmanager
def bug(pair: Pair, name: str) -> Iterator[None]:
    """Guest a's driver has a bug meanwhile."""
    pair.a.run(f"echo {NUMBER[name]} >{SWITCH}")
    try:
        yield
    finally:
        pair.a.run(f"echo 0 >{SWITCH}")


def first(pair: Pair) -> dict[str, Any]:
    """What the sanitizer found first in guest a's NIC: one sentence, with all that names the place.

    It comes when the packet is sent, so there is nothing to wait for beyond the traffic.
    """
    found = pair.new_findings()
    assert found, "nothing was found"
    one = found[0]
    assert one["nic"] == pair.a.name
    for where in ("sqn", "wqe", "tisn", "dek", "record"):
        assert one[where] is not None, one
    text: str = one["sentence"]
    assert text.count("\n") == 0
    assert ". " not in text
    print(text)
    return one


@pytest.mark.findings
def test_without_a_bug_there_is_nothing(buggy: Pair) -> None:
    """The switch alone changes nothing, also where the wire makes work for the driver."""
    for loss in (0.0, 0.02):
        buggy.model.control.link(buggy.a.name).impair(loss=loss, duplicate=loss, reorder=loss)
        with no_software(buggy.a, "Tx"):
            talk(buggy, send=2 * MEBI, receive=MEBI, connections=3, parallel=3)
    buggy.mend()
    assert buggy.new_findings() == []
    status = buggy.model.control.status()["sanitizer"][buggy.a.name]
    assert status["resyncs"] > 0
    assert status["dump_octets"] > 0
    assert status["nonces_repeated"] > 0
    assert status["nonces_uncompared"] == 0
    print(status)


@pytest.mark.findings
def test_a_context_used_on_a_second_queue(buggy: Pair) -> None:
    with bug(buggy, "second-queue"):
        talk(buggy, send=4 * MEBI, check=False, timeout=20)
    found = first(buggy)
    assert found["event"] == "SecondQueue"
    assert found["other_sqn"] != found["sqn"]


@pytest.mark.findings
def test_a_missing_resync(buggy: Pair) -> None:
    lost = {"loss": 1, "nth": 5, "direction": "out", "match": DATA}
    buggy.model.control.link(buggy.a.name).impair(**lost)
    with bug(buggy, "missing-resync"):
        talk(buggy, send=MEBI, check=False, timeout=20)
    buggy.mend()
    found = first(buggy)
    assert found["event"] == "MissingResync"
    assert found["tcp_sn"] != found["expected_tcp_sn"]


@pytest.mark.findings
def test_a_record_number_that_restarts(buggy: Pair) -> None:
    with bug(buggy, "number-restarts"):
        talk(buggy, send=8000, chunk=1000, pause=20000, check=False, timeout=20)
    found = first(buggy)
    assert found["event"] == "NonceReused"
    assert (found["record"], found["before_record"]) == (0, 0)
    assert found["differs"] == "plaintext"


@pytest.mark.findings
def test_a_number_of_32_bits_beside_one_of_64(buggy: Pair) -> None:
    with bug(buggy, "number-of-32-bits"):
        talk(buggy, send=MEBI, record=1 << 40, check=False, timeout=20)
    found = first(buggy)
    assert found["event"] == "NeedlessResync"
    assert found["record"] >= 1 << 40


@pytest.mark.findings
def test_a_number_of_which_half_is_used(buggy: Pair) -> None:
    lost = {"loss": 1, "nth": 5, "direction": "out", "match": DATA}
    buggy.model.control.link(buggy.a.name).impair(**lost)
    with bug(buggy, "number-cut"):
        talk(buggy, send=MEBI, record=1 << 40, check=False, timeout=20)
    buggy.mend()
    found = first(buggy)
    assert found["event"] == "WrongRecordNumber"
    assert found["meant"] - found["record"] == 1 << 40


@pytest.mark.findings
def test_a_wqe_without_tis(buggy: Pair) -> None:
    with bug(buggy, "plaintext"):
        talk(buggy, send=MEBI, check=False, timeout=20)
    found = first(buggy)
    assert found["event"] == "LeftInClear"


@pytest.mark.findings
def test_a_context_torn_down_while_its_data_wait(buggy: Pair) -> None:
    with conversation(buggy, send=20 * MEBI, chunk=1000, pause=5000):
        buggy.a.run("until ss -tni state established | grep -q bytes_sent; do sleep 0.05; done")
        with buggy.stalled(), bug(buggy, "torn-down"):
            # the driver itself says when it is about to destroy the key
            buggy.a.wait_until(f"grep -qx 0 {SWITCH}", timeout=20)
        buggy.a.run("true")
    found = first(buggy)
    assert found["event"] == "TornDown"
    assert found["destroyed"] == "DEK"
