# SPDX-License-Identifier: GPL-2.0-or-later
"""The connection to libvirt: its embedded driver in this process, or a daemon elsewhere."""

import ctypes
import grp
import os
import pwd
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import libvirt

from nicmodel.errors import UserError
from nicmodel.testbed.errors import Unavailable

EMBEDDED = "embed"
QEMU_USER = "libvirt-qemu"

QEMU_CONF = """\
user = "+0"
group = "+0"
security_driver = "none"
namespaces = []
cgroup_controllers = []
remember_owner = 0
stdio_handler = "file"
max_core = 0
"""

_CLONE_NEWNS = 0x00020000
_MS_BIND, _MS_REC, _MS_SLAVE = 0x1000, 0x4000, 0x80000

_event_loop: threading.Thread | None = None


def connect(uri: str, root: Path) -> Any:
    """Open a libvirt connection; ``embed`` means the embedded driver with its state in ``root``.

    The embedded driver runs in this process, so no daemon has to. ``root`` must be a short path:
    sockets live below it.
    """
    _run_event_loop()
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    if uri != EMBEDDED:
        if (host := urlsplit(uri).netloc) != "":
            raise UserError(
                f"guests at {host} would share no memory with the NICs here: "
                "run nicmodel on that machine, with --shard if the work is to be parted."
            )
        return _open(uri)
    (root / "etc").mkdir(parents=True, exist_ok=True)
    (root / "etc/qemu.conf").write_text(QEMU_CONF if os.geteuid() == 0 else "")
    embedded = f"qemu:///embed?root={root}"
    if os.geteuid() == 0 and not _user_exists():
        return _open_with_user(embedded, root)
    return _open(embedded)


def _open(uri: str) -> Any:
    try:
        return libvirt.open(uri)
    except libvirt.libvirtError as error:
        raise Unavailable(f"libvirt cannot open {uri}: {error}") from error


def _run_event_loop() -> None:
    global _event_loop  # noqa: PLW0603 - libvirt has one event loop per process
    if _event_loop is not None:
        return
    libvirt.virEventRegisterDefaultImpl()

    def loop() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    _event_loop = threading.Thread(target=loop, name="libvirt-events", daemon=True)
    _event_loop.start()


def _user_exists() -> bool:
    try:
        pwd.getpwnam(QEMU_USER)
        grp.getgrnam(QEMU_USER)
    except KeyError:
        return False
    return True


def _open_with_user(uri: str, root: Path) -> Any:
    """Open ``uri`` in a thread that sees a user database with ``libvirt-qemu`` in it.

    As root, libvirt's QEMU driver looks its default user up before it reads ``qemu.conf``, and
    gives up if there is none (virQEMUDriverConfigNew). The user comes with the daemon's package,
    which would start services; so a thread with its own mount namespace sees copies of passwd and
    group with one more line, for as long as the connection is opened. The machine's files stay.
    """
    for name, line in (
        ("passwd", f"{QEMU_USER}:x:64055:64055::/:/usr/sbin/nologin\n"),
        ("group", f"{QEMU_USER}:x:64055:\n"),
    ):
        (root / "etc" / name).write_text(Path("/etc", name).read_text() + line)
    opened: list[Any] = []
    failed: list[BaseException] = []

    def attempt() -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            _check(libc.unshare(_CLONE_NEWNS), "unshare")
            _check(libc.mount(None, b"/", None, _MS_REC | _MS_SLAVE, None), "mount /")
            for name in ("passwd", "group"):
                source, target = os.fsencode(root / "etc" / name), f"/etc/{name}".encode()
                _check(libc.mount(source, target, None, _MS_BIND, None), f"mount {name}")
            opened.append(_open(uri))
        except (OSError, Unavailable) as error:
            failed.append(error)

    thread = threading.Thread(target=attempt, name="libvirt-open")
    thread.start()
    thread.join()
    if failed:
        raise Unavailable(f"the embedded libvirt driver does not start: {failed[0]}")
    return opened[0]


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
