# SPDX-License-Identifier: GPL-2.0-or-later
"""A listening socket for one device: one front-end at a time, any number one after another."""

import asyncio
import contextlib
import errno
import os
import socket
import stat
from pathlib import Path

from nicmodel.errors import UserError
from nicmodel.trace.tracer import Tracer
from nicmodel.transport.connection import Connection
from nicmodel.transport.seam import Device
from nicmodel.transport.session import Session


class Server:
    """Listens on ``path`` from construction until ``close``.

    Raises UserError when the path cannot be listened on.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, path: Path, device: Device, tracer: Tracer
    ) -> None:
        self.session: Session | None = None
        self._loop = loop
        self._path = path
        self._device = device
        self._tracer = tracer
        self._socket = _listen(path)
        status = path.stat()
        self._inode = (status.st_dev, status.st_ino)
        loop.add_reader(self._socket.fileno(), self._accept)

    def close(self) -> None:
        """End the session, stop listening, remove the socket file if it still is ours."""
        if self.session is not None:
            self.session.close("the model ends")
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        with contextlib.suppress(OSError):
            status = self._path.stat()
            if (status.st_dev, status.st_ino) == self._inode:
                self._path.unlink()

    def _accept(self) -> None:
        try:
            sock, _ = self._socket.accept()
        except OSError:
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


def _listen(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        _remove_stale(path)
        sock.bind(os.fspath(path))
        sock.listen(1)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"socket {path} is busy: choose another path") from error
        reason = error.strerror or str(error)
        raise UserError(
            f"cannot listen on socket {path} ({reason}): choose another path"
        ) from error
    except UserError:
        sock.close()
        raise
    return sock


def _remove_stale(path: Path) -> None:
    """Remove the socket file that a killed model left behind, and nothing else."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise UserError(f"{path} exists and is not a socket: choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        result = probe.connect_ex(os.fspath(path))
    if result == errno.ECONNREFUSED:
        path.unlink()
    else:
        raise UserError(
            f"socket {path} is busy: another model listens there; stop it or choose another path"
        )
