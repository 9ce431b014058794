# SPDX-License-Identifier: GPL-2.0-or-later
"""What a story is made of."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Moment:
    """What happened at ``place`` at ``time`` (ns since 1970). ``kind`` is for drawing."""

    time: int
    place: str
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Story:
    """``title`` says which message or record it is about, ``notes`` how far it can be trusted."""

    title: str
    moments: tuple[Moment, ...]
    places: tuple[str, ...]
    notes: tuple[str, ...] = ()
