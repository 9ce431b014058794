# SPDX-License-Identifier: GPL-2.0-or-later
"""What a user wrote as keys and values: a table of a topology file, a flag, a control request.

Each mistake is a ``UserError`` that names the place, the key and what to write instead.
"""

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nicmodel.errors import UserError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")


@dataclass(slots=True)
class Entry:
    """Keys and values, with the words to name them in a message.

    ``folder`` is what relative paths are relative to.
    """

    place: str
    values: dict[str, Any]
    folder: Path = Path()

    def check_keys(self, known: Iterable[str]) -> None:
        """Refuse a key that is not ``known``."""
        for key in self.values:
            check_known(self.place, key, known)

    def fault(self, key: str, problem: str) -> UserError:
        """The error for the value of ``key``."""
        return UserError(f"{self.place}, {key}: {problem}")

    def text(self, key: str, default: str | None = None) -> str:
        """A printable text that is not empty; without ``default`` the key must be there."""
        value = self.values.get(key, default)
        if value is None:
            raise UserError(f'{self.place}: {key} is missing; add {key} = "..."')
        if not isinstance(value, str) or not value or not value.isprintable():
            raise self.fault(key, f"write a text in quotes instead of {shown(value)}")
        return value

    def name(self, key: str = "name") -> str:
        """A name of a NIC, tap or switch."""
        value = self.text(key)
        if not _NAME.fullmatch(value):
            raise self.fault(
                key, f"{value!r} is no name; use at most 32 letters, digits, '.', '_' and '-'"
            )
        return value

    def known(self, key: str, known: Iterable[str], default: str | None = None) -> str:
        """A text out of ``known``."""
        value = self.text(key, default)
        check_known(f"{self.place}, {key}", value, known)
        return value

    def path(self, key: str) -> Path:
        """A path."""
        return self.folder / self.text(key)

    def flag(self, key: str) -> bool:
        """True or false; false when it is not there."""
        value = self.values.get(key, False)
        if not isinstance(value, bool):
            raise self.fault(key, f"write true or false instead of {shown(value)}")
        return value

    def whole(self, key: str, default: int) -> int:
        """A whole number."""
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.fault(key, f"write a whole number instead of {shown(value)}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts; empty when it is not there."""
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
            raise self.fault(key, f"write a list of texts instead of {shown(value)}")
        return tuple(value)

    def table(self, key: str) -> "Entry":
        """A table below this one; empty when it is not there."""
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            raise self.fault(key, f"write a table instead of {shown(value)}")
        return Entry(f"{self.place}, {key}", value, self.folder)

    def tables(self, key: str) -> list["Entry"]:
        """Tables below this one of which there may be several."""
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            raise self.fault(key, f"there can be several; write them as [[{key}]]")
        return [
            Entry(f"{self.place}, {key} {number}", one, self.folder)
            for number, one in enumerate(value, 1)
        ]


def shown(value: object) -> str:
    """A value nearly as the user wrote it."""
    return json.dumps(value, default=str)


def check_known(place: str, key: str, known: Iterable[str]) -> None:
    """Refuse ``key`` unless it is ``known``; a near miss gets a hint."""
    known = list(known)
    if key not in known:
        near = difflib.get_close_matches(key, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
        raise UserError(f"{place}: {key or 'an empty key'} is unknown; {hint}")
