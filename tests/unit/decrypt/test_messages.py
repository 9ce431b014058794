# SPDX-License-Identifier: GPL-2.0-or-later
"""SMT captures and keys that a user wrote: what the command says of them."""

import json
from pathlib import Path

import pytest

from nicmodel.cli import main
from nicmodel.decrypt.records import Direction
from nicmodel.decrypt.run import decrypt
from nicmodel.errors import UserError
from nicmodel.wire.keyfile import read_keys
from tests.oracles.smt_frames import End, message, packets, record, resent, room, write

VARIANTS = pytest.mark.parametrize("end", [End(), End(variant="B")], ids=["A", "B"])


def key_line(end: End, **more: object) -> str:
    line = {"protocol": {"A": 253, "B": 146}[end.variant], "src": end.src, "dst": end.dst}
    line |= {"key": end.key.hex(), "salt": end.salt.hex(), **more}
    return json.dumps(line) + "\n"


def read(tmp_path: Path, end: End, frames: list[bytes], **more: object) -> list[Direction]:
    capture, keys = tmp_path / "smt.pcapng", tmp_path / "smt.keys"
    write(str(capture), frames)
    keys.write_text(key_line(end, **more))
    return decrypt(capture, read_keys(keys))


def body(octets: int) -> bytes:
    return bytes(at * 7 & 0xFF for at in range(octets))


def sizes(m: int) -> list[int]:
    edges = [m - 29, m - 13, 2 * m - 29, 4 * m - 29, 8 * m - 29]
    return [0, 1, *(edge + step for edge in edges for step in (-1, 0, 1, 16, 17))]


@VARIANTS
def test_messages_of_every_size_class(tmp_path: Path, end: End) -> None:
    texts = {2 * n: body(size) for n, size in enumerate(sizes(room(end.variant)), 1)}
    frames = [frame for n, text in texts.items() for frame in message(end, n, text)]
    (found,) = read(tmp_path, end, frames)
    assert found.problems == []
    got: dict[int | None, bytes] = {}
    for one in found.records:
        got[one.message] = got.get(one.message, b"") + (one.plaintext or b"")
    assert got == texts


def test_order_duplicates_and_resends_do_not_matter(tmp_path: Path) -> None:
    end, text = End(), body(20000)
    frames = message(end, 8, text)
    mixed = frames[::-1] + frames[3:5]
    mixed[2] = resent(end, mixed[2])
    mixed[7] = resent(end, mixed[7])
    (found,) = read(tmp_path, end, mixed)
    assert found.problems == []
    assert b"".join(one.plaintext or b"" for one in found.records) == text
    assert [one.number for one in found.records] == [4 << 16 | index for index in range(4)]


def test_variant_b_counts_records_anew_for_each_message(tmp_path: Path) -> None:
    end = End(variant="B")
    (found,) = read(tmp_path, end, message(end, 2, b"one") + message(end, 4, b"two"))
    assert [(one.message, one.number) for one in found.records] == [(2, 0), (4, 0)]


def test_what_is_missing_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    end = End()
    frames = message(end, 8, body(20000))
    del frames[5]
    (found,) = read(tmp_path, end, frames)
    assert [one.number & 0xFFFF for one in found.records] == [0, 2, 3]
    (problem,) = found.problems
    assert problem.startswith("message 0x8: of the record at offset 5651 the capture lacks packets")


@pytest.mark.parametrize("spoilt", ["byte", "number", "nonce"])
def test_what_does_not_authenticate(tmp_path: Path, spoilt: str) -> None:
    end = End()
    number = 1 << 16 if spoilt == "number" else None
    nonce = 5 if spoilt == "nonce" else None
    sealed = bytearray(record(end, 8, 0, 0, b"text", length=4, number=number, nonce=nonce))
    if spoilt == "byte":
        sealed[40] ^= 1
    (found,) = read(tmp_path, end, packets(end, 8, 0, bytes(sealed), 4))
    assert [one.plaintext for one in found.records] == [None]
    (problem,) = found.problems
    assert problem.startswith("message 0x8, record 0 (frame 1) does not authenticate")
    assert ("it does as record number 0x10000, which" in problem) == (spoilt == "number")


def test_repeated_with_other_bytes(tmp_path: Path) -> None:
    end = End()
    (found,) = read(tmp_path, end, message(end, 8, b"one") + message(end, 8, b"two"))
    assert found.problems == [
        "message 0x8, record 0: frame 2 repeats other bytes than were sent before"
    ]


def test_record_behind_the_end_of_its_message(tmp_path: Path) -> None:
    end = End()
    sealed = record(end, 8, 0, 0, b"text", length=4)
    (found,) = read(tmp_path, end, packets(end, 8, 0, sealed, 3))
    assert found.problems == [
        "message 0x8, record 0 (frame 1) ends behind the message, which has 3 bytes"
    ]


def test_key_for_a_port_reads_that_port_alone(tmp_path: Path) -> None:
    one, other = End(), End(dport=4001)
    frames = message(one, 2, b"one") + message(other, 4, b"two")
    found = read(tmp_path, one, frames, dport=4001)
    assert [[record.plaintext for record in way.records] for way in found] == [[b"two"]]
    both = read(tmp_path, one, frames)
    assert {way.key.flow.dport for way in both} == {4000, 4001}


def test_command_says_what_it_found_and_writes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    end = End()
    capture, keys, out = (tmp_path / name for name in ("in.pcapng", "keys", "out.pcapng"))
    write(str(capture), message(end, 2, b"hello") + message(end, 4, body(9000)))
    keys.write_text(key_line(end))
    assert main(["decrypt", str(capture), "--keys", str(keys), "-o", str(out)]) == 0
    said = capsys.readouterr().out
    assert (
        "10.77.0.1:40000 > 10.77.0.2:4000, SMT variant A AES-128-GCM: 2 messages, "
        "3 records of 9005 bytes authenticate, 0 do not" in said
    )
    assert b"message 0x4, record 1 of frames 6, 7, 8: 3349 bytes" in out.read_bytes()
    assert b"hello" in out.read_bytes()


def test_line_needs_a_key_and_may_not_be_of_another_protocol(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text('{"protocol": 253, "src": "10.0.0.1", "dst": "10.0.0.2", "salt": "01020304"}')
    with pytest.raises(UserError, match="line 1: key is missing"):
        read_keys(keys)
    keys.write_text(key_line(End(), protocol=6))
    with pytest.raises(UserError, match="version is missing"):
        read_keys(keys)
