# SPDX-License-Identifier: GPL-2.0-or-later
"""Host tap: an Ethernet interface of the host, or of one of its network namespaces, on the wire."""

import asyncio
import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import ioctl
from pathlib import Path
from struct import Struct

from nicmodel.errors import UserError
from nicmodel.frame import ETH_MIN, Frame, Traffic
from nicmodel.trace.tracer import Tracer
from nicmodel.wire.events import TapLost
from nicmodel.wire.port import Port

NAME_MAX = 15
"""Longest name of a network interface, bytes (IFNAMSIZ without its NUL)."""

BATCH = 64
"""Frames read in one turn of the event loop, so that a flood from the host starves nobody."""

_FRAME_MAX = 65536
"""Longest frame that a tap yields, bytes: the largest MTU and the header fit."""

# linux/if_tun.h
_TUNSETIFF = 0x400454CA
_TUNSETCARRIER = 0x400454E2
_IFF_TAP = 0x0002
_IFF_NO_PI = 0x1000
_IFREQ = Struct("16sH22x")
_INT = Struct("i")

_CLONE_NEWNET = 0x40000000
"""linux/sched.h; Python has ``os.setns`` from 3.12 on."""


class HostTap:
    """Endpoint between the wire and a tap's file descriptor, which it owns.

    ``fd`` is a non-blocking tap without packet information (``open_tap``). The host sees the
    carrier of the port.
    """

    def __init__(self, name: str, fd: int, loop: asyncio.AbstractEventLoop, tracer: Tracer) -> None:
        self.port = Port(name, self)
        self.refused = 0
        """Frames that the host did not take: its queue is full or the interface is down."""
        self._fd = fd
        self._loop = loop
        self._tracer = tracer
        self._open = True
        loop.add_reader(fd, self._readable)

    def receive(self, traffic: Traffic) -> None:
        """See ``Endpoint.receive``: write each frame to the host."""
        if isinstance(traffic, Frame):
            self._write(traffic.data)
        else:
            for view in traffic.views():
                self._write(view)

    def carrier(self, up: bool) -> None:
        """See ``Endpoint.carrier``: show it to the host."""
        if self._open:
            with suppress(OSError):  # before Linux 5.0 a tap cannot show it
                ioctl(self._fd, _TUNSETCARRIER, _INT.pack(up))

    def close(self) -> None:
        """Leave the host; the interface goes away unless it is persistent."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._fd)
            os.close(self._fd)

    def _write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._open:
            self.refused += 1
            return
        try:
            os.write(self._fd, data)
        except OSError:  # a full queue, an interface that is down or gone: the frame is lost
            self.refused += 1

    def _readable(self) -> None:
        for _ in range(BATCH):
            try:
                data = os.read(self._fd, _FRAME_MAX)
            except BlockingIOError:
                return
            except OSError as error:
                self.close()
                self.port.enable(False)
                self._tracer.emit(TapLost(self.port.name, error.strerror or str(error)))
                return
            self.port.send(Frame(data.ljust(ETH_MIN, b"\0")))


def open_tap(name: str, netns: str | None = None) -> int:
    """Open tap ``name`` in a network namespace and return its non-blocking fd.

    A tap that does not exist is created and lives as long as the fd. ``netns`` is a name as ``ip
    netns`` knows it or a path such as ``/proc/1234/ns/net``; None is the current namespace. Raises
    UserError if there is no such namespace, no right, or the name is in use by something else.
    """
    where = f"tap {name}" if netns is None else f"tap {name} in namespace {netns}"
    if not 0 < len(os.fsencode(name)) <= NAME_MAX:
        raise UserError(f"tap {name!r}: a name of an interface has 1 to {NAME_MAX} bytes")
    fd = -1
    try:
        with _inside(netns):
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            ioctl(fd, _TUNSETIFF, _IFREQ.pack(os.fsencode(name), _IFF_TAP | _IFF_NO_PI))
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        raise UserError(f"{where}: {_advice(error)}") from error
    return fd


def _advice(error: OSError) -> str:
    if error.errno in (errno.EPERM, errno.EACCES):
        return "no right to open it; run as root or give nicmodel CAP_NET_ADMIN and CAP_SYS_ADMIN"
    if error.errno == errno.EBUSY:
        return "another process holds it; stop that or choose another name"
    if error.errno == errno.EINVAL:
        return "the name belongs to an interface of another kind; choose another name"
    if error.errno == errno.ENOENT and error.filename == "/dev/net/tun":
        return "this machine has no /dev/net/tun; load the kernel module tun"
    if error.errno == errno.ENOENT:
        return "there is no such namespace; create it with 'ip netns add'"
    return error.strerror or str(error)


@contextmanager
def _inside(netns: str | None) -> Iterator[None]:
    """Put the calling thread into a network namespace and back."""
    if netns is None:
        yield
        return
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(Path("/run/netns") / netns, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _setns(home)
    finally:
        os.close(home)


def _setns(fd: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, _CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
