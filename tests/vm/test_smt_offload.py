# SPDX-License-Identifier: GPL-2.0-or-later
"""SMT encrypted by the NIC: the same bytes as by software, and nobody else encrypts unseen.

All tests share a pair of guests with the patched driver. The oracle decrypts both captures in the
end; it also finds two packets of one place in a message that differ, whoever has encrypted them.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count

import pytest

from nicmodel.control import Cable
from nicmodel.testbed import driver
from nicmodel.testbed.agent import GuestProcess
from nicmodel.testbed.lab import Lab
from nicmodel.testbed.vm import Vm
from tests.oracles import smt
from tests.vm.conftest import Captures
from tests.vm.ktls import conversation, moved, no_software, report, tls_counters
from tests.vm.msgtx import PATCHES
from tests.vm.pair import boot_pair
from tests.vm.smt import Answer, SmtPair, Stats
from tests.vm.test_smt_echo import LONGEST, sizes
from tests.vm.traffic import IFACE, MEBI, driver_statistics

pytestmark = pytest.mark.timeout(300)

PCI = "0000:03:00.0"
PORTS = count(7000)

SOFTWARE = ("tx_sealed", "fallback_", "hw_drop_", "hw_gone")
"""Beginnings of the counters that say that not the device alone has encrypted."""


@pytest.fixture(scope="module")
def smt_pair(lab: Lab, captures: Captures) -> Iterator[SmtPair]:
    """Guests with driver and module; the oracle reads all that they have sent in the end."""
    chosen = lab.on(nic_driver=driver.Choice(True, PATCHES))
    pair = boot_pair(chosen, "smth", vcpus=4)
    captures.add(pair)
    made = SmtPair(pair, chosen.folder)
    for vm in (pair.a, pair.b):
        made.load(vm)
    yield made
    for vm in (pair.a, pair.b):
        vm.run("rmmod smt", timeout=60)
    captures.end(pair)
    for capture in pair.captures:
        verdict = smt.judge(capture, made.all_keys(), mtus=(1500, 9000), outbound=True)
        assert verdict.wrong[:5] == []
        assert verdict.records > 0


@contextmanager
def by_device(smt_pair: SmtPair, *vms: Vm) -> Iterator[dict[str, Stats]]:
    """Only the devices of these guests encrypt meanwhile; by how much their counters have risen."""
    found: dict[str, Stats] = {}
    with ExitStack() as stack:
        counted = {vm.name: stack.enter_context(smt_pair.counting(vm)) for vm in vms}
        before = {vm.name: tls_counters(vm) for vm in vms}
        yield found
    for vm in vms:
        stats, did = counted[vm.name], moved(before[vm.name], tls_counters(vm))
        assert {key: n for key, n in stats.items() if key.startswith(SOFTWARE)} == {}
        assert stats["tx_hw_messages"] == stats["tx_messages"]
        if "tx_hw_resent" not in stats:
            # the driver counts record bytes, too
            assert did["tx_tls_encrypted_bytes"] == stats["tx_hw_bytes"]
        found[vm.name] = stats | did


def policy(word: str, *vms: Vm) -> None:
    """Who encrypts for the sockets that are opened from now on."""
    number = ("off", "allowed", "required").index(word)
    for vm in vms:
        vm.run(f"sysctl -qw net.smt.offload={number}")


def wait_for(smt_pair: SmtPair, vm: Vm, name: str, more: int, since: Stats | None = None) -> None:
    """Wait until a counter has risen, from now or ``since`` on."""
    least = (since or smt_pair.stats(vm))[name] + more
    vm.wait_until(
        f"test $(awk '$1 == \"{name}\" {{print $2}}' /proc/net/smt) -ge {least}", timeout=20
    )


@contextmanager
def traffic(
    smt_pair: SmtPair, client: Vm, *options: str, load: str = "5000:4:1000000"
) -> Iterator[tuple[GuestProcess, Answer]]:
    """A client asks the other guest meanwhile; the answer is what it says in the end."""
    server = smt_pair.b if client is smt_pair.a else smt_pair.a
    port = next(PORTS)
    keys = ["--keys", smt_pair.new_keys(client, server, port).path, "--secure", *options]
    with smt_pair.server(server, *keys, port=port):
        address = f"{smt_pair.v4(server)}:{port}"
        command = f"exec /tmp/smt_echo {address} --load {load} --timeout 90 {' '.join(keys)}"
        process, answer = client.start(command), Answer(0, False, 0, [], {})
        try:
            yield process, answer
        finally:
            process.kill("TERM")
            said = process.wait(30, check=False)
        vars(answer).update(status=said.status, **json.loads(said.stdout))


def hush(smt_pair: SmtPair) -> Cable:
    """Nothing of SMT reaches guest b or leaves it until what is returned is cleared."""
    cable = smt_pair.pair.model.control.link(smt_pair.b.name)
    cable.impair({"match": "ip.proto == 253", "loss": 1})
    return cable


def none_left(vm: Vm) -> None:
    """Wait until the device has no context."""
    stats = f"ethtool -S {IFACE} | grep -E ' tx_tls_(ctx|del):'"
    vm.wait_until(f"{stats} | awk '{{ n[NR] = $2 }} END {{ exit n[1] != n[2] }}'")


@pytest.fixture(autouse=True)
def required(smt_pair: SmtPair) -> Iterator[None]:
    """Nobody but the device encrypts, unless a test says other; it has all contexts back then."""
    guests = smt_pair.a, smt_pair.b
    policy("required", *guests)
    yield
    smt_pair.pair.mend()
    for vm in guests:
        none_left(vm)


@pytest.mark.matrix
def test_echo_of_every_size_class(smt_pair: SmtPair) -> None:
    loads = [(size, 1, 1) for size in sizes(1500)]
    with by_device(smt_pair, smt_pair.a, smt_pair.b):
        smt_pair.talk(*loads, options=["--serial"], timeout=150)


def test_jumbo_frames(smt_pair: SmtPair) -> None:
    """A record fits into a packet, so that nothing is segmented."""
    guests = smt_pair.a, smt_pair.b
    for vm in guests:
        vm.run(f"ip link set {IFACE} mtu 9000", timeout=60)
    try:
        with by_device(smt_pair, *guests):
            loads = [(size, 1, 1) for size in sizes(9000)]
            smt_pair.talk(*loads, options=["--serial"], timeout=90)
    finally:
        for vm in guests:
            vm.run(f"ip link set {IFACE} mtu 1500", timeout=60)


def test_long_keys_and_many_at_once(smt_pair: SmtPair) -> None:
    with by_device(smt_pair, smt_pair.a, smt_pair.b):
        smt_pair.talk((64, 20, 200), (5000, 4, 20), (LONGEST, 1, 1), bits=256, timeout=90)


@pytest.mark.parametrize("client_has", ["required", "off"])
def test_one_end_alone(smt_pair: SmtPair, client_has: str) -> None:
    """By the option of the socket; the other end encrypts by software."""
    hard, soft = smt_pair.a, smt_pair.b
    if client_has == "off":
        hard, soft = soft, hard
    policy("off", soft)
    with smt_pair.counting(soft) as counted, by_device(smt_pair, hard):
        smt_pair.talk((1, 1, 5), (5000, 2, 10), (LONGEST, 1, 1), options=["--offload", client_has])
    assert counted["tx_sealed"] > 0
    assert "tx_hw_messages" not in counted


def test_the_wire_loses_and_reorders(smt_pair: SmtPair) -> None:
    """The device encrypts whole segments again."""
    cable = smt_pair.pair.model.control.link(smt_pair.b.name)
    cable.impair({"match": "ip.proto == 253", "loss": 0.03, "reorder": 0.1, "duplicate": 0.02})
    try:
        with by_device(smt_pair, smt_pair.a, smt_pair.b) as counted:
            smt_pair.talk((64, 4, 60), (5000, 4, 40), (100_000, 2, 6), timeout=100)
    finally:
        cable.clear()
    for vm in (smt_pair.a, smt_pair.b):
        stats = counted[vm.name]
        assert stats["tx_hw_resent"] > 0
        assert stats["tx_resent"] > stats["tx_hw_resent"]


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_messages_of_a_session_on_all_queues(smt_pair: SmtPair, channels: int) -> None:
    """One context for each queue and session."""
    a, b = smt_pair.a, smt_pair.b
    for vm in (a, b):
        vm.run(f"ethtool -L {IFACE} combined {channels}", timeout=60)
    smt_pair.pair.connected()
    before = {vm.name: driver_statistics(vm) for vm in (a, b)}
    with (
        by_device(smt_pair, a, b) as counted,
        traffic(smt_pair, a, "--roam", load="5000:4:60") as (client, _),
    ):
        assert client.wait(60).status == 0
    for vm in (a, b):
        assert counted[vm.name]["tx_tls_ctx"] == channels
        after = driver_statistics(vm)
        for queue in range(channels):
            name = f"tx{queue}_tls_encrypted_packets"
            assert after[name] > before[vm.name][name]


def test_queues_that_go_while_messages_are_on_them(smt_pair: SmtPair) -> None:
    """They go on in the one that is left, where the session had no context; without software."""
    a = smt_pair.a
    before, cable = smt_pair.stats(a), hush(smt_pair)
    with (
        smt_pair.counting(a) as counted,
        traffic(smt_pair, a, "--roam", load="20000:3:3") as (client, _),
    ):
        wait_for(smt_pair, a, "tx_hw_messages", 3, before)
        a.run(f"ethtool -L {IFACE} combined 1", timeout=60)
        cable.clear()
        assert client.wait(60).status == 0
    a.run(f"ethtool -L {IFACE} combined 4", timeout=60)
    assert counted["hw_drop_context"] > 0
    assert counted["tx_hw_moved"] > 0
    assert "tx_sealed" not in counted


@pytest.mark.parametrize("word", ["allowed", "required"])
def test_a_record_that_the_device_does_not_send_again(smt_pair: SmtPair, word: str) -> None:
    """Software sends the same bytes in its place (the oracle compares them), or the RPC ends."""
    a = smt_pair.a
    policy(word, a)
    before, cable = smt_pair.stats(a), hush(smt_pair)
    with (
        smt_pair.counting(a) as counted,
        traffic(smt_pair, a, load="20000:4:4") as (client, answer),
    ):
        wait_for(smt_pair, a, "tx_hw_messages", 4, before)
        a.run(f"ethtool -K {IFACE} tso off", timeout=60)
        cable.clear()
        client.wait(60, check=False)
    a.run(f"ethtool -K {IFACE} tso on", timeout=60)
    assert counted["hw_drop_stack"] > 0
    if word == "allowed":
        assert answer.status == 0
        assert counted["fallback_records"] == counted["tx_sealed"] > 0
    else:
        assert answer.errors == {"EOPNOTSUPP": 4}
        assert "tx_sealed" not in counted


def test_contexts_run_out(smt_pair: SmtPair) -> None:
    """By the driver's limit and by what firmware says: an error, or software that is counted."""
    a = smt_pair.a
    limit = "/sys/module/mlx5_core/parameters/smt_contexts"
    a.run(f"echo 2 >{limit}")
    try:
        policy("allowed", a)
        with smt_pair.counting(a) as some:
            smt_pair.talk((5000, 4, 20), options=["--roam"])
        policy("required", a)
        a.run(f"echo 0 >{limit}")
        with smt_pair.counting(a) as none:
            answer = smt_pair.talk((5000, 4, 8), check=False)
    finally:
        a.run(f"echo 4096 >{limit}")
    assert (answer.errors, answer.good) == ({"ENOSPC": 8}, 0)
    assert none["fallback_forbidden"] == 8
    assert some["fallback_contexts"] + some["tx_hw_messages"] == 20
    assert min(some["fallback_contexts"], some["tx_hw_messages"]) > 0
    assert "tx_sealed" not in none

    control = smt_pair.pair.model.control
    policy("allowed", a)
    fault = control.fault(a.name, "exhaustion", objects="TIS", count=0)
    with smt_pair.counting(a) as failed:
        smt_pair.talk((5000, 2, 4))
    control.remove_fault(a.name, fault)
    assert failed["fallback_error"] == 4


