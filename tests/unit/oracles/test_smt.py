# SPDX-License-Identifier: GPL-2.0-or-later
"""The oracle of SMT finds nothing in right captures, and each thing that is wrong in wrong ones."""

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.oracles import smt
from tests.oracles.smt_frames import (
    BUSY,
    GRANT,
    End,
    common,
    framing,
    ip,
    message,
    packets,
    record,
    resent,
    room,
    seal,
    write,
)

END = End()
BACK = End(key=b"b" * 16).reversed
M = room("A")
KEYS = [
    smt.Key((socket.inet_aton(e.src), 0, socket.inet_aton(e.dst), 0), e.key, e.salt)
    for e in (END, BACK)
]


def body(octets: int) -> bytes:
    return bytes(at * 7 & 0xFF for at in range(octets))


def judge(frames: list[bytes], *, authenticated: bool = True) -> smt.Verdict:
    return smt.judge_frames(enumerate(frames, 1), KEYS, authenticated=authenticated)


def texts(verdict: smt.Verdict) -> dict[int, bytes]:
    return {sender_id: text for (_, sender_id), text in verdict.messages.items()}


EDGES = [M - 29, M - 13, 2 * M - 29, 2 * M - 13, 4 * M - 29, 8 * M - 29]
SIZES = [0, 1, *(edge + step for edge in EDGES for step in (-1, 0, 1, 15, 16, 17)), 100_000]


def test_right_messages_of_every_size_class() -> None:
    meant = {2 * n: body(size) for n, size in enumerate(SIZES, 1)}
    frames = [frame for n, text in meant.items() for frame in message(END, n, text)]
    found = judge(frames)
    assert found.wrong == []
    assert texts(found) == meant
    assert found.spilled > 4
    assert found.incomplete == found.keyless == 0


def test_jumbo_frames() -> None:
    text = body(100_000)
    frames = message(END, 2, text, mtu=9000, segment=1)
    found = smt.judge_frames(enumerate(frames, 1), KEYS, mtus=(1500, 9000))
    assert (found.wrong, texts(found)) == ([], {2: text})


def test_both_directions_share_numbers_and_not_keys() -> None:
    frames = message(END, 2, b"question") + message(BACK, 3, b"answer")
    found = judge(frames)
    assert found.wrong == []
    assert texts(found) == {2: b"question", 3: b"answer"}


def test_loss_duplicates_and_both_kinds_of_resend() -> None:
    text = body(20_000)
    frames = message(END, 2, text)
    lost, kept = frames[5], frames[:5] + frames[6:]
    again = resent(END, lost)
    assert texts(judge(kept)) == {}
    assert judge(kept).wrong == []
    assert judge(kept).incomplete == 1
    software = judge([*kept, again, again])
    assert (software.wrong, texts(software), software.resent) == ([], {2: text}, 2)
    hardware = judge(kept + frames[4:8])
    assert (hardware.wrong, texts(hardware)) == ([], {2: text})


def test_a_record_that_is_lost_does_not_hide_the_next_ones() -> None:
    frames = message(END, 2, body(20_000))
    found = judge(frames[:4] + frames[8:])
    assert (found.wrong, found.records, texts(found)) == ([], 3, {})


def test_captured_file_and_keys(tmp_path: Path) -> None:
    write(str(tmp_path / "c.pcapng"), message(END, 2, b"text"))
    line = {"protocol": 253, "src": END.src, "dst": END.dst, "dport": END.dport}
    line |= {"key": END.key.hex(), "salt": END.salt.hex()}
    (tmp_path / "keys").write_text(json.dumps(line))
    found = smt.judge(tmp_path / "c.pcapng", smt.read_keys([tmp_path / "keys"]))
    assert (found.wrong, texts(found)) == ([], {2: b"text"})


def flipped(frame: bytes, at: int) -> bytes:
    out = bytearray(frame)
    out[at] ^= 1
    return bytes(out)


def one(sealed: bytes, length: int = 4, sender_id: int = 8, offset: int = 0) -> list[bytes]:
    return packets(END, sender_id, offset, sealed, length)


def sealed(
    text: bytes = b"text",
    *,
    sender_id: int = 8,
    index: int = 0,
    offset: int = 0,
    length: int = 4,
    number: int | None = None,
    nonce: int | None = None,
) -> bytes:
    return record(END, sender_id, index, offset, text, length=length, number=number, nonce=nonce)


