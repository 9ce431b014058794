# SPDX-License-Identifier: GPL-2.0-or-later
"""A UNIX socket to listen on, whatever lies at its path."""

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path

from nicmodel.errors import UserError

PATH_MAX = 107
"""Longest path of a UNIX socket, bytes (unix(7): 108 with the NUL)."""


class Listener:
    """Listens on ``path`` from construction until ``close``; ``socket`` does not block.

    Raises UserError when the path cannot be listened on.
    """

    def __init__(self, path: Path, backlog: int = 1) -> None:
        self.path = path
        self.socket = _listen(path, backlog)
        status = path.stat()
        self._inode = (status.st_dev, status.st_ino)

    def close(self) -> None:
        """Stop listening and remove the socket file if it still is ours."""
        self.socket.close()
        with contextlib.suppress(OSError):
            status = self.path.stat()
            if (status.st_dev, status.st_ino) == self._inode:
                self.path.unlink()


def _listen(path: Path, backlog: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        _remove_stale(path)
        sock.bind(os.fspath(path))
        sock.listen(backlog)
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
