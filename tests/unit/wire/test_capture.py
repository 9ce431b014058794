# SPDX-License-Identifier: GPL-2.0-or-later
"""Captures, read back by Wireshark's tools."""

import resource
import signal
import struct
import subprocess
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from nicmodel.errors import UserError
from nicmodel.frame import Origin, RecordPart
from nicmodel.wire.capture import BATCH, CLEAR, Capture
from nicmodel.wire.events import CaptureStopped
from nicmodel.wire.pcapng import BUFFER_SIZE, SNAPLEN, PcapngWriter
from nicmodel.wire.port import Way
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
    """More than waits in memory: most of it is written on the way."""
    path = tmp_path / "a.pcapng"
    net = Net()
    a, _, _ = net.pair()
    capture = Capture(path, clock, net.tracer)
    tap = capture.attach_both(a.port)
    sent = 0
    while sent * 9000 < 5 * BATCH:
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
        assert path.stat().st_size == 0
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
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        tap.saw(Way.IN, small)
        capture.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)
    assert len(net.sink.of(CaptureStopped)) == 1
    assert len(fields(path, "frame.len")) == 1


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
