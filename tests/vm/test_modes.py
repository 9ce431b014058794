# SPDX-License-Identifier: GPL-2.0-or-later
"""Promiscuous mode, capture in the guest, VLAN, multicast, and a peer on the host."""

import json

import pytest

from tests.vm.pair import Pair
from tests.vm.traffic import IFACE, iperf

pytestmark = pytest.mark.matrix

STRANGER = "02:00:00:00:77:77"


def _seen(pair: Pair, *options: str, mac: str = STRANGER, address: str = "10.77.0.99") -> int:
    """Frames to ``mac`` that tcpdump in guest b sees while guest a sends ten."""
    if mac == STRANGER:
        pair.a.run(f"ip neigh replace {address} lladdr {mac} dev {IFACE}")
    watch = pair.b.start(
        f"timeout 20 tcpdump -i {IFACE} -n -l {' '.join(options)} -c 10 "
        f"ether dst {mac} 2>/tmp/tcpdump.err"
    )
    pair.b.run("until grep -q 'listening on' /tmp/tcpdump.err; do sleep 0.05; done", timeout=20)
    pair.a.run(f"ping -c 10 -i 0.05 -W 1 -I {IFACE} {address}", check=False)
    # a frame that everybody gets tells that all before it have been seen
    pair.a.run(["ping", "-c", "1", "-w", "10", pair.v4(pair.b)])
    pair.b.run("pkill -INT tcpdump", check=False)
    said = watch.wait(30, check=False).stdout
    return said.count(" ICMP echo request")


def test_a_stranger_is_seen_in_promiscuous_mode_only(pair: Pair) -> None:
    assert _seen(pair, "-p") == 0
    assert _seen(pair) == 10
    assert _seen(pair, "-p") == 0


def test_promiscuous_mode_by_hand(pair: Pair) -> None:
    pair.b.run(["ip", "link", "set", IFACE, "promisc", "on"])
    assert _seen(pair, "-p") == 10
    pair.b.run(["ip", "link", "set", IFACE, "promisc", "off"])
    assert _seen(pair, "-p") == 0


@pytest.mark.parametrize("offload", ["on", "off"])
def test_vlan(pair: Pair, offload: str) -> None:
    for number, vm in enumerate((pair.a, pair.b), 1):
        vm.run(["ethtool", "-K", IFACE, "rxvlan", offload, "txvlan", offload])
        vm.run(f"ip link add link {IFACE} name vlan7 type vlan id 7")
        vm.run(f"ip addr add 10.78.0.{number}/24 dev vlan7; ip link set vlan7 up")
    try:
        pair.a.run(["ping", "-c", "3", "-i", "0.1", "-w", "20", "10.78.0.2"])
        pair.a.run(["ping", "-c", "3", "-i", "0.1", "-s", "1472", "-M", "do", "10.78.0.2"])
        with pair.iperf_server(pair.b):
            iperf(pair.a, "10.78.0.2", "-n", "4M")
        # the other VLAN is another network
        pair.b.run("ip link set vlan7 down")
        assert pair.a.run("ping -c 1 -W 1 10.78.0.2", check=False).status != 0
    finally:
        for vm in (pair.a, pair.b):
            vm.run("ip link del vlan7")
            vm.run(["ethtool", "-K", IFACE, "rxvlan", "on", "txvlan", "on"])


def test_multicast_reaches_those_who_joined(pair: Pair) -> None:
    group = "239.1.2.3"
    listen = f"socat -u UDP4-RECV:7001,ip-add-membership={group}:{IFACE},reuseaddr -"
    watch = pair.b.start(f"timeout 20 {listen} >/tmp/group & echo; wait")
    pair.b.run(f"until ip maddr show dev {IFACE} | grep -q {group}; do sleep 0.05; done")
    sending = f"UDP4-DATAGRAM:{group}:7001,ip-multicast-if=10.77.0.1"
    said = pair.a.run(
        f"for i in 1 2 3 4 5; do echo hello | socat -u - {sending}; done; echo sent"
    ).stdout
    assert "sent" in said
    pair.b.run("until [ $(wc -l </tmp/group) -ge 5 ]; do sleep 0.05; done", timeout=20)
    pair.b.run("pkill socat", check=False)
    watch.wait(30, check=False)
    pair.b.run(f"until ! ip maddr show dev {IFACE} | grep -q {group}; do sleep 0.05; done")


def test_multicast_v6(pair: Pair) -> None:
    link_local = pair.b.run(f"ip -6 -br addr show dev {IFACE} scope link").stdout.split()[2]
    said = pair.a.run(f"ping -L -c 2 -i 0.2 -w 10 ff02::1%{IFACE}", check=False).stdout
    assert f"from {link_local.partition('/')[0]}%{IFACE}" in said


def test_all_multicast(pair: Pair) -> None:
    group, mac = "239.255.0.1", "01:00:5e:7f:00:01"
    pair.a.run(f"ip route replace {group} dev {IFACE}")
    try:
        assert _seen(pair, "-p", mac=mac, address=group) == 0
        pair.b.run(["ip", "link", "set", IFACE, "allmulticast", "on"])
        assert _seen(pair, "-p", mac=mac, address=group) == 10
    finally:
        pair.b.run(["ip", "link", "set", IFACE, "allmulticast", "off"])
        pair.a.run(f"ip route del {group} dev {IFACE}")
    assert _seen(pair, "-p", mac=mac, address=group) == 0


def test_a_changed_address_is_answered(pair: Pair) -> None:
    new = "02:00:00:00:00:42"
    pair.b.run(["ip", "link", "set", IFACE, "address", new])
    try:
        pair.a.run("ip neigh flush all")
        pair.a.run(["ping", "-c", "2", "-i", "0.2", "-w", "20", pair.v4(pair.b)])
        assert new in pair.a.run("ip neigh show").stdout
    finally:
        pair.b.run(["ip", "link", "set", IFACE, "address", pair.mac(pair.b)])
        pair.a.run("ip neigh flush all")


def test_host_and_guest_ping_each_other(pair: Pair) -> None:
    done = pair.host.run(["ping", "-c", "3", "-i", "0.2", "-w", "20", pair.v4(pair.a)])
    assert done.returncode == 0, done.stdout
    pair.a.run("ping -c 3 -i 0.2 -w 20 10.77.0.254")
    pair.a.run("ping -c 3 -i 0.2 -w 20 fd00:77::fe")


@pytest.mark.parametrize("direction", [(), ("-R",)], ids=["host-to-guest", "guest-to-host"])
def test_tcp_with_the_host(pair: Pair, direction: tuple[str, ...]) -> None:
    with pair.iperf_server(pair.a):
        command = ["iperf3", "-c", pair.v4(pair.a), "-n", "8M", "-J", *direction]
        done = pair.host.run(command, timeout=60)
    result = json.loads(done.stdout)
    assert "error" not in result
    assert result["end"]["sum_sent"]["bytes"] >= 8 << 20
