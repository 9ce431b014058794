# SPDX-License-Identifier: GPL-2.0-or-later
"""Bugs that real projects had, put into the real driver: the sanitizer names each of them.

``fixtures/bug-*.patch`` are the bugs; one build of the driver has all of them, and a switch.
"""

import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nicmodel.testbed import driver
from nicmodel.testbed.lab import Lab
from tests.vm.conftest import Captures, revive
from tests.vm.ktls import conversation, no_software, report, talk
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


def first(found: list[dict[str, Any]], event: str | None = None) -> dict[str, Any]:
    """The first of the findings, or of those of a kind: a sentence, with all that names the place.

    It comes when the packet is sent, so there is nothing to wait for beyond the traffic.
    """
    assert found, "nothing was found"
    one = next(one for one in found if event in (None, one["event"]))
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
    assert status["nonces_uncompared"] < status["nonces_repeated"] / 4
    print(status)


@pytest.mark.matrix
@pytest.mark.findings
def test_a_context_used_on_a_second_queue(buggy: Pair) -> None:
    with bug(buggy, "second-queue"):
        talk(buggy, send=4 * MEBI, check=False, timeout=20)
    found = first(buggy.new_findings())
    assert found["event"] == "SecondQueue"
    assert found["other_sqn"] != found["sqn"]


@pytest.mark.matrix
@pytest.mark.findings
def test_a_missing_resync(buggy: Pair) -> None:
    lost = {"loss": 1, "nth": 5, "direction": "out", "match": DATA}
    buggy.model.control.link(buggy.a.name).impair(**lost)
    with bug(buggy, "missing-resync"):
        talk(buggy, send=MEBI, check=False, timeout=20)
    buggy.mend()
    found = first(buggy.new_findings())
    assert found["event"] == "MissingResync"
    assert found["tcp_sn"] != found["expected_tcp_sn"]


@pytest.mark.matrix
@pytest.mark.findings
def test_a_record_number_that_restarts(buggy: Pair) -> None:
    with bug(buggy, "number-restarts"):
        talk(buggy, send=8000, chunk=1000, pause=20000, check=False, timeout=20)
    everything = buggy.new_findings()
    restarted = first(everything)
    assert (restarted["event"], restarted["record"]) == ("WrongRecordNumber", 0)
    assert restarted["meant"] == 1
    found = first(everything, "NonceReused")
    assert (found["wqe"], found["record"], found["before_record"]) == (restarted["wqe"], 0, 0)
    assert found["differs"] == "plaintext"


@pytest.mark.findings
def test_a_number_of_32_bits_beside_one_of_64(buggy: Pair) -> None:
    with bug(buggy, "number-of-32-bits"):
        talk(buggy, send=MEBI, record=1 << 40, check=False, timeout=20)
    found = first(buggy.new_findings())
    assert found["event"] == "NeedlessResync"
    assert found["record"] >= 1 << 40


@pytest.mark.findings
def test_a_number_of_which_half_is_used(buggy: Pair) -> None:
    lost = {"loss": 1, "nth": 5, "direction": "out", "match": DATA}
    buggy.model.control.link(buggy.a.name).impair(**lost)
    with bug(buggy, "number-cut"):
        talk(buggy, send=MEBI, record=1 << 40, check=False, timeout=20)
    buggy.mend()
    found = first(buggy.new_findings())
    assert found["event"] == "WrongRecordNumber"
    assert found["meant"] - found["record"] == 1 << 40


@pytest.mark.matrix
@pytest.mark.findings
def test_a_wqe_without_tis(buggy: Pair) -> None:
    with bug(buggy, "plaintext"):
        talk(buggy, send=MEBI, check=False, timeout=20)
    found = first(buggy.new_findings())
    assert found["event"] == "LeftInClear"


@pytest.mark.findings
def test_a_context_torn_down_while_its_data_wait(buggy: Pair) -> None:
    # without completions the stack hands out two packets: the second one is in time for the switch
    with conversation(buggy, send=MEBI, chunk=1000, pause=1_000_000, port=7399):
        buggy.a.wait_until("ss -Htn state established dport = :7399 | grep -q .", timeout=20)
        with buggy.stalled(), bug(buggy, "torn-down"):
            # the driver itself says when it is about to destroy the key
            buggy.a.wait_until(f"grep -qx 0 {SWITCH}", timeout=20)
        buggy.a.run("true")
    found = first(buggy.new_findings())
    assert found["event"] == "TornDown"
    assert found["destroyed"] == "DEK"


@pytest.mark.findings
def test_freezing(tls_lab: Lab, captures: Captures, capfd: pytest.CaptureFixture[str]) -> None:
    """NICs and guests stand still; a debugger sees the guest; then all goes on."""
    pair = boot_pair(tls_lab, "ice", vcpus=1, sanitizer={"resync": "freeze", "params_octets": 0})
    captures.add(pair)
    pair.status = 1  # to freeze is to fail, too
    with conversation(pair, send=MEBI) as (client, server):
        stub = tls_lab.debugger(pair.a)
        wait_for(lambda: "nicmodel thaw" in capfd.readouterr().out)
        frozen = pair.model.control.status()["frozen"]
        assert frozen.startswith("icea: resync: SQ")
        assert ask_debugger(stub, "?").startswith("T")
        # its registers
        assert len(ask_debugger(stub, "g")) > 300
        assert pair.a.frozen
        assert pair.b.frozen
        pair.model.control.ask("thaw")
        wait_for(lambda: not pair.a.frozen and not pair.b.frozen)
        done, ended = client.wait(60), server.wait(60)
    assert report(done).error == report(ended).error == ""
    captures.end(pair)


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ask_debugger(stub: Path, packet: str) -> str:
    """One packet of gdb's remote protocol and its answer."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(20)
        line.connect(str(stub))
        line.sendall(f"+${packet}#{sum(packet.encode()) & 0xFF:02x}".encode())
        got = b""
        while not re.search(rb"\$([^#]*)#..", got):
            part = line.recv(4096)
            assert part, got
            got += part
        line.sendall(b"+")
    found = re.search(rb"\$([^#]*)#..", got)
    assert found is not None
    return found[1].decode()
