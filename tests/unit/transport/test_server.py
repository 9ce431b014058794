# SPDX-License-Identifier: GPL-2.0-or-later
"""The listening socket on a real event loop."""

import asyncio
import os
import resource
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

from nicmodel.errors import UserError
from nicmodel.trace.events import FrontendDetached, FrontendKeptWaiting
from nicmodel.trace.tracer import ListSink, Tracer
from nicmodel.transport import server as server_module
from nicmodel.transport.server import Server
from tests.unit.transport import frontend as fe
from tests.unit.transport.frontend import RecordingDevice, message


class Rig:
    """A server, and a loop that runs until a condition holds."""

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.path = path
        self.loop = loop or asyncio.new_event_loop()
        self.sink = ListSink()
        self.tracer = Tracer("t", lambda: 0, (self.sink,))
        self.server = self.serve()

    def serve(self) -> Server:
        return Server(self.loop, self.path, RecordingDevice(), self.tracer)

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(os.fspath(self.path))
        sock.setblocking(False)
        return sock

    def receive(self, sock: socket.socket) -> bytes:
        """What the server sends; b"" when it closes."""
        return self.loop.run_until_complete(
            asyncio.wait_for(self.loop.sock_recv(sock, 4096), timeout=10)
        )

    def turn(self) -> None:
        """One turn of the loop."""
        self.loop.run_until_complete(asyncio.sleep(0))


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def rig(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Rig]:
    request.param().close()  # what a kind of loop opens once and for all
    before = len(os.listdir("/proc/self/fd"))
    rig = Rig(tmp_path / "nic", request.param())
    yield rig
    rig.server.close()
    rig.loop.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert not rig.path.exists()


def features(rig: Rig, sock: socket.socket) -> None:
    sock.send(message(fe.GET_FEATURES))
    assert rig.receive(sock) == struct.pack("<IIIQ", fe.GET_FEATURES, 5, 8, 1 << 30)


def test_one_front_end_after_another(rig: Rig) -> None:
    for count in range(1, 4):
        with rig.connect() as sock:
            features(rig, sock)
            assert rig.server.session is not None
        while rig.server.session is not None:
            rig.turn()
        assert len(rig.sink.of(FrontendDetached)) == count


def test_second_front_end_is_refused(rig: Rig) -> None:
    with rig.connect() as first, rig.connect() as second:
        features(rig, first)
        assert rig.receive(second) == b""
        features(rig, first)


def test_a_new_front_end_replaces_one_that_is_gone(rig: Rig) -> None:
    first = rig.connect()
    features(rig, first)
    # Both at once: the new connection may be seen before the end of the old one.
    first.close()
    with rig.connect() as second:
        features(rig, second)


def test_a_broken_front_end_is_closed(rig: Rig) -> None:
    with rig.connect() as sock:
        sock.send(message(99))
        assert rig.receive(sock) == b""
    assert rig.server.session is None
    assert rig.sink.of(FrontendDetached)[0].reason == "request 99 is not in the profile"


def test_busy_socket(rig: Rig) -> None:
    with pytest.raises(UserError, match="is busy: another model listens there"):
        rig.serve()
    with rig.connect() as sock:
        features(rig, sock)


def test_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "nic"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(path))
    rig = Rig(path)
    with rig.connect() as sock:
        features(rig, sock)
    rig.server.close()
    rig.loop.close()


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "nic"
    path.write_text("precious")
    with pytest.raises(UserError, match="is not a socket"):
        Rig(path)
    assert path.read_text() == "precious"


@pytest.mark.parametrize("name", ["missing/nic", "x" * 120])
def test_impossible_paths(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot listen on socket"):
        Rig(tmp_path / name)


def test_close_leaves_another_server_alone(rig: Rig) -> None:
    """The path has been taken over after ours was removed by hand."""
    rig.path.unlink()
    other = rig.serve()
    rig.server.close()
    with rig.connect() as sock:
        rig.server = other
        features(rig, sock)


def test_without_file_descriptors_it_waits(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not spin: the connection that cannot be accepted stays ready."""
    monkeypatch.setattr(server_module, "PAUSE", 0.2)

    async def starve() -> socket.socket:
        sock = rig.connect()
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        filler = [os.dup(0) for _ in range(max(map(int, os.listdir("/proc/self/fd"))))]
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(filler) + 1, limits[1]))
        try:
            await asyncio.sleep(0.3)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            for fd in filler:
                os.close(fd)
        return sock

    sock = rig.loop.run_until_complete(starve())
    assert rig.sink.of(FrontendKeptWaiting) == [FrontendKeptWaiting("Too many open files")] * 2
    sock.sendall(message(fe.GET_FEATURES))
    assert rig.receive(sock)
    sock.close()
