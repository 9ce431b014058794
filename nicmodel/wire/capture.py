# SPDX-License-Identifier: GPL-2.0-or-later
"""Capture what crosses ports into a pcapng file."""

from collections.abc import Callable
from pathlib import Path

from nicmodel.errors import UserError
from nicmodel.frame import Frame, Traffic
from nicmodel.trace.tracer import Tracer
from nicmodel.wire.events import CaptureStopped
from nicmodel.wire.pcapng import PcapngWriter
from nicmodel.wire.port import Port, Way

WallClock = Callable[[], int]
"""Time since 1970, ns."""


class Capture:
    """One file with any number of taps; each is an interface in it.

    When the file cannot be written (full disk) it stops with one event and traffic goes on. Raises
    UserError when it cannot be created.
    """

    def __init__(self, path: Path, clock: WallClock, tracer: Tracer) -> None:
        self.path = path
        self.frames = 0
        """Frames taken so far."""
        self.clock = clock
        self._tracer = tracer
        try:
            self._writer: PcapngWriter | None = PcapngWriter(path)
        except OSError as error:
            raise UserError(f"cannot create capture file {path}: {error.strerror}") from error

    def tap(self, name: str) -> "CaptureTap":
        """Add an interface ``name``; it can watch a port or be fed by anything else."""
        return CaptureTap(self, self._writer.add_interface(name) if self._writer else 0)

    def attach(self, port: Port) -> None:
        """Capture both directions of ``port`` from now on."""
        port.watch(self.tap(port.name))

    def add(
        self,
        interface: int,
        time: int,
        data: bytes | bytearray | memoryview,
        way: Way | None,
        comment: str = "",
    ) -> None:
        """Take one frame; see ``PcapngWriter.packet``."""
        if self._writer is not None:
            try:
                self._writer.packet(interface, time, data, way, comment)
                self.frames += 1
            except OSError as error:
                self._stop(error)

    def flush(self) -> None:
        """Write out what is held back, for those who look while the capture runs."""
        if self._writer is not None:
            try:
                self._writer.flush()
            except OSError as error:
                self._stop(error)

    def close(self) -> None:
        """Write out and close; nothing is taken from now on."""
        self.flush()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _stop(self, error: OSError) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.abandon()
        self._tracer.emit(CaptureStopped(str(self.path), error.strerror or str(error)))


class CaptureTap:
    """Watcher that cuts traffic into frames and adds them to a capture as one interface."""

    def __init__(self, capture: Capture, interface: int) -> None:
        self._capture = capture
        self._interface = interface

    def saw(self, way: Way, traffic: Traffic) -> None:
        """See ``Watcher.saw``."""
        capture = self._capture
        time = capture.clock()
        if isinstance(traffic, Frame):
            capture.add(self._interface, time, traffic.data, way)
        else:
            for view in traffic.views():
                capture.add(self._interface, time, view, way)
