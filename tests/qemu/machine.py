# SPDX-License-Identifier: GPL-2.0-or-later
"""The distribution's QEMU without a guest: the test is the CPU, through the qtest protocol."""

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

REPOSITORY = Path(__file__).parents[2]
DEADLINE = 60.0
"""Nothing in these tests takes that long, s; a longer wait is a failure."""

BAR0 = 0xC000_0000_00
"""Where the tests put BAR 0: above all RAM."""
BAR2 = 0xFE00_0000
"""Where the tests put the MSI-X table."""


class LineReader:
    """Lines from a descriptor, each within the deadline."""

    def __init__(self, fd: int, name: str) -> None:
        self._fd = fd
        self._name = name
        self._data = b""

    def line(self, timeout: float = DEADLINE) -> str:
        end = time.monotonic() + timeout
        while b"\n" not in self._data:
            ready, _, _ = select.select([self._fd], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise TimeoutError(f"{self._name} said nothing for {timeout} s: {self._data!r}")
            chunk = os.read(self._fd, 65536)
            if not chunk:
                raise EOFError(f"{self._name} ended: {self._data!r}")
            self._data += chunk
        line, _, self._data = self._data.partition(b"\n")
        return line.decode()

    def idle(self, seconds: float = 0) -> bool:
        """Whether there is nothing to read."""
        return b"\n" not in self._data and not select.select([self._fd], [], [], seconds)[0]


class ToyProcess:
    """``tests.qemu.toy`` as a process of its own."""

    def __init__(self, path: Path, vectors: int = 4) -> None:
        self.path = path
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.qemu.toy", os.fspath(path), str(vectors)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        self.log = LineReader(self.process.stdout.fileno(), "the toy device")
        assert self.log.line().startswith("ready")

    def expect(self, *lines: str) -> None:
        """The next lines of the log; regions behind ``attach`` may be left out."""
        for line in lines:
            said = self.log.line()
            if said != line and not (line == "attach" and said.startswith("attach ")):
                raise AssertionError(f"the toy device said {said!r}, not {line!r}")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class Machine:
    """A q35 machine whose CPU is stopped: Debian builds QEMU without the accelerator qtest."""

    def __init__(
        self,
        folder: Path,
        plugin: Path,
        device: str,
        ram: str = "memory-backend-memfd,id=ram,size=256M,share=on",
        size: str = "256M",
        environment: dict[str, str] | None = None,
        extra: tuple[str, ...] = (),
    ) -> None:
        # Short, since a UNIX socket path has at most 107 bytes.
        self._folder = tempfile.TemporaryDirectory(prefix="qtest-")
        qtest, qmp = (Path(self._folder.name) / name for name in ("qtest", "qmp"))
        self.stderr_path = folder / "qemu-stderr.txt"
        with self.stderr_path.open("wb") as stderr:
            self.process = subprocess.Popen(
                [
                    "qemu-system-x86_64",
                    *("-nodefaults", "-no-user-config", "-display", "none"),
                    *("-machine", "q35,accel=tcg,memory-backend=ram", "-S", "-m", size),
                    *("-object", ram),
                    *("-qtest", f"unix:{qtest},server=on,wait=off", "-qtest-log", "none"),
                    *("-qmp", f"unix:{qmp},server=on,wait=off"),
                    *("-plugin", os.fspath(plugin)),
                    *extra,
                    *("-device", device),
                ],
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                env={**os.environ, **(environment or {})},
            )
        self._qtest = self._qmp = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._events: list[str] = []
        try:
            self._qtest = self._connect(qtest)
            self._qmp = self._connect(qmp)
            self._qtest_lines = LineReader(self._qtest.fileno(), "qtest")
            self._qmp_lines = LineReader(self._qmp.fileno(), "QMP")
            assert "QMP" in json.loads(self._qmp_lines.line())
            self.qmp("qmp_capabilities")
        except (EOFError, OSError) as error:
            self.process.wait(DEADLINE)
            self.close()
            raise EOFError(f"QEMU ended: {self.stderr}") from error

    def _connect(self, path: Path) -> socket.socket:
        end = time.monotonic() + DEADLINE
        while True:
            if self.process.poll() is not None:
                raise EOFError(f"QEMU ended: {self.stderr}")
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                sock.connect(os.fspath(path))
                return sock
            sock.close()
            if time.monotonic() > end:
                raise TimeoutError(f"QEMU does not listen on {path}: {self.stderr}")
            select.select([], [], [], 0.01)

    @property
    def stderr(self) -> str:
        return self.stderr_path.read_text()

    def wait_stderr(self, text: str, timeout: float = DEADLINE) -> None:
        """Wait until QEMU has said this."""
        end = time.monotonic() + timeout
        while text not in self.stderr:
            assert time.monotonic() < end, f"no {text!r} in {self.stderr!r}"
            select.select([], [], [], 0.01)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._qtest.close()
        self._qmp.close()
        self._folder.cleanup()

    def quit(self) -> int:
        """Leave in good order; QEMU's exit status."""
        self._qmp.sendall(b'{"execute":"quit"}\n')
        return self.process.wait(DEADLINE)

    # qtest

    def command(self, command: str, timeout: float = DEADLINE) -> str:
        self._qtest.sendall(command.encode() + b"\n")
        while True:
            line = self._qtest_lines.line(timeout)
            if not line.startswith("IRQ"):
                break
        status, _, rest = line.partition(" ")
        assert status == "OK", f"{command}: {line}"
        return rest

    def load(self, addr: int, size: int) -> int:
        """A CPU load of 1, 2, 4 or 8 bytes."""
        return int(self.command(f"read{'bwlq'[size.bit_length() - 1]} {addr:#x}"), 16)

    def store(self, addr: int, size: int, value: int) -> None:
        """A CPU store of 1, 2, 4 or 8 bytes."""
        self.command(f"write{'bwlq'[size.bit_length() - 1]} {addr:#x} {value:#x}")

    def read(self, addr: int, length: int) -> bytes:
        return bytes.fromhex(self.command(f"read {addr:#x} {length}")[2:])

    def write(self, addr: int, data: bytes) -> None:
        self.command(f"write {addr:#x} {len(data)} 0x{data.hex()}")

    # PCI configuration, mechanism 1, always the device's function

    def config_address(self, offset: int, devfn: int = 4 << 3, bus: int = 0) -> None:
        address = 1 << 31 | bus << 16 | devfn << 8 | offset & ~3
        self.command(f"outl 0xcf8 {address:#x}")

    def config_read(self, offset: int, size: int) -> int:
        self.config_address(offset)
        return int(self.command(f"in{'bwl'[size.bit_length() - 1]} {0xCFC + offset % 4:#x}"), 16)

    def config_write(self, offset: int, size: int, value: int) -> None:
        self.config_address(offset)
        suffix = "bwl"[size.bit_length() - 1]
        self.command(f"out{suffix} {0xCFC + offset % 4:#x} {value:#x}")

    def capability(self, wanted: int) -> int:
        """Offset of a capability, 0 if there is none."""
        offset = self.config_read(0x34, 1)
        while offset and self.config_read(offset, 1) != wanted:
            offset = self.config_read(offset + 1, 1)
        return offset

    def program_bars(self, command: int = 6) -> None:
        self.config_write(0x10, 4, BAR0 & 0xFFFFFFFF)
        self.config_write(0x14, 4, BAR0 >> 32)
        self.config_write(0x18, 4, BAR2)
        self.config_write(0x04, 2, command)

    # QMP

    def qmp(self, command: str, **arguments: object) -> Any:
        message = {"execute": command, "arguments": arguments}
        self._qmp.sendall(json.dumps(message).encode() + b"\n")
        while True:
            reply = json.loads(self._qmp_lines.line())
            if "error" in reply:
                raise ValueError(reply["error"]["desc"])
            if "return" in reply:
                return reply["return"]
            self._events.append(reply["event"])

    def wait_event(self, name: str) -> None:
        """Wait for a QMP event that no one has waited for yet."""
        while name not in self._events:
            self._events.append(json.loads(self._qmp_lines.line())["event"])
        self._events.remove(name)


@contextlib.contextmanager
def toy_machine(
    folder: Path, plugin: Path, vectors: int = 4, device_options: str = "", **options: Any
) -> Iterator[tuple[ToyProcess, Machine]]:
    """A toy device and a machine with it in slot 4 of the root bus."""
    with tempfile.TemporaryDirectory(prefix="toy-") as sockets:
        path = Path(sockets) / "toy"
        device = f"pci-vhost-user,id=toy,addr=4,socket={path}{device_options}"
        with (
            ToyProcess(path, vectors) as toy,
            Machine(folder, plugin, device, **options) as machine,
        ):
            yield toy, machine
