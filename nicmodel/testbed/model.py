# SPDX-License-Identifier: GPL-2.0-or-later
"""The NIC process of a lab: started, waited for, ended; its words are kept."""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from nicmodel.control import Control
from nicmodel.testbed.errors import GuestError
from nicmodel.testbed.paths import CHECKOUT

READY_SECONDS = 15.0
STOP_SECONDS = 5.0


class ModelProcess:
    """``nicmodel serve`` with a topology file; its line ``ready`` on stdout says that it listens.

    Its typed events go to ``NAME.jsonl`` and its errors to ``NAME.stderr`` in the run's folder.
    ``control`` asks it, at the socket of that path. ``hear`` gets each line that it says later, in
    a thread of its own.
    """

    def __init__(
        self,
        topology: Path,
        folder: Path,
        control: Path,
        *,
        name: str = "model",
        options: Sequence[str] = (),
        hear: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.control = Control(control)
        self.events = folder / f"{name}.jsonl"
        self.errors = folder / f"{name}.stderr"
        self._command = [
            *(sys.executable, "-m", "nicmodel", "serve"),
            *("--topology", str(topology), "--events", str(self.events)),
            *("--control", str(control), *options),
        ]
        self._child: subprocess.Popen[bytes] | None = None
        self._hear = hear
        self._listener: threading.Thread | None = None

    def start(self) -> None:
        """Start it and wait for its ready line."""
        with self.errors.open("ab") as errors:
            self._child = subprocess.Popen(
                self._command,
                cwd=CHECKOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # Ctrl-C is for the owner, who ends it after the guests
            )
        self._wait_ready(self._child)
        self._listener = threading.Thread(target=self._listen, args=(self._child,), daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        """The process id."""
        if self._child is None:
            raise GuestError("the model does not run")
        return self._child.pid

    def running(self) -> bool:
        """Say whether it runs."""
        return self._child is not None and self._child.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal: SIGSTOP and SIGCONT make it stall, SIGKILL makes it vanish."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Let it vanish, as a crash would; ``start`` starts another one."""
        self.signal(signal.SIGKILL)
        if self._child is not None:
            self._child.wait()
        self.stop()

    def stop(self) -> int:
        """End it and return its exit status (0: it ended in order)."""
        if self._child is None:
            return 0
        self._child.terminate()
        try:
            status = self._child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            status = self._child.wait()
        if self._listener is not None:
            self._listener.join(STOP_SECONDS)
            self._listener = None
        if self._child.stdout:
            self._child.stdout.close()
        self._child = None
        return status

    def _listen(self, child: "subprocess.Popen[bytes]") -> None:
        assert child.stdout is not None
        for line in child.stdout:
            self._hear(line.decode(errors="replace").rstrip())

    def _wait_ready(self, child: "subprocess.Popen[bytes]") -> None:
        assert child.stdout is not None
        said = b""
        deadline = time.monotonic() + READY_SECONDS
        while b"ready" not in said:
            readable, _, _ = select.select([child.stdout], [], [], deadline - time.monotonic())
            part = os.read(child.stdout.fileno(), 4096) if readable else b""
            if not part:
                self.stop()
                reason = self.errors.read_text().strip().splitlines() or ["it said nothing"]
                raise GuestError(f"nicmodel serve did not get ready: {reason[-1]}")
            said += part
