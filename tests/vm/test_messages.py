# SPDX-License-Identifier: GPL-2.0-or-later
"""The patched driver encrypts records in messages of a transport that is not TCP.

The transport is a small one of our own (``fixtures/msgtx``), so that what fails is the driver. What
leaves is compared with what another library makes of key, number and text, byte for byte.
"""

import random
from collections.abc import Iterator, Sequence

import pytest

from nicmodel.testbed import driver
from nicmodel.testbed.lab import Lab
from tests.vm.conftest import Captures, revive
from tests.vm.ktls import conversation, report
from tests.vm.msgtx import FIRST, MSS, PATCHES, PREFIX, TAG, Sent, Transport
from tests.vm.pair import boot_pair
from tests.vm.traffic import IFACE, MEBI, driver_statistics

PCI = "0000:03:00.0"
LIMIT = "/sys/module/mlx5_core/parameters/smt_contexts"
FULL = MSS - PREFIX - TAG
"""Octets of text that fill a packet."""


@pytest.fixture(scope="module")
def _messages(lab: Lab, captures: Captures) -> Iterator[Transport]:
    chosen = lab.on(nic_driver=driver.Choice(True, PATCHES))
    pair = boot_pair(chosen, "msg", vcpus=2)
    captures.add(pair)
    transport = Transport(pair)
    transport.load()
    yield transport
    captures.end(pair)


@pytest.fixture
def transport(_messages: Transport) -> Iterator[Transport]:
    """The transport in guest a, with a session in slot 0; all contexts are back in the end."""
    made = _messages
    revive(made.pair)
    made.add(0)
    yield made
    for slot in tuple(made.keys):
        made.delete(slot)
    none_left(made)


def none_left(made: Transport) -> None:
    """The device has no context of the transport any more."""
    stats = f"ethtool -S {IFACE} | grep -E ' tx_tls_(ctx|del):'"
    made.vm.wait_until(f"{stats} | awk '{{ n[NR] = $2 }} END {{ exit n[1] != n[2] }}'")
    counted = made.counted()
    assert counted["freed"] == counted["sent"]


def resyncs(segments: Sequence[Sent]) -> int:
    """How many are needed: one for each that does not continue what went there before."""
    expected: dict[tuple[int, int], int] = {}
    needed = 0
    for one in segments:
        where = one.slot, one.hint
        needed += expected.get(where) != one.record
        expected[where] = (one.record + 1) % (1 << 64)
    return needed


@pytest.mark.matrix
def test_the_device_makes_the_bytes_that_software_makes(transport: Transport) -> None:
    """One packet, many, the tag cut anywhere; in sequence, so one resync in all."""
    sizes = [1, 100, FULL - 1, FULL, FULL + 1, FULL + TAG - 1, FULL + TAG, FULL + TAG + 1]
    sizes += [2 * MSS - 30, 16384, 16384, 1, 60000]
    hows = ["plain", "linear"]
    segments = [Sent(0, FIRST + i, n, how=hows[i & 1]) for i, n in enumerate(sizes)]
    with transport.counting() as counted:
        transport.check(segments)
    assert counted["tx_tls_ooo"] == 1
    assert counted["tx_tls_ctx"] == 1
    assert counted["tx_tls_encrypted_packets"] == sum(one.frames for one in segments)


def test_messages_in_any_order_share_a_context(transport: Transport) -> None:
    """Resends, jumps to and fro, and a jump of which the lower 32 bits say nothing."""
    chance = random.Random(transport.pair.lab.seed)
    records = [FIRST, FIRST + 1, FIRST + 1 + (1 << 32), FIRST + 2, FIRST + 2, 0, (1 << 64) - 1, 0]
    for _ in range(20):
        start = chance.randrange(1 << 48) << 16
        records += range(start, start + chance.randrange(1, 4))
    sizes = {record: chance.choice([1, FULL, 3000, 16000]) for record in records}
    segments = [Sent(0, record, sizes[record]) for record in records]
    with transport.counting() as counted:
        transport.check(segments)
    assert counted["tx_tls_ooo"] == resyncs(segments)
    assert counted["tx_tls_ctx"] == 1


