# SPDX-License-Identifier: GPL-2.0-or-later
"""The oracle that looks for plaintext: one frame in clear among frames that are not."""

import struct
from random import Random

import pytest

from tests.oracles.capture import Captured
from tests.oracles.plaintext import Seen, look, program_words

PORT = 7398


def frame(payload: bytes, port: int = PORT, *, outbound: bool = True) -> Captured:
    """A TCP segment."""
    tcp = struct.pack(">HHIIBBHHH", 40000, port, 1, 0, 5 << 4, 0x10, 0, 0, 0) + payload
    ip = struct.pack(">BBHIBBH8s", 0x45, 0, 20 + len(tcp), 0, 64, 6, 0, bytes(8))
    return Captured(0, outbound, bytes(12) + b"\x08\x00" + ip + tcp)


def text(octets: int) -> bytes:
    """What the program sends first with seed 0, by its own words (splitmix64)."""
    made, state = b"", 0
    while len(made) < octets:
        state = state + 0x9E3779B97F4A7C15 & (1 << 64) - 1
        z = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & (1 << 64) - 1
        z = (z ^ z >> 27) * 0x94D049BB133111EB & (1 << 64) - 1
        made += struct.pack("<Q", z ^ z >> 31)
    return made[:octets]


def test_the_words_are_the_programs() -> None:
    """The first one of seed 0 is known from other implementations."""
    words = program_words(0)
    assert len(words) == 1 << 17
    assert struct.pack("<Q", 0xE220A8397B1DCDAF) in words
    assert text(1 << 20)[-8:] in words


@pytest.mark.parametrize("skipped", range(9))
@pytest.mark.parametrize("before", [0, 1, 63, 64])
def test_text_at_any_place_is_seen(skipped: int, before: int) -> None:
    noise = Random(1).randbytes(1448)
    hidden = noise[:before] + text(200)[skipped : skipped + 78] + noise[: 900 - before]
    seen = Seen()
    look([frame(noise), frame(hidden), frame(noise[::-1])], PORT, program_words(0), seen)
    assert (seen.octets, seen.frames, seen.clear) == (2 * 1448 + 978, 3, [1])


def test_what_is_of_others_is_not_looked_at() -> None:
    seen = Seen()
    others = frame(text(300), 1), frame(text(300), outbound=False), frame(b""), frame(bytes(10))
    look(others, PORT, program_words(0), seen)
    assert (seen.octets, seen.frames, seen.clear) == (10, 1, [])
