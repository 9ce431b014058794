# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest agent: commands in a guest (QEMU: qga/qapi-schema.json)."""

import base64
import json
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import libvirt
import libvirt_qemu

from nicmodel.testbed.errors import CommandFailed, GuestError, GuestTimeout

# A call answers in 1.5 ms; a guest whose CPUs are all in the network stack may take seconds.
CALL_SECONDS = 30.0
FIRST_POLL, LONGEST_POLL = 0.002, 0.2  # seconds between looks at a running command
ALIVE_CHECK_SECONDS = 0.5


@dataclass(frozen=True)
class Completed:
    """A command that ended: its exit status (128 + signal if killed) and what it wrote."""

    command: str
    status: int
    stdout: str
    stderr: str


class Agent:
    """The agent of one domain; ``check_alive`` raises when the guest is beyond answering.

    Calls run in a thread of their own: libvirt's block, and Ctrl-C must not wait for them.
    """

    def __init__(self, domain: Any, name: str, check_alive: Callable[[], None]) -> None:
        self._domain = domain
        self._name = name
        self._check_alive = check_alive
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"agent-{name}")

    def close(self) -> None:
        """Let the thread end; call it once the domain is gone."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def call(self, execute: str, *, timeout: float = CALL_SECONDS, **arguments: Any) -> Any:
        """Run one agent command and return what it returns."""
        request = json.dumps({"execute": execute, "arguments": arguments})
        seconds = max(1, round(timeout))
        future: Future[str] = self._thread.submit(
            libvirt_qemu.qemuAgentCommand, self._domain, request, seconds, 0
        )
        deadline = time.monotonic() + seconds + 1
        while True:
            try:
                answer = future.result(timeout=ALIVE_CHECK_SECONDS)
            except TimeoutError:
                self._check_alive()
                if time.monotonic() > deadline:
                    raise GuestTimeout(f"{self._name}: the agent does not answer") from None
            except libvirt.libvirtError as error:
                self._check_alive()
                if error.get_error_code() == libvirt.VIR_ERR_AGENT_UNRESPONSIVE:
                    raise GuestTimeout(f"{self._name}: the agent does not answer") from error
                raise GuestError(f"{self._name}: {execute}: {error}") from error
            else:
                return json.loads(answer)["return"]

    def wait_ready(self, timeout: float) -> None:
        """Return once the agent answers."""
        deadline = time.monotonic() + timeout
        pause = 0.05
        while True:
            try:
                self.call("guest-ping", timeout=2)
            except (GuestTimeout, GuestError) as error:
                self._check_alive()
                if time.monotonic() > deadline:
                    raise GuestTimeout(f"{self._name} did not boot within {timeout:g} s") from error
                time.sleep(pause)
            else:
                return

    def start(self, command: str, *, stdin: bytes = b"") -> "GuestProcess":
        """Start ``command`` with ``sh -c`` in a session of its own."""
        arguments: dict[str, Any] = {
            "path": "/usr/bin/setsid",
            "arg": ["/bin/sh", "-c", command],
            "env": ["PATH=/usr/local/bin:/usr/sbin:/usr/bin", "HOME=/root"],
            "capture-output": True,
        }
        if stdin:
            arguments["input-data"] = base64.b64encode(stdin).decode()
        return GuestProcess(self, command, self.call("guest-exec", **arguments)["pid"])


class GuestProcess:
    """A command that runs in a guest."""

    def __init__(self, agent: Agent, command: str, pid: int) -> None:
        self._agent = agent
        self.command = command
        self.pid = pid
        self._completed: Completed | None = None

    def poll(self) -> Completed | None:
        """Return the result if the command has ended."""
        if self._completed is None:
            status = self._agent.call("guest-exec-status", pid=self.pid)
            if status["exited"]:
                self._completed = Completed(
                    self.command,
                    status["exitcode"] if "exitcode" in status else 128 + status["signal"],
                    _decode(status.get("out-data", "")),
                    _decode(status.get("err-data", "")),
                )
        return self._completed

    def wait(self, timeout: float = 30.0, *, check: bool = True) -> Completed:
        """Wait until the command ends; past ``timeout`` seconds it is killed in the guest.

        :raises GuestTimeout: it did not end in time
        :raises CommandFailed: ``check`` is set and its status is not 0
        """
        deadline = time.monotonic() + timeout
        pause = FIRST_POLL
        while (done := self.poll()) is None:
            if time.monotonic() > deadline:
                self.kill()
                raise GuestTimeout(f"`{self.command}` did not end within {timeout:g} s")
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_POLL)
        if check and done.status:
            text = (done.stderr or done.stdout).strip()
            raise CommandFailed(f"`{self.command}` ended with status {done.status}: {text}")
        return done

    def kill(self, signal: str = "KILL") -> None:
        """Send ``signal`` to the command and all that it started."""
        self._agent.start(f"kill -s {signal} -- -{self.pid}").wait(check=False)


def _decode(data: str) -> str:
    return base64.b64decode(data).decode(errors="replace")