def test_sessions_and_queues_have_contexts_of_their_own(transport: Transport) -> None:
    """Two sessions on two queues by turns, with kTLS on the same ones: no resync between them."""
    transport.add(1)
    before = driver_statistics(transport.vm)
    segments = [
        Sent(slot, FIRST + (hint << 16) + i, 5000, hint)
        for i in range(20)
        for hint in (0, 1)
        for slot in (0, 1)
    ]
    with transport.counting() as counted:
        with conversation(transport.pair, send=8 * MEBI, connections=2, parallel=2) as ends:
            transport.vm.wait_until("ss -Htn state established | grep -q .")
            transport.check(segments)
            reports = [report(end.wait(60, check=False)) for end in ends]
        assert [one.error for one in reports] == ["", ""]
    assert counted["tx_tls_ctx"] == 4 + 2
    after = driver_statistics(transport.vm)
    messages = sum(one.frames for one in segments) // 2
    for queue in (0, 1):
        name = f"tx{queue}_tls_encrypted_packets"
        assert after[name] - before[name] >= messages


def test_contexts_run_out(transport: Transport) -> None:
    """By the driver's limit, and by what firmware says; then there are some again."""
    transport.check([Sent(0, FIRST, 100)])
    transport.vm.run(f"echo 1 >{LIMIT}")
    try:
        assert transport.say("get 0 1") == "No space left on device"
        assert transport.say(Sent(0, FIRST, 100, hint=1).command) == "No space left on device"
    finally:
        transport.vm.run(f"echo 4096 >{LIMIT}")
    control, nic = transport.pair.model.control, transport.vm.name
    fault = control.fault(nic, "exhaustion", objects="TIS", count=0)
    assert transport.say("get 0 1") != ""
    control.remove_fault(nic, fault)
    transport.check([Sent(0, FIRST + 1, 100), Sent(0, FIRST + 2, 5000, hint=1)])


@pytest.mark.parametrize(
    ("how", "counter"),
    [("unknown", "unknown"), ("malformed", "malformed"), ("mistaken", "context")],
)
def test_what_cannot_be_encrypted_does_not_leave(
    transport: Transport, how: str, counter: str
) -> None:
    """It is dropped and the transport is told. What comes behind it is right, without a resync."""
    before = transport.counted()
    good = [Sent(0, FIRST + i, 3000) for i in range(2)]
    with transport.counting() as counted, transport.watched(good):
        transport.send([good[0]])
        # queue 1 has no context
        transport.send([Sent(0, FIRST + 7, octets, 1, how) for octets in (5000, 9000)])
        transport.send([good[1]])
    after = transport.counted()
    assert after[counter] - before[counter] == 2
    assert counted["tx_tls_ooo"] == 1


def test_a_packet_without_its_socket_is_dropped_by_the_stack(transport: Transport) -> None:
    good = Sent(0, FIRST, 3000)
    with transport.watched([good]):
        transport.send([Sent(0, FIRST + 7, 100, how="orphan"), good])


def test_offload_switched_off_and_on(transport: Transport) -> None:
    transport.check([Sent(0, FIRST, 100)])
    transport.vm.run(f"ethtool -K {IFACE} tls-hw-tx-offload off")
    assert transport.say("get 0 0") == "Operation not supported"
    assert transport.say(f"add 1 {'00' * 16} {'00' * 4}") == "Operation not supported"
    transport.vm.run(f"ethtool -K {IFACE} tls-hw-tx-offload on")
    with transport.counting() as counted:
        transport.check([Sent(0, FIRST + 1, 100)])
    assert "tx_tls_ooo" not in counted


def test_the_link_goes_down_and_up(transport: Transport) -> None:
    """Nobody knows then what the device has done, so that the next record takes a resync."""
    transport.check([Sent(0, FIRST, 100)])
    transport.vm.run(f"ip link set {IFACE} down")
    assert transport.say("get 0 0") == "Network is down"
    transport.pair.restore(transport.vm)
    transport.pair.connected()
    segments = [Sent(0, FIRST + i, 100) for i in (1, 2)]
    with transport.counting() as counted:
        transport.check(segments)
    assert counted["tx_tls_ooo"] == 1
    assert "tx_tls_ctx" not in counted


