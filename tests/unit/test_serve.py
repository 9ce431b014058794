# SPDX-License-Identifier: GPL-2.0-or-later
"""``nicmodel serve`` as a process: ready, traffic, bad front-ends, the end."""

import array
import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from struct import pack

import pytest
from pyroute2 import netns

from nicmodel import serve as module
from nicmodel.control import Control
from nicmodel.device import BAR_SIZE
from nicmodel.errors import UserError
from nicmodel.serve import Faults, Steadfast, serve
from nicmodel.topology import Flags, load
from nicmodel.trace.events import UnknownCommand
from nicmodel.trace.limit import BURST
from nicmodel.trace.tracer import Record, TextSink
from tests.oracles.tshark import fields, needs_tshark
from tests.unit.transport import frontend as vhost

PATIENCE = 30.0
ETH_P_TEST = 0x88B5


class Serving:
    """The process and what it said."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.stderr = folder / "stderr"
        with self.stderr.open("w") as stderr:
            self.child = subprocess.Popen(
                [sys.executable, "-m", "nicmodel", "serve", *arguments],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )

    def line(self) -> str:
        """The next line on stdout."""
        assert self.child.stdout is not None
        assert select.select([self.child.stdout], [], [], PATIENCE)[0], "it says nothing"
        return self.child.stdout.readline()

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, list[str], list[str]]:
        """Status, lines of stdout and of stderr after the signal."""
        self.child.send_signal(number)
        said, _ = self.child.communicate(timeout=PATIENCE)
        return (
            self.child.returncode,
            (said or "").splitlines(),
            self.stderr.read_text().splitlines(),
        )

    def kill(self) -> None:
        self.child.kill()
        self.child.communicate()


class Started:
    """Starts processes and ends them with the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.all: list[Serving] = []

    def __call__(self, *arguments: str) -> Serving:
        self.all.append(Serving(self.folder, *arguments))
        return self.all[-1]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Started]:
    started = Started(tmp_path)
    yield started
    for process in started.all:
        process.kill()


