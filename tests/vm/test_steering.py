# SPDX-License-Identifier: GPL-2.0-or-later
"""Which queue a flow reaches: RSS as ``ethtool -X`` sets it, n-tuple rules, accelerated RFS.

The queue that each flow should reach is computed from what ethtool prints, by an implementation of
its own (``tests/oracles/rss.py``), and compared with the driver's counters of each queue.
"""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.vm.flows import OTHER, TCP, UDP, Counted, Flow, Spread, many, spread
from tests.vm.pair import Pair
from tests.vm.traffic import IFACE, driver_statistics

QUEUES = 4


@pytest.fixture
def counted(wide: Pair) -> Iterator[Counted]:
    """Guest b with four channels, the usual spread, and no rule."""
    for vm in (wide.a, wide.b):
        vm.run(f"ethtool -L {IFACE} combined {QUEUES}", check=False)
    wide.b.run(f"ethtool -X {IFACE} default")
    # one queue may get all frames of a test before its guest looks, and must have room for them
    wide.b.run(f"ethtool -G {IFACE} rx 4096")
    wide.connected()
    yield Counted(wide, QUEUES)
    wide.b.run(f"ethtool -G {IFACE} rx 1024")
    listed = wide.b.run(["ethtool", "-n", IFACE]).stdout
    for line in listed.splitlines():
        if line.startswith("Filter:"):
            wide.b.run(f"ethtool -N {IFACE} delete {line.split()[1]}")


def _expected(flows: list[Flow], way: Spread) -> Counter[int]:
    return Counter(way.queue(flow) for flow in flows)


V6 = [
    replace(flow, source=f"fd00:77::{flow.sport:x}", destination="fd00:99::1") for flow in many(40)
]


@pytest.mark.parametrize(
    "words",
    [
        "default",
        "equal 3",
        "weight 1 2 0 5",
        "start 2 equal 2",
        "equal 4 hkey RANDOM",
        "weight 0 0 0 1 hkey RANDOM",
    ],
)
def test_flows_reach_the_queue_of_their_hash(wide: Pair, counted: Counted, words: str) -> None:
    rng = random.Random(f"{wide.lab.seed}/{words}")
    wide.b.run(f"ethtool -X {IFACE} {words.replace('RANDOM', rng.randbytes(40).hex(':'))}")
    way = spread(wide.b)
    flows = [*many(60, proto=UDP), *many(60, proto=TCP), *many(20, proto=OTHER), *V6]
    assert counted.send(flows) == _expected(flows, way)


def test_both_directions_of_a_flow_reach_one_queue(wide: Pair, counted: Counted) -> None:
    way = spread(wide.b)
    for flow in many(5, proto=TCP):
        back = replace(
            flow,
            source=flow.destination,
            destination=flow.source,
            sport=flow.dport,
            dport=flow.sport,
        )
        assert counted.send([flow, back]) == {way.queue(flow): 2}


RULES = [
    ("flow-type udp4 dst-port 9000", Flow(dport=9000), Flow(dport=9001)),
    ("flow-type udp4 src-port 9000", Flow(sport=9000), Flow(dport=9000)),
    ("flow-type tcp4 dst-port 9000", Flow(proto=TCP, dport=9000), Flow(proto=UDP, dport=9000)),
    (
        "flow-type tcp4 src-ip 10.77.0.50 dst-ip 10.77.0.200 src-port 5 dst-port 6",
        Flow(proto=TCP, sport=5, dport=6),
        Flow(proto=TCP, sport=6, dport=5),
    ),
    # a set bit of ethtool's "m" is one that does not count
    (
        "flow-type ip4 src-ip 10.66.0.0 m 0.0.255.255",
        Flow(source="10.66.3.4", proto=OTHER),
        Flow(source="10.67.3.4", proto=OTHER),
    ),
    ("flow-type ip4 l4proto 253", Flow(proto=OTHER), Flow(proto=UDP)),
    (
        "flow-type ip4 dst-ip 10.77.0.201",
        Flow(destination="10.77.0.201", proto=TCP),
        Flow(proto=TCP),
    ),
    (
        "flow-type udp6 dst-port 9000",
        replace(V6[0], dport=9000),
        replace(V6[0], dport=9000, proto=TCP),
    ),
    (
        "flow-type tcp6 src-ip fd00:77::50 dst-port 80",
        replace(V6[0], source="fd00:77::50", proto=TCP, dport=80),
        replace(V6[0], source="fd00:77::51", proto=TCP, dport=80),
    ),
    ("flow-type ip6 dst-ip fd00:99::2", replace(V6[0], destination="fd00:99::2"), V6[0]),
    ("flow-type ether proto 0x88b6", Flow(proto=0, ethertype=0x88B6), Flow(proto=0)),
    (
        "flow-type ether src 02:00:00:00:50:51",
        Flow(source_mac="02:00:00:00:50:51"),
        Flow(source_mac="02:00:00:00:50:50"),
    ),
    (
        "flow-type ether src 02:00:00:00:60:00 m 00:00:00:00:00:ff",
        Flow(source_mac="02:00:00:00:60:77"),
        Flow(source_mac="02:00:00:00:61:77"),
    ),
    ("flow-type udp4 dst-port 9000 vlan 7 m 0xf000", Flow(dport=9000, vlan=7), Flow(dport=9000)),
    (
        "flow-type udp4 dst-port 9000 dst-mac 02:00:00:00:50:99",
        Flow(dport=9000),
        Flow(dport=9001),
    ),
]
"""Words for ``ethtool -N``, a flow that they mean, one that they do not mean."""


