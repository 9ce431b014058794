# SPDX-License-Identifier: GPL-2.0-or-later
"""Hostile SMT packets, as hypothesis makes them: a secure socket must deliver none of them.

What is drawn is near what is right: types, ids, lengths and places that a receiver cares about, and
records that are authentic but for one lie; for the forger has the keys of a client that is nobody
else.
"""

import os
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.oracles.smt import SIZES
from tests.oracles.smt_frames import DATA, End, common, ip, message, packets, record, seal

PACKETS = int(os.environ.get("NICMODEL_FUZZ_PACKETS", "2500"))
"""That a test sends, at least; ``make fuzz`` says how many."""
BATCH = 200
"""Attacks that are drawn at a time: some 250 packets, which the tap has room for."""

NUMBERS = st.one_of(
    st.sampled_from([0, 1, 39, 40, 100, 1391, 1420, 10_000, 0xFFFF, 1_000_000, 1_000_001]),
    st.sampled_from([0x7FFFFFFF, 0x80000000, 0xFFFFFF00, 0xFFFFFFFF]),
    st.integers(0, 3000),
    st.integers(0, 0xFFFFFFFF),
)
"""32 bits."""
BYTES = st.binary(max_size=48)
SMALL = st.integers(0, 255)
RANDOM = st.integers(0, 1 << 32)

Frames = list[bytes]


def right_size(kind: int, body: bytes) -> bytes:
    """As long as this type of packet is, if there is such a type."""
    size = SIZES.get(kind, len(body))
    return body[:size].ljust(size, b"\0")


@dataclass
class Forger:
    """Makes attacks.

    ``own`` has the keys that its receiver has, so it can say what is authentic; ``said`` is a
    message of it that was delivered already. ``others``: directions in whose name it speaks without
    their keys. ``ids``: RPCs that these have under way, as seen on the wire.
    """

    own: End
    others: list[End]
    said: Frames
    ids: list[int] = field(default_factory=lambda: [2, 4])
    fresh: Iterator[int] = field(default_factory=lambda: count(10_000, 2))

    def who(self, end: int, sender: int) -> tuple[End, int]:
        ends = [self.own, *self.others]
        ids = self.ids[-8:]
        return ends[end % len(ends)], ids[sender % len(ids)] ^ (sender >> 7)

    def control(
        self, end: int, sender: int, kind: int, exact: bool, words: list[int], tail: bytes
    ) -> Frames:
        """Any type with any fields, as long as it has to be or not."""
        whose, sender_id = self.who(end, sender)
        head = common(whose, kind, sender_id) + struct.pack(f">{len(words)}I", *words)
        return [ip(whose, right_size(kind, head + tail) if exact else head[: 60 - len(tail)])]

    def data(
        self, end: int, sender: int, words: tuple[int, int, int], place: int, last: int,
        sealed: bool, tail: bytes, room: int,
    ) -> Frames:  # fmt: skip
        """DATA with any place and length, in front of what is no record of anybody."""
        whose, sender_id = self.who(end, sender)
        length, incoming, offset = words
        head = common(whose, DATA, sender_id, offset=offset)
        head += struct.pack(">IIHBB", length, incoming, 1, place & 1, last)
        lead = b"\x17\x03\x03" + struct.pack(">HQ", words[1] & 0xFFFF, sender_id) if sealed else b""
        return [ip(whose, head + lead + tail + bytes(room), ident=place % 50)]

    def damaged(self, size: int, start: int, bit: int, short: bool) -> Frames:
        """A right message but for one bit that is authenticated; in any order, some twice."""
        chance = random.Random(start)
        frames = message(self.own, next(self.fresh), bytes(size), segment=1 if short else 4)
        hit = chance.randrange(len(frames))
        # what leads the record is not authenticated, but for what follows from it
        first = 14 + 20 + 40 + (0 if frames[hit][18:20] != b"\0\0" else 13)
        at = chance.randrange(first, len(frames[hit]))
        frames[hit] = frames[hit][:at] + bytes([frames[hit][at] ^ 1 << bit]) + frames[hit][at + 1 :]
        chance.shuffle(frames)
        return frames + frames[: chance.randrange(3)]

    def lie(self, kind: int, text: bytes, by: int) -> Frames:
        """An authentic record of another message, of another length, from another place."""
        by = by % 1000 + 1
        sender_id = next(self.fresh)
        said, offset, number = len(text), 0, None
        if kind == 0:
            said += by
        elif kind == 1:
            offset = by
        else:
            number = (sender_id >> 1) << 16 | by
        made = record(self.own, sender_id, 0, offset, text, length=said, number=number)
        return packets(self.own, sender_id, 0, made, len(text))

    def framed(self, words: list[int], tail: bytes, length: int) -> Frames:
        """An authentic record with any framing headers; an acknowledgement is what it must not."""
        sender_id = next(self.fresh)
        heads = b"".join(struct.pack(">IIQI", word, len(tail), 1 + word, word) for word in words)
        made = seal(self.own, sender_id >> 1 << 16, heads + tail)
        return packets(self.own, sender_id, 0, made, length % 1_000_001)

    def again(self, end: int) -> Frames:
        """What was delivered, from the right or the wrong end."""
        return self.said[::-1] if end % 2 else self.said

    def attacks(self) -> st.SearchStrategy[Frames]:
        """One attack, of a few frames."""
        who = (SMALL, st.integers(0, 1023))
        places = st.one_of(st.just(0), SMALL)
        kinds = st.one_of(st.sampled_from([*SIZES, DATA]), SMALL)
        words = st.tuples(NUMBERS, NUMBERS, NUMBERS)
        some = st.lists(NUMBERS, max_size=10)
        return st.one_of(
            st.builds(self.control, *who, kinds, st.booleans(), some, BYTES),
            st.builds(
                self.data, *who, words, places, places, st.booleans(), BYTES,
                st.sampled_from([0, 0, 0, 17, 1300]),
            ),
            st.builds(self.damaged, st.integers(0, 9000), RANDOM, st.integers(0, 7), st.booleans()),
            st.builds(self.lie, st.integers(0, 2), BYTES, NUMBERS),
            st.builds(self.framed, st.lists(NUMBERS, min_size=1, max_size=3), BYTES, NUMBERS),
            st.builds(self.again, SMALL),
        )  # fmt: skip


def attack(forger: Forger, send: Callable[[Frames], None], chance: int) -> None:
    """Send ``PACKETS``; ``chance`` is the seed. What fails is not made smaller: guests remember."""
    sent = 0

    def act(attacks: list[Frames]) -> None:
        nonlocal sent
        frames = [frame for one in attacks for frame in one]
        send(frames)
        sent += len(frames)

    batch = st.lists(forger.attacks(), min_size=BATCH, max_size=BATCH)
    how = settings(
        max_examples=10,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    while sent < PACKETS:
        seed(chance + sent)(how(given(batch)(act)))()
