# SPDX-License-Identifier: GPL-2.0-or-later
"""Races of a real driver: one run of it is recorded, and carried out in other orders.

The first of ``fixtures/smt-bugs.patch`` is that of the paper.
"""

import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from nicmodel import cli
from nicmodel.errors import UserError
from nicmodel.explain.pages import text
from nicmodel.explain.sights import load
from nicmodel.explain.story import of_record
from nicmodel.testbed import driver
from nicmodel.testbed.lab import Lab
from tests.vm.conftest import Captures, revive
from tests.vm.msgtx import PATCHES, SOURCE, Sent, Transport
from tests.vm.pair import boot_pair

BUG = SOURCE.with_name("smt-bugs.patch")
SWITCH = "/sys/module/mlx5_core/parameters/smt_bug"
LONG_US = 200_000
"""Long enough for a guest under emulation to send on two queues, whatever else the host does."""

SHORT_US = 20_000
"""Short enough for CoDel in the guest, which drops what waits longer than it likes for 100 ms."""


@pytest.fixture(scope="module")
def _racing(lab: Lab, captures: Captures) -> Iterator[Transport]:
    pair = boot_pair(lab.on(nic_driver=driver.Choice(True, (*PATCHES, BUG))), "race", vcpus=2)
    captures.add(pair)
    made = Transport(pair)
    made.load()
    yield made
    captures.end(pair)


@pytest.fixture
def transport(_racing: Transport) -> Iterator[Transport]:
    """The transport, with a session in slot 0 that has a context on each of two queues."""
    revive(_racing.pair)
    yield _racing
    for slot in tuple(_racing.keys):
        _racing.delete(slot)
    _racing.vm.run(f"echo 0 >{SWITCH}")


@contextmanager
def recorded(transport: Transport, name: str, hold_us: int) -> Iterator[Path]:
    """What the send queues of guest a are given meanwhile."""
    path = transport.pair.lab.folder / f"{name}.hunt"
    control, nic = transport.pair.model.control, transport.vm.name
    control.record(nic, path, hold_us=hold_us)
    transport.add(0)
    for queue in (0, 1):
        assert transport.say(f"get 0 {queue}") == ""
    yield path
    control.stop_recording(nic)


def explained(transport: Transport, record: int) -> str:
    """The story of a record that has arrived; what was captured is in the file a second later."""
    lines = ""
    deadline = time.monotonic() + 20
    while "arrives" not in lines and time.monotonic() < deadline:
        time.sleep(0.2)
        with suppress(UserError):  # not even sent, so far
            lines = "\n".join(text(of_record(load(transport.pair.captures), record)))
    return lines


def test_a_correct_driver_is_right_in_any_order(
    transport: Transport, capfd: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(transport.pair.lab.seed)
    with recorded(transport, "correct", SHORT_US) as path:
        for part in range(3):
            # each number once; some continue the record before, most do not
            numbers = [(part << 20) + (i << 8) + (i & 1) for i in range(8)]
            numbers += [number + 1 for number in numbers[::2]]
            segments = [
                Sent(0, number, chance.choice((100, 5000)), chance.randrange(2))
                for number in numbers
            ]
            transport.check(segments)
    assert cli.main(["hunt", str(path), "--seeds", "20"]) == 0
    said = capfd.readouterr().out
    assert "20 orders, and none is wrong" in said
    assert int(re.findall(r"(\d+) of them with a choice", said)[0]) >= 1


@pytest.mark.findings
def test_the_race_of_the_paper(transport: Transport, capfd: pytest.CaptureFixture[str]) -> None:
    """What left was right; the order in which a card could have read it is found."""
    transport.vm.run(f"echo 1 >{SWITCH}")
    with recorded(transport, "shared", LONG_US) as path:
        transport.check([Sent(0, 4, 100, 0), Sent(0, 5, 100, 1)])
    assert cli.main(["hunt", str(path), "--seeds", "100"]) == 1
    said = capfd.readouterr().out
    assert "\n  R4 R5 S5 S4\n" in said
    replay = said.splitlines()[-1].removeprefix("replay: nicmodel ").split()
    assert cli.main(replay) == 1
    assert "\n  R4 R5 S5 S4\n" in capfd.readouterr().out
    story = explained(transport, 5)
    for part in (
        r"SQ 0x\w+ WQE \d+: TIS 0x\w+ is told to go on with record 5$",
        r"SQ 0x\w+ WQE \d+, TIS 0x\w+, record 5: sends 1 frame \(frame \d+ of racea.pcapng\), encr",
        r"SQ 0x\w+: all up to WQE \d+ is complete$",
        r"raceb +1 frame arrives \(frame \d+ of raceb.pcapng\)$",
    ):
        assert re.search(part, story, re.MULTILINE), (part, story)
    assert {one["event"] for one in transport.pair.new_findings()} <= {
        "SecondQueue",
        "NeedlessResync",
    }
