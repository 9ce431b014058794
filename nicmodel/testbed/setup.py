# SPDX-License-Identifier: GPL-2.0-or-later
"""What set-up does once the distribution's packages are there; standard library only.

Everything is kept in the cache and looked up by what it was made from: a second run does nothing.
"""

import errno
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from nicmodel.errors import UserError
from nicmodel.testbed import image, kernel
from nicmodel.testbed.errors import Unavailable
from nicmodel.testbed.paths import BUILD, CHECKOUT, cache_root, locked, plugin, require_space

LOCK_FILE = CHECKOUT / "requirements.lock"
ENVIRONMENT = BUILD / "venv"


def environment() -> Path:
    """Return the Python environment for the lock file, made the first time.

    It is made in its final place, since its programs name it, and has a mark when it is whole.
    """
    identity = f"{platform.python_version()} {sys.executable}\n{LOCK_FILE.read_text()}"
    key = hashlib.sha256(identity.encode()).hexdigest()[:16]
    folder = cache_root() / "venvs" / key
    mark = folder / "complete"
    if mark.exists():
        return folder
    with locked(f"venv-{key}"):
        if mark.exists():
            return folder
        require_space()
        _say("making the Python environment")
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        _run([sys.executable, "-m", "venv", str(folder)], "python3 -m venv failed")
        pip = [str(folder / "bin/python"), "-m", "pip", "--disable-pip-version-check", "-q"]
        _run([*pip, "install", "-r", str(LOCK_FILE)], "pip cannot install the locked packages")
        mark.touch()
    return folder


def main() -> int:
    """Make everything ready; return the exit status."""
    try:
        BUILD.mkdir(exist_ok=True)
        _point(ENVIRONMENT, environment())
        plugin()
        _guest()
    except UserError as error:
        _say(str(error))
        return 4 if isinstance(error, Unavailable) else 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EACCES, errno.EROFS):
            raise
        _say(f"{error.strerror}: {error.filename or cache_root()}; set NICMODEL_CACHE elsewhere.")
        return 4
    return 0


def _guest() -> None:
    if not (cache_root() / "images").exists():
        _say("fetching the guest's kernel and packages")
    chosen = os.environ.get("KERNEL")
    for name in [chosen] if chosen else [kernel.DEFAULT, kernel.second()]:
        if name:
            image.initramfs(kernel.find(name))
    kernel.headers()


def _point(link: Path, target: Path) -> None:
    """Make ``link`` a symbolic link to ``target``, at once."""
    if link.is_symlink() and link.readlink() == target:
        return
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.symlink_to(target)
    fresh.replace(link)


def _run(command: list[str], otherwise: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stderr)
        raise Unavailable(f"{otherwise}: see the lines above.")


def _say(text: str) -> None:
    print(f"setup: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
