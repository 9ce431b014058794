# SPDX-License-Identifier: GPL-2.0-or-later
"""How received frames reach the kernel: queues, checksums, VLAN tags, LRO."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from nicmodel.testbed.vm import Vm
from tests.vm.frames import TCP, UDP, ethernet, inject, ipv4, ipv6, l4
from tests.vm.pair import Pair
from tests.vm.traffic import IFACE, MEBI, driver_statistics, iperf

V4, V6 = 0x0800, 0x86DD
C_TAG, S_TAG = 0x8100, 0x88A8
HOST_V4, HOST_V6 = "10.77.0.254", "fd00:77::fe"
COUNT = 12
"""Frames of one kind in one test: more than what else may come in the meantime."""


@contextmanager
def private_flag(vm: Vm, flag: str, value: str) -> Iterator[None]:
    """A private flag of the driver, meanwhile."""
    said = vm.run(["ethtool", "--show-priv-flags", IFACE]).stdout
    before = dict(map(str.split, said.replace(":", "").splitlines()[1:]))[flag]
    vm.run(["ethtool", "--set-priv-flags", IFACE, flag, value])
    try:
        yield
    finally:
        vm.run(["ethtool", "--set-priv-flags", IFACE, flag, before])


@contextmanager
def feature(vm: Vm, name: str, value: str, *, after: str) -> Iterator[None]:
    """A feature of the interface, meanwhile; ``after`` is what it was."""
    vm.run(["ethtool", "-K", IFACE, name, value])
    try:
        yield
    finally:
        vm.run(["ethtool", "-K", IFACE, name, after])


def moved(vm: Vm, before: dict[str, int]) -> dict[str, int]:
    """What ``ethtool -S`` has counted since ``before``."""
    return {name: value - before.get(name, 0) for name, value in driver_statistics(vm).items()}


def snmp(vm: Vm) -> dict[str, int]:
    """The counters of the guest's stack, names as in ``nstat``."""
    found = {}
    for path in ("/proc/net/snmp", "/proc/net/netstat"):
        lines = vm.read_file(path).splitlines()
        for names, values in zip(lines[::2], lines[1::2], strict=True):
            proto, *keys = names.split()
            for key, value in zip(keys, values.split()[1:], strict=True):
                found[proto.rstrip(":") + key] = int(value)
    for line in vm.read_file("/proc/net/snmp6").splitlines():
        key, value = line.split()
        found[key] = int(value)
    return found


def arrived(vm: Vm, counter: str, before: dict[str, int]) -> None:
    """Wait until the guest's stack has counted ``COUNT`` frames more."""
    wanted = before[counter] + COUNT
    last = None
    for _ in range(50):
        last = snmp(vm)[counter]
        if last >= wanted:
            break
    assert last == wanted, counter


# Striding queues


def test_the_driver_chooses_striding_queues(pair: Pair) -> None:
    said = pair.b.run(["ethtool", "--show-priv-flags", IFACE]).stdout
    assert "rx_striding_rq     : on" in said
    assert "StrdRq(1)" in pair.b.kernel_log()


@pytest.mark.matrix
@pytest.mark.parametrize("value", ["off", "on"])
def test_traffic_with_striding_queues_off_and_on(pair: Pair, value: str) -> None:
    with private_flag(pair.b, "rx_striding_rq", value):
        pair.connected()
        before = driver_statistics(pair.b)
        with pair.iperf_server(pair.b):
            done = iperf(pair.a, pair.v4(pair.b), "-n", "16M")
        assert done.sent >= 16 * MEBI
        counted = moved(pair.b, before)
        assert counted["rx_bytes"] > 12 * MEBI  # the last ones may be on their way
        assert counted["rx_buff_alloc_err"] == counted["rx_oversize_pkts_sw_drop"] == 0
    pair.connected()


# Checksums

Maker = Callable[[Pair, bool], list[bytes]]


def _v4(proto: int, data: bytes, *, pad: int = 0, options: bytes = b"") -> Maker:
    def make(pair: Pair, wrong: bool) -> list[bytes]:
        target = pair.v4(pair.b)
        payload = l4(proto, HOST_V4, target, data, wrong=wrong)
        packet = ipv4(HOST_V4, target, payload, proto, options=options)
        return [ethernet(pair.mac(pair.b), packet + b"\xa5" * pad, V4)]

    return make


