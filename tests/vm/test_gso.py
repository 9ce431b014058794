# SPDX-License-Identifier: GPL-2.0-or-later
"""Large sends by the device against the kernel's own software, byte for byte.

Each packet goes through the untouched driver twice: once it is segmented by the device, once by the
kernel, which computes TCP's checksums too. What is on the wire must be the same, without exception:
no packet has SKB_GSO_TCP_FIXEDID, hence both count the IPv4 identification; FIN, PSH and CWR,
lengths, sequence numbers, checksums and padding have only one right value.
"""

import random
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from tests.oracles import tshark
from tests.oracles.capture import Follower, write_pcap
from tests.vm import build, superpackets
from tests.vm.pair import Pair
from tests.vm.superpackets import ACK, PSH, SuperPacket
from tests.vm.traffic import IFACE, driver_statistics

POOL = "/tmp/pool"
DEVICE, SOFTWARE = 0, 1

Found = dict[tuple[int, int], list[bytes]]
"""Frames behind the destination MAC, by who made them and number of the packet."""

_RUNS = count()


class Wire:
    """What leaves guest a for MACs that nobody has, which say whose work a frame is."""

    def __init__(self, pair: Pair) -> None:
        self.found: Found = defaultdict(list)
        self._pair = pair
        self._run = next(_RUNS) & 0xFF
        self._follower = Follower(pair.captures[0])

    def destination(self, who: int, number: int = 0) -> bytes:
        """The MAC for packet ``number``."""
        return bytes((2, 0x77, self._run, who)) + number.to_bytes(2, "big")

    def sends(self, command: str, records: bytes, expected: int, at: slice = slice(4, 6)) -> int:
        """Run a sender and wait for its frames; how many large sends the driver counted meanwhile.

        The bytes ``at`` of a frame are the number of its packet.
        """
        mark = bytes((2, 0x77, self._run))
        before = driver_statistics(self._pair.a)
        self._pair.a.run(command, stdin=records, timeout=60)
        frames = self._follower.collect(
            lambda frame: bool(frame.outbound) and frame.data[:3] == mark,
            lambda found: len(found) >= expected,
        )
        for frame in frames:
            number = int.from_bytes(frame.data[at], "big")
            self.found[frame.data[3], number].append(frame.data[6:])
        after = driver_statistics(self._pair.a)
        return after["tx_tso_packets"] - before["tx_tso_packets"]


@contextmanager
def _software(pair: Pair, *offloads: str) -> Iterator[None]:
    """Meanwhile the kernel does what these ``offloads`` do."""
    words = {mode: " ".join(f"{name} {mode}" for name in offloads) for mode in ("on", "off")}
    pair.a.run(f"ethtool -K {IFACE} {words['off']}")
    try:
        yield
    finally:
        pair.a.run(f"ethtool -K {IFACE} {words['on']}")


def _pool(pair: Pair) -> bytes:
    pool = random.Random(f"{pair.lab.seed}/pool").randbytes(superpackets.POOL_SIZE)
    pair.a.write_file(POOL, pool)
    return pool


def _both_ways(pair: Pair, packets: list[SuperPacket], interface: str = IFACE) -> Found:
    """Send all packets both ways."""
    wire = Wire(pair)
    command = f"{build.install(pair.a, build.own('supersend'))} frames {interface} {POOL}"
    source = bytes.fromhex(pair.mac(pair.a).replace(":", ""))
    frames = sum(packet.frames for packet in packets)

    def records(who: int) -> bytes:
        numbered = enumerate(packets)
        return b"".join(one.record(wire.destination(who, n), source) for n, one in numbered)

    # what mlx5 does not claim (TSO_ECN), the kernel does not leave to it
    by_device = sum(packet.frames > 1 and not packet.ecn for packet in packets)
    assert wire.sends(command, records(DEVICE), frames) == by_device
    with _software(pair, "tso", "tx"):
        assert wire.sends(command, records(SOFTWARE), frames) == 0
    return wire.found


def _compare(packets: list[SuperPacket], found: Found) -> None:
    for number, packet in enumerate(packets):
        device, software = found[DEVICE, number], found[SOFTWARE, number]
        assert len(software) == packet.frames, packet
        assert len(device) == packet.frames, packet
        for index, (one, other) in enumerate(zip(device, software, strict=True)):
            assert one.hex() == other.hex(), f"frame {index} of {packet}"


def _judge(packets: list[SuperPacket], found: Found, path: Path) -> None:
    """What tshark says of the device's frames: every checksum is right, not only not wrong."""
    frames = [bytes(6) + data for n in range(len(packets)) for data in found[DEVICE, n]]
    write_pcap(path, frames)
    assert tshark.malformed(path) == []
    rows = tshark.fields(path, "ip.version", "ip.checksum.status", "tcp.checksum.status")
    assert len(rows) == len(frames)
    assert set(rows) <= {("4", "1", "1"), ("6", "", "1")}


