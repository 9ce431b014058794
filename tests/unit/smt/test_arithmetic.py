# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel module's arithmetic, compiled for the host, against the protocol's own words."""

import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

HERE = Path(__file__).parent
MODULE = HERE.parents[2] / "smt-kmod"
HEADER, FRAMING, LEAD, TAG = 40, 20, 13, 16
WINDOW = 65536

Ask = Callable[[Iterable[str]], list[list[int]]]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """Puts questions; each answer is a list of numbers, empty for ``none``."""
    program = tmp_path_factory.mktemp("smt") / "arithmetic"
    sanitize = ["-fsanitize=undefined", "-fno-sanitize-recover=all"]
    command = ["gcc", "-O1", "-Wall", "-Werror", *sanitize, f"-I{MODULE}", "-o", str(program)]
    subprocess.run([*command, str(HERE / "arithmetic.c")], check=True)

    def put(questions: Iterable[str]) -> list[list[int]]:
        padded = "".join(" ".join((line.split() + ["0"] * 4)[:5]) + "\n" for line in questions)
        done = subprocess.run([program], input=padded, capture_output=True, text=True, check=True)
        lines = done.stdout.splitlines()
        return [[int(word) for word in line.split() if word != "none"] for line in lines]

    return put


def packets(data: int, room: int, lead: int, tag: int) -> list[tuple[int, bool]]:
    """Cut a segment byte by byte as the protocol says: (bytes behind the header, framed)."""
    pieces = [b"L"] * lead + [b"D"] * data + [b"T"] * tag
    cuts = [pieces[at : at + room] for at in range(0, len(pieces), room)] or [[]]
    framed = [index == 0 or any(piece != b"T" for piece in cut) for index, cut in enumerate(cuts)]
    return [(len(cut) + FRAMING * has, has) for cut, has in zip(cuts, framed, strict=True)]


@given(
    mtu=st.integers(576, 65536),
    gso=st.integers(1, 65535),
    secure=st.booleans(),
    data=st.integers(0, 70000),
)
@settings(max_examples=200)
def test_segments_are_cut_as_the_protocol_says(
    ask: Ask, mtu: int, gso: int, secure: bool, data: int
) -> None:
    answer = ask([f"cut {mtu} {gso} {int(secure)} {data}"])[0]
    room, most_packets, most_data, data, framings, count, stream = answer
    lead, tag = (LEAD, TAG) if secure else (0, 0)
    # a packet is not to be more than a record
    mtu = min(mtu, 16384)
    assert room == mtu - 20 - HEADER - FRAMING
    expected = packets(data, room, lead, tag)
    assert count == len(expected) <= most_packets
    assert framings == sum(has for _, has in expected)
    assert stream == sum(size for size, _ in expected)
    assert most_data == most_packets * room - lead - tag
    if gso >= mtu:
        assert most_packets * (room + FRAMING) + HEADER + 20 <= gso
    if secure:
        # TLS limits the plaintext of a record: framing headers and data
        assert stream - LEAD - TAG <= 16384
        # and the receiver learns the same from the first packet and the record's length
        cut = ask([f"learn {expected[0][0]} {stream}"])[0]
        assert cut[:2] + cut[3:] == [count, framings, data]


def test_the_tag_spills(ask: Ask) -> None:
    # at an MTU of 1500, 1391 bytes are the last that fit into one packet
    answers = ask(f"cut 1500 65535 1 {size}" for size in (1391, 1392, 1407, 1408))
    assert [answer[4:6] for answer in answers] == [[1, 1], [1, 2], [1, 2], [2, 2]]
    # and the receiver, which sees 1440 bytes and then 1 to 16, knows it
    learnt = ask(f"learn 1440 {answer[6]}" for answer in answers[1:])
    assert learnt == [[2, 1, 1420, 1392], [2, 1, 1420, 1407], [2, 2, 1420, 1408]]


@given(first=st.integers(0, 9000), stream=st.integers(0, 70000))
@settings(max_examples=200)
def test_what_a_packet_claims_is_never_believed_beyond_its_bytes(
    ask: Ask, first: int, stream: int
) -> None:
    cut = ask([f"learn {first} {stream}"])[0]
    if cut:
        count, framings, room, data = cut
        assert room + FRAMING == first <= stream
        assert data + LEAD + TAG + FRAMING * framings == stream
        assert (count - 1) * first < stream <= count * first


def test_a_path_too_narrow_for_any_data_is_refused(ask: Ask) -> None:
    assert ask(["cut 137 65535 1 1"]) == [[]]


@given(identity=st.integers(0, 2**64 - 1), index=st.integers(0, 2**16 - 1))
@settings(max_examples=50)
def test_record_numbers(ask: Ask, identity: int, index: int) -> None:
    number, message = ask([f"number {identity} {index}"])[0]
    assert number == (identity % 2**49) >> 1 << 16 | index
    assert message == number >> 16


def test_request_and_response_have_the_same_numbers(ask: Ask) -> None:
    assert ask(["number 1234 7"]) == ask(["number 1235 7"])


def test_offsets_of_packets(ask: Ask) -> None:
    assert ask(["where 1420 29 15591 0", "where 1420 29 15591 2"]) == [[15591], [15591 + 2811]]


@given(
    st.lists(
        st.one_of(
            st.integers(0, 200),
            st.integers(WINDOW - 3, WINDOW + 3),
            st.integers(0, 3 * WINDOW),
            st.integers(2**48 - 5, 2**48 - 1),
        ),
        max_size=40,
    )
)
@settings(max_examples=100)
def test_a_number_is_taken_once(ask: Ask, numbers: list[int]) -> None:
    seen: set[int] = set()
    expected = []
    for number in numbers:
        old = bool(seen) and number <= max(seen) - WINDOW
        known = old or number in seen
        expected.append([int(known), int(not known)])
        seen.add(number)
    assert ask(["clear", *(f"take {number}" for number in numbers)])[1:] == expected


def test_a_number_is_not_mistaken_for_one_a_window_before(ask: Ask) -> None:
    taken = ask(["clear", "take 0", "take 1", f"take {WINDOW + 1}", f"take {WINDOW}"])[1:]
    assert taken == [[0, 1]] * 4


def test_the_window_ends_where_it_ends(ask: Ask) -> None:
    taken = ask(["clear", *(f"take {number}" for number in (WINDOW + 9, 10, 10, 9, 8, 7))])[1:]
    assert taken == [[0, 1], [0, 1], [1, 0], [1, 0], [1, 0], [1, 0]]
