# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds by makefiles: run one, say how far it is, and in its own words what failed."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nicmodel.testbed.errors import Unavailable

MODINFO = "/sbin/modinfo"
PROGRESS_FILES = 30

_WRONG = r"\berror\b|undefined!|No rule|not found|No such|\*\*\*"


@dataclass(frozen=True)
class Outcome:
    """How a build ended; ``words`` is the line of its output that says why it failed."""

    status: int
    words: str


def build(
    command: Sequence[str],
    *,
    log: Path,
    folder: Path | None = None,
    seconds: float,
    who: str,
    progress: int = PROGRESS_FILES,
    environment: dict[str, str] | None = None,
) -> Outcome:
    """Run a build in ``folder`` with its output in ``log``; past ``seconds`` it is ended.

    ``who`` says, each time that ``progress`` files are compiled, how many there are.
    """
    # what a make above us was told is not meant for this one
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    log.parent.mkdir(exist_ok=True)
    late = threading.Event()
    compiled = 0
    with (
        log.open("w") as sink,
        subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=inherited | (environment or {}),
            start_new_session=True,
        ) as making,
    ):

        def end() -> None:
            late.set()
            os.killpg(making.pid, signal.SIGKILL)

        alarm = threading.Timer(seconds, end)
        alarm.start()
        try:
            assert making.stdout is not None
            for line in making.stdout:
                sink.write(line)
                if line.startswith("  CC"):
                    compiled += 1
                    if compiled % progress == 0:
                        say(who, f"{compiled} files compiled")
            making.wait()
        except BaseException:
            os.killpg(making.pid, signal.SIGKILL)
            raise
        finally:
            alarm.cancel()
    if late.is_set():
        return Outcome(1, f"it was not done after {seconds:g} s")
    return Outcome(making.returncode, telling(log.read_text(), _WRONG))


def telling(output: str, pattern: str) -> str:
    """Return the first line of a tool's output that says what is wrong, else its last one."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    found = [line for line in lines if re.search(pattern, line)]
    return found[0] if found else (lines[-1] if lines else "no reason given")


def strip(module: Path, target: Path) -> None:
    """Write ``module`` without debug information to ``target``."""
    command = ["strip", "--strip-debug", "-o", str(target), str(module)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"strip failed for {module.name}: {done.stderr.strip()}")


def modinfo(module: Path, what: str) -> str:
    """Return one field of what a module says of itself."""
    command = [MODINFO, "-F", what, str(module)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def depends(module: Path) -> list[str]:
    """Return the names of the modules that ``module`` needs."""
    return [name for name in modinfo(module, "depends").split(",") if name]


def say(who: str, text: str) -> None:
    """Tell the user on stderr what goes on."""
    print(f"{who}: {text}", file=sys.stderr, flush=True)
