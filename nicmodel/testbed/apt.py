# SPDX-License-Identifier: GPL-2.0-or-later
"""Distribution packages as files: resolve, download, unpack; nothing is installed.

The package sources are those of the machine. Lists and archives live in the cache, so that the
machine's own apt state stays as it is and no privileges are needed.
"""

import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from nicmodel.testbed.errors import Unavailable
from nicmodel.testbed.paths import cache_root, locked

LIST_AGE_SECONDS = 24 * 3600


def _options() -> list[str]:
    """Options that give apt a private state with nothing installed in it.

    Against an empty status file apt resolves the complete closure of a package.
    """
    root = cache_root() / "apt"
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    status = root / "nothing-installed"
    status.touch()
    return [
        f"-oDir::State={root}/state",
        f"-oDir::Cache={root}/cache",
        f"-oDir::State::status={status}",
        # the cache may be readable by its owner only
        "-oAPT::Sandbox::User=",
        "-oAPT::Install-Recommends=false",
        "-oDebug::NoLocking=true",
    ]


def _apt(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [command, *_options(), *arguments], capture_output=True, text=True, check=False
    )


def refresh(*, force: bool = False) -> None:
    """Read the package lists anew when they are older than a day."""
    stamp = cache_root() / "apt" / "refreshed"
    with locked("apt"):
        if not force and stamp.exists() and time.time() - stamp.stat().st_mtime < LIST_AGE_SECONDS:
            return
        done = _apt("apt-get", "update", "-q")
        if done.returncode:
            raise Unavailable(f"apt-get update failed: {_last_line(done.stderr)}")
        stamp.touch()


def names(pattern: str) -> list[str]:
    """Return the names of all packages that match the regular expression."""
    refresh()
    done = _apt("apt-cache", "search", "--names-only", pattern)
    return sorted(line.split()[0] for line in done.stdout.splitlines() if line.strip())


def version(package: str) -> str:
    """Return the version of ``package`` that apt would install."""
    return _fields(package)["Version"]


def depends(package: str) -> list[str]:
    """Return the names that ``package`` depends on (first alternative of each)."""
    fields = _fields(package)
    entries = [entry for entry in fields.get("Depends", "").split(",") if entry.strip()]
    return [entry.split("|")[0].split("(")[0].strip().split(":")[0] for entry in entries]


def _fields(package: str) -> dict[str, str]:
    refresh()
    fields = _show(package)
    if fields is None:
        refresh(force=True)
        fields = _show(package)
    if fields is None:
        raise Unavailable(f"no package {package} in this machine's package sources.")
    return fields


def _show(package: str) -> dict[str, str] | None:
    done = _apt("apt-cache", "show", "--no-all-versions", package)
    if done.returncode or not done.stdout.strip():
        return None
    fields: dict[str, str] = {}
    for line in done.stdout.split("\n\n")[0].splitlines():
        key, colon, value = line.partition(":")
        if colon and not line.startswith(" "):
            fields[key] = value.strip()
    return fields


def resolve(packages: Sequence[str]) -> list[str]:
    """Return ``name=version`` of ``packages`` and all that they depend on, sorted."""
    refresh()
    done = _apt("apt-get", "install", "--simulate", "-q", *packages)
    if done.returncode:
        refresh(force=True)
        done = _apt("apt-get", "install", "--simulate", "-q", *packages)
    if done.returncode:
        raise Unavailable(f"apt cannot resolve the packages: {_last_line(done.stderr)}")
    chosen = []
    for line in done.stdout.splitlines():
        if line.startswith("Inst "):
            _, name, version = line.split(maxsplit=2)
            chosen.append(f"{name}={version.lstrip('(').split()[0]}")
    return sorted(chosen)


def download(packages: Iterable[str], folder: Path) -> list[Path]:
    """Download exactly ``packages`` (``name`` or ``name=version``) to ``folder``."""
    refresh()
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["apt-get", *_options(), "download", "-q", *packages],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Unavailable(f"apt-get download failed: {_last_line(done.stderr)}")
    return sorted(folder.glob("*.deb"))


def unpack(archive: Path, folder: Path) -> None:
    """Unpack ``archive`` to ``folder``, through directory links such as ``lib -> usr/lib``."""
    with subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE
    ) as source:
        done = subprocess.run(
            ["tar", "-x", "--keep-directory-symlink", "--no-same-owner", "-C", str(folder)],
            stdin=source.stdout,
            capture_output=True,
            text=True,
            check=False,
        )
    if source.returncode or done.returncode:
        raise Unavailable(f"cannot unpack {archive.name}: {_last_line(done.stderr)}")


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"
