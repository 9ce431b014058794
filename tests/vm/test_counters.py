# SPDX-License-Identifier: GPL-2.0-or-later
"""What ``ethtool -S`` counts is what the capture of the port has, to the frame and byte."""

import json
import re
from dataclasses import dataclass

import pytest

from nicmodel.testbed.vm import Vm
from tests.oracles import tshark
from tests.vm.conftest import PairMaker
from tests.vm.pair import Pair
from tests.vm.traffic import IFACE, driver_statistics, iperf

FCS = 4
LONGEST = 1500 + 14 + 4
"""Longest frame that a port with an MTU of 1500 takes, bytes without FCS: one VLAN tag more."""

STRANGER = "02:00:00:00:77:78"
GROUP = "239.1.2.4"
ALL = "ff:ff:ff:ff:ff:ff"
SIZES = {
    "64": (0, 64), "65_to_127": (65, 127), "128_to_255": (128, 255), "256_to_511": (256, 511),
    "512_to_1023": (512, 1023), "1024_to_1518": (1024, 1518), "1519_to_2047": (1519, 2047),
    "2048_to_4095": (2048, 4095), "4096_to_8191": (4096, 8191), "8192_to_10239": (8192, 10239),
}  # fmt: skip

KINDS = (
    *("rx_oversize_pkts_phy", "rx_prio5_packets", "tx_prio5_packets", "rx_64_bytes_phy"),
    *("rx_1024_to_1518_bytes_phy", "rx_vport_multicast_packets", "rx_broadcast_phy"),
)
"""Counters that the traffic of the test must move."""


@dataclass(frozen=True)
class Seen:
    """A frame of the capture; ``length`` in bytes without FCS."""

    number: int
    src: str
    dst: str
    length: int
    priority: int


def _silence(pair: Pair) -> None:
    """From now on nobody sends by himself."""
    for vm, peer in ((pair.a, pair.b), (pair.b, pair.a)):
        vm.run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1")
        vm.run(f"ip neigh replace {pair.v4(peer)} lladdr {pair.mac(peer)} dev {IFACE}")
    pair.host.run(["ip", "link", "set", pair.host.tap, "down"])


def _mark(pair: Pair, pattern: str) -> int:
    """Ping with ``pattern`` once; the number of the answer, the last frame that crossed."""
    pair.a.run(f"ping -c 1 -w 20 -s 64 -p {pattern} {pair.v4(pair.b)}", timeout=30)
    only = f"icmp.type == 0 && frame contains {':'.join([pattern] * 16)}"
    for _ in range(100):  # the file lags behind the wire
        found = tshark.fields(pair.captures[0], "frame.number", only=only)
        if found:
            return int(found[-1][0])
        pair.a.run("sleep 0.1")
    raise AssertionError("the capture never got the mark")


def _frames(pair: Pair, first: int, last: int) -> list[Seen]:
    names = ("frame.number", "eth.src", "eth.dst", "frame.len", "vlan.priority")
    only = f"frame.number > {first} && frame.number <= {last}"
    return [
        Seen(int(number), src, dst, int(length), int(priority or 0))
        for number, src, dst, length, priority in tshark.fields(pair.captures[0], *names, only=only)
    ]


def _traffic(pair: Pair) -> None:
    """Every kind of it, both ways."""
    a, b = pair.a, pair.b
    for vm in (a, b):
        number = pair.number(vm)
        vm.run(f"ip link add link {IFACE} name vlan7 type vlan id 7 egress-qos-map 0:5")
        vm.run(f"ip addr add 10.78.0.{number}/24 dev vlan7; ip link set vlan7 up")
    a.run(f"ip neigh replace 10.78.0.2 lladdr {pair.mac(b)} dev vlan7")
    b.run(f"ip neigh replace 10.78.0.1 lladdr {pair.mac(a)} dev vlan7")
    a.run("ping -c 3 -i 0.05 -s 1400 10.78.0.2")  # tagged
    for size in (0, 18, 19, 81, 82, 210, 466, 978, 979, 1468, 1472):
        a.run(f"ping -c 1 -w 10 -M do -s {size} {pair.v4(b)}")
    with pair.iperf_server(b):  # large sends, both ways
        iperf(a, pair.v4(b), "-n", "1M")
        iperf(a, pair.v4(b), "-n", "1M", "-R")
    for vm in (a, b):
        vm.run("ping -b -c 2 -i 0.05 -W 1 10.77.0.255", check=False)
        vm.run(f"ip route replace {GROUP} dev {IFACE}; ping -c 2 -i 0.05 -W 1 {GROUP}", check=False)
    # to somebody else: the switch floods it, the filter drops it
    b.run(f"ip neigh replace 10.77.0.98 lladdr {STRANGER} dev {IFACE}")
    b.run("ping -c 3 -i 0.05 -W 1 10.77.0.98", check=False)
    b.run(f"ping -c 3 -i 0.05 -W 1 -M do -s 2000 {pair.v4(a)}", check=False)  # too long for a


