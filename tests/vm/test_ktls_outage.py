# SPDX-License-Identifier: GPL-2.0-or-later
"""Open TLS sockets whose cable, queue, interface or driver goes away under them and comes back.

The peer's program decrypts in software and compares all data; that nothing has left in clear is
looked for in the capture.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from nicmodel.testbed.agent import GuestProcess
from nicmodel.testbed.vm import Vm
from tests.oracles import plaintext
from tests.oracles.capture import Follower
from tests.vm.ktls import (
    conversation,
    harmed,
    moved,
    offload,
    report,
    sending,
    talk,
    tls_counters,
    tls_stat,
)
from tests.vm.pair import Pair
from tests.vm.traffic import IFACE, MEBI, driver_statistics

CARRIER = f"/sys/class/net/{IFACE}/carrier"
PCI = "pci/0000:03:00.0"
PORT = 7397
RECOVERIES = 5
SETTLE_SECONDS = 30.0


@contextmanager
def encrypting(pair: Pair, **options: Any) -> Iterator[tuple[GuestProcess, GuestProcess]]:
    """A ``conversation`` of which guest a has encrypted some packets when the body begins."""
    wanted = tls_counters(pair.a)["tx_tls_encrypted_packets"] + 200
    with conversation(pair, **options) as ends:
        pair.a.wait_until(_encrypted(wanted), timeout=30)
        yield ends


def _encrypted(wanted: int) -> str:
    words = f"/ tx_tls_encrypted_packets:/ {{exit !($2 > {wanted})}}"
    return f"ethtool -S {IFACE} | awk '{words}'"


def complete(ends: tuple[GuestProcess, GuestProcess], octets: int) -> None:
    """Both ends say that all went well."""
    client, server = (report(end.wait(120, check=False)) for end in ends)
    assert (client.error, server.error) == ("", "")
    assert server.received == octets


@contextmanager
def nothing_in_clear(pair: Pair, octets: int) -> Iterator[None]:
    """Of ``octets`` that the program sends to ``PORT`` meanwhile, none leaves guest a readable."""
    left, seen = Follower(pair.captures[0]), plaintext.Seen()
    words = plaintext.program_words(pair.lab.seed)
    yield
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        plaintext.look(left.new(), PORT, words, seen)
        if seen.octets >= octets:
            break
        assert time.monotonic() < deadline, f"the capture has {seen.octets} bytes"
        time.sleep(0.05)
    assert seen.clear == []


def test_what_is_in_clear_is_seen(ktls_pair: Pair) -> None:
    with pytest.raises(AssertionError, match=r"assert \[1, 2"), nothing_in_clear(ktls_pair, MEBI):
        talk(ktls_pair, send=MEBI, port=PORT, tls=0)


@pytest.mark.timeout(300)
def test_the_cable_is_pulled(ktls_pair: Pair) -> None:
    """The sender's and the receiver's; sockets keep their contexts, what was lost comes again."""
    pair, octets = ktls_pair, 6 * MEBI
    with (
        sending(pair, harm=True) as sent,
        harmed(pair, rate="20Mbit"),
        conversation(pair, send=octets, receive=1000) as ends,
    ):
        for vm in (pair.a, pair.b, pair.a):
            wanted = tls_counters(pair.a)["tx_tls_encrypted_packets"] + 300
            pair.a.wait_until(_encrypted(wanted), timeout=30)
            assert ends[0].poll() is None
            cable = pair.model.control.link(vm.name)
            cable.down()
            vm.wait_until(f"grep -q 0 {CARRIER}", timeout=20)
            cable.up()
            vm.wait_until(f"grep -q 1 {CARRIER}", timeout=20)
        complete(ends, octets)
    assert sent.kernel["TlsTxDevice"] == 1
    assert sent.model["resyncs"] > 0
    sent.same()


def recovered(pair: Pair, **which: int) -> None:
    """The next WQE of a queue of guest a fails, and the driver recovers the queue."""
    before = driver_statistics(pair.a)["tx_recover"]
    control = pair.model.control
    control.fault(pair.a.name, "cqe-error", queue="sq", syndrome="LOCAL_PROT_ERR", **which)
    pair.a.wait_until(
        f"ethtool -S {IFACE} | awk '/ tx_recover:/ {{exit $2 <= {before}}}'", timeout=30
    )


def encrypting_queue(vm: Vm, before: dict[str, int]) -> int:
    """Number of the send queue of most packets that the device has encrypted since."""
    counted = moved(before, driver_statistics(vm))
    packets = {n: counted.get(f"tx{n}_tls_encrypted_packets", 0) for n in range(4)}
    busiest = max(packets, key=lambda n: packets[n])
    assert packets[busiest] > 0
    said = vm.run(f"devlink health diagnose {PCI}/65535 reporter tx").stdout
    found = re.search(rf"txq ix: {busiest} sqn: (\d+)", said)
    assert found, said
    return int(found[1])


@pytest.mark.timeout(300)
def test_a_queue_recovers_between_records(erring_ktls_pair: Pair) -> None:
    """What was flushed is sent again before anything else, so the driver sees that it must resync.

    A program that waits for longer than TCP does before it sends again has nothing new to send.
    """
    pair = erring_ktls_pair
    with sending(pair, harm=True) as sent:
        before = driver_statistics(pair.a)
        first = _encrypted(before["tx_tls_encrypted_packets"])
        with conversation(pair, send=3000, chunk=1000, pause=2_000_000) as ends:
            pair.a.wait_until(first, timeout=20)
            recovered(pair, number=encrypting_queue(pair.a, before))
            complete(ends, 3000)
    assert sent.model["resyncs"] == 1
    sent.same()


@pytest.mark.matrix
@pytest.mark.timeout(300)
@pytest.mark.findings
def test_the_driver_forgets_what_its_recovery_has_flushed(erring_ktls_pair: Pair) -> None:
    """A bug of the driver (6.1, 6.12): its ``expected_seq`` counts what no device has executed.

    TCP goes on with new data (RFC 8985, 7.3) where the flushed packets ended, so the driver posts
    no resync, and the device encrypts it from where it stood. The peer's TCP takes it. Where TCP
    begins with old data, the driver does resync, but if it has posted the number of that record
    before, and that was flushed, it does not post it again. If it was not, the next recovery shows.
    """
    pair = erring_ktls_pair
    with encrypting(pair, send=1 << 40) as ends:
        for _ in range(RECOVERIES):
            recovered(pair)
            if _ends(ends[1]):
                break
        client, server = (report(end.wait(30, check=False)) for end in ends)
    assert server.error.endswith(": Bad message")
    assert client.error
    found = [one["event"] for one in pair.new_findings()]
    # TCP's probe for a lost tail may go by another queue while new data wait in the first (seen)
    found = [event for event in found if event != "SecondQueue"]
    assert found[0] in ("MissingResync", "WrongRecordNumber")
    # the record that was begun: its nonce is used for the wrong bytes, then for the right ones
    assert set(found) <= {"MissingResync", "WrongRecordNumber", "NonceReused"}
    with sending(pair):
        talk(pair, send=MEBI)


def _ends(process: GuestProcess, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while (ended := process.poll()) is None and time.monotonic() < deadline:
        time.sleep(0.1)
    return ended is not None


@pytest.mark.timeout(300)
@pytest.mark.findings
@pytest.mark.parametrize(
    ("go", "come"),
    [
        ("modprobe -r mlx5_core", "modprobe mlx5_core"),
        (f"devlink dev reload {PCI}", "true"),
        (f"ip link set {IFACE} down", f"ip link set {IFACE} up"),
    ],
    ids=["module", "devlink", "interface"],
)
def test_a_socket_goes_on_in_software(erring_ktls_pair: Pair, go: str, come: str) -> None:
    """The kernel takes it from the device for good, and that is found; the next one is offloaded.

    Its own counters do not tell: for them the socket stays one of the device.
    """
    pair, octets = erring_ktls_pair, 16 * MEBI
    before = tls_stat(pair.a)
    with (
        nothing_in_clear(pair, octets),
        harmed(pair, rate="20Mbit"),
        encrypting(pair, send=octets, port=PORT) as ends,
    ):
        pair.a.run(go, timeout=60)
        assert ends[0].poll() is None, "it was too late"
        gone = tls_counters(pair.a) if "link" in go else {}
        pair.a.run(come, timeout=60)
        pair.a.wait_until(f"test -e /sys/class/net/{IFACE}", timeout=30)
        pair.restore(pair.a)
        pair.model.control.link(pair.b.name).clear()
        complete(ends, octets)
        since = moved(gone, tls_counters(pair.a))
        assert "TlsTxSw" not in moved(before, tls_stat(pair.a))
    assert since.get("tx_tls_encrypted_packets", 0) == 0
    found = pair.new_findings()
    assert {one["event"] for one in found} == {"WentOnInSoftware"}
    assert f":{PORT} goes on" in found[0]["sentence"]
    assert pair.events("ObjectsLeft") == []
    offload(pair.a)
    with sending(pair):
        talk(pair, send=MEBI)