def _v6(proto: int, data: bytes, *, pad: int = 0) -> Maker:
    def make(pair: Pair, wrong: bool) -> list[bytes]:
        target = pair.v6(pair.b)
        packet = ipv6(HOST_V6, target, l4(proto, HOST_V6, target, data, wrong=wrong), proto)
        return [ethernet(pair.mac(pair.b), packet + b"\xa5" * pad, V6)]

    return make


def _fragments(pair: Pair, wrong: bool) -> list[bytes]:
    target = pair.v4(pair.b)
    datagram = l4(UDP, HOST_V4, target, bytes(range(200)), wrong=wrong)
    first, second = datagram[:104], datagram[104:]
    packets = (
        ipv4(HOST_V4, target, first, UDP, fragment=0x2000),
        ipv4(HOST_V4, target, second, UDP, fragment=len(first) // 8),
    )
    return [ethernet(pair.mac(pair.b), packet, V4) for packet in packets]


LONG = bytes(range(256)) + b"odd"
KINDS: dict[str, tuple[Maker, str, str, str]] = {
    # frame, counter of the stack when right, when wrong, what the driver counts
    "udp4": (_v4(UDP, LONG), "UdpNoPorts", "UdpInCsumErrors", "complete"),
    "udp6": (_v6(UDP, LONG), "Udp6NoPorts", "Udp6InCsumErrors", "complete"),
    "tcp4": (_v4(TCP, LONG), "TcpOutRsts", "TcpInCsumErrors", "complete"),
    "tcp6": (_v6(TCP, LONG), "TcpOutRsts", "TcpInCsumErrors", "complete"),
    "short": (_v4(UDP, b"x" * 18), "UdpNoPorts", "UdpInCsumErrors", "unnecessary"),
    "short-padded": (_v4(UDP, b"abc", pad=15), "UdpNoPorts", "UdpInCsumErrors", "unnecessary"),
    "padded": (_v4(UDP, b"abc", pad=50), "UdpNoPorts", "UdpInCsumErrors", "complete"),
    "padded6": (_v6(UDP, b"abcd", pad=33), "Udp6NoPorts", "Udp6InCsumErrors", "complete"),
    "ip-options": (
        _v4(UDP, LONG, options=b"\1" * 8),
        "UdpNoPorts",
        "UdpInCsumErrors",
        "complete",
    ),
    "fragments": (_fragments, "UdpNoPorts", "UdpInCsumErrors", "complete"),
}


@pytest.mark.matrix
@pytest.mark.parametrize("kind", KINDS)
def test_the_stack_takes_right_checksums_and_finds_wrong_ones(erring: Pair, kind: str) -> None:
    """The device only reports; what is wrong must reach the kernel as not verified."""
    make, right, wrong, mode = KINDS[kind]
    before, counted = snmp(erring.b), driver_statistics(erring.b)
    frames = make(erring, False)
    inject(erring.host, frames * COUNT)
    arrived(erring.b, right, before)
    inject(erring.host, make(erring, True) * COUNT)
    arrived(erring.b, wrong, before)
    after = snmp(erring.b)
    assert after[right] == before[right] + COUNT
    more = moved(erring.b, counted)
    if mode == "complete":
        assert more["rx_csum_complete"] >= 2 * COUNT * len(frames)
        assert more["rx_csum_unnecessary"] == 0
    else:
        assert more["rx_csum_unnecessary"] == COUNT
        assert more["rx_csum_none"] >= COUNT


def test_a_wrong_ip_header_checksum(erring: Pair) -> None:
    target = erring.v4(erring.b)
    payload = l4(UDP, HOST_V4, target, LONG)
    frame = ethernet(erring.mac(erring.b), ipv4(HOST_V4, target, payload, UDP, wrong=True), V4)
    before = snmp(erring.b)
    inject(erring.host, [frame] * COUNT)
    arrived(erring.b, "IpExtInCsumErrors", before)
    assert snmp(erring.b)["UdpNoPorts"] == before["UdpNoPorts"]


def test_frames_that_are_not_ip_are_not_verified(pair: Pair) -> None:
    before = driver_statistics(pair.b)
    frame = ethernet(pair.mac(pair.b), bytes(range(100)), 0x88B5)
    inject(pair.host, [frame] * COUNT)
    pair.connected()
    assert moved(pair.b, before)["rx_csum_none"] >= COUNT


# VLAN


@contextmanager
def vlans(vm: Vm, *links: tuple[str, str, int]) -> Iterator[str]:
    """VLAN interfaces one on the other, each with protocol and id; the last one's name."""
    below = IFACE
    made: list[str] = []
    for name, protocol, vid in links:
        vm.run(f"ip link add link {below} name {name} type vlan proto {protocol} id {vid}")
        vm.run(["ip", "link", "set", name, "up"])
        made.append(name)
        below = name
    try:
        yield below
    finally:
        for name in reversed(made):
            vm.run(["ip", "link", "del", name])


def received_by(vm: Vm, interface: str) -> int:
    return int(vm.read_file(f"/sys/class/net/{interface}/statistics/rx_packets"))


STACKS = {
    "c-tag": ([("vl77", "802.1Q", 77)], [(C_TAG, 77)]),
    "s-tag": ([("vl88", "802.1ad", 88)], [(S_TAG, 88)]),
    "two-tags": ([("vl77", "802.1Q", 77), ("vl78", "802.1Q", 78)], [(C_TAG, 77), (C_TAG, 78)]),
    "s-and-c": ([("vl88", "802.1ad", 88), ("vl78", "802.1Q", 78)], [(S_TAG, 88), (C_TAG, 78)]),
}


@pytest.mark.parametrize("stripping", ["on", "off"])
@pytest.mark.parametrize("stack", STACKS)
def test_tags_name_the_interface_and_spoil_no_checksum(
    erring: Pair, stack: str, stripping: str
) -> None:
    """A stripped tag is in the CQE, another in the frame; an S-tag is never stripped."""
    vm = erring.b
    links, tags = STACKS[stack]
    target = erring.v4(vm)

    def frames(wrong: bool) -> list[bytes]:
        packet = ipv4(HOST_V4, target, l4(UDP, HOST_V4, target, LONG, wrong=wrong), UDP)
        return [ethernet(erring.mac(vm), packet, V4, *tags)] * COUNT

    # on an S-tag interface the driver turns stripping off (en_main.c mlx5e_fix_features)
    with feature(vm, "rxvlan", stripping, after="on"), vlans(vm, *links) as top:
        erring.connected()
        before, counted, seen = snmp(vm), driver_statistics(vm), received_by(vm, top)
        inject(erring.host, frames(False))
        arrived(vm, "UdpNoPorts", before)
        inject(erring.host, frames(True))
        arrived(vm, "UdpInCsumErrors", before)
        assert received_by(vm, top) == seen + 2 * COUNT
        stripped = stripping == "on" and tags[0][0] == C_TAG
        more = moved(vm, counted)
        assert more["rx_removed_vlan_packets"] == (2 * COUNT if stripped else 0)


# LRO


def test_lro_is_off_until_asked_for(pair: Pair) -> None:
    assert "large-receive-offload: off\n" in pair.b.run(["ethtool", "-k", IFACE]).stdout


@pytest.mark.matrix
@pytest.mark.parametrize("family", ["v4", "v6"])
def test_lro_merges_and_every_byte_arrives(pair: Pair, family: str) -> None:
    address = pair.v4(pair.b) if family == "v4" else f"[{pair.v6(pair.b)}]"
    with feature(pair.b, "lro", "on", after="off"):
        pair.connected()
        before = driver_statistics(pair.b)
        pair.a.run("dd if=/dev/urandom of=/tmp/sent bs=64k count=128 2>/dev/null")
        pair.b.run("rm -f /tmp/received")
        kind = "TCP-LISTEN" if family == "v4" else "TCP6-LISTEN"
        receiver = pair.b.start(f"socat -u {kind}:7000 OPEN:/tmp/received,creat")
        pair.a.run(f"socat -u OPEN:/tmp/sent TCP:{address}:7000,retry=50,interval=0.1", timeout=60)
        receiver.wait(60)
        sums = [
            vm.run(["sha256sum", path]).stdout.split()[0]
            for vm, path in ((pair.a, "/tmp/sent"), (pair.b, "/tmp/received"))
        ]
        pair.a.run("rm /tmp/sent")
        pair.b.run("rm /tmp/received")
        assert sums[0] == sums[1]
        more = moved(pair.b, before)
        assert more["rx_lro_packets"] > 0
        assert more["rx_lro_bytes"] > 7 * MEBI
        assert more["rx_packets"] > 10 * more["rx_lro_packets"]
    pair.connected()