def test_channels_change(transport: Transport) -> None:
    """What was on the second queue goes to the first, and back."""
    sizes = (100, 9000)
    transport.check([Sent(0, FIRST, 9000, hint) for hint in (1,)])
    for number, channels in enumerate((1, 2), 1):
        transport.vm.run(f"ethtool -L {IFACE} combined {channels}", timeout=60)
        transport.pair.connected()
        with transport.counting() as counted:
            transport.check([Sent(0, FIRST + 10 * number + i, n, 1) for i, n in enumerate(sizes)])
        assert counted["tx_tls_ooo"] == 1
    assert counted.get("tx_tls_ctx", 0) == 0


def test_a_queue_recovers_from_an_error(transport: Transport) -> None:
    """The segment that the device flushed is lost; the record after it is right."""
    transport.check([Sent(0, FIRST, 100)])
    pair, vm = transport.pair, transport.vm
    said = vm.run(f"devlink health diagnose pci/{PCI}/65535 reporter tx").stdout
    sqn = int(said.split("txq ix: 0 sqn: ")[1].split()[0])
    recovered = f"ethtool -S {IFACE} | awk '/ tx0_recover:/ {{ exit $2 == %s }}'"
    count = driver_statistics(vm)["tx0_recover"]
    pair.model.control.fault(vm.name, "cqe-error", queue="sq", number=sqn)
    transport.send([Sent(0, FIRST + 1, 3000)])
    vm.wait_until(recovered % count, timeout=20)
    with transport.counting() as counted:
        transport.check([Sent(0, FIRST + 2, 3000), Sent(0, FIRST + 3, 100)])
    assert counted["tx_tls_ooo"] == 1


def test_a_session_is_deleted_while_its_data_wait(transport: Transport) -> None:
    """Its contexts go when the device is done with the ring."""
    segments = [Sent(0, FIRST + i, 5000, i & 1) for i in range(10)]
    # firmware cannot make a context while it stands still
    assert [transport.say(f"get 0 {queue}") for queue in (0, 1)] == ["", ""]
    with transport.watched(segments):
        with transport.pair.stalled():
            transport.send(segments)
            transport.delete(0)
            counted = transport.counted()
            assert counted["freed"] < counted["sent"]
        none_left(transport)


def test_the_transport_is_unloaded_while_its_data_wait(transport: Transport) -> None:
    """What is in the rings goes out right; what were in a qdisc behind it, the stack would drop."""
    segments = [Sent(0, FIRST + i, 5000, i) for i in (0, 1)]
    # firmware cannot make a context while it stands still
    assert [transport.say(f"get 0 {queue}") for queue in (0, 1)] == ["", ""]
    with transport.watched(segments):
        with transport.pair.stalled():
            transport.send(segments)
            ending = transport.vm.start("rmmod msgtx")
            transport.vm.wait_until("grep -q '^msgtx.*Unloading' /proc/modules")
        ending.wait(20)
    transport.keys.clear()
    transport.load()
    none_left(transport)
    transport.add(0)
    transport.check([Sent(0, FIRST, 5000)])


def test_the_device_goes_with_open_sessions(transport: Transport) -> None:
    """Unbound and bound: the transport lets go of its sessions, and finds the device again."""
    transport.add(1)
    transport.check([Sent(slot, FIRST, 5000, hint) for slot in (0, 1) for hint in (0, 1)])
    path = "/sys/bus/pci/drivers/mlx5_core"
    transport.vm.run(f"echo {PCI} >{path}/unbind", timeout=60)
    assert transport.counted()["device"] == 0
    assert transport.say("get 0 0") == "No such device"
    transport.keys.clear()
    transport.vm.run(f"echo {PCI} >{path}/bind", timeout=60)
    transport.vm.wait_until(f"test -e /sys/class/net/{IFACE}")
    transport.pair.restore(transport.vm)
    transport.pair.connected()
    assert transport.counted()["device"] == 1
    transport.add(0)
    transport.check([Sent(0, FIRST, 5000)])
