# SPDX-License-Identifier: GPL-2.0-or-later
"""The TAP 13 of several runs that go on at the same time, as one (testanything.org)."""

import re
from collections.abc import Iterable
from pathlib import Path
from threading import Lock

_RESULT = re.compile(r"((?:not )?ok) \d+ - (.*)")
_PLAN = re.compile(r"1\.\.(\d+)")


class Merged:
    """Puts results on the terminal and into ``path`` as they come, numbered anew.

    Who makes the streams need not know of each other: ``take`` may be called from many threads.
    """

    def __init__(self, path: Path) -> None:
        self._lock = Lock()
        self._file = path.open("w", buffering=1)
        self._done = 0
        self._write(["TAP version 13"])

    def take(self, run: str, lines: Iterable[str]) -> list[str]:
        """Take the stream of a run to its end; returns the sections that pytest ends it with."""
        sections: list[str] = []
        failure: list[str] = []
        for raw in lines:
            line = raw.rstrip("\n")
            if failure and line.startswith("  "):
                failure.append(line)  # a result and its reasons stay together
                continue
            self._result(failure)
            failure = []
            if found := _RESULT.fullmatch(line):
                words = [found[1], f"{found[2]}{', ' if ' # ' in found[2] else ' # '}{run}"]
                if found[1] == "ok":
                    self._result(words)
                else:
                    failure = words
            elif sections or line.startswith("===="):
                sections.append(line)
            elif found := _PLAN.fullmatch(line):
                self._note(f"# {run}: {found[1]} tests")
            elif line and not line.startswith("TAP version"):
                self._note(f"# {run}: {line.removeprefix('# ')}")
        self._result(failure)
        return sections

    def end(self) -> None:
        """Write the plan, which is known only now."""
        self._note(f"1..{self._done}")
        self._file.close()

    def _result(self, words: list[str]) -> None:
        """Write a result: its verdict, its name, and the lines of its block."""
        if words:
            verdict, name, *block = words
            with self._lock:
                self._done += 1
                self._write([f"{verdict} {self._done} - {name}", *block])

    def _note(self, line: str) -> None:
        with self._lock:
            self._write([line])

    def _write(self, lines: list[str]) -> None:
        text = "".join(f"{line}\n" for line in lines)
        self._file.write(text)
        print(text, end="", flush=True)
