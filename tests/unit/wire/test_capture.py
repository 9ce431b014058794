# SPDX-License-Identifier: GPL-2.0-or-later
"""Captures, read back by Wireshark's tools."""

import os
import resource
import signal
import struct
import subprocess
import sys
import time
from contextlib import closing
from fcntl import LOCK_EX, flock
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nicmodel.errors import UserError
from nicmodel.frame import Origin, RecordPart
from nicmodel.wire import capture as capturing
from nicmodel.wire import spool
from nicmodel.wire.capture import CLEAR, Capture
from nicmodel.wire.events import CaptureStopped
from nicmodel.wire.pcapng import BUFFER_SIZE, SNAPLEN, PcapngWriter
from nicmodel.wire.port import Way
from nicmodel.wire.spool import LAP, Spool
from tests.oracles.tshark import CaptureUnreadable, fields, needs_tshark
from tests.unit.wire.stations import Clock, Net, frame, mac, train

NOW = 1_700_000_000_123_456_789


def clock() -> int:
    return NOW


@needs_tshark
def test_frames_and_trains_read_back(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    net = Net()
    a, b, _ = net.pair()
    with closing(Capture(path, clock, net.tracer)) as capture:
        capture.attach(a.port)
        capture.attach(b.port)
        sent, long = frame(mac(2), mac(1), b"hello" * 11), train(mac(1), mac(2), 3, 101, 82)
        a.port.send(sent)
        b.port.send(long)
        assert capture.frames == 8
    rows = fields(
        path,
        *("frame.time_epoch", "frame.interface_name", "frame.packet_flags", "frame.len"),
        *("eth.dst.oui_resolved", "data.data"),
    )
    names = [row[1] for row in rows]
    assert names == ["a", "b", "b", "b", "b", "a", "a", "a"]
    flags = [int(row[2], 16) for row in rows]
    assert flags == [2, 1, 2, 2, 2, 1, 1, 1], "1 is inbound, 2 outbound, as the port sees it"
    assert {row[0] for row in rows} == {"1700000000.123456789"}
    assert [int(row[3]) for row in rows] == [69, 69, 101, 101, 82, 101, 101, 82]
    assert rows[0][5] == bytes(sent.data[14:]).hex()
    assert [row[5] for row in rows[2:5]] == [bytes(v[14:]).hex() for v in long.views()]


@needs_tshark
def test_capinfos_knows_interfaces_resolution_and_order(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    writer = PcapngWriter(path)
    for name in ("nic a", "nic b, before TLS"):
        writer.add_interface(name)
    for index, length in enumerate([14, 15, 16, 17, SNAPLEN + 1]):
        writer.packet(index % 2, NOW + index, bytes(length))
    writer.close()
    done = subprocess.run(["capinfos", path], capture_output=True, text=True, check=True)
    assert "Wireshark/... - pcapng" in done.stdout
    assert "Number of packets:   5" in done.stdout
    assert "Strict time order:   True" in done.stdout
    assert "Number of interfaces in file: 2" in done.stdout
    assert done.stdout.count("Time precision = nanoseconds (9)") == 2
    assert "Name = nic b, before TLS" in done.stdout
    assert f"Capture length = {SNAPLEN}" in done.stdout
    captured = fields(path, "frame.len", "frame.cap_len")
    assert captured[-1] == (str(SNAPLEN + 1), str(SNAPLEN))


@needs_tshark
@pytest.mark.parametrize("way", [None, Way.IN])
def test_comments(tmp_path: Path, way: Way | None) -> None:
    path = tmp_path / "a.pcapng"
    writer = PcapngWriter(path)
    writer.add_interface("a")
    writer.packet(0, NOW, bytes(60), way, "out of sequence – nonce 5")
    writer.packet(0, NOW, bytes(60), way)
    writer.close()
    rows = fields(path, "frame.comment", "frame.packet_flags")
    assert [row[0] for row in rows] == ["out of sequence – nonce 5", ""]
    assert [bool(row[1]) for row in rows] == [way is not None] * 2


@needs_tshark
def test_frames_that_an_engine_made_are_there_twice_with_words_on_them(tmp_path: Path) -> None:
    """Two and a half records of 130 bytes in frames of 100: on the wire, and in clear."""
    path = tmp_path / "a.pcapng"
    net = Net()
    a, b, _ = net.pair()
    clear = bytes(range(250)) + bytes(75)
    parts = (RecordPart(4, 0, 130), RecordPart(5, 130, 260), RecordPart(6, 260, 325))
    sealed = train(mac(2), mac(1), 4, 114, 60)
    sealed.origin = Origin("SQ", 0x12, 7, 3, parts, "encrypted", 14, 100, clear)
    single = frame(mac(2), mac(1), b"x" * 50)
    single.origin = Origin("SQ", 0x12, 8, 3, (RecordPart(6, 0, 50),), "corrupt", 14, 50, b"y" * 50)
    with closing(Capture(path, clock, net.tracer)) as capture:
        tap = capture.attach_both(a.port)
        capture.attach(b.port)
        a.port.send(sealed)
        a.port.send(single)
        a.port.send(frame(mac(2), mac(1), b"p" * 50))
        b.port.send(single)
        assert capture.frames == 2 * 6 + 6 + 2
        tap.handed(Way.IN, single)
        decrypted = frame(mac(1), mac(2), b"d" * 50)
        decrypted.origin = Origin("RQ", None, None, 2, (RecordPart(1, 0, 50),), "decrypted", 14, 50)
        tap.handed(Way.IN, decrypted)
    rows = fields(path, "frame.interface_name", "frame.packet_flags", "frame.comment", "data.data")
    assert len(rows) == 22
    payloads = [view[14:].hex() for view in sealed.views()]
    wire = [row for row in rows if row[:2] == ("a", "0x00000002")]
    assert [row[3] for row in wire] == [*payloads, (b"x" * 50).hex(), (b"p" * 50).hex()]
    before = [row for row in rows if row[:2] == ("a clear", "0x00000002")]
    assert bytes.fromhex("".join(row[3] for row in before[:4]))[:325] == clear
    assert before[3][3][50:] == payloads[3][50:], "padding"
    assert [row[3] for row in before[4:]] == [(b"y" * 50).hex(), (b"p" * 50).hex()]
    which = ["record 4", "records 4-5", "records 5-6", "record 6"]
    words = [f"SQ 0x12 WQE 7 TIS 0x3, {records}: encrypted" for records in which]
    words += ["SQ 0x12 WQE 8 TIS 0x3, record 6: corrupt", ""]
    assert [row[2].rstrip() for row in wire] == words
    assert [row[2].rstrip() for row in before] == words
    got = [row for row in rows if row[:2] == ("a clear", "0x00000001")]
    assert [row[2:] for row in got] == [
        ("", (b"x" * 50).hex()),
        ("TIR 0x2, record 1: decrypted", (b"d" * 50).hex()),
    ]
    far = [row[2] for row in rows if row[0] == "b"]
    assert far == [""] * 6 + ["SQ 0x12 WQE 8 TIS 0x3, record 6: corrupt"], "only of its own NIC"
    (name,) = {row[0] for row in fields(path, "frame.interface_description") if row[0]}
    assert name == CLEAR


@needs_tshark
def test_much_traffic_is_all_there_and_in_order(tmp_path: Path) -> None:
    """More than the spool holds: the scribe, which only begins, is waited for."""
    path = tmp_path / "a.pcapng"
    net = Net()
    a, _, _ = net.pair()
    capture = Capture(path, clock, net.tracer)
    tap = capture.attach_both(a.port)
    sent = 0
    while sent * 18000 < 3 * LAP:
        long = train(mac(2), mac(1), 10, 9000, 9000)
        long.rows[:, 14:22] = np.frombuffer(struct.pack(">10Q", *range(sent, sent + 10)), np.uint8)[
            :
        ].reshape(10, 8)
        a.port.send(long)
        sent += 10
    tap.handed(Way.IN, frame(mac(1), mac(2), b"end"))
    capture.close()
    assert capture.frames == 2 * sent + 1
    rows = fields(path, "frame.interface_id", "data.data")
    for interface in ("0", "1"):
        numbers = [int(data[:16], 16) for number, data in rows if number == interface]
        assert numbers[:sent] == list(range(sent))


@needs_tshark
def test_flush_shows_what_was_captured(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    net = Net()
    a, _, _ = net.pair()
    with closing(Capture(path, clock, net.tracer)) as capture:
        capture.attach(a.port)
        a.port.send(frame(mac(2), mac(1)))
        capture.flush()
        assert len(fields(path, "frame.len")) == 1


def test_little_is_held_back(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    writer = PcapngWriter(path)
    writer.add_interface("a")
    given = 0
    while given < 4 * BUFFER_SIZE:
        writer.packet(0, NOW, bytes(9000))
        given += 9000
    assert path.stat().st_size > given - BUFFER_SIZE - 9000
    writer.close()


@pytest.mark.parametrize("times", [20, 400])
def test_full_disk_stops_the_capture_once_and_not_the_traffic(times: int) -> None:
    """400 frames are more than waits in memory: then the disk is full on the way."""
    net = Net()
    a, b, _ = net.pair()
    capture = Capture(Path("/dev/full"), clock, net.tracer)
    capture.attach(a.port)
    big = frame(mac(2), mac(1), bytes(60000))
    for _ in range(times):
        a.port.send(big)
    capture.flush()
    capture.close()
    assert len(b.got) == times
    assert [event.file for event in net.sink.of(CaptureStopped)] == ["/dev/full"]
    assert "No space left" in net.sink.of(CaptureStopped)[0].reason
    capture.attach(b.port)
    a.port.send(big)
    assert len(net.sink.of(CaptureStopped)) == 1


@needs_tshark
def test_capture_that_was_stopped_is_whole(tmp_path: Path) -> None:
    """The disk is full in the middle of a block."""
    path = tmp_path / "a.pcapng"
    net = Net()
    capture = Capture(path, clock, net.tracer)
    tap = capture.tap("a")
    small = frame(mac(2), mac(1), bytes(1000))
    tap.saw(Way.IN, small)
    capture.flush()
    limit = path.stat().st_size + 500
    resource.prlimit(capture.scribe.pid, resource.RLIMIT_FSIZE, (limit, limit))
    for _ in range(2):
        tap.saw(Way.IN, small)
        capture.flush()
    assert len(net.sink.of(CaptureStopped)) == 1
    assert len(fields(path, "frame.len")) == 1


def test_scribe_that_is_killed_stops_the_capture_once_and_not_the_traffic(tmp_path: Path) -> None:
    net = Net()
    a, b, _ = net.pair()
    with closing(Capture(tmp_path / "a.pcapng", clock, net.tracer)) as capture:
        capture.attach(a.port)
        capture.scribe.kill()
        for _ in range(400):
            a.port.send(frame(mac(2), mac(1), bytes(60000)))
    assert len(b.got) == 400
    (stopped,) = net.sink.of(CaptureStopped)
    assert stopped.reason == "the process that writes it has ended"


KILLED = """
import os, signal, sys
from pathlib import Path
from nicmodel.frame import Frame
from nicmodel.wire.capture import Capture
from nicmodel.wire.port import Way
tap = Capture(Path(sys.argv[1]), lambda: 1, None).tap("a")
for number in range(500):
    tap.saw(Way.OUT, Frame(number.to_bytes(60, "big")))
os.kill(os.getpid(), signal.SIGKILL)
"""


@needs_tshark
def test_what_was_seen_is_there_after_kill_9_and_the_next_capture_waits_for_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.pcapng"
    done = subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    assert done.returncode == -signal.SIGKILL
    with path.open("rb") as file:
        flock(file, LOCK_EX)
    rows = fields(path, "frame.len", "eth.src")
    assert len(rows) == 500
    subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    Capture(path, clock, Net().tracer).close()  # nobody else writes into it from now on
    assert fields(path, "frame.len") == []


def test_file_that_another_process_writes_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capturing, "LOCK_SECONDS", 0.0)
    path, tracer = tmp_path / "a.pcapng", Net().tracer
    with closing(Capture(path, clock, tracer)) as capture:
        capture.tap("a").saw(Way.OUT, frame(mac(2), mac(1)))
        with pytest.raises(UserError, match=r"capture file .* is written by another process"):
            Capture(path, clock, tracer)
    assert path.stat().st_size > 100


@needs_tshark
def test_scribe_ends_with_the_capture_and_not_when_all_are_told_to_end(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    with closing(Capture(path, clock, Net().tracer)) as capture:
        assert os.getsid(capture.scribe.pid) != os.getsid(0)
        tap = capture.tap("a")
        tap.saw(Way.OUT, frame(mac(2), mac(1)))
        capture.flush()
        capture.scribe.terminate()
        tap.saw(Way.OUT, frame(mac(2), mac(1)))
    assert capture.scribe.returncode == 0
    assert len(fields(path, "frame.len")) == 2


def test_what_was_pushed_is_in_the_file_soon_though_no_more_comes(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    with closing(Capture(path, clock, Net().tracer)) as capture:
        tap = capture.tap("a")
        capture.flush()
        before = path.stat().st_size
        tap.saw(Way.OUT, frame(mac(2), mac(1)))
        capture.push()
        deadline = time.monotonic() + 20
        while path.stat().st_size == before:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_full_disk_is_told_though_no_more_comes(tmp_path: Path) -> None:
    net, path = Net(), tmp_path / "a.pcapng"
    with closing(Capture(path, clock, net.tracer)) as capture:
        tap = capture.tap("a")
        capture.flush()
        size = path.stat().st_size
        resource.prlimit(capture.scribe.pid, resource.RLIMIT_FSIZE, (size, size))
        tap.saw(Way.OUT, frame(mac(2), mac(1)))
        deadline = time.monotonic() + 20
        while not net.sink.of(CaptureStopped):
            assert time.monotonic() < deadline
            capture.push()
            time.sleep(0.01)


@given(st.lists(st.tuples(st.integers(1, 600), st.integers(0, 2)), min_size=50, max_size=100))
def test_entries_of_a_spool_come_out_as_they_went_in(steps: list[tuple[int, int]]) -> None:
    """Whoever is ahead: nothing that waits is written over."""
    near = Spool()
    far = Spool(near.fd)
    os.close(near.fd)
    waiting: list[bytes] = []

    def take() -> None:
        entry = far.take()
        assert bytes(entry) == waiting.pop(0)
        far.done(len(entry))

    with patch.object(spool, "LAP", 1000):
        for number, (size, some) in enumerate(steps):
            entry = bytes([number]) * size
            while (room := near.room(size)) is None:
                assert waiting, "there is room when nothing waits"
                take()
            room[:] = entry
            near.put(size)
            waiting.append(entry)
            assert far.there == number + 1
            for _ in range(min(some, len(waiting))):
                take()
        while waiting:
            take()


@needs_tshark
def test_torn_file_is_not_taken_for_a_capture(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    writer = PcapngWriter(path)
    writer.add_interface("a")
    writer.packet(0, NOW, bytes(100))
    writer.close()
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CaptureUnreadable):
        fields(path, "frame.len")


def test_file_that_cannot_be_created_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot create capture file .*: No such file or dir"):
        Capture(tmp_path / "none" / "a.pcapng", Clock(), Net().tracer)
