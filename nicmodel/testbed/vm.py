# SPDX-License-Identifier: GPL-2.0-or-later
"""One guest: boot it, run commands in it, look at what its kernel says, end it."""

import shlex
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu

from nicmodel.testbed.agent import Agent, Completed, GuestProcess
from nicmodel.testbed.console import Console, KernelFault
from nicmodel.testbed.domain import VmSpec
from nicmodel.testbed.errors import GuestDied, GuestError, GuestTimeout

BOOT_SECONDS = 90.0
PIECE = 1 << 16
"""Bytes of a file that go to the agent at once: 160 KiB have left it silent for good."""
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Vm:
    """A guest.  ``launch`` creates its domain; a guest that died can be launched anew."""

    def __init__(
        self, spec: VmSpec, console: Path, console_socket: Path, launch: Callable[[], Any]
    ) -> None:
        self.spec = spec
        self.console = Console(console)
        self.console_socket = console_socket
        self._launch = launch
        self._domain: Any = None
        self._agent: Agent | None = None

    @property
    def name(self) -> str:
        """The guest's name, which is its host name too."""
        return self.spec.name

    def power_on(self) -> None:
        """Start the guest; ``wait_ready`` waits until it can be talked to."""
        self.console.restart()
        self._domain = self._launch()
        self._agent = Agent(self._domain, self.name, self._check_alive)

    def wait_ready(self, timeout: float = BOOT_SECONDS) -> None:
        """Wait until the guest's agent answers."""
        self.agent.wait_ready(timeout)

    @property
    def agent(self) -> Agent:
        """The guest's agent."""
        if self._agent is None:
            raise GuestDied(f"{self.name} is off")
        return self._agent

    @property
    def alive(self) -> bool:
        """Say whether QEMU runs and the kernel has not panicked."""
        return self._running() and not self.console.panicked()

    def run(
        self,
        command: str | list[str],
        *,
        timeout: float = 30.0,
        check: bool = True,
        stdin: bytes = b"",
    ) -> Completed:
        """Run ``command`` (a list is quoted) with ``sh -c`` and wait for its end."""
        return self.start(command, stdin=stdin).wait(timeout, check=check)

    def start(self, command: str | list[str], *, stdin: bytes = b"") -> GuestProcess:
        """Start ``command`` and return at once."""
        text = command if isinstance(command, str) else shlex.join(command)
        return self.agent.start(text, stdin=stdin)

    def wait_until(self, condition: str, *, timeout: float = 10.0) -> None:
        """Wait until the shell command ``condition`` succeeds in the guest.

        :raises GuestTimeout: it never did
        """
        self.run(f"until {condition}; do sleep 0.05; done", timeout=timeout)

    def read_file(self, path: str) -> str:
        """Return the text of a file in the guest."""
        return self.run(["cat", path]).stdout

    def write_file(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        """Write ``data`` to a file in the guest."""
        quoted = shlex.quote(path)
        for at in range(0, max(len(data), 1), PIECE):
            redirect = ">>" if at else ">"
            self.run(f"cat {redirect} {quoted}", stdin=data[at : at + PIECE])
        self.run(["chmod", f"{mode:o}", path])

    def kernel_log(self) -> str:
        """Return the kernel's log since boot."""
        return self.run(["dmesg"]).stdout

    def faults(self) -> list[KernelFault]:
        """Return the kernel faults on the console since the last mark (or power-on)."""
        return self.console.faults()

    def freeze(self, debugger: Path) -> None:
        """Stop the guest where it is; QEMU's gdb stub listens on the socket ``debugger``."""
        self._domain.suspend()
        self._monitor(f"gdbserver unix:{debugger},server=on,wait=off")

    @property
    def frozen(self) -> bool:
        """Say whether it stands still."""
        return bool(self._domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED)

    def thaw(self) -> None:
        """Let a frozen guest go on, unless a debugger has done so."""
        self._monitor("gdbserver none")
        with suppress(libvirt.libvirtError):  # it runs already
            self._domain.resume()

    def _monitor(self, command: str) -> None:
        flags = libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP
        libvirt_qemu.qemuMonitorCommand(self._domain, command, flags)

    def reboot(self, timeout: float = BOOT_SECONDS) -> None:
        """Reboot the guest's kernel and wait until it is back."""
        before = self.read_file(_BOOT_ID)
        self.start("reboot -f")  # there is nothing in user space to end in order
        deadline = time.monotonic() + timeout
        while (now := self._boot_id()) is None or now == before:
            if time.monotonic() > deadline:
                raise GuestTimeout(f"{self.name} did not reboot within {timeout:g} s")
            time.sleep(0.1)

    def shutdown(self, timeout: float = 30.0) -> None:
        """Power the guest off the way its user would, and wait for the end of QEMU."""
        self.start("poweroff -f")
        deadline = time.monotonic() + timeout
        while self._running():
            if time.monotonic() > deadline:
                raise GuestTimeout(f"{self.name} did not power off within {timeout:g} s")
            time.sleep(0.05)
        self.destroy()

    def destroy(self) -> None:
        """End QEMU at once."""
        if self._running():
            try:
                self._domain.destroy()
            except libvirt.libvirtError:
                if self._running():  # else it ended by itself in between
                    raise
        if self._agent is not None:
            self._agent.close()
        self._agent = None
        self._domain = None

    def _boot_id(self) -> str | None:
        """Return the kernel's boot id, or nothing while the agent is away."""
        try:
            return self.agent.start(f"cat {_BOOT_ID}").wait().stdout
        except GuestDied:
            raise
        except GuestError:
            return None

    def _running(self) -> bool:
        if self._domain is None:
            return False
        try:
            return bool(self._domain.isActive())
        except libvirt.libvirtError:
            return False

    def _check_alive(self) -> None:
        if not self._running():
            raise GuestDied(f"{self.name}: its QEMU has ended")
        if self.console.panicked():
            raise GuestDied(f"{self.name}: kernel panic")
