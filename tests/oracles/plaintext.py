# SPDX-License-Identifier: GPL-2.0-or-later
"""Look for what a program has sent in what has left the port: encrypted data hold none of it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from tests.oracles.capture import Captured
from tests.oracles.reencrypt import tcp_payload

_WORD = 8
_STEP = 64
_POOL = 1 << 20
_GAMMA = 0x9E3779B97F4A7C15


@dataclass
class Seen:
    """TCP payload to one port: its bytes, and in which frames of it there is text."""

    octets: int = 0
    frames: int = 0
    clear: list[int] = field(default_factory=list)


@cache
def program_words(seed: int) -> frozenset[bytes]:
    """All that ``tests/vm/programs/ktls.c`` sends, in words of 8 bytes (splitmix64)."""
    z = np.arange(1, _POOL // _WORD + 1, dtype=np.uint64) * np.uint64(_GAMMA) + np.uint64(seed)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    words = (z ^ (z >> np.uint64(31))).astype("<u8").tobytes()
    return frozenset(words[at : at + _WORD] for at in range(0, len(words), _WORD))


def look(frames: Iterable[Captured], port: int, words: frozenset[bytes], seen: Seen) -> None:
    """Add to ``seen`` what left to TCP port ``port``.

    A run of 78 bytes of text has a whole word at one of the places that are looked at.
    """
    for frame in frames:
        parsed = tcp_payload(frame.data) if frame.outbound else None
        if parsed is None or parsed[0][3] != port or parsed[2] == parsed[1]:
            continue
        payload = frame.data[parsed[1] : parsed[2]]
        places = (
            place + shift for place in range(0, len(payload), _STEP) for shift in range(_WORD)
        )
        if any(payload[place : place + _WORD] in words for place in places):
            seen.clear.append(seen.frames)
        seen.octets += len(payload)
        seen.frames += 1
