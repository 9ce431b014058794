# SPDX-License-Identifier: GPL-2.0-or-later
"""The process that writes a capture: ``python -m nicmodel.wire.scribe SPOOL SOCKET FILE``.

It takes what ``wire.capture`` puts into the spool. When the socket ends, because the capture was
closed or the other process was killed, it writes what is there and ends. When the file cannot be
written it says so once, and takes the rest without writing, so that nobody waits for it.
"""

import errno
import signal
import socket
import sys

import numpy as np

from nicmodel.frame import Frame
from nicmodel.wire.comment import comments
from nicmodel.wire.pcapng import Data, Layer, PcapngWriter
from nicmodel.wire.sighting import Sighting, unpack
from nicmodel.wire.spool import TOLD, Spool


class Scribe:
    """Writes what is in ``spool`` to ``file``, a descriptor."""

    def __init__(self, spool: Spool, file: int) -> None:
        self._spool = spool
        self._writer: PcapngWriter | None = None
        try:
            self._writer = PcapngWriter(file)
        except OSError as error:
            self._failed(error)

    def write(self, count: int) -> None:
        """Take entries up to number ``count``; they are in the file then."""
        spool = self._spool
        try:
            while spool.count < count:
                entry = spool.take()
                if self._writer is not None:
                    _write(self._writer, unpack(entry))
                spool.done(len(entry))
            if self._writer is not None:
                self._writer.flush()
        except OSError as error:
            self._failed(error)
            self.write(count)

    def close(self) -> None:
        """Close the file."""
        try:
            if self._writer is not None:
                self._writer.close()
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.abandon()
        self._spool.fail(error.errno or errno.EIO)


def _write(writer: PcapngWriter, seen: Sighting | tuple[str, str]) -> None:
    """Write what was seen to its interfaces, to all but the first with its payload in clear."""
    if isinstance(seen, tuple):
        writer.add_interface(*seen)
        return
    time, way, traffic = seen.time, seen.way, seen.traffic
    interfaces = range(seen.first, seen.first + seen.interfaces)
    origin = traffic.origin
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


def main(spool: int, told: int, file: int) -> None:
    """Serve until the socket ends, whoever else is told to end: it is the last one to have all."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    memory = Spool(spool)
    scribe = Scribe(memory, file)
    with socket.socket(fileno=told) as asked:
        while len(message := asked.recv(TOLD.size, socket.MSG_WAITALL)) == TOLD.size:
            count, answer = TOLD.unpack(message)
            scribe.write(count)
            if answer:
                asked.sendall(b".")
    scribe.write(memory.there)
    scribe.close()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
