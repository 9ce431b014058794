# SPDX-License-Identifier: GPL-2.0-or-later
"""A rule of an impaired link, as a user writes it: ``[[link]]`` of a topology, ``nicmodel link``.

Values may be numbers, or text as the command line has it. Every mistake is a UserError.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nicmodel.entry import Entry, check_known, shown
from nicmodel.errors import UserError
from nicmodel.wire.match import Predicate, compile_match

Direction = Literal["out", "in"]
"""As the NIC or tap sees it."""

BEHIND = 3
"""How many later frames a reordered one waits for by default."""

HOLD_NS = 100_000_000
"""How long it waits for them at most by default, ns: a flow that has paused is not stuck."""

LONGEST_NS = 60 * 10**9
"""Longest time of a rule, ns."""

QUEUE_OCTETS = 128 * 1024
"""Bytes that wait for their turn where there is a rate, by default."""

ETHERNET = 14
"""Bytes of an Ethernet header, which corruption spares by default: the frame shall arrive."""

_NS = {"ns": 1, "us": 1000, "ms": 10**6, "s": 10**9}
_BIT = {"": 1, "bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9}
_OCTET = {"": 1, "b": 1, "kb": 1000, "mb": 10**6, "kib": 1024, "mib": 1 << 20}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
_SPAN = re.compile(r"(\d+)(-)?(\d+)?")


@dataclass(frozen=True, slots=True)
class Rule:
    """What happens to the frames of one or both directions that match.

    Times in ns, probabilities from 0 to 1. ``enter`` and ``leave`` are those of a Gilbert model:
    to begin and to end losing with each frame (``loss`` is None then).
    """

    words: Mapping[str, Any] = field(compare=False)
    """As the user wrote it."""
    direction: Direction | None = None
    match: Predicate | None = field(default=None, compare=False)
    nth: tuple[int, int | None] | None = None
    """First and last of the matching frames that are meant, from 1; None: to the end."""
    loss: float = 0
    enter: float = 0
    leave: float = 1
    duplicate: float = 0
    corrupt: float = 0
    corrupt_bits: int = 1
    corrupt_bytes: tuple[int, int | None] = (ETHERNET, None)
    """First and last byte whose bits may flip."""
    reorder: float = 0
    reorder_by: int = BEHIND
    reorder_ns: int = HOLD_NS
    delay: int = 0
    jitter: int = 0
    normal: bool = False
    """Jitter has a normal distribution with this deviation instead of +- jitter, all alike."""
    rate: int = 0
    """Bits/s; 0: any."""
    queue_octets: int | None = QUEUE_OCTETS
    queue_frames: int | None = None

    @property
    def line_rate(self) -> int:
        """The rate in bits/s if all frames of both directions have it, else 0."""
        return self.rate if self.direction is None and self.match is None else 0


def rule(entry: Entry, *, also: tuple[str, ...] = ()) -> Rule:
    """The rule that the keys of ``entry`` describe; keys in ``also`` are not its business."""
    entry.check_keys((*also, *KEYS))
    words = {key: value for key, value in entry.values.items() if key not in also}
    made: dict[str, Any] = {"words": words}
    if not words.keys() - {"direction", "match", "nth"}:
        raise UserError(
            f'{entry.place}: nothing happens; add for example loss = 0.01 or delay = "5ms"'
        )
    for key, value in words.items():
        made |= _VALUES[key](entry, key, value)
    _check_company(entry, words)
    if "burst" in made:
        burst = made.pop("burst")
        loss = made.pop("loss")
        made["leave"] = 1 / burst
        # the share of frames in the bad state is enter / (enter + leave)
        made["enter"] = loss / (burst * (1 - loss)) if loss < 1 else 1.0
        if made["enter"] > 1:
            raise entry.fault(
                "burst", f"{loss:g} of all frames are lost in longer bursts; raise it"
            )
    return Rule(**made)


_COMPANY = {
    "burst": "loss",
    "corrupt_bits": "corrupt",
    "corrupt_bytes": "corrupt",
    "reorder_by": "reorder",
    "reorder_time": "reorder",
    "distribution": "jitter",
    "queue": "rate",
}


def _check_company(entry: Entry, words: Mapping[str, Any]) -> None:
    for key, other in _COMPANY.items():
        if key in words and other not in words:
            raise UserError(f"{entry.place}: {key} means nothing without {other}; add {other}")
    if "gilbert" in words and "loss" in words:
        raise UserError(f"{entry.place}: loss and gilbert say the same; remove one of them")


def _direction(entry: Entry, key: str, _value: object) -> dict[str, Any]:
    return {"direction": entry.known(key, ("out", "in"))}


def _match(entry: Entry, key: str, _value: object) -> dict[str, Any]:
    try:
        return {"match": compile_match(entry.text(key))}
    except UserError as error:
        raise entry.fault(key, str(error)) from None


def _nth(entry: Entry, key: str, value: object) -> dict[str, Any]:
    first, last = _span(entry, key, value)
    if first < 1:
        raise entry.fault(key, "frames are counted from 1")
    return {"nth": (first, last)}


def _span(entry: Entry, key: str, value: object) -> tuple[int, int | None]:
    found = _SPAN.fullmatch(str(value))
    if found is None or isinstance(value, bool) or len(str(value)) > 40:
        raise entry.fault(
            key, f"write a number, or a range like 3-5 or 3-, instead of {shown(value)}"
        )
    first = int(found[1])
    last = first if not found[2] else int(found[3]) if found[3] else None
    if last is not None and last < first:
        raise entry.fault(key, f"the range {value} is empty; begin with the smaller number")
    return first, last


def _corrupt_bytes(entry: Entry, key: str, value: object) -> dict[str, Any]:
    return {key: _span(entry, key, value)}


def _chance(entry: Entry, key: str, value: object) -> float:
    number: float | None = None
    try:
        if isinstance(value, str):
            number = float(value[:-1]) / 100 if value.endswith("%") else float(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            number = float(value)
    except (ValueError, OverflowError):
        pass
    if number is None or not 0 <= number <= 1:
        raise entry.fault(key, f"write a share from 0 to 1, or like 5%, instead of {shown(value)}")
    return number


def _probability(entry: Entry, key: str, value: object) -> dict[str, Any]:
    return {key: _chance(entry, key, value)}


def _gilbert(entry: Entry, key: str, value: object) -> dict[str, Any]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list) or len(parts) != 2:
        raise entry.fault(key, "write two shares: to begin losing, and to end, with each frame")
    return {"enter": _chance(entry, key, parts[0]), "leave": _chance(entry, key, parts[1])}


def _count(entry: Entry, key: str, value: object) -> dict[str, Any]:
    text = str(value)
    if isinstance(value, bool) or not re.fullmatch(r"\d{1,5}", text) or int(text) < 1:
        raise entry.fault(key, f"write a number from 1 to 99999 instead of {shown(value)}")
    return {key: int(text)}


def _burst(entry: Entry, key: str, value: object) -> dict[str, Any]:
    try:
        number = float(value) if isinstance(value, int | float | str) else 0.0
    except ValueError:
        number = 0.0
    if isinstance(value, bool) or not 1 <= number <= 1e6:
        raise entry.fault(
            key, f"write the mean length in frames, 1 or more, instead of {shown(value)}"
        )
    return {key: number}


def _quantity(value: object, units: Mapping[str, int]) -> int | None:
    """A number with a unit as a number of the smallest one."""
    found = None if isinstance(value, bool) else _QUANTITY.fullmatch(str(value))
    if found is None or len(str(value)) > 40:
        return None
    unit = units.get(found[2].lower())
    return None if unit is None else round(float(found[1]) * unit)


def _ns(entry: Entry, key: str, value: object) -> int:
    found = _quantity(value, _NS)
    if found is None and str(value) == "0":
        found = 0
    if found is None:
        raise entry.fault(
            key, f"write a time with its unit, like 5ms or 200us, instead of {shown(value)}"
        )
    if found > LONGEST_NS:
        raise entry.fault(key, f"{value} is too long; {LONGEST_NS // 10**9}s is the most")
    return found


def _time(entry: Entry, key: str, value: object) -> dict[str, Any]:
    return {key: _ns(entry, key, value)}


def _reorder_time(entry: Entry, key: str, value: object) -> dict[str, Any]:
    return {"reorder_ns": _ns(entry, key, value)}


def _distribution(entry: Entry, key: str, _value: object) -> dict[str, Any]:
    return {"normal": entry.known(key, ("uniform", "normal")) == "normal"}


def _rate(entry: Entry, key: str, value: object) -> dict[str, Any]:
    found = _quantity(value, _BIT)
    if not found or found < 1000 or found > 10**12:
        raise entry.fault(
            key,
            f"write bits a second like 10Mbit, from 1kbit to 1000Gbit, instead of {shown(value)}",
        )
    return {key: found}


def _queue(entry: Entry, key: str, value: object) -> dict[str, Any]:
    frames = re.fullmatch(r"(\d{1,6}) ?frames", str(value))
    if frames:
        return {"queue_octets": None, "queue_frames": int(frames[1])}
    found = _quantity(value, _OCTET)
    if found is None or found > 1 << 30:
        raise entry.fault(
            key, f"write bytes like 64KiB, or frames like '100 frames', instead of {shown(value)}"
        )
    return {"queue_octets": found}


_VALUES = {
    "direction": _direction,
    "match": _match,
    "nth": _nth,
    "loss": _probability,
    "burst": _burst,
    "gilbert": _gilbert,
    "duplicate": _probability,
    "corrupt": _probability,
    "corrupt_bits": _count,
    "corrupt_bytes": _corrupt_bytes,
    "reorder": _probability,
    "reorder_by": _count,
    "reorder_time": _reorder_time,
    "delay": _time,
    "jitter": _time,
    "distribution": _distribution,
    "rate": _rate,
    "queue": _queue,
}
KEYS = tuple(_VALUES)
"""What a rule may say."""


def of_words(place: str, words: list[str]) -> dict[str, str]:
    """``KEY=VALUE`` of a command line, as keys and values."""
    values = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"{place}: {word!r} is no rule; write KEY=VALUE, like loss=0.01")
        check_known(place, key, KEYS)
        values[key] = value
    return values
