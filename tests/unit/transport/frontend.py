# SPDX-License-Identifier: GPL-2.0-or-later
"""A front-end that speaks the real socket, and a device that remembers what it was told.

Messages are packed here by hand, independently of ``nicmodel.transport.messages``.
"""

import array
import fcntl
import mmap
import os
import select
import socket
import struct
from dataclasses import dataclass, field

from nicmodel.trace.events import FrontendDetached
from nicmodel.trace.tracer import ListSink, Tracer
from nicmodel.transport.connection import Connection
from nicmodel.transport.seam import Host, Identity
from nicmodel.transport.session import Session, State

GET_FEATURES, SET_FEATURES, SET_OWNER = 1, 2, 3
SET_MEM_TABLE, SET_VRING_CALL = 5, 13
GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES = 15, 16
GET_CONFIG, SET_CONFIG = 24, 25
SET_INFLIGHT_FD, RESET_DEVICE = 32, 34
GET_MAX_MEM_SLOTS, ADD_MEM_REG, REM_MEM_REG = 36, 37, 38

BAR_SIZE = 65536
BAR = 0x10000000
COMMAND = 0x1000
PAGE = mmap.PAGESIZE
IDENTITY = Identity(0x15B3, 0x101D, 1, 2, 3, 0x020000, BAR_SIZE, 4, 0x1000, 156250)


@dataclass
class RecordingDevice:
    identity: Identity = IDENTITY
    host: Host | None = None
    log: list[tuple[object, ...]] = field(default_factory=list)

    def attach(self, host: Host) -> None:
        assert self.host is None
        assert not host.memory.enabled
        self.host = host
        self.log.append(("attach",))

    def detach(self) -> None:
        assert self.host is not None
        self.host = None
        self.log.append(("detach",))

    def bar_write(self, offset: int, data: bytes) -> None:
        assert self.host is not None
        assert type(data) is bytes
        assert 1 <= len(data) <= 8
        assert 0 <= offset <= BAR_SIZE - len(data)
        self.log.append(("write", offset, data))

    def flush(self) -> None:
        assert self.host is not None
        self.log.append(("flush",))

    def bus_master(self, enabled: bool) -> None:
        assert self.host is not None
        assert self.host.memory.enabled == enabled
        self.log.append(("bus_master", enabled))

    def reset(self) -> None:
        assert self.host is not None
        assert not self.host.memory.enabled
        self.log.append(("reset",))

    def told(self) -> list[tuple[object, ...]]:
        """What has been logged since the last call, without flushes."""
        log, self.log = self.log, []
        return [entry for entry in log if entry != ("flush",)]


def memfd(size: int, seals: int = fcntl.F_SEAL_SHRINK) -> int:
    fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def message(request: int, body: bytes = b"", flags: int = 1) -> bytes:
    return struct.pack("<III", request, flags, len(body)) + body


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def config(offset: int, data: bytes) -> bytes:
    return struct.pack("<III", offset, len(data), 0) + data


def region(addr: int, size: int, offset: int = 0) -> bytes:
    return struct.pack("<QQQQ", addr, size, 0x7F0000000000, offset)


def mem_table(*regions: bytes) -> bytes:
    return struct.pack("<II", len(regions), 0) + b"".join(regions)


class FakeFrontend:
    """One connection to a session; whatever is sent is carried out before the call returns."""

    def __init__(self, device: RecordingDevice | None = None) -> None:
        self.device = device or RecordingDevice()
        self.sink = ListSink()
        self.sock, self.other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.setblocking(False)
        self.session = Session(
            Connection(self.other), self.device, Tracer("t", lambda: 0, (self.sink,))
        )
        self.fds: list[int] = []

    def send(self, data: bytes, fds: list[int] | None = None) -> None:
        """Send bytes and descriptors in one piece, and let the session take them."""
        self.post(data, fds)
        self.run()

    def post(self, data: bytes, fds: list[int] | None = None) -> None:
        """Send without letting the session run."""
        ancillary = []
        if fds:
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        sent = self.sock.sendmsg([data], ancillary)
        assert sent == len(data)

    def run(self) -> None:
        """What the event loop does: call as long as there is something to read."""
        while self.session.state is not State.CLOSED and select.select([self.other], [], [], 0)[0]:
            self.session.receive()

    def ask(self, request: int, body: bytes = b"", fds: list[int] | None = None) -> bytes:
        """Send a request that has an answer; the answer's body."""
        self.send(message(request, body), fds)
        return self.answer(request)

    def do(self, request: int, body: bytes = b"", fds: list[int] | None = None) -> None:
        """Send a request and take its acknowledgement."""
        self.send(message(request, body, flags=9), fds)
        assert self.answer(request) == u64(0)

    def answer(self, request: int) -> bytes:
        data = self.sock.recv(65536)
        assert data[:12] == struct.pack("<III", request, 5, len(data) - 12)
        return data[12:]

    def keep(self, fd: int) -> int:
        self.fds.append(fd)
        return fd

    def negotiate(self) -> None:
        assert self.ask(GET_FEATURES) == u64(1 << 30)
        self.send(message(SET_FEATURES, u64(1 << 30)))
        features = self.ask(GET_PROTOCOL_FEATURES)
        self.send(message(SET_PROTOCOL_FEATURES, features))
        self.send(message(SET_OWNER))

    def share_shadow(self) -> mmap.mmap:
        fd = memfd(BAR_SIZE)
        self.do(SET_INFLIGHT_FD, struct.pack("<QQHH", BAR_SIZE, 0, 0, 0), [fd])
        shadow = mmap.mmap(fd, BAR_SIZE)
        os.close(fd)
        return shadow

    def attach(self, ram_size: int = 16 * PAGE) -> None:
        """The whole hand-shake, one region of RAM at 0, bus mastering on, one vector."""
        self.negotiate()
        self.shadow = self.share_shadow()
        self.call = self.keep(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
        self.send(message(SET_VRING_CALL, u64(0)), [self.call])
        fd = memfd(ram_size)
        self.do(SET_MEM_TABLE, mem_table(region(0, ram_size)), [fd])
        self.ram = mmap.mmap(fd, ram_size)
        os.close(fd)
        self.bus_master(True)
        assert self.device.told() == [("attach",), ("bus_master", True)]

    def bus_master(self, enabled: bool) -> None:
        self.do(SET_CONFIG, config(COMMAND, struct.pack("<H", 4 if enabled else 0)))

    def write(self, offset: int, data: bytes) -> None:
        self.send(message(SET_CONFIG, config(BAR + offset, data)))

    @property
    def refusal(self) -> str:
        """Why the session is over."""
        assert self.session.state is State.CLOSED
        (event,) = self.sink.of(FrontendDetached)
        return event.reason

    def close(self) -> None:
        """Leave, and release what this front-end owns."""
        self.sock.close()
        if self.session.state is not State.CLOSED:
            self.session.receive()
        for fd in self.fds:
            os.close(fd)
        for name in ("shadow", "ram"):
            if hasattr(self, name):
                getattr(self, name).close()
