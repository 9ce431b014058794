# SPDX-License-Identifier: GPL-2.0-or-later
"""A listening socket for one device: one front-end at a time, any number one after another."""

import asyncio
import errno
from pathlib import Path

from nicmodel.listen import Listener
from nicmodel.trace.events import FrontendKeptWaiting
from nicmodel.trace.tracer import Tracer
from nicmodel.transport.connection import Connection
from nicmodel.transport.seam import Device
from nicmodel.transport.session import Session

PAUSE = 1.0
"""Seconds until the next try when this process can open nothing more."""

_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Server:
    """Listens on ``path`` from construction until ``close``.

    Raises UserError when the path cannot be listened on.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, path: Path, device: Device, tracer: Tracer
    ) -> None:
        self.session: Session | None = None
        self._loop = loop
        self._device = device
        self._tracer = tracer
        self._listener = Listener(path)
        self._paused: asyncio.TimerHandle | None = None
        self._listen()

    def close(self) -> None:
        """End the session, stop listening, remove the socket file if it still is ours."""
        if self.session is not None:
            self.session.close("the model ends")
        self._loop.remove_reader(self._listener.socket.fileno())
        if self._paused is not None:
            self._paused.cancel()
        self._listener.close()

    def _listen(self) -> None:
        self._loop.add_reader(self._listener.socket.fileno(), self._accept)

    def _pause(self, reason: str) -> None:
        """Whoever waits is still there in the next turn of the loop: look again later."""
        self._tracer.emit(FrontendKeptWaiting(reason))
        self._loop.remove_reader(self._listener.socket.fileno())
        self._paused = self._loop.call_later(PAUSE, self._listen)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.socket.accept()
        except OSError as error:
            if error.errno in _NO_ROOM:
                self._pause(error.strerror or str(error))
            return
        if self.session is not None and self.session.hung_up():
            self.session.close("it closed the connection")
        if self.session is not None:
            # The second one is told at once; waiting would freeze its start.
            sock.close()
            return
        connection = Connection(sock)
        fd = connection.fileno()
        self.session = Session(connection, self._device, self._tracer, lambda: self._closed(fd))
        self._loop.add_reader(fd, self.session.receive)

    def _closed(self, fd: int) -> None:
        self._loop.remove_reader(fd)
        self.session = None