@pytest.mark.matrix
@pytest.mark.parametrize("ipv6", [False, True], ids=["v4", "v6"])
def test_tcp_edges(pair: Pair, ipv6: bool, tmp_path: Path) -> None:
    _pool(pair)
    packets = list(superpackets.edges(ipv6))
    found = _both_ways(pair, packets)
    _compare(packets, found)
    _judge(packets, found, tmp_path / "device.pcap")


@pytest.mark.matrix
@pytest.mark.parametrize("tagged_by", ["sender", "device", "kernel"])
def test_vlan(pair: Pair, tagged_by: str, tmp_path: Path) -> None:
    """A tag that the sender put into the frame, or that it left to the driver, or the kernel."""
    _pool(pair)
    packets = [
        superpackets.tcp(ipv6=ipv6, mss=mss, payload=(5, length), flags=ACK | PSH)
        for ipv6 in (False, True)
        for mss, length in ((1440, 1440), (1440, 40000), (1440, 3001), (11, 50))
    ]
    if tagged_by == "sender":
        packets = [replace(packet, tag=b"\x81\0\x60\7") for packet in packets]
        found = _both_ways(pair, packets)
    else:
        mode = "on" if tagged_by == "device" else "off"
        pair.a.run(f"ethtool -K {IFACE} txvlan {mode}")
        pair.a.run(f"ip link add link {IFACE} name vlan7 type vlan id 7")
        try:
            pair.a.run("ip link set vlan7 up")
            found = _both_ways(pair, packets, "vlan7")
        finally:
            pair.a.run("ip link del vlan7")
            pair.a.run(f"ethtool -K {IFACE} txvlan on")
    _compare(packets, found)
    _judge(packets, found, tmp_path / "device.pcap")
    for frame in (frame for frames in found.values() for frame in frames):
        assert frame[6:8] == b"\x81\0"
        assert frame[9] == 7


@pytest.mark.matrix
@pytest.mark.parametrize("ipv6", [False, True], ids=["v4", "v6"])
def test_udp(pair: Pair, ipv6: bool, tmp_path: Path) -> None:
    pool = _pool(pair)
    wire = Wire(pair)
    rng = random.Random(f"{pair.lab.seed}/datagrams/{ipv6}")
    sends = superpackets.datagrams(rng, 1500 - (48 if ipv6 else 28), 20000, 40)
    records = b"".join(send.record() for send in sends)
    address, l4 = ("fd00:77::99", 54) if ipv6 else ("10.77.0.99", 34)
    command = f"{build.install(pair.a, build.own('supersend'))} datagrams {address} {POOL}"
    frames = sum(send.frames for send in sends)

    def send(who: int) -> int:
        mac = wire.destination(who).hex(":")
        pair.a.run(f"ip neigh replace {address} lladdr {mac} dev {IFACE}")
        return wire.sends(command, records, frames, at=slice(l4, l4 + 2))

    # GSO_UDP_L4 is a "partial" feature of mlx5: the kernel cuts the last, shorter datagram off
    assert send(DEVICE) == sum(send.payload_length >= 2 * send.mss for send in sends)
    # the checksums stay with the device: the kernel refuses UDP_SEGMENT where they are not (EIO)
    with _software(pair, "tx-udp-segmentation"):
        assert send(SOFTWARE) == 0
    pair.a.run(f"ip neigh del {address} dev {IFACE}")
    for one in sends:
        device, software = wire.found[DEVICE, one.port], wire.found[SOFTWARE, one.port]
        assert len(device) == len(software) == one.frames, one
        assert [frame.hex() for frame in device] == [frame.hex() for frame in software], one
        room = one.payload_length - (one.frames - 1) * one.mss
        lengths = [one.mss] * (one.frames - 1) + [room]
        parts = zip(device, lengths, strict=True)
        payload = b"".join(frame[l4 + 2 : l4 + 2 + length] for frame, length in parts)
        assert payload == pool[one.payload_at : one.payload_at + one.payload_length]
    all_frames = [bytes(6) + data for one in sends for data in wire.found[DEVICE, one.port]]
    path = write_pcap(tmp_path / "device.pcap", all_frames)
    assert tshark.malformed(path) == []
    assert {row[0] for row in tshark.fields(path, "udp.checksum.status")} == {"1"}


def _anything(pair: Pair, path: Path, number_of_packets: int) -> None:
    pool = _pool(pair)
    rng = random.Random(f"{pair.lab.seed}/superpackets/{pair.mtu}")
    packets = [superpackets.anything(rng, pair.mtu) for _ in range(number_of_packets)]
    found = _both_ways(pair, packets)
    _compare(packets, found)
    _judge(packets, found, path)
    for number, packet in enumerate(packets):
        start = 8 + len(packet.headers)  # source MAC and type, then the headers
        room = packet.payload_length - (packet.frames - 1) * packet.mss
        lengths = [packet.mss] * (packet.frames - 1) + [room]
        parts = zip(found[DEVICE, number], lengths, strict=True)
        sent = b"".join(frame[start : start + length] for frame, length in parts)
        at = packet.payload_at
        assert sent == pool[at : at + packet.payload_length]


