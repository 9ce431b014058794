# SPDX-License-Identifier: GPL-2.0-or-later
"""The cables of a network by the name of what is plugged in, and the requests that act on them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nicmodel.entry import Entry, shown
from nicmodel.wire.impair import ImpairedLink, Way
from nicmodel.wire.rule import Direction, Rule, rule

RULES_MAX = 32
"""Rules that one cable may have."""

_OTHER: dict[Direction, Direction] = {"out": "in", "in": "out"}


@dataclass(frozen=True)
class _End:
    """One end of a cable; ``turned``: what is out here is in for the link."""

    link: ImpairedLink
    turned: bool

    def seen(self, one: Rule) -> Rule:
        """A rule of here as the link has it, or the other way round."""
        if not self.turned or one.direction is None:
            return one
        other = _OTHER[one.direction]
        return replace(one, direction=other, words={**one.words, "direction": other})

    def ways(self) -> Iterator[tuple[Direction, Way]]:
        for direction, way in self.link.ways().items():
            yield _OTHER[direction] if self.turned else direction, way


class Cables:
    """Each NIC and tap is at one end of a cable."""

    def __init__(self) -> None:
        self._ends: dict[str, _End] = {}

    def add(self, link: ImpairedLink, a: str, b: str | None = None) -> None:
        """Add a cable; ``b`` has a name here if it is the port of a NIC."""
        self._ends[a] = _End(link, turned=False)
        if b is not None:
            self._ends[b] = _End(link, turned=True)

    def rule(self, name: str, rules: Sequence[Rule], *, add: bool = False) -> None:
        """Replace the rules of a cable, or add some behind them."""
        end = self._ends[name]
        before = end.link.rules if add else ()
        end.link.rule([*before, *map(end.seen, rules)])

    def control(self, request: Entry) -> dict[str, Any]:
        """Act on a cable: ``{"do": "link", "nic": NAME, ...}`` of a control socket.

        With ``"state": "down" | "up"`` it is pulled or plugged in, with ``"rules": [{...}, ...]``
        it has these rules from now on; ``"add": true`` keeps the ones before.
        """
        request.check_keys(("nic", "state", "rules", "add"))
        name = request.known("nic", self._ends)
        end = self._ends[name]
        if "rules" in request.values:
            add = request.flag("add")
            rules = _rules(request)
            if len(rules) + add * len(end.link.rules) > RULES_MAX:
                raise request.fault("rules", f"a cable has at most {RULES_MAX}; clear some")
            self.rule(name, rules, add=add)
        else:
            end.link.plug(request.known("state", ("down", "up")) == "up")
        return {"link": self._status(end)}

    def status(self) -> dict[str, Any]:
        """By the name of what is plugged in: carrier, rules, counters as seen from there."""
        return {name: self._status(end) for name, end in self._ends.items()}

    def _status(self, end: _End) -> dict[str, Any]:
        found: dict[str, Any] = {"up": end.link.up}
        if end.link.rules:
            found["rules"] = [dict(end.seen(one).words) for one in end.link.rules]
        for direction, way in end.ways():
            found[direction] = way.status()
        return found

    def summary(self) -> Iterator[str]:
        """One line for each direction of a cable that had rules."""
        for name, end in self._ends.items():
            for direction, way in () if end.turned else end.ways():
                deeds = ", ".join(f"{count} {deed}" for deed, count in way.status().items())
                yield f"{name}, {direction}: {deeds}".replace("_", " ")


def _rules(request: Entry) -> list[Rule]:
    tables = request.values["rules"]
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise request.fault("rules", f'write a list like [{{"loss": 0.01}}], not {shown(tables)}')
    return [rule(Entry(f"rule {number}", table)) for number, table in enumerate(tables, 1)]
