# SPDX-License-Identifier: GPL-2.0-or-later
"""Capture what crosses ports into a pcapng file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from nicmodel.errors import UserError
from nicmodel.frame import Frame, Origin, Traffic
from nicmodel.trace.tracer import Tracer
from nicmodel.wire.comment import comments
from nicmodel.wire.events import CaptureStopped
from nicmodel.wire.pcapng import Data, Layer, PcapngWriter
from nicmodel.wire.port import Port, Way

WallClock = Callable[[], int]
"""Time since 1970, ns."""

BATCH = 1 << 20
"""Octets of traffic that are held back at most."""

CLEAR = "before the crypto engine; headers and checksums are those of the wire"
"""Description of an interface that is on the host's side of it."""

CLEAR_SUFFIX = " clear"
"""What the name of such an interface has behind that of the port."""

_OBJECT = 256
"""What an object in a batch counts besides its octets."""

_Sighting = tuple["CaptureTap", int, Way, Traffic]
"""Who saw what when: ns since 1970."""


class Capture:
    """One file with any number of taps; each has one or two interfaces in it.

    Taking traffic is to note who saw which object when, for nobody changes what has been sent. It
    is cut into frames and written a batch at a time, which costs less than one by one.

    When the file cannot be written (full disk) it stops with one event and traffic goes on. Raises
    UserError when it cannot be created.
    """

    def __init__(self, path: Path, clock: WallClock, tracer: Tracer) -> None:
        self.path = path
        self.frames = 0
        """Frames taken so far."""
        self._clock = clock
        self._tracer = tracer
        try:
            self._writer: PcapngWriter | None = PcapngWriter(path)
        except OSError as error:
            raise UserError(f"cannot create capture file {path}: {error.strerror}") from error
        self._batch: list[_Sighting] = []
        self._octets = 0

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

    def take(self, tap: "CaptureTap", way: Way, traffic: Traffic) -> None:
        """Note what ``tap`` has seen now."""
        if self._writer is None:
            return
        self._batch.append((tap, self._clock(), way, traffic))
        self._octets += traffic.octets + _OBJECT
        if self._octets >= BATCH:
            self._write()

    def flush(self) -> None:
        """Write out what is held back, for those who look while the capture runs."""
        self._write()
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

    def _interface(self, name: str, description: str = "") -> int:
        return self._writer.add_interface(name, description) if self._writer else 0

    def _write(self) -> None:
        """Write the batch."""
        batch, self._batch, self._octets = self._batch, [], 0
        if self._writer is not None:
            try:
                for tap, time, way, traffic in batch:
                    for part in traffic.split():
                        tap.write(self._writer, time, way, part)
            except OSError as error:
                self._stop(error)

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
        self._capture.frames += traffic.count
        self._capture.take(self, way, traffic)

    def write(self, writer: PcapngWriter, time: int, way: Way, traffic: Traffic) -> None:
        """Write traffic that was seen; called by the capture. Raises OSError."""
        # what comes in has the origin of another NIC
        origin = traffic.origin if way is Way.OUT else None
        _write(writer, time, way, traffic, origin, self._interface)


class ClearTap(CaptureTap):
    """Two interfaces: a port on the wire, and as the host sees it.

    That is before encryption on its way out, after decryption on its way in. Headers are those of
    the wire, the L4 checksum too: it is that of the encrypted payload.
    """

    def __init__(self, capture: Capture, interface: int, clear: int) -> None:
        super().__init__(capture, interface)
        self._clear = clear
        self._host_side = _HostSide(capture, clear)
        self.handed = self._host_side.saw
        """Takes what the host gets, with ``Way.IN``."""

    def saw(self, way: Way, traffic: Traffic) -> None:
        """See ``Watcher.saw``; what comes in is still encrypted here."""
        self._capture.frames += traffic.count * (2 if way is Way.OUT else 1)
        self._capture.take(self, way, traffic)

    def write(self, writer: PcapngWriter, time: int, way: Way, traffic: Traffic) -> None:
        """See ``CaptureTap.write``."""
        if way is Way.OUT:
            _write(writer, time, way, traffic, traffic.origin, self._interface, self._clear)
        else:
            _write(writer, time, way, traffic, None, self._interface)


class _HostSide(CaptureTap):
    """What the host gets."""

    def write(self, writer: PcapngWriter, time: int, way: Way, traffic: Traffic) -> None:
        """See ``CaptureTap.write``."""
        origin = traffic.origin
        if origin is not None and origin.queue != "RQ":
            origin = None  # of the NIC at the far end
        _write(writer, time, way, traffic, origin, self._interface)


def _write(
    writer: PcapngWriter,
    time: int,
    way: Way,
    traffic: Traffic,
    origin: Origin | None,
    *interfaces: int,
) -> None:
    """Write traffic to ``interfaces``, to all but the first with its payload in clear."""
    count = traffic.count
    said = comments(origin, count) if origin is not None else []
    clear, at, step = None, 0, 0
    if origin is not None and len(interfaces) > 1:
        clear, at, step = origin.clear, origin.payload_at, origin.step
    if isinstance(traffic, Frame):
        last: Data = traffic.data
    else:
        last = traffic.rows[-1, : traffic.last].data
        if count > 1:
            many = count - 1
            rows = traffic.rows[:many, : traffic.width]
            layers: list[Layer] = [(interface, [rows]) for interface in interfaces]
            if clear is not None:
                body = np.frombuffer(clear, np.uint8, many * step).reshape(many, step)
                layers[1] = (interfaces[1], [rows[:, :at], body, rows[:, at + step :]])
                clear = clear[many * step :]
            writer.packets(layers, time, way, said)
    for interface in interfaces:
        writer.packet(interface, time, last, way, said[-1][0] if said else "")
        if clear is not None:
            last = b"".join((last[:at], clear, last[at + len(clear) :]))