def test_any_tcp_packet(pair: Pair, tmp_path: Path) -> None:
    _anything(pair, tmp_path / "device.pcap", 120)


def test_any_tcp_packet_of_jumbo_frames(jumbo: Pair, tmp_path: Path) -> None:
    _anything(jumbo, tmp_path / "device.pcap", 40)


@pytest.mark.parametrize("ipv6", [False, True], ids=["v4", "v6"])
def test_another_protocol_has_its_headers_replicated(pair: Pair, ipv6: bool) -> None:
    """LSO of an IP protocol that is neither TCP nor UDP.

    AF_PACKET cannot bring it to the driver (the kernel looks up who segments protocol 253, finds
    nobody), but a filter can: the large sends of a TCP connection, those with bit 14 in their
    length, get another protocol on the way to the driver. What TCP sends after each tells how long
    it was. (Of the first window, TCP makes two sends of a little less than 32 KiB.)
    """
    pool = _pool(pair)
    if ipv6:
        address, words, network, l4 = pair.v6(pair.b), "ip6", "-6 route", 54
        length_at, field, proto_at = 4, "nexthdr", 20
    else:
        address, words, network, l4 = pair.v4(pair.b), "ip", "route", 34
        length_at, field, proto_at = 2, "protocol", 23
    route = pair.a.run(f"ip {network} show to match {address} dev {IFACE}").stdout.splitlines()[0]
    pair.b.start(f"socat -u TCP{'6' if ipv6 else '4'}-LISTEN:7253,reuseaddr OPEN:/dev/null")
    pair.b.wait_until("ss -Hltn | grep -q :7253")
    follower = Follower(pair.captures[0])
    before = driver_statistics(pair.a)["tx_tso_packets"]
    try:
        # large sends from the first one on, however slow TCP takes the path to be
        pair.a.run(f"ip {network} change {route} dev {IFACE} initcwnd 100")
        pair.a.run("sysctl -qw net.ipv4.tcp_min_tso_segs=40")
        pair.a.run(
            f"tc qdisc add dev {IFACE} clsact; "
            f"tc filter add dev {IFACE} egress protocol {'ipv6' if ipv6 else 'ip'} u32 "
            f"match {words} dport 7253 0xffff match u16 0x4000 0x4000 at {length_at} "
            f"action pedit ex munge {words} {field} set 253"
        )
        target = f"[{address}]" if ipv6 else address
        sender = pair.a.start(f"socat -u -b 131072 OPEN:{POOL} TCP:{target}:7253")
        frames = follower.collect(
            lambda frame: (
                bool(frame.outbound)
                and frame.data[proto_at] in (6, 253)
                and frame.data[l4 + 2 : l4 + 4] == (7253).to_bytes(2, "big")
            ),
            # what comes after the large ones says where they ended
            lambda found: (
                any(frame.data[proto_at] == 253 for frame in found)
                and found[-1].data[proto_at] == 6
            ),
        )
        sender.kill()
        assert driver_statistics(pair.a)["tx_tso_packets"] > before
    finally:
        pair.a.run(f"tc qdisc del dev {IFACE} clsact", check=False)
        pair.a.run(f"ip {network} change {route} dev {IFACE} initcwnd 10")
        pair.a.run("sysctl -qw net.ipv4.tcp_min_tso_segs=2")
        pair.b.run("pkill socat", check=False)
    _check_replicated([frame.data for frame in frames], pool, l4, proto_at)


def _check_replicated(frames: list[bytes], pool: bytes, l4: int, proto_at: int) -> None:
    """Frames of a connection from its SYN on, the large sends of which have protocol 253."""

    def sequence(frame: bytes) -> int:
        return int.from_bytes(frame[l4 + 4 : l4 + 8], "big")

    def payload(frame: bytes) -> bytes:
        return frame[l4 + (frame[l4 + 12] >> 4) * 4 :]  # with TCP's options, none is padded

    first = sequence(frames[0]) + 1
    trains: list[list[bytes]] = []
    for frame in frames:
        same = (
            trains
            and frame[proto_at] == 253
            and trains[-1][-1][l4 : l4 + 32] == frame[l4 : l4 + 32]
        )
        if same:
            trains[-1].append(frame)
        else:
            trains.append([frame])
    large = [train for train in trains if train[0][proto_at] == 253]
    assert large
    sent = 0
    for train in trains:
        data = b"".join(map(payload, train))
        start = sequence(train[0]) - first & 0xFFFFFFFF
        if not data or train[0][l4 + 13] & 2:
            continue
        assert data == pool[start : start + len(data)]
        assert start <= sent, "TCP went on behind what was sent"
        sent = max(sent, start + len(data))
    for train in large:
        assert sum(len(payload(frame)) for frame in train) > 16000
        if l4 == 34:
            idents = [int.from_bytes(frame[18:20], "big") for frame in train]
            assert idents == [idents[0] + n & 0xFFFF for n in range(len(train))]
