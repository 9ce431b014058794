# SPDX-License-Identifier: GPL-2.0-or-later
"""Traces of guests, on the clock of the captures."""

from pathlib import Path

import pytest

from nicmodel.errors import UserError
from nicmodel.explain.guests import aligned, load

HEAD = "# clock: guest 1000000000000 host 1000500000000 error 3000\n"
END = "# clock: guest 1010000000000 host 1010500100000 error 5000\n"
LINE = "  a-b c d-7  [003] b.s2. {}: smt_{}: id=6 start=0 length=5\n"


def written(folder: Path, *lines: str) -> Path:
    path = folder / "a.ftrace"
    path.write_text("".join(lines))
    return path


def test_times_are_those_of_the_host(tmp_path: Path) -> None:
    """A clock that loses 100 us in 10 s is right in the middle, too."""
    lines = [LINE.format(f"{seconds}.000000", "grant") for seconds in (1010, 1000, 1005)]
    trace = load(written(tmp_path, HEAD, END, "# tracer: nop\n", *lines))
    assert [one.time - 500_000_000 for one in trace.told] == [
        1000 * 10**9,
        1005 * 10**9 + 50_000,
        1010 * 10**9 + 100_000,
    ]
    assert (trace.guest, trace.error, trace.lost) == ("a", 5000, 0)
    assert {one.process for one in trace.told} == {"a-b c d, process 7, CPU 3"}


def test_only_tracepoints_of_smt_are_read(tmp_path: Path) -> None:
    others = "  x-1  [000] ..... 1000.000000: sched_switch: id=6\n", "CPU:0 [LOST 3 EVENTS]\n", "\n"
    trace = load(written(tmp_path, HEAD, *others, LINE.format("1000.000001", "end")))
    assert [one.kind for one in trace.told] == ["end"]


def test_hostile_words(tmp_path: Path) -> None:
    long = "9" * 5000
    good = LINE.format("1000.000001", "end").replace("a-b", "\x1b[2Jx")
    lines = [
        LINE.format(f"{long}.000000", "end"),
        LINE.format("1000.000000", "end").replace("-7 ", f"-{long} "),
        LINE.format("1000.000000", "end").replace("id=6", f"id={long}"),
        good,
    ]
    first, last = load(written(tmp_path, HEAD, *lines)).told
    assert first.number("id") == 0
    assert last.process == "?[2Jx c d, process 7, CPU 3"


def test_what_was_lost_is_counted(tmp_path: Path) -> None:
    entries = "# entries-in-buffer/entries-written: 40/100   #P:2\n"
    assert load(written(tmp_path, HEAD, entries)).lost == 60


def test_values_that_are_no_numbers_are_nought(tmp_path: Path) -> None:
    line = LINE.format("1000.000001", "end").replace("id=6", "id=six")
    (one,) = load(written(tmp_path, HEAD, line)).told
    assert (one.number("id"), one.number("length"), one.number("nothing")) == (0, 5, 0)


def test_a_trace_without_clock(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not say how the guest's clock runs"):
        load(written(tmp_path, LINE.format("1000.000001", "end")))
    with pytest.raises(UserError, match="cannot read"):
        load(tmp_path / "none")


@pytest.mark.parametrize(
    ("bounds", "move", "error"),
    [
        ([], 0, 10),
        ([(-3, None), (None, 4)], 0, 4),  # nothing speaks against it
        ([(5, None), (2, None), (None, 9)], 5, 4),
        ([(None, -2), (None, 7)], -2, 8),
        ([(30, None)], 30, 30),  # farther than the clock was said to be wrong
        ([(8, None), (None, -8)], -8, 10),  # it cannot be: what leaves is not before its cause
    ],
)
def test_effects_come_after_their_causes(
    bounds: list[tuple[int | None, int | None]], move: int, error: int
) -> None:
    assert aligned(10, bounds) == (move, error)
