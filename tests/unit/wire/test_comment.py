# SPDX-License-Identifier: GPL-2.0-or-later
"""Which records each frame of a train carries, said in words."""

from hypothesis import given
from hypothesis import strategies as st

from nicmodel.frame import Origin, RecordPart
from nicmodel.wire.comment import comments as runs


def comments(made: Origin, count: int) -> list[str]:
    """One for each frame."""
    return [text for text, frames in runs(made, count) for _ in range(frames)]


def origin(step: int, *lengths: int, first: int = 5) -> Origin:
    """A payload that consists of parts of records with these lengths."""
    parts, at = [], 0
    for number, length in enumerate(lengths, first):
        parts.append(RecordPart(number, at, at + length))
        at += length
    return Origin("SQ", 0x12, 7, 3, tuple(parts), "encrypted", 66, step)


def test_sentence() -> None:
    assert comments(origin(100, 100), 1) == ["SQ 0x12 WQE 7 TIS 0x3, record 5: encrypted"]


def test_frame_with_the_end_of_one_record_and_the_begin_of_another() -> None:
    said = comments(origin(100, 150, 150), 3)
    assert [text.split(", ")[1] for text in said] == [
        "record 5: encrypted",
        "records 5-6: encrypted",
        "record 6: encrypted",
    ]


def test_frame_without_a_record_says_so_by_naming_none() -> None:
    parts = (RecordPart(9, 250, 260),)
    said = comments(Origin("RQ", None, None, 3, parts, "decrypted", 66, 100), 5)
    nothing = "TIR 0x3: decrypted"
    assert said == [nothing, nothing, "TIR 0x3, record 9: decrypted", nothing, nothing]


@given(st.integers(1, 50), st.lists(st.integers(1, 200), min_size=1, max_size=12))
def test_every_frame_names_exactly_the_records_of_its_bytes(step: int, lengths: list[int]) -> None:
    made = origin(step, *lengths)
    owners = [part.number for part in made.records for _ in range(part.start, part.end)]
    said = comments(made, -(-len(owners) // step))
    assert len(said) == -(-len(owners) // step)
    for number, text in enumerate(said):
        here = owners[number * step : (number + 1) * step]
        which = f"{here[0]}-{here[-1]}" if here[0] != here[-1] else f"{here[0]}"
        assert text.split(": ")[0].split(" ")[-1] == which
