# SPDX-License-Identifier: GPL-2.0-or-later
"""Races between send queues: found in a recording, made short, replayed."""

import json
import re
import stat
from pathlib import Path
from random import Random

import pytest

from nicmodel.cli import main
from nicmodel.hunt.recording import load, save
from nicmodel.hunt.search import interleavings, packets_of
from tests.unit.device.machine import Loop
from tests.unit.hunt.rig import HOLD, Driver, shared_context


@pytest.fixture
def driver() -> Driver:
    return Driver(Loop())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.hunt"


def hunt(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    status = main(["hunt", *map(str, arguments)])
    said = capsys.readouterr()
    return status, said.out + said.err


def steps(said: str) -> list[str]:
    """Queue and name of each step of the order that was found."""
    return re.findall(r"^  ([RSP]\S*) +SQ", said, re.MULTILINE)


def test_the_race_of_the_paper(
    driver: Driver, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Resync 4, resync 5, packet 5, packet 4: the least that goes wrong, within 100 seeds."""
    shared_context(driver, path)
    status, said = hunt(capsys, path, "--seeds", "100")
    assert status == 1
    assert steps(said) == ["R4", "R5", "S5", "S4"]
    assert "\n  R4 R5 S5 S4\n  sequence: SQ 0x3, " in said
    assert "the context encrypts it as record 6 " in said


def test_what_was_found_is_replayed_by_one_command(
    driver: Driver, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared_context(driver, path)
    _, said = hunt(capsys, path)
    command = said.splitlines()[-1].removeprefix("replay: nicmodel hunt ").split()
    short = Path(command[-1])
    assert len(list(load(short).posted)) == 8
    assert stat.S_IMODE(short.stat().st_mode) == 0o600
    again = [hunt(capsys, *command) for _ in range(2)]
    assert again[0] == again[1]
    assert again[0][0] == 1
    assert again[0][1] in said
    # in the order in which it was posted there is nothing
    text = short.read_text()
    short.write_text(re.sub(r'{"order":.*\n', "", text))
    assert hunt(capsys, *command) == (0, "nothing is wrong\n")


def test_the_same_seed_finds_the_same(
    driver: Driver, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared_context(driver, path)
    said = [hunt(capsys, path, "--seed", seed) for seed in ("7", "7", "8", "9")]
    assert said[0] == said[1]
    assert len({text.split("; the shortest")[0] for _, text in said}) > 1


def test_a_packet_that_differs_is_wrong_without_a_finding(
    driver: Driver, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a transport that the sanitizer does not know, the bytes still tell."""
    shared_context(driver, path)
    status, said = hunt(capsys, path, "--sanitizer", "sequence=ignore,nonce=ignore")
    assert status == 1
    assert steps(said) == ["R4", "R5", "S5", "S4"]
    assert "the packet is encrypted under record number 6 and is not the one that" in said


def test_a_resync_on_another_queue_than_its_packet(
    driver: Driver, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The packet may go before it; if it is the first one, there are no parameters yet."""
    context = driver.context()
    with driver.recorded(path):
        driver.message(driver.sq(0), context, 3)
        driver.loop.advance(2 * HOLD)
        driver.message(driver.sq(0), context, 7, resync_on=driver.sq(1))
    status, said = hunt(capsys, path, "--seeds", "100")
    assert status == 1
    assert steps(said) == ["S7", "R7"]


def test_what_is_left_out_must_not_be_what_breaks_it(
    driver: Driver, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Packet 5 alone would be wrong in any order: it goes on where packet 4 has ended."""
    context = driver.context()
    with driver.recorded(path):
        driver.message(driver.sq(0), context, 4)
        driver.loop.advance(2 * HOLD)
        driver.message(driver.sq(0), context, 5)
        driver.message(driver.sq(1), context, 9)
    status, said = hunt(capsys, path, "--seeds", "100")
    assert status == 1
    assert steps(said) == ["R4", "S4", "R9", "S9", "S5"]


def test_the_shortest_order_begins_as_it_was_posted(
    driver: Driver, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    context = driver.context()
    with driver.recorded(path):
        driver.message(driver.sq(1), context, 9)
        driver.message(driver.sq(0), context, 4)
    status, said = hunt(capsys, path, "--seeds", "100")
    assert status == 1
    assert steps(said) == ["R9", "R4", "S4", "S9"]


def correct(driver: Driver, chance: Random, rounds: int) -> None:
    """Two sessions with a context for each queue, messages that go on or need a resync."""
    contexts = {(s, q): driver.context() for s in (0, 1) for q in (0, 1)}
    for _ in range(rounds):
        for _ in range(chance.randrange(1, 8)):
            queue, session = chance.randrange(2), chance.randrange(2)
            context = contexts[session, queue]
            next_one = driver.expected.get(context[0], 0)
            record = next_one if chance.random() < 0.5 else chance.randrange(1 << 20) << 16 | 0
            if record >= next_one:  # no number is used twice
                driver.message(driver.sq(queue), context, record)
        driver.loop.advance(2 * HOLD)
        driver.rewind()


def test_with_a_correct_driver_there_is_nothing(
    driver: Driver, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with driver.recorded(path):
        correct(driver, Random(3), 12)
    status, said = hunt(capsys, path, "--seeds", "50")
    assert (status, said.splitlines()[-1]) == (0, "50 orders, and none is wrong")
    assert int(re.findall(r"(\d+) of them with a choice", said)[0]) > 5


def test_what_is_wrong_as_posted_is_no_matter_of_order(
    driver: Driver, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    context = driver.context()
    with driver.recorded(path):
        driver.message(driver.sq(0), context, 3)
        driver.packet(driver.sq(0), context, 9)  # without a resync
        driver.ring(driver.sq(0))
        driver.message(driver.sq(0), context, 20)
    status, said = hunt(capsys, path)
    assert status == 1
    assert "wrong already as it was posted:\n  sequence: " in said
    assert "it takes the 5 WQEs up to there" in said
    replayed = hunt(capsys, "--replay", path.with_name("a.shortest.hunt"))
    assert replayed[0] == 1
    assert replayed[1].strip() in said


def test_a_recording_without_a_choice_is_no_success(
    driver: Driver, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    context = driver.context()
    with driver.recorded(path):
        driver.message(driver.sq(0), context, 3)
    status, said = hunt(capsys, path)
    assert status == 1
    assert "no round in which two queues had work" in said


def test_a_folder_is_all_its_recordings(
    driver: Driver, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        shared_context(driver, tmp_path / name / "a.hunt")
    for _ in range(2):  # what was found before is none of them
        status, said = hunt(capsys, tmp_path)
        assert (status, said.count("R4 R5 S5 S4")) == (1, 2)
    (tmp_path / "empty").mkdir()
    status, said = hunt(capsys, tmp_path / "empty")
    assert (status, "has no recording" in said) == (1, True)


def test_in_a_folder_one_recording_may_have_no_choice(
    driver: Driver, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    context = driver.context()
    with driver.recorded(path.with_name("alone.hunt")):
        driver.message(driver.sq(0), context, 3)
    assert hunt(capsys, path.parent)[0] == 1
    with driver.recorded(path):
        correct(driver, Random(1), 2)
    status, said = hunt(capsys, path.parent, "--seeds", "3")
    assert status == 0
    assert said.count("3 orders, and none is wrong") == 1


def test_packets_and_their_orders(driver: Driver, path: Path) -> None:
    recording = shared_context(driver, path)
    packets = packets_of(recording)
    assert sorted(n for packet in packets for n in packet) == list(range(22))
    assert frozenset({12, 13, 14, 15}) in packets
    posted = recording.rounds[2].posted
    wqes = [[one] for one in posted if one.number in (12, 15, 16, 19)]
    orders = [interleavings(wqes, turns) for turns in range(1, 5)]
    assert [len(list(some)) for some in orders] == [0, 2, 2, 2]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "line 1 makes no sense"),
        ("[1]\n", "line 1 makes no sense"),
        ('{"recording":2,"nic":"a","lso":"replicate"}\n', "of version 2, and 1 is known"),
        ('{"recording":1,"nic":"a","lso":"replicate"}\n{"x":1}\n', "line 2 makes no sense"),
        (
            '{"recording":1,"nic":"a","lso":"replicate"}\n'
            '{"wqe":0,"sqn":1,"index":0,"bytes":"00"}\n',
            "line 2 makes no sense",
        ),
    ],
)
def test_what_is_no_recording(
    path: Path, text: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path.write_text(text)
    status, said = hunt(capsys, path)
    assert status == 1
    assert why in said


def test_a_file_that_was_cut_is_read_up_to_there(driver: Driver, path: Path) -> None:
    whole = shared_context(driver, path)
    text = path.read_text()
    path.write_text(text[: text.rindex('{"round"') + 3])
    cut = load(path)
    assert [part.posted for part in cut.rounds] == [part.posted for part in whole.rounds[:-1]]
    assert cut.ended == "it was not ended"
    save(whole, path)
    assert list(load(path).posted) == list(whole.posted)
    assert json.loads(path.read_text().splitlines()[-1]) == {"ended": "its user has ended it"}
