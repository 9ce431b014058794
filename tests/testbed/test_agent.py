# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent's side of commands, against a scripted agent."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import libvirt_qemu
import pytest

from nicmodel.testbed.agent import Agent, Completed
from nicmodel.testbed.errors import CommandFailed, GuestDied, GuestTimeout


class Script:
    """Answers agent commands; remembers the requests."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.status: dict[str, Any] = {"exited": True, "exitcode": 0}
        self.release = threading.Event()
        self.release.set()

    def __call__(self, _domain: object, text: str, _timeout: int, _flags: int) -> str:
        self.release.wait(10)
        request = json.loads(text)
        self.requests.append(request)
        answer = {"pid": 7} if request["execute"] == "guest-exec" else self.status
        return json.dumps({"return": answer})


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    made = Script()
    monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", made)
    return made


@pytest.fixture
def agent(script: Script) -> Iterator[Agent]:
    made = Agent(object(), "a", lambda: None)
    yield made
    script.release.set()
    made.close()


def test_outputs_are_decoded(agent: Agent, script: Script) -> None:
    data = base64.b64encode("gr\u00fc\u00df".encode()).decode()
    script.status = {"exited": True, "exitcode": 0, "out-data": data}
    assert agent.start("x").wait() == Completed("x", 0, "gr\u00fc\u00df", "")


def test_signal_is_a_status_as_in_a_shell(agent: Agent, script: Script) -> None:
    script.status = {"exited": True, "signal": 9}
    assert agent.start("x").wait(check=False).status == 137
    with pytest.raises(CommandFailed, match="`y` ended with status 137"):
        agent.start("y").wait()


def test_command_past_its_time_is_killed(agent: Agent, script: Script) -> None:
    script.status = {"exited": False}
    running = agent.start("x")
    threading.Timer(0.2, lambda: script.status.update(exited=True, exitcode=0)).start()
    with pytest.raises(GuestTimeout, match=r"did not end within 0\.05 s"):
        running.wait(0.05)
    commands = [r["arguments"]["arg"][2] for r in script.requests if r["execute"] == "guest-exec"]
    assert commands == ["x", "kill -s KILL -- -7"]


def test_death_of_the_guest_ends_a_call_that_hangs(script: Script) -> None:
    def dead() -> None:
        raise GuestDied("a: kernel panic")

    script.release.clear()
    agent = Agent(object(), "a", dead)
    started = time.monotonic()
    with pytest.raises(GuestDied):
        agent.call("guest-ping", timeout=30)
    assert time.monotonic() - started < 5
    script.release.set()
    agent.close()