def front_end(path: Path) -> socket.socket:
    """Connect and attach like QEMU does."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(PATIENCE)
    sock.connect(os.fspath(path))

    def ask(request: int, body: bytes = b"", *, flags: int = 1, fd: int = -1) -> bytes:
        ancillary = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))
        sock.sendmsg([vhost.message(request, body, flags)], [ancillary] if fd >= 0 else [])
        if fd >= 0:
            os.close(fd)
        return sock.recv(4096)[12:]

    def send(request: int, body: bytes = b"") -> None:
        sock.send(vhost.message(request, body))

    ask(vhost.GET_FEATURES)
    send(vhost.SET_FEATURES, vhost.u64(1 << 30))
    send(vhost.SET_PROTOCOL_FEATURES, ask(vhost.GET_PROTOCOL_FEATURES))
    send(vhost.SET_OWNER)
    size = BAR_SIZE
    shadow = pack("<QQHH", size, 0, 0, 0)
    assert ask(vhost.SET_INFLIGHT_FD, shadow, flags=9, fd=vhost.memfd(size)) == vhost.u64(0)
    table = vhost.mem_table(vhost.region(0, 65536))
    assert ask(vhost.SET_MEM_TABLE, table, flags=9, fd=vhost.memfd(65536)) == vhost.u64(0)
    return sock


def write_nonsense(sock: socket.socket, offset: int = 0x800) -> None:
    """A BAR write that no ConnectX knows, acknowledged."""
    body = vhost.config(vhost.BAR + offset, b"\1\2\3\4")
    sock.send(vhost.message(vhost.SET_CONFIG, body, 9))
    assert sock.recv(4096)[12:] == vhost.u64(0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ready_and_clean_end(start: Started, tmp_path: Path, number: signal.Signals) -> None:
    a, b, pcap = tmp_path / "a.sock", tmp_path / "b.sock", tmp_path / "a.pcapng"
    serving = start("--nic", f"a={a}", "--nic", f"b={b}", "--capture", f"a={pcap}")
    assert serving.line() == f"ready: nic a {a}, nic b {b}, seed 0\n"
    for path in (a, b):
        with closing(socket.socket(socket.AF_UNIX)) as sock:
            sock.connect(os.fspath(path))
    status, said, errors = serving.end(number)
    assert (status, errors) == (0, [])
    assert said == [
        "a: sent 0 frames (0 bytes), received 0 (0)",
        "b: sent 0 frames (0 bytes), received 0 (0)",
        f"{pcap}: 0 frames",
    ]
    assert not a.exists()
    assert not b.exists()
    assert pcap.stat().st_size > 0


def test_control_socket(start: Started, tmp_path: Path) -> None:
    path = tmp_path / "control"
    nics = [f"a={tmp_path / 'a.sock'}", f"b={tmp_path / 'b.sock'},link=c", f"c={tmp_path / 'c'}"]
    flags = [word for nic in nics for word in ("--nic", nic)]
    serving = start(*flags, "--control", str(path), "--seed", "7")
    serving.line()
    control = Control(path)
    up = {"up": True}
    assert control.status()["seed"] == 7
    assert control.status()["links"] == {"a": up, "b": up, "c": up}
    control.link("c").down()
    control.link("a").down()
    assert control.status()["links"] == {"a": {"up": False}, "b": {"up": False}, "c": {"up": False}}
    control.link("b").up()
    assert control.status()["links"] == {"a": {"up": False}, "b": up, "c": up}
    for request, sentence in [
        ({"nic": "x", "state": "up"}, "link, nic: x is unknown; known are a, b, c"),
        ({"nic": "a", "state": "u"}, "link, state: u is unknown; did you mean up"),
        ({"nic": "a"}, "link: state is missing"),
        ({"nic": "a", "stat": "up"}, "link: stat is unknown; did you mean state"),
    ]:
        with pytest.raises(UserError, match=sentence):
            control.ask("link", **request)
    control.link("b").impair(loss="1%", direction="out")
    control.link("c").add(delay="5ms")
    assert control.link("c").status()["rules"] == [
        {"loss": "1%", "direction": "in"},
        {"delay": "5ms"},
    ]
    control.link("b").clear()
    control.link("a").impair({"rate": "1Mbit"}, {"loss": 1, "match": "tcp", "nth": 3})
    assert len(control.link("a").status()["rules"]) == 2
    status, _, errors = serving.end()
    assert (status, errors) == (0, [])
    assert not path.exists()


def test_faults_of_file_and_control_socket(start: Started, tmp_path: Path) -> None:
    net, path = tmp_path / "net.toml", tmp_path / "control"
    nics = "".join(f'[[nic]]\nname = "{n}"\nsocket = "{n}.sock"\n' for n in "ab")
    net.write_text(nics + '[[fault]]\nnic = "b"\nkind = "frozen-counter"\ncount = 9\n')
    serving = start("--topology", str(net), "--control", str(path))
    serving.line()
    control = Control(path)
    number = control.fault("a", "cqe-error", queue="rq", after=5)
    assert {
        nic: [
            (each["fault"]["kind"], each["fault"]["after"], each["fault"]["count"])
            for each in found
        ]
        for nic, found in control.faults().items()
    } == {"a": [("cqe-error", 5, 1)], "b": [("frozen-counter", 0, 9)]}
    with pytest.raises(UserError, match="fault, syndrome: OOPS is unknown"):
        control.fault("a", "cqe-error", syndrome="OOPS")
    control.remove_fault("a", number)
    assert control.faults()["a"] == []
    assert serving.end()[0] == 0


def test_busy_socket_is_a_sentence_and_leaves_nothing(start: Started, tmp_path: Path) -> None:
    a, b, c = (tmp_path / f"{name}.sock" for name in "abc")
    first = start("--nic", f"a={a}")
    first.line()
    second = Serving(tmp_path, "--nic", f"b={b}", "--nic", f"a={a}", "--nic", f"c={c}")
    assert second.child.wait(PATIENCE) == 1
    second.kill()
    (sentence,) = second.stderr.read_text().splitlines()
    assert sentence.startswith(f"nicmodel: socket {a} is busy")
    assert [path.exists() for path in (a, b, c)] == [True, False, False]


@pytest.mark.parametrize(("flags", "status"), [([], 0), (["--strict"], 1)])
def test_what_is_not_implemented_fails_a_strict_run(
    start: Started, tmp_path: Path, flags: list[str], status: int
) -> None:
    a, events = tmp_path / "a.sock", tmp_path / "events.jsonl"
    serving = start("--nic", f"a={a}", "--events", str(events), *flags)
    serving.line()
    with closing(front_end(a)) as sock:
        write_nonsense(sock)
        write_nonsense(sock)
    ended = serving.end()
    assert ended[0] == status
    assert any("unimplemented: BAR 0 write of 01020304 to 0x800" in line for line in ended[2])
    verdict = [line for line in ended[2] if line.startswith("strict: ")]
    assert (
        verdict == ["strict: a: BAR 0 write of 01020304 to 0x800 means nothing (2 times)"] * status
    )
    records = [json.loads(line) for line in events.read_text().splitlines()]
    assert [r["event"] for r in records if r["severity"] == "unimplemented"] == ["UnknownMmio"] * 2


def test_a_flood_of_events_fills_neither_file_nor_log(start: Started, tmp_path: Path) -> None:
    a, events = tmp_path / "a.sock", tmp_path / "events.jsonl"
    serving = start("--nic", f"a={a}", "--events", str(events), "--strict")
    serving.line()
    writes = 2 * BURST
    nonsense = vhost.message(vhost.SET_CONFIG, vhost.config(vhost.BAR + 0x800, b"\1\2\3\4"))
    with closing(front_end(a)) as sock:
        for _ in range(writes // 100):
            sock.sendall(nonsense * 100)
        write_nonsense(sock)
    status, _, stderr = serving.end()
    assert status == 1
    assert f"({writes + 1} times)" in stderr[-1]
    records = [json.loads(line) for line in events.read_text().splitlines()]
    kept = sum(r["event"] == "UnknownMmio" for r in records)
    told = sum(r["count"] for r in records if r["event"] == "EventsOmitted")
    assert kept + told == writes + 1
    assert BURST <= kept < writes
    assert len(stderr) < writes


def test_front_ends_come_and_go(start: Started, tmp_path: Path) -> None:
    a = tmp_path / "a.sock"
    serving = start("--nic", f"a={a}", "--strict")
    serving.line()
    for _ in range(3):
        front_end(a).close()
        with closing(socket.socket(socket.AF_UNIX)) as sock:
            sock.connect(os.fspath(a))
            sock.send(b"\xff" * 100)
            sock.settimeout(PATIENCE)
            with suppress(ConnectionResetError):
                assert sock.recv(1) == b""
    assert serving.end()[0] == 0


def test_nobody_reads_stdout(start: Started, tmp_path: Path) -> None:
    a = tmp_path / "a.sock"
    serving = start("--nic", f"a={a}")
    serving.line()
    assert serving.child.stdout is not None
    serving.child.stdout.close()
    serving.child.stdout = None
    status, _, errors = serving.end()
    assert (status, errors) == (0, [])


@pytest.mark.skipif(bool(os.geteuid()), reason="taps need root: run the tests as root")
@needs_tshark
def test_traffic_between_taps(start: Started, tmp_path: Path) -> None:
    """Two namespaces ping each other through the process, and the capture has all of it."""
    spaces = [f"nicm-{os.getpid()}-{name}" for name in "xy"]
    pcap = tmp_path / "x.pcapng"
    try:
        for space in spaces:
            netns.create(space)
        taps = [
            word
            for space, tap in zip(spaces, "xy", strict=True)
            for word in ("--tap", f"{tap}@{space}")
        ]
        serving = start(
            "--nic", f"a={tmp_path / 'a.sock'}", *taps, "--capture", f"x={pcap}",
            "--capture", f"a={pcap}",
        )  # fmt: skip
        serving.line()
        for number, (space, tap) in enumerate(zip(spaces, "xy", strict=True), 1):
            ip = ["ip", "-n", space]
            subprocess.run([*ip, "addr", "add", f"192.0.2.{number}/24", "dev", tap], check=True)
            subprocess.run([*ip, "link", "set", tap, "up"], check=True)
        ping = [
            "ip",
            "netns",
            "exec",
            spaces[0],
            "ping",
            "-q",
            "-i",
            "0.01",
            "-c",
            "50",
            "192.0.2.2",
        ]
        done = subprocess.run(ping, capture_output=True, text=True, check=False, timeout=PATIENCE)
        assert "50 received" in done.stdout, done.stdout + done.stderr
        # frames appear in the file while the capture runs
        deadline = time.monotonic() + PATIENCE
        while len(fields(pcap, "frame.number", only="icmp")) < 100:
            assert time.monotonic() < deadline
        status, said, _ = serving.end()
    finally:
        for space in spaces:
            netns.remove(space)
    assert status == 0
    assert any(line.startswith("x: sent ") for line in said)
    seen = fields(pcap, "frame.interface_name", "frame.packet_flags", only="icmp")
    assert seen.count(("x", "0x00000002")) == seen.count(("x", "0x00000001")) == 50
    assert len(seen) == 100, "a switch that has learned does not show ping to the NIC"


def test_signal_before_ready_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a = tmp_path / "a.sock"
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if line.startswith("ready"):
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(module, "_say", say)
    assert serve(load(None, Flags(nics=[f"a={a}"]))) == 0
    assert len(said) == 2
    assert not a.exists()


def test_error_of_the_model_fails_any_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def say(line: str) -> None:
        if line.startswith("ready"):
            loop = asyncio.get_running_loop()
            loop.call_soon([].pop)
            loop.call_soon(os.kill, os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(module, "_say", say)
    assert serve(load(None, Flags(nics=[f"a={tmp_path / 'a.sock'}"]))) == 1
    errors = capsys.readouterr().err
    assert "IndexError: pop from empty list" in errors
    assert "errors of the model: 1; please report them" in errors


def test_files_that_cannot_be_written_are_sentences(tmp_path: Path) -> None:
    nics = [f"a={tmp_path / 'a.sock'}"]
    with pytest.raises(UserError, match=r"cannot write the file of events .*none/e: No such file"):
        serve(load(None, Flags(nics=nics, events=tmp_path / "none/e")))
    with pytest.raises(UserError, match=r"cannot create capture file .*none/c: No such file"):
        serve(load(None, Flags(nics=nics, captures=[f"a={tmp_path / 'none/c'}"])))
    assert list(tmp_path.iterdir()) == []


def test_lost_file_of_events_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    record = Record(0, "a", UnknownCommand(1, 2))
    with open("/dev/full", "w", buffering=1) as full:
        sink = Steadfast(TextSink(full), "the file of events /dev/full")
        for _ in range(3):
            sink.write(record)
        with pytest.raises(OSError, match="No space left"):
            full.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
    assert (
        capsys.readouterr().err == "the file of events /dev/full is lost: No space left on device\n"
    )


def test_made_up_faults_are_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    faults = Faults(strict=True)
    for number in range(10 * module.REPORTED_FAULTS):
        faults.write(Record(0, "a", UnknownCommand(number, 0)))
    assert faults.report() == 1
    assert len(capsys.readouterr().err.splitlines()) == module.REPORTED_FAULTS