@pytest.mark.parametrize(("words", "meant", "other"), RULES, ids=[rule[0] for rule in RULES])
def test_a_rule_moves_and_drops_what_it_means(
    wide: Pair, counted: Counted, words: str, meant: Flow, other: Flow
) -> None:
    way = spread(wide.b)
    words = words.replace("02:00:00:00:50:99", wide.mac(wide.b))
    if meant.vlan is not None:
        wide.b.run(f"ip link add link {IFACE} name vlan7 type vlan id 7; ip link set vlan7 up")
    try:
        usual, elsewhere = way.queue(meant), (way.queue(meant) + 1) % QUEUES
        flows = [meant, meant, other]
        without = Counter([usual, usual, way.queue(other)])
        assert counted.send(flows) == without
        for action, reached in ((elsewhere, [elsewhere] * 2), (-1, [])):
            wide.b.run(f"ethtool -N {IFACE} {words} action {action} loc 5")
            listed = wide.b.run(["ethtool", "-n", IFACE]).stdout
            assert "Total 1 rules" in listed
            assert ("Drop" if action < 0 else f"Direct to queue {action}") in listed
            assert counted.send(flows) == Counter([*reached, way.queue(other)])
            wide.b.run(f"ethtool -N {IFACE} delete 5")
            assert "Total 0 rules" in wide.b.run(["ethtool", "-n", IFACE]).stdout
        assert counted.send(flows) == without
    finally:
        if meant.vlan is not None:
            wide.b.run("ip link del vlan7")


def test_the_rule_with_more_fields_goes_first(wide: Pair, counted: Counted) -> None:
    for words in ("ip4 src-ip 10.77.0.50 action 1", "udp4 src-ip 10.77.0.50 dst-port 9 action 2"):
        wide.b.run(f"ethtool -N {IFACE} flow-type {words}")
    assert counted.send([Flow(dport=9), Flow(dport=9), Flow(dport=8)]) == {2: 2, 1: 1}


def test_a_rule_into_an_rss_context(wide: Pair, counted: Counted) -> None:
    made = wide.b.run(f"ethtool -X {IFACE} context new weight 0 0 1 1").stdout
    context = made.split()[-1]
    try:
        wide.b.run(f"ethtool -N {IFACE} flow-type udp4 dst-ip 10.77.0.200 context {context}")
        flows = many(40)
        reached = counted.send(flows)
        assert set(reached) == {2, 3}
        assert reached.total() == len(flows)
        assert set(counted.send([replace(one, destination="10.77.0.201") for one in flows])) == {
            *range(QUEUES)
        }
    finally:
        for line in wide.b.run(["ethtool", "-n", IFACE]).stdout.splitlines():
            if line.startswith("Filter:"):
                wide.b.run(f"ethtool -N {IFACE} delete {line.split()[1]}")
        wide.b.run(f"ethtool -X {IFACE} context {context} delete")


def test_a_flow_follows_its_reader(wide: Pair, counted: Counted) -> None:
    """Accelerated RFS: the kernel asks for the queue of the CPU where the flow is read."""
    queues = f"/sys/class/net/{IFACE}/queues"
    wide.b.run(
        f"ethtool -K {IFACE} ntuple on; echo 4096 >/proc/sys/net/core/rps_sock_flow_entries; "
        f"for queue in {queues}/rx-*; do echo 1024 >$queue/rps_flow_cnt; done"
    )
    way = spread(wide.b)
    try:
        for cpu in range(QUEUES):
            sport = next(
                port
                for port in range(30000 + 100 * cpu, 30100 + 100 * cpu)
                if way.queue(
                    Flow(wide.v4(wide.a), wide.v4(wide.b), TCP, sport=port, dport=7000 + cpu)
                )
                != cpu
            )
            reader = wide.b.start(
                f"taskset -c {cpu} socat -u TCP-LISTEN:{7000 + cpu},reuseaddr OPEN:/dev/null"
            )
            wide.b.wait_until(f"ss -Hltn | grep -q :{7000 + cpu}")
            before = driver_statistics(wide.b)
            wide.a.run(
                "dd if=/dev/zero bs=64k count=160 2>/dev/null | "
                f"socat -u - TCP:{wide.v4(wide.b)}:{7000 + cpu},sourceport={sport},reuseaddr",
                timeout=60,
            )
            reader.wait(30)
            after = driver_statistics(wide.b)
            moved = {n: after[f"rx{n}_packets"] - before[f"rx{n}_packets"] for n in range(QUEUES)}
            assert max(moved, key=lambda n: moved[n]) == cpu, moved
            assert moved[cpu] > 0.8 * sum(moved.values()), moved
        assert all(n == 0 for name, n in driver_statistics(wide.b).items() if "arfs_err" in name)
    finally:
        wide.b.run(
            "echo 0 >/proc/sys/net/core/rps_sock_flow_entries; "
            f"for queue in {queues}/rx-*; do echo 0 >$queue/rps_flow_cnt; done; "
            f"ethtool -K {IFACE} ntuple off"
        )
