# SPDX-License-Identifier: GPL-2.0-or-later
"""Capture what crosses ports into a pcapng file.

Here traffic is only seen: it is copied into memory that is shared with a process of its own
(``scribe``), which cuts it into frames, comments and writes them. So a disk does not stop the
NIC, and what was seen is written even if this process is killed.
"""

import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from nicmodel.errors import UserError
from nicmodel.frame import Clear, Origin, Traffic
from nicmodel.trace.tracer import Tracer
from nicmodel.wire import sighting
from nicmodel.wire.events import CaptureStopped
from nicmodel.wire.port import Port, Way
from nicmodel.wire.sighting import Sighting
from nicmodel.wire.spool import LONGEST, TOLD, Spool

WallClock = Callable[[], int]
"""Time since 1970, ns."""

BATCH = 256 << 10
"""Octets of traffic after which the scribe is told that there is more."""

LOCK_SECONDS = 10.0
"""How long a scribe of a process that was killed may take to write what it has."""

CLEAR = "before the crypto engine; headers and checksums are those of the wire"
"""Description of an interface that is on the host's side of it."""

CLEAR_SUFFIX = " clear"
"""What the name of such an interface has behind that of the port."""


class Capture:
    """One file with any number of taps; each has one or two interfaces in it.

    Nothing is lost: when the scribe falls behind by as much as the spool holds, ``take`` waits.
    When the file cannot be written (full disk) it stops with one event and traffic goes on. Raises
    UserError when it cannot be created, or another process still writes it.
    """

    def __init__(self, path: Path, clock: WallClock, tracer: Tracer) -> None:
        self.path = path
        self.frames = 0
        """Frames taken so far."""
        self.clock = clock
        self._tracer = tracer
        file = _create(path)
        self._spool = Spool()
        self._octets = 0
        self._interfaces = 0
        self._socket, its = socket.socketpair()
        modules = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
        with its:
            fds = (self._spool.fd, its.fileno(), file)
            # in a session of its own: a signal for all in ours must not end it before us
            self.scribe = subprocess.Popen(
                [sys.executable, "-P", "-m", "nicmodel.wire.scribe", *map(str, fds)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": modules},
                pass_fds=fds,
                start_new_session=True,
            )
        for fd in (self._spool.fd, file):
            os.close(fd)
        self._running = True

    def tap(self, name: str) -> "CaptureTap":
        """Add an interface ``name``; it can watch a port or be fed by anything else."""
        return CaptureTap(self, self._interface(name))

    def attach(self, port: Port) -> None:
        """Capture both directions of ``port`` from now on, as they are on the wire."""
        port.watch(self.tap(port.name))

    def attach_both(self, port: Port) -> "ClearTap":
        """As ``attach``, with a second interface: the port on the host's side of its crypto engine.

        What is received there has to be given to ``ClearTap.handed``.
        """
        wire = self._interface(port.name)
        tap = ClearTap(self, wire, self._interface(port.name + CLEAR_SUFFIX, CLEAR))
        port.watch(tap)
        return tap

    def take(self, seen: Sighting, origin: Origin | None) -> None:
        """``seen`` is to be written, with what is known of its ``origin``."""
        if not self._running:
            return
        traffic, interfaces = seen.traffic, seen.interfaces
        self.frames += traffic.count * interfaces
        said = b""
        clear: Clear = b""
        if origin is not None:
            said = sighting.origin_bytes(origin)
            if interfaces > 1 and origin.clear is not None:
                clear = origin.clear
        size = sighting.size(traffic, said, len(clear))
        room = self._room(size)
        if room is None:
            return
        sighting.pack(room, seen, said, clear)
        self._spool.put(size)
        self._octets += size
        if self._octets >= BATCH:
            self.push()

    def push(self) -> None:
        """Have what was taken so far written soon, for those who look while the capture runs."""
        self._tell(answer=False)

    def flush(self) -> None:
        """Wait until what was taken so far is written."""
        self._tell(answer=True)

    def close(self) -> None:
        """Write out and close; nothing is taken from now on."""
        self.flush()
        self._end()

    def _interface(self, name: str, description: str = "") -> int:
        number, self._interfaces = self._interfaces, self._interfaces + 1
        entry = sighting.interface(name, description)
        room = self._room(len(entry)) if self._running else None
        if room is not None:
            room[:] = entry
            self._spool.put(len(entry))
        return number

    def _room(self, size: int) -> memoryview | None:
        """Where an entry goes; None if the capture has stopped."""
        if size > LONGEST:
            self._stop(f"{size} bytes at once are more than it can hold")
            return None
        room = self._spool.room(size)
        if room is None:
            self.flush()
            if self._running:
                room = self._spool.room(size)
        return room

    def _tell(self, *, answer: bool) -> None:
        if not self._running:
            return
        self._octets = 0
        try:
            self._socket.sendall(TOLD.pack(self._spool.count, answer))
            if answer and not self._socket.recv(1):
                raise BrokenPipeError
        except (BrokenPipeError, ConnectionResetError):
            self._stop("the process that writes it has ended")
            return
        if self._spool.error:
            self._stop(os.strerror(self._spool.error))

    def _stop(self, reason: str) -> None:
        self._end()
        self._tracer.emit(CaptureStopped(str(self.path), reason))

    def _end(self) -> None:
        """Nothing more is taken; the scribe ends."""
        if self._running:
            self._running = False
            self._socket.close()
            self.scribe.wait()


def _create(path: Path) -> int:
    """A new file that is locked as long as somebody has it open. Raises UserError."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        if stat.S_ISREG(os.fstat(file).st_mode):
            _lock(file, path)
            os.ftruncate(file, 0)
    except OSError as error:
        raise UserError(f"cannot create capture file {path}: {error.strerror}") from error
    return file


def _lock(file: int, path: Path) -> None:
    """Wait for the scribe of a process that was killed."""
    end = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                os.close(file)
                raise UserError(f"capture file {path} is written by another process") from None
            time.sleep(0.01)
        else:
            return


class CaptureTap:
    """Watcher that adds what it sees to a capture as one interface."""

    def __init__(self, capture: Capture, interface: int) -> None:
        self._capture = capture
        self._interface = interface

    def saw(self, way: Way, traffic: Traffic) -> None:
        """See ``Watcher.saw``."""
        time = self._capture.clock()
        for part in traffic.split():
            # what comes in has the origin of another NIC
            origin = part.origin if way is Way.OUT else None
            self._capture.take(Sighting(time, way, part, self._interface), origin)


class ClearTap:
    """Two interfaces: a port on the wire, and as the host sees it.

    That is before encryption on its way out, after decryption on its way in. Headers are those of
    the wire, the L4 checksum too: it is that of the encrypted payload.
    """

    def __init__(self, capture: Capture, interface: int, clear: int) -> None:
        assert clear == interface + 1
        self._capture = capture
        self._interface = interface
        self._clear = clear

    def saw(self, way: Way, traffic: Traffic) -> None:
        """See ``Watcher.saw``; what comes in is still encrypted here."""
        time, out = self._capture.clock(), way is Way.OUT
        for part in traffic.split():
            seen = Sighting(time, way, part, self._interface, 2 if out else 1)
            self._capture.take(seen, part.origin if out else None)

    def handed(self, way: Way, traffic: Traffic) -> None:
        """The host gets traffic: ``Way.IN``."""
        time = self._capture.clock()
        for part in traffic.split():
            origin = part.origin
            if origin is not None and origin.queue != "RQ":
                origin = None  # of the NIC at the far end
            self._capture.take(Sighting(time, way, part, self._clear), origin)
