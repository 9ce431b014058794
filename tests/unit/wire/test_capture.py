# SPDX-License-Identifier: GPL-2.0-or-later
"""Captures, read back by Wireshark's tools."""

import resource
import signal
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from nicmodel.errors import UserError
from nicmodel.wire.capture import Capture
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


def test_full_disk_stops_the_capture_once_and_not_the_traffic() -> None:
    net = Net()
    a, b, _ = net.pair()
    capture = Capture(Path("/dev/full"), clock, net.tracer)
    capture.attach(a.port)
    big = frame(mac(2), mac(1), bytes(60000))
    for _ in range(20):
        a.port.send(big)
    capture.flush()
    capture.close()
    assert len(b.got) == 20
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