def test_offload_switched_off_and_on_under_traffic(smt_pair: SmtPair) -> None:
    a = smt_pair.a
    policy("allowed", a)
    with traffic(smt_pair, a) as (_, answer):
        wait_for(smt_pair, a, "tx_hw_messages", 20)
        a.run(f"ethtool -K {IFACE} tls-hw-tx-offload off", timeout=60)
        wait_for(smt_pair, a, "fallback_off", 20)
        a.run(f"ethtool -K {IFACE} tls-hw-tx-offload on", timeout=60)
        wait_for(smt_pair, a, "tx_hw_messages", 20)
    assert answer.errors == {}
    policy("required", a)
    a.run(f"ethtool -K {IFACE} tls-hw-tx-offload off", timeout=60)
    refused = smt_pair.talk((5000, 1, 3), check=False)
    a.run(f"ethtool -K {IFACE} tls-hw-tx-offload on", timeout=60)
    assert refused.errors == {"EOPNOTSUPP": 3}


def test_beside_ktls_on_the_same_queues(smt_pair: SmtPair) -> None:
    pair = smt_pair.pair
    with (
        no_software(pair.a, "Tx"),
        conversation(pair, send=4 * MEBI, connections=2, parallel=2) as ends,
    ):
        pair.a.wait_until("ss -Htn state established | grep -q .")
        with smt_pair.counting(pair.a) as counted:
            smt_pair.talk((64, 4, 40), (20_000, 4, 40), options=["--roam"], timeout=90)
        reports = [report(end.wait(60, check=False)) for end in ends]
    assert [one.error for one in reports] == ["", ""]
    assert counted["tx_hw_messages"] == counted["tx_messages"]
    assert "tx_sealed" not in counted


