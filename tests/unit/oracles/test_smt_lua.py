# SPDX-License-Identifier: GPL-2.0-or-later
"""The Wireshark dissector of SMT, as the distribution's tshark runs it."""

import struct
import subprocess
from pathlib import Path

import pytest

from tests.oracles.smt_frames import (
    ACK,
    BUSY,
    CUTOFFS,
    GRANT,
    RESEND,
    End,
    common,
    ip,
    message,
    packets,
    record,
    resent,
    room,
    write,
)
from tests.oracles.tshark import needs_tshark

SCRIPT = Path(__file__).parents[3] / "smt-kmod" / "wireshark" / "smt.lua"
A, B = End(), End(variant="B")

pytestmark = needs_tshark


def fields(folder: Path, frames: list[bytes], *names: str) -> list[tuple[str, ...]]:
    """Fields of each frame; several values of one are joined with a comma."""
    path = folder / "c.pcapng"
    write(str(path), frames)
    columns = [word for name in names for word in ("-e", name)]
    command = ["tshark", "-X", f"lua_script:{SCRIPT}", "-r", str(path), "-T", "fields"]
    done = subprocess.run(
        [*command, *columns], capture_output=True, text=True, timeout=60, check=True
    )
    assert "Lua" not in done.stderr, done.stderr
    return [tuple(line.split("\t")) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("end", [A, B], ids="AB")
def test_headers_of_data(tmp_path: Path, end: End) -> None:
    frames = message(end, 6, bytes(20_000))
    said = fields(
        tmp_path, frames, "smt.variant", "smt.srcport", "smt.dstport", "smt.type", "smt.id",
        "smt.message_length", "smt.offset", "smt.index", "smt.retransmit",
    )  # fmt: skip
    step = 4 * room(end.variant) - 29
    assert len(said) == len(frames)
    for place, line in enumerate(said):
        meant = (end.variant, "40000", "4000", "0x10", "6", "20000")
        segment, index = divmod(place, 4)
        assert line == (*meant, str(segment * step), str(index), "0")


@pytest.mark.parametrize("end", [A, B], ids="AB")
def test_records_are_put_together(tmp_path: Path, end: End) -> None:
    frames = message(end, 6, bytes(4 * room(end.variant) - 29 + 100))
    mixed = [*frames[1:3], frames[4], frames[0], resent(end, frames[3])]
    said = fields(
        tmp_path, mixed, "smt.record.packets", "smt.record.number", "smt.record.length",
        "smt.retransmit",
    )  # fmt: skip
    number = [0x30000, 0x30001] if end is A else [0, 1]
    sizes = [8 + 20 * 4, 8 + 20] if end is A else [8 + 4 * 4, 8 + 4]
    lengths = [sizes[0] + 4 * room(end.variant) - 29 + 16, sizes[1] + 100 + 16]
    assert said[0] == said[1] == said[3] == ("", "", "", "0")
    assert said[2] == ("1", f"0x{number[1]:016x}", str(lengths[1]), "0")
    assert said[4] == ("4", f"0x{number[0]:016x}", str(lengths[0]), "1")


def test_spilled_tag_is_a_packet_of_the_record(tmp_path: Path) -> None:
    frames = message(A, 6, bytes(room("A") - 13))
    said = fields(tmp_path, frames, "smt.record.packets", "smt.record.tag")
    assert said[0] == ("", "")
    assert said[1][0] == "2"
    assert bytes.fromhex(said[1][1]) == frames[1][74:]


def test_number_of_another_message_is_marked(tmp_path: Path) -> None:
    sealed = record(A, 6, 0, 0, b"x", length=1, number=99)
    frames = [*message(A, 6, b"x"), *message(A, 7 + (1 << 49), b"x"), *packets(A, 8, 0, sealed, 1)]
    assert fields(tmp_path, frames, "smt.number") == [("",), ("",), ("1",)]


def test_other_packets(tmp_path: Path) -> None:
    grant = common(A, GRANT, 6) + struct.pack(">IB", 70000, 5)
    again = common(A, RESEND, 6) + struct.pack(">IIB", 1391, 1420, 7)
    cutoffs = common(A, CUTOFFS, 6) + struct.pack(">8IH", *range(8), 3)
    acks = struct.pack(">QHH", 8, 40000, 4000) + struct.pack(">QHH", 10, 40001, 4001)
    ack = common(A, ACK, 6) + struct.pack(">H", 2) + acks.ljust(60, b"\0")
    frames = [ip(A, body) for body in (grant, again, cutoffs, ack, common(A, BUSY, 6))]
    said = fields(
        tmp_path, frames, "smt.type", "smt.range_offset", "smt.range_length", "smt.priority",
        "smt.unscheduled", "smt.cutoff_version", "smt.ack.id", "smt.ack.client_port", "smt.short",
    )  # fmt: skip
    nothing = [""] * 8
    assert said == [
        ("0x11", "70000", "", "5", *nothing[:5]),
        ("0x12", "1391", "1420", "7", *nothing[:5]),
        ("0x15", "", "", "", "0,1,2,3,4,5,6,7", "3", "", "", ""),
        ("0x18", "", "", "", "", "", "8,10", "40000,40001", ""),
        ("0x14", *nothing),
    ]


def test_packets_without_keys_and_packets_that_are_cut(tmp_path: Path) -> None:
    clear = message(A, 6, b"x")[0][34:74] + bytes(20) + b"plain"
    cut = [ip(A, message(A, 6, b"x")[0][34 : 34 + size]) for size in (0, 10, 28, 39, 40, 44)]
    said = fields(tmp_path, [ip(A, clear), *cut], "smt.clear", "smt.short", "_ws.lua.error")
    assert said[0] == ((bytes(20) + b"plain").hex(), "", "")
    assert [line[1:] for line in said[2:]] == [("1", "")] * 3 + [("", "")] * 2
