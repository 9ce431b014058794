# SPDX-License-Identifier: GPL-2.0-or-later
"""From WQEs to a capture and its keys, and from these to what was sent: without a guest."""

import json
import stat
from pathlib import Path

import pytest

from nicmodel.cli import main
from nicmodel.errors import UserError
from nicmodel.queues.keylog import KeyLog
from nicmodel.wire.capture import Capture
from nicmodel.wire.events import CaptureStopped
from nicmodel.wire.keyfile import KeyFile, read_keys
from nicmodel.wire.port import Port, Way
from tests.oracles.reencrypt import compare, packets
from tests.oracles.tshark import bad_checksums, dissected, malformed, needs_tshark
from tests.unit.offload.tls.records import ALERT, plain12
from tests.unit.queues.rig import Rig
from tests.unit.queues.tls import (
    KEY,
    SALT,
    add_dek,
    post_dump,
    post_lso,
    post_params,
    post_send,
    tls_objects,
)
from tests.unit.wire.stations import Station

TEXT = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
SEQ = 5000
FIRST = 7


class Bench(Rig):
    """A rig whose sends are captured as port ``a``, beside their keys."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.capture, self.keys_file = folder / "a.pcapng", folder / "a.keys"
        self._now = 1000
        capture = Capture(self.capture, self._clock, self.tracer)
        keys = KeyFile(self.keys_file, self._clock, self.tracer)
        self._files = (capture, keys)
        self._tap = capture.attach_both(Port("a", Station("a")))
        self.tls.origins = True
        self.tls.listeners = (KeyLog("a", keys.add, self.objects),)

    def _clock(self) -> int:
        self._now += 1
        return self._now

    def go(self) -> None:
        """Execute what is posted."""
        self.sent.clear()
        self.ring()
        for traffic in self.sent:
            self._tap.saw(Way.OUT, traffic)

    def close(self) -> None:
        """Write all out."""
        for file in self._files:
            file.close()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def record(number: int, text: bytes, kind: int = 23) -> bytes:
    return plain12(text, (number + 9).to_bytes(8, "big"), kind)


def connection(bench: Bench, key: bytes = KEY) -> None:
    """Two large sends, a control record, and a retransmission from the middle of a record."""
    tisn, dek = tls_objects(bench, key)
    texts = [TEXT, b"b" * 3000, b"", b"c" * 1000]
    stream = b"".join(record(n, text) for n, text in enumerate(texts))
    stream += record(4, b"\1\0", ALERT)
    post_params(bench, tisn, dek, FIRST)
    post_lso(bench, tisn, stream[:2500], 600, seq=SEQ)
    post_lso(bench, tisn, stream[2500:4100], 600, seq=SEQ + 2500)
    post_send(bench, tisn, stream[4100:], seq=SEQ + 4100)
    bench.go()
    start = len(record(0, TEXT))
    post_params(bench, tisn, dek, FIRST + 1)
    post_dump(bench, tisn, stream[start:1200])
    post_dump(bench, tisn, stream[1200:1800])
    post_lso(bench, tisn, stream[1800:4000], 600, seq=SEQ + 1800)
    bench.go()


@pytest.mark.parametrize("key", [KEY, bytes(range(32))], ids=["128", "256"])
def test_clear_side_encrypted_again_is_the_wire_side(bench: Bench, key: bytes) -> None:
    connection(bench, key)
    bench.close()
    found = compare(bench.capture, bench.keys_file, "a")
    assert found.differences == []
    assert (found.connections, found.records, found.repeated) == (1, 5, 4)
    assert found.frames == 13


def test_key_file_is_as_documented_and_for_the_owner_alone(bench: Bench) -> None:
    connection(bench)
    bench.close()
    assert stat.S_IMODE(bench.keys_file.stat().st_mode) == 0o600
    (line,) = bench.keys_file.read_text().splitlines()
    values = json.loads(line)
    assert 1000 < values.pop("time") < 1010
    assert values == {
        "nic": "a",
        "direction": "out",
        "protocol": 6,
        "src": "10.0.0.1",
        "sport": 40000,
        "dst": "10.0.0.2",
        "dport": 443,
        "version": "1.2",
        "cipher": "AES-128-GCM",
        "key": KEY.hex(),
        "salt": SALT.hex(),
        "record": FIRST,
        "seq": SEQ,
        "context": 1,
        "dek": 1,
    }


def test_no_key_is_where_it_was_not_asked_for(bench: Bench) -> None:
    """Neither in the capture nor in what events and objects print."""
    connection(bench)
    bench.close()
    for form in (KEY, KEY.hex().encode()):
        assert form not in bench.capture.read_bytes()
    assert KEY.hex() not in repr(read_keys(bench.keys_file))


def test_context_that_is_used_again_gets_a_line_of_its_own(bench: Bench) -> None:
    tisn, _ = tls_objects(bench)
    for key in (KEY, KEY[::-1]):
        post_params(bench, tisn, add_dek(bench, key), 0)
        post_send(bench, tisn, record(0, b"text"), seq=SEQ)
        bench.go()
    bench.close()
    assert [key.key for key in read_keys(bench.keys_file)] == [KEY, KEY[::-1]]


def test_first_packet_in_the_middle_of_a_record(bench: Bench) -> None:
    """What a DUMP has passed counts: ``seq`` is where the record begins."""
    tisn, dek = tls_objects(bench)
    stream = record(0, b"text" * 100)
    post_params(bench, tisn, dek, 0)
    post_dump(bench, tisn, stream[:100])
    post_send(bench, tisn, stream[100:], seq=(SEQ + 100))
    bench.go()
    bench.close()
    assert [key.seq for key in read_keys(bench.keys_file)] == [SEQ]


def test_comments_name_the_records_of_each_frame(bench: Bench) -> None:
    connection(bench)
    bench.close()
    said = [packet.comment for packet in packets(bench.capture) if packet.interface == "a"]
    wqe = "SQ 0x7 WQE 5 TIS 0x1, "
    which = ["records 7-8", "record 8", "record 8", "record 8", "record 8"]
    assert said[:5] == [f"{wqe}{records}: encrypted" for records in which]
    which = ["records 8-9", "records 9-10", "record 10"]
    assert [text.split(", ")[1] for text in said[5:8]] == [f"{one}: encrypted" for one in which]
    assert said[8].endswith(", records 10-11: encrypted")


def test_decrypt_reads_all_records(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    connection(bench)
    bench.close()
    out = tmp_path / "plain.pcapng"
    assert (
        main(["decrypt", str(bench.capture), "--keys", str(bench.keys_file), "-o", str(out)]) == 0
    )
    first, last = capsys.readouterr().out.splitlines()
    assert first == (
        "a out, 10.0.0.1:40000 > 10.0.0.2:443, TLS 1.2 AES-128-GCM, TIS 0x1, DEK 0x1: "
        f"5 records of {len(TEXT) + 4002} bytes authenticate, 0 do not"
    )
    assert last == f"{out}: 5 records"
    plain = [packet.data[54:] for packet in packets(out)]
    assert b"".join(plain) == TEXT + b"b" * 3000 + b"c" * 1000
    comments = [packet.comment for packet in packets(out)]
    assert comments[0] == f"record {FIRST} of frames 1: {len(TEXT)} bytes"
    assert comments[4].endswith(": alert 0100")


@needs_tshark
def test_public_tools_read_what_was_decrypted(bench: Bench, tmp_path: Path) -> None:
    connection(bench)
    bench.close()
    out = tmp_path / "plain.pcapng"
    main(["decrypt", str(bench.capture), "--keys", str(bench.keys_file), "-o", str(out)])
    http = dissected(out, 443, "http", "http.request", "http.request.method", "http.host")
    assert http == [("GET", "a")]
    assert malformed(out) == []
    assert bad_checksums(out) == []


def test_corrupt_record_is_told_by_both(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """The driver forgets the resync: record 3 goes where the context expects 1."""
    tisn, dek = tls_objects(bench)
    post_params(bench, tisn, dek, 0)
    first, second = record(0, b"first"), record(1, b"second")
    post_send(bench, tisn, first, seq=SEQ)
    post_send(bench, tisn, second, seq=SEQ + len(first))
    post_send(bench, tisn, second, seq=SEQ + len(first))
    bench.go()
    bench.close()
    assert main(["decrypt", str(bench.capture), "--keys", str(bench.keys_file)]) == 1
    said = capsys.readouterr().out
    assert "frame 5 sent other bytes for record 1" in said
    assert "as sent first it authenticates, as repeated it does not" in said
    found = compare(bench.capture, bench.keys_file, "a")
    assert len(found.differences) == 1
    assert found.differences[0].startswith("frame 2: byte")


@pytest.mark.parametrize("at", [54, 70, 90])
def test_oracle_sees_one_wrong_bit(bench: Bench, at: int) -> None:
    tisn, dek = tls_objects(bench)
    post_params(bench, tisn, dek, 0)
    post_send(bench, tisn, record(0, b"first" * 10), seq=SEQ)
    bench.go()
    bench.close()
    data = bytearray(bench.capture.read_bytes())
    wire = next(p.data for p in packets(bench.capture) if p.interface == "a")
    data[data.find(wire) + at] ^= 1
    bench.capture.write_bytes(data)
    assert compare(bench.capture, bench.keys_file, "a").differences


def test_keys_of_another_run_are_no_help(bench: Bench, tmp_path: Path) -> None:
    connection(bench)
    bench.close()
    other = tmp_path / "other.keys"
    other.write_text(bench.keys_file.read_text().replace("40000", "40001"))
    assert main(["decrypt", str(bench.capture), "--keys", str(other)]) == 1


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"1.2"', '"1.1"', "version"),
        ('"AES-128-GCM"', '"AES-256-GCM"', "key: write 32 bytes in hexadecimal"),
        ('"record": 7', '"record": -1', "record: -1 does not fit into 64 bits"),
        ('"dport": 443', '"dport": 70000', "dport: 70000 does not fit into 16 bits"),
        ('"10.0.0.1"', '"10.0.0"', "src: "),
        ('"direction": "out", ', "", "direction"),
        ("{", "[", "is not JSON"),
    ],
)
def test_mistakes_in_a_key_file_are_a_sentence(
    bench: Bench, capsys: pytest.CaptureFixture[str], old: str, new: str, sentence: str
) -> None:
    connection(bench)
    bench.close()
    text = bench.keys_file.read_text()
    assert old in text
    bench.keys_file.write_text("\n" + text.replace(old, new, 1))
    assert main(["decrypt", str(bench.capture), "--keys", str(bench.keys_file)]) == 1
    said = capsys.readouterr().err
    assert f"{bench.keys_file}, line 2" in said
    assert sentence in said
    assert KEY.hex() not in said


@pytest.mark.parametrize("content", [b"", b"\xd4\xc3\xb2\xa1" + bytes(20), b"hello, world"])
def test_what_is_no_pcapng_file_is_a_sentence(
    bench: Bench, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    connection(bench)
    bench.close()
    bench.capture.write_bytes(content)
    assert main(["decrypt", str(bench.capture), "--keys", str(bench.keys_file)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_full_disk_stops_the_keys_once_and_nothing_else() -> None:
    rig = Rig()
    keys = KeyFile(Path("/dev/full"), lambda: 0, rig.tracer)
    rig.tls.listeners = (KeyLog("a", keys.add, rig.objects),)
    for _ in range(2):
        tisn, dek = tls_objects(rig)
        post_params(rig, tisn, dek, 0)
        post_send(rig, tisn, record(0, b"text"), seq=SEQ)
        rig.ring()
    assert len(rig.sent) == 2
    assert [event.file for event in rig.sink.of(CaptureStopped)] == ["/dev/full"]


def test_key_file_that_was_there_is_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("old")
    path.chmod(0o644)
    KeyFile(path, lambda: 0, Rig().tracer).close()
    assert path.read_text() == ""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_key_file_that_cannot_be_created_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot create key file .*: No such file or directory"):
        KeyFile(tmp_path / "none" / "keys", lambda: 0, Rig().tracer)