def test_the_transport_leaves_the_device_under_traffic(smt_pair: SmtPair) -> None:
    """Its rings are drained, then software encrypts, until the device is there again."""
    a = smt_pair.a
    policy("allowed", a)
    bus = "/sys/bus/auxiliary/drivers/smt.smt"
    name = a.run(f"cd {bus} && ls -d mlx5_core.smt.*").stdout.strip()
    with traffic(smt_pair, a) as (_, answer):
        wait_for(smt_pair, a, "tx_hw_messages", 20)
        a.run(f"echo {name} >{bus}/unbind", timeout=60)
        wait_for(smt_pair, a, "fallback_no_device", 20)
        none_left(a)
        a.run(f"echo {name} >{bus}/bind", timeout=60)
        wait_for(smt_pair, a, "tx_hw_messages", 20)
    assert answer.errors == {}


def test_the_device_goes_with_open_sessions(smt_pair: SmtPair) -> None:
    """A server's socket stays, and has the device again when it is back."""
    pair, a = smt_pair.pair, smt_pair.a
    policy("allowed", a)
    path = "/sys/bus/pci/drivers/mlx5_core"
    with traffic(smt_pair, smt_pair.b) as (client, answer):
        wait_for(smt_pair, a, "tx_hw_messages", 20)
        client.kill("STOP")
        a.run(f"echo {PCI} >{path}/unbind && echo {PCI} >{path}/bind", timeout=90)
        a.wait_until(f"test -e /sys/class/net/{IFACE}")
        pair.restore(a)
        pair.connected()
        client.kill("CONT")
        wait_for(smt_pair, a, "tx_hw_messages", 20)
    # what was under way then may have been given up
    assert sum(answer.errors.values()) <= 4
    assert "DIFFERS" not in answer.errors
