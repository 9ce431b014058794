# SPDX-License-Identifier: GPL-2.0-or-later
"""Recording what the queues of a NIC are given."""

import stat
from pathlib import Path

import pytest

from nicmodel.errors import UserError
from nicmodel.hunt.events import RecordingEnded
from nicmodel.hunt.recording import load
from nicmodel.spec.wqe import WqeOpcode
from nicmodel.trace.events import QueueError
from tests.unit.device.machine import Loop
from tests.unit.hunt.rig import HOLD, Driver


@pytest.fixture
def driver() -> Driver:
    return Driver(Loop())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.hunt"


def why(driver: Driver) -> str:
    (event,) = driver.sink.of(RecordingEnded)
    return event.reason


def test_doorbells_wait_and_make_rounds(driver: Driver, path: Path) -> None:
    one, two = driver.context(), driver.context()
    with driver.recorded(path):
        driver.message(driver.sq(1), one, 1)
        driver.message(driver.sq(0), two, 1)
        driver.loop.advance(HOLD / 2)
        assert not driver.poll(driver.sent_cq(1))
        driver.message(driver.sq(1), one, 2)
        driver.loop.advance(HOLD)
        assert len(driver.poll(driver.sent_cq(1))) == 2
        assert len(driver.poll(driver.sent_cq(0))) == 1
        driver.message(driver.sq(0), two, 2)
    first, second = load(path).rounds
    sent = [(one.sqn, one.data[5:13]) for one in first.posted if one.sends]
    numbers = [driver.sq(1).number, driver.sq(0).number, driver.sq(1).number]
    assert sent == [(sqn, n.to_bytes(8, "big")) for sqn, n in zip(numbers, (1, 1, 2), strict=True)]
    assert len(second.posted) == 1
    assert len(driver.poll(driver.sent_cq(0))) == 1  # what waited in the end was executed
    driver.message(driver.sq(0), two, 3)  # and it is as before
    assert len(driver.poll(driver.sent_cq(0))) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert why(driver) == "its user has ended it"


def test_memory_that_is_used_again_is_what_it_was(driver: Driver, path: Path) -> None:
    context = driver.context()
    with driver.recorded(path):
        for record in range(3):
            driver.rewind()
            driver.message(driver.sq(), context, record)
            driver.loop.advance(2 * HOLD)
    texts = [one.data[13:19] for one in load(path).posted if one.sends]
    assert texts == [b"text 0", b"text 1", b"text 2"]


def test_a_context_in_use_is_left_out_until_it_gets_parameters(driver: Driver, path: Path) -> None:
    context, fresh = driver.context(), driver.context()
    driver.message(driver.sq(), context, 5)
    with driver.recorded(path):
        driver.message(driver.sq(), context, 6)
        driver.message(driver.sq(1), fresh, 1)
        driver.loop.advance(2 * HOLD)
        driver.message(driver.sq(0), context, 20)
        driver.message(driver.sq(1), context, 30)  # two queues use it: which one was first?
        driver.loop.advance(2 * HOLD)
        driver.message(driver.sq(0), context, 40)
        driver.message(driver.sq(0), context, 41)
    used = [
        [int.from_bytes(one.data[5:13], "big") for one in part.posted if one.sends]
        for part in load(path).rounds
    ]
    assert used == [[1], [], [40, 41]]
    lost = [one for part in load(path).rounds[:2] for one in part.posted if not one.tisn]
    assert {one.opcode for one in lost} == {WqeOpcode.NOP}


def test_what_does_not_send_is_a_nop(driver: Driver, path: Path) -> None:
    with driver.recorded(path):
        driver.put(driver.sq(), 0x29, bytes(16) + driver.segment(bytes(60)))
        driver.ring(driver.sq())
    (one,) = load(path).posted
    assert (one.opcode, len(one.wqe), one.tisn) == (WqeOpcode.NOP, 48, 0)


@pytest.mark.parametrize("bad", ["opcode", "segment", "length"])
def test_a_queue_that_fails_ends_it(driver: Driver, path: Path, bad: str) -> None:
    """It fails as it would without, and the other queue goes on."""
    queue, other = driver.sq(0), driver.sq(1)
    contexts = driver.context(), driver.context()
    driver.nic.record(path, HOLD)
    driver.message(other, contexts[1], 1)
    index = queue.producer
    match bad:
        case "opcode":
            driver.put(queue, 0x77, b"")
        case "segment":
            driver.put(queue, WqeOpcode.SEND, bytes(16) + b"\0\0\1\0" + bytes(12))
        case "length":
            driver.put(queue, WqeOpcode.NOP, b"")
            at = queue.addr + index % queue.size * 64
            driver.memory.write(at + 4, (queue.number << 8 | 0x3F).to_bytes(4, "big"))
    driver.ring(queue)
    driver.loop.advance(2 * HOLD)
    assert driver.nic.recorder is None
    assert why(driver)
    (error,) = driver.sink.of(QueueError)
    assert (error.number, error.index) == (queue.number, index)
    assert len(driver.poll(driver.sent_cq(1))) == 1
    driver.message(other, contexts[1], 2)
    assert len(driver.poll(driver.sent_cq(1))) == 1
    assert load(path).ended == why(driver)


def test_a_reset_ends_it(driver: Driver, path: Path) -> None:
    context = driver.context()
    driver.nic.record(path, HOLD)
    driver.message(driver.sq(), context, 1)
    driver.frontend.reset()
    driver.loop.advance(1)
    assert driver.nic.recorder is None
    assert why(driver) == "the device was reset"
    assert load(path).rounds == ()
    driver.again()
    driver.nic.record(path, HOLD)
    driver.message(driver.sq(), driver.context(), 1)
    driver.frontend.detach()
    assert load(path).ended == "the guest is gone"


def test_frozen_queues_stay_frozen(driver: Driver, path: Path) -> None:
    context = driver.context()
    driver.nic.record(path, HOLD)
    driver.message(driver.sq(), context, 1)
    driver.nic.freeze()
    driver.loop.advance(5 * HOLD)
    assert driver.nic.recorder is not None
    driver.nic.recorder.end()
    assert driver.poll(driver.sent_cq()) == []
    driver.nic.thaw()
    driver.loop.run()
    assert len(driver.poll(driver.sent_cq())) == 1


def test_a_full_disk_ends_it(driver: Driver) -> None:
    driver.nic.record(Path("/dev/full"), HOLD)
    driver.message(driver.sq(), driver.context(), 1)
    driver.loop.advance(2 * HOLD)
    assert why(driver) == "No space left on device"
    assert len(driver.poll(driver.sent_cq())) == 1


def test_mistakes(driver: Driver, path: Path) -> None:
    with pytest.raises(UserError, match="cannot create recording /nowhere/x"):
        driver.nic.record(Path("/nowhere/x"), HOLD)
    assert driver.nic.recorder is None
    driver.nic.record(path, HOLD)
    with pytest.raises(UserError, match="is being recorded already"):
        driver.nic.record(path, HOLD)
    driver.nic.recorder = None
    driver.frontend.detach()
    with pytest.raises(UserError, match="has no guest yet"):
        driver.nic.record(path, HOLD)