BROKEN: dict[str, tuple[Callable[[], list[bytes]], str]] = {
    "flipped text": (lambda: [flipped(message(END, 2, b"text")[0], 100)], "no key authenticates"),
    "another number": (lambda: one(sealed(number=99)), "the nonce on the wire is 0x63, not"),
    "nonce is not the number": (lambda: one(sealed(nonce=99)), "the nonce on the wire is 0x63"),
    "one nonce for two texts": (
        lambda: message(END, 2, b"one") + message(END, 2 + (1 << 49), b"two"),
        "have encrypted something else",
    ),
    "one nonce for two directions": (
        lambda: message(END, 2, b"one") + message(End().reversed, 3, b"two"),
        "no key authenticates",
    ),
    "repeated with other bytes": (
        lambda: message(END, 2, b"one") + message(END, 2, b"two"),
        "repeats other bytes",
    ),
    "length of message changes": (
        lambda: [*message(END, 2, body(5000))[:2], one(sealed(), 5, 2)[0]],
        "has changed",
    ),
    "authenticated length is another": (
        lambda: one(sealed(length=3)),
        "says that the message has 3 bytes, not 4",
    ),
    "length is not authenticated": (
        lambda: message(END, 2, b"text", authenticated=False),
        "says that the message has 0 bytes, not 4",
    ),
    "framing offset": (lambda: one(sealed(offset=5)), "says offset 5, not 0"),
    "record ends early": (
        lambda: one(sealed(length=9), 9) + one(sealed(index=1, offset=4, length=9), 9, offset=4),
        "and not the last record",
    ),
    "record overlaps": (
        lambda: (
            one(sealed(body(M - 29), length=M), M)
            + one(sealed(body(40), index=1, offset=M - 40, length=M), M, offset=M - 40)
        ),
        "the one before ends at",
    ),
    "behind the end": (lambda: one(sealed(body(10), length=4)), "has 10 of 4 bytes"),
    "framing length": (
        lambda: one(seal(END, 4 << 16, framing("A", 0, 5, length=4) + b"text")),
        "framing header 0 says 5 bytes, not 4",
    ),
    "framing header without data": (
        lambda: one(
            seal(END, 4 << 16, framing("A", 0, M - 13, length=M - 13) + body(M + 7)), M - 13
        ),
        "half a framing header, or one without data",
    ),
    "packet too short": (lambda: [message(END, 2, body(3000))[0][:-1]], "IP header"),
    "not full packet": (
        lambda: [ip(END, message(END, 2, body(3000))[0][34:-1])],
        "packet 0 of 3 has 1439 bytes",
    ),
    "no record": (lambda: [flipped(message(END, 2, b"text")[0], 74)], "no record but 160303"),
    "record too long": (
        lambda: one(sealed(body(16 * M - 29), length=16 * M - 29), 16 * M - 29),
        "bytes in a record",
    ),
    "message too long": (lambda: one(sealed(), 1_000_001), "a message of 1000001 bytes"),
    "server's id from a client": (lambda: message(END, 3, b"text"), "from port 40000"),
    "id far back": (
        lambda: message(END, 5000, b"one") + message(END, 2, b"two"),
        "is far behind the newest one",
    ),
    "grant too short": (lambda: [ip(END, common(END, GRANT, 2))], "type 0x11 with 28 bytes"),
    "unknown type": (lambda: [ip(END, common(END, 0x19, 2))], "type 0x19"),
    "data offset": (lambda: [ip(END, common(END, 0x10, 2, doff=0x50))], "doff 0x50"),
    "port 0": (lambda: [ip(End(sport=0), common(End(sport=0), BUSY, 3))], "port 0"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_is_found(case: str) -> None:
    frames, said = BROKEN[case]
    assert any(said in sentence for sentence in judge(frames()).wrong), judge(frames()).wrong


def test_without_authenticated_length_for_published_peers() -> None:
    found = judge(message(END, 2, b"text", authenticated=False), authenticated=False)
    assert (found.wrong, texts(found)) == ([], {2: b"text"})


def test_packets_without_key_are_counted() -> None:
    other = End(dst="10.77.0.9")
    assert judge(message(other, 2, body(3000))).keyless == 3
    assert judge(message(other, 2, body(3000))).unread == 1


def test_packet_types_are_counted() -> None:
    found = judge([ip(END, common(END, GRANT, 2) + bytes(5)), *message(END, 2, b"")])
    assert (found.wrong, found.types) == ([], {GRANT: 1, 0x10: 1})
