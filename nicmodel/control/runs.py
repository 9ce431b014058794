# SPDX-License-Identifier: GPL-2.0-or-later
"""Which NIC processes of this user have a control socket, so that nobody need type its path.

Each has a symbolic link to its socket in a folder that belongs to the user alone.
"""

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nicmodel.errors import UserError


@contextmanager
def announced(path: Path) -> Iterator[None]:
    """Let others find the control socket ``path`` meanwhile; where that cannot be, they do not."""
    link = _folder() / f"{os.getpid()}-{path.stat().st_ino}"
    with suppress(OSError):
        link.parent.mkdir(mode=0o700, exist_ok=True)
        if _ours(link.parent):
            link.unlink(missing_ok=True)
            link.symlink_to(path.absolute())
    try:
        yield
    finally:
        with suppress(OSError):
            link.unlink()


def found() -> list[Path]:
    """The control sockets that somebody listens on, by path; links of killed processes go."""
    sockets = []
    folder = _folder()
    if not _ours(folder):
        return []
    for link in folder.iterdir():
        with suppress(OSError):
            target = link.readlink()
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(1)
                try:
                    probe.connect(os.fspath(target))
                except (ConnectionRefusedError, FileNotFoundError):
                    link.unlink()
                else:
                    sockets.append(target)
    return sorted(sockets)


def only() -> Path:
    """The one there is. Raises UserError if there is none, or there are several."""
    sockets = found()
    if not sockets:
        raise UserError("no NIC process with a control socket runs; start one, or name its socket")
    if len(sockets) > 1:
        names = ", ".join(map(str, sockets))
        raise UserError(f"several NIC processes run; name one of the control sockets {names}")
    return sockets[0]


def _folder() -> Path:
    base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    return Path(base) / f"nicmodel-runs-{os.getuid()}"


def _ours(folder: Path) -> bool:
    try:
        status = folder.lstat()
    except OSError:
        return False
    mine = status.st_uid == os.getuid() and not status.st_mode & 0o022
    return stat.S_ISDIR(status.st_mode) and mine