def _link(vm: Vm) -> dict[str, int]:
    stats = json.loads(vm.run(["ip", "-j", "-s", "link", "show", IFACE]).stdout)[0]["stats64"]
    return {
        "rx_packets": stats["rx"]["packets"],
        "tx_packets": stats["tx"]["packets"],
        "rx_errors": stats["rx"]["errors"],
    }


def _expected(pair: Pair, seen: list[Seen]) -> dict[str, int]:
    """The counters of guest a's port that these frames make."""
    own = pair.mac(pair.a)
    tx = [one for one in seen if one.src == own]
    arrived = [one for one in seen if one.src != own]
    rx = [one for one in arrived if one.length <= LONGEST]
    wanted = {"rx_oversize_pkts_phy": len(arrived) - len(rx)}
    for way, frames in (("rx", rx), ("tx", tx)):
        groups = [one for one in frames if one.dst != ALL and int(one.dst[:2], 16) & 1]
        everybody = [one for one in frames if one.dst == ALL]
        unicast = [one for one in frames if not int(one.dst[:2], 16) & 1]
        wanted[f"{way}_packets_phy"] = len(frames)
        wanted[f"{way}_bytes_phy"] = sum(one.length + FCS for one in frames)
        wanted[f"{way}_multicast_phy"] = len(groups)
        wanted[f"{way}_broadcast_phy"] = len(everybody)
        if way == "rx":
            unicast = [one for one in unicast if one.dst == own]
        for kind, some in (("unicast", unicast), ("multicast", groups), ("broadcast", everybody)):
            wanted[f"{way}_vport_{kind}_packets"] = len(some)
            wanted[f"{way}_vport_{kind}_bytes"] = sum(one.length for one in some)
        for priority in range(8):
            some = [one for one in frames if one.priority == priority]
            wanted[f"{way}_prio{priority}_packets"] = len(some)
            wanted[f"{way}_prio{priority}_bytes"] = sum(one.length + FCS for one in some)
    for name, (low, high) in SIZES.items():
        wanted[f"rx_{name}_bytes_phy"] = sum(low <= one.length + FCS <= high for one in rx)
    return wanted


@pytest.mark.timeout(300)
@tshark.needs_tshark
def test_counters_equal_the_capture(make_pair: PairMaker) -> None:
    # guests of their own: frames that are too long are errors of the interface for good
    with make_pair("count") as pair:
        pair.b.run(f"ip link set {IFACE} mtu 3000")
        _silence(pair)
        first = _mark(pair, "a5")
        before, link_before = driver_statistics(pair.a), _link(pair.a)
        _traffic(pair)
        last = _mark(pair, "c3")
        after, link_after = driver_statistics(pair.a), _link(pair.a)
        seen = _frames(pair, first, last)
    wanted = _expected(pair, seen)
    counted = {name: after[name] - before[name] for name in wanted}
    assert counted == wanted
    # every kind was there
    for name in KINDS:
        assert wanted[name] > 0
    assert any(one.dst == STRANGER for one in seen)

    moved = {name: after[name] - before[name] for name in after}
    link = {name: link_after[name] - link_before[name] for name in link_after}
    # the stack got what the vport did, but for what no flow table entry wanted
    received = sum(
        wanted[f"rx_vport_{kind}_packets"] for kind in ("unicast", "multicast", "broadcast")
    )
    assert moved["rx_steer_missed_packets"] > 0
    lost = moved["rx_steer_missed_packets"] + moved["rx_out_of_buffer"]
    assert link["rx_packets"] + lost == received
    assert link["tx_packets"] == wanted["tx_packets_phy"]
    assert link["rx_errors"] == wanted["rx_oversize_pkts_phy"]
    assert not [name for name, value in moved.items() if value and re.search(r"err|crc", name)]
