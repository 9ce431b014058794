# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults as a user writes them: a table of a topology file, a request, words of a command line."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING
from enum import IntEnum, StrEnum
from typing import Any, get_args, get_type_hints

from nicmodel.entry import Entry, check_known, shown
from nicmodel.errors import UserError
from nicmodel.faults.catalogue import CATALOGUE, OBJECT_KINDS, Fault

_RANGES = {
    "after": (0, 1 << 32),
    "count": (0, 1 << 32),
    "number": (1, 0xFFFFFF),
    "delay_ms": (0, 600_000),
    "syndrome": (0, 0xFFFFFFFF),
    "limit": (0, 1 << 24),
}
"""Least and greatest value of each whole number."""


def parse(entry: Entry, beside: Sequence[str] = ()) -> Fault:
    """The fault that ``entry`` describes; ``beside`` are keys that it has for others.

    Raises UserError for what makes no sense.
    """
    kind = CATALOGUE[entry.known("kind", CATALOGUE)]
    fields = dataclasses.fields(kind)
    entry.check_keys([*beside, "kind", *(field.name for field in fields)])
    hints = get_type_hints(kind)
    values = {
        field.name: _value(entry, field.name, hints[field.name])
        for field in fields
        if field.name in entry.values or field.default is MISSING
    }
    return kind(**values)


def describe(fault: Fault) -> dict[str, Any]:
    """The fault as ``parse`` takes it, and as JSON has it; what is None is left out."""
    values = {"kind": fault.KIND}
    for field in dataclasses.fields(fault):
        value = getattr(fault, field.name)
        if value is not None:
            values[field.name] = value.name if isinstance(value, IntEnum) else value
    return values


def words(pairs: Iterable[str]) -> dict[str, Any]:
    """Values of ``key=value`` words: true, false, numbers (also 0x12), texts."""
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not (key and equals and text):
            raise UserError(f"{pair}: write key=value")
        values[key] = _literal(text)
    return values


def catalogue() -> Iterator[tuple[str, str, str]]:
    """Name, sentence and an example of each kind."""
    for name, kind in CATALOGUE.items():
        yield name, (kind.__doc__ or "").partition("\n")[0].replace("``", ""), kind.EXAMPLE


def _literal(text: str) -> bool | int | float | str:
    if text in ("true", "false"):
        return text == "true"
    for number in (lambda: int(text, 0), lambda: float(text)):
        try:
            return number()
        except ValueError:
            pass
    return text


def _value(entry: Entry, name: str, hint: Any) -> Any:
    hint = next((kind for kind in get_args(hint) if kind is not type(None)), hint)
    if hint is bool:
        return entry.flag(name)
    if hint is float:
        return _probability(entry, name)
    if hint is int:
        value = entry.whole(name, 0)
        least, greatest = _RANGES[name]
        if not least <= value <= greatest:
            raise entry.fault(name, f"{value} is not from {least} to {greatest}")
        return value
    if hint is str:
        return entry.known(name, OBJECT_KINDS)
    if issubclass(hint, StrEnum):
        return hint(entry.known(name, [member.value for member in hint]))
    word = entry.values.get(name)
    if isinstance(word, int) and not isinstance(word, bool) and word in set(hint):
        return hint(word)
    if isinstance(word, str):
        check_known(f"{entry.place}, {name}", word, hint.__members__)
        return hint[word]
    example = next(iter(hint)).name
    if word is None:
        raise UserError(f'{entry.place}: {name} is missing; add {name} = "{example}"')
    raise entry.fault(name, f"write a name like {example} instead of {shown(word)}")


def _probability(entry: Entry, name: str) -> float:
    value = entry.values[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise entry.fault(name, f"write a number from 0 to 1 instead of {shown(value)}")
    return float(value)
