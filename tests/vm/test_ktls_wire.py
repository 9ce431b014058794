# SPDX-License-Identifier: GPL-2.0-or-later
"""TLS offload on a wire that does harm: who has to resync, does.

What is encrypted is judged by the peer's program, which compares all data. Receive offload with
harm on the wire is in ``test_ktls_rx.py``.
"""

from typing import Any

import pytest

from tests.vm.ktls import (
    harmed,
    moved,
    no_software,
    sending,
    talk,
    tls_counters,
)
from tests.vm.pair import Pair
from tests.vm.test_receive import feature
from tests.vm.traffic import IFACE, MEBI


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("words", "did"),
    [
        ({"loss": 0.01}, "lost"),
        ({"loss": 0.05}, "lost"),
        ({"loss": 0.03, "burst": 3}, "lost"),
        ({"duplicate": 0.05}, "duplicated"),
        ({"reorder": 0.05}, "reordered"),
    ],
    ids=["1 percent", "5 percent", "bursts", "duplicates", "reordering"],
)
def test_what_is_sent_again_is_encrypted_alike(
    ktls_pair: Pair, words: dict[str, Any], did: str
) -> None:
    """The device is told where each retransmission lies, and reads again what is before it."""
    with sending(ktls_pair, harm=True) as sent, harmed(ktls_pair, **words) as wire:
        _, server = talk(ktls_pair, send=6 * MEBI, chunk=0, timeout=120)
    assert server.received == 6 * MEBI
    assert wire[did] > 20
    sent.same()
    print(sent)
    if did == "lost":
        assert sent.model["resyncs"] >= wire["lost"] // 4
        assert sent.model["dump_octets"] > 0
    if did == "duplicated":
        # nobody asks for them
        assert sent.model["resyncs"] < wire[did]


@pytest.mark.matrix
@pytest.mark.timeout(300)
def test_many_connections_with_loss(ktls_pair: Pair) -> None:
    with (
        sending(ktls_pair, (ktls_pair.a, ktls_pair.b), harm=True) as sent,
        harmed(ktls_pair, loss=0.02) as wire,
    ):
        _, server = talk(
            ktls_pair, send=MEBI // 2, receive=MEBI // 4, connections=24, parallel=8, timeout=120
        )
    assert server.received == 12 * MEBI
    assert sent.kernel["TlsTxDevice"] == 24
    assert wire["lost"] > 50
    assert sent.model["resyncs"] > 20
    sent.same()


@pytest.mark.timeout(300)
def test_contexts_are_used_again_with_loss(ktls_pair: Pair) -> None:
    """Who has a context next begins with a key of its own, wherever the one before has stood."""
    talk(ktls_pair, send=1)
    with sending(ktls_pair, harm=True) as sent, harmed(ktls_pair, loss=0.03):
        for cipher in (128, 256):
            _, server = talk(
                ktls_pair, send=30_000, cipher=cipher, connections=80, parallel=4, timeout=120
            )
            assert server.received == 80 * 30_000
    assert sent.driver["tx_tls_ctx"] == 160
    assert "tx_tls_pool_alloc" not in sent.driver
    assert sent.model["resyncs"] > 20
    sent.same()


@pytest.mark.timeout(300)
def test_a_long_run_with_harm_of_all_kinds(ktls_pair: Pair) -> None:
    """Nothing is found, and nearly all that is sent again can be compared."""
    octets = 24 * MEBI
    harm = {"loss": 0.005, "reorder": 0.005, "duplicate": 0.005}
    with sending(ktls_pair, harm=True) as sent, harmed(ktls_pair, **harm) as wire:
        _, server = talk(
            ktls_pair, send=octets // 4, connections=4, parallel=2, chunk=0, control=9, timeout=200
        )
    assert server.received == octets
    assert server.alerts_received > 0
    assert min(wire[kind] for kind in ("lost", "reordered", "duplicated")) > 50
    sent.same()
    assert sent.model["nonces_repeated"] > sent.model["nonces_uncompared"] * 4
    assert sent.model["flows_forgotten"] == 0
    print(sent)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("loss", [0, 0.02])
def test_jumbo_packets(ktls_pair: Pair, loss: float) -> None:
    """A record lies in two packets, and DUMPs are as long as packets; both engines, both ways."""
    octets = 8 * MEBI
    for vm in (ktls_pair.a, ktls_pair.b):
        vm.run(f"ip link set {IFACE} mtu 9000", timeout=60)
    ktls_pair.connected()
    before = {vm.name: tls_counters(vm) for vm in (ktls_pair.a, ktls_pair.b)}
    accounts = ktls_pair.model.control.status()["sanitizer"]
    if loss:
        ktls_pair.model.control.link(ktls_pair.b.name).impair(match="tcp.len > 0", loss=loss)
    rx = "tls-hw-rx-offload"
    with (
        feature(ktls_pair.a, rx, "on", after="off"),
        feature(ktls_pair.b, rx, "on", after="off"),
        no_software(ktls_pair.a, "Tx", "Rx"),
        no_software(ktls_pair.b, "Tx", "Rx"),
    ):
        client, server = talk(ktls_pair, send=octets, receive=octets, timeout=120)
    assert (client.received, server.received) == (octets, octets)
    judged = ktls_pair.model.control.status()["sanitizer"]
    for vm in (ktls_pair.a, ktls_pair.b):
        did = moved(before[vm.name], tls_counters(vm))
        assert did["tx_tls_encrypted_bytes"] > 7000 * did["tx_tls_encrypted_packets"]
        assert did["rx_tls_decrypted_bytes"] > 5000 * did["rx_tls_decrypted_packets"]
        dumped = judged[vm.name]["dump_octets"] - accounts[vm.name]["dump_octets"]
        assert did.get("tx_tls_dump_bytes", 0) == dumped
        print(did)
        if loss:
            assert dumped > 1500 * did["tx_tls_dump_packets"]
