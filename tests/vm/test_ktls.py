# SPDX-License-Identifier: GPL-2.0-or-later
"""Transmit offload of kernel TLS: the device encrypts, software of the peer decrypts all of it.

Whoever falls back on software fails: ``sending`` looks at the kernel's own counters.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nicmodel.errors import UserError
from nicmodel.testbed import driver
from tests.oracles import tshark
from tests.oracles.capture import Follower, write_pcap
from tests.vm.ktls import moved, offload, sending, talk
from tests.vm.pair import Pair
from tests.vm.traffic import IFACE, MEBI, driver_statistics, tcp_counters

ciphers = pytest.mark.parametrize("cipher", [128, 256])


@contextmanager
def _channels(pair: Pair, count: int) -> Iterator[None]:
    """Guest a has that many channels meanwhile."""
    pair.a.run(f"ethtool -L {IFACE} combined {count}", timeout=60)
    try:
        pair.connected()
        yield
    finally:
        pair.a.run(f"ethtool -L {IFACE} combined 4", timeout=60)
        pair.connected()


def test_the_run_knows_which_driver_is_loaded(ktls_pair: Pair) -> None:
    lab = ktls_pair.lab
    assert driver.running(ktls_pair.a) == lab.driver.build_id
    with pytest.raises(UserError, match=lab.driver.build_id):
        driver.verify(ktls_pair.a, driver.find(lab.kernel, driver.STOCK))


def test_software_is_not_taken_for_the_device(ktls_pair: Pair) -> None:
    """The program works with the kernel's own cipher, and the gate says that it was that."""
    offload(ktls_pair.a, transmit=False)
    with pytest.raises(AssertionError, match="software took part"), sending(ktls_pair):
        talk(ktls_pair, send=MEBI)


@pytest.mark.matrix
@ciphers
def test_bulk_in_both_directions(ktls_pair: Pair, cipher: int) -> None:
    octets = 4 * MEBI
    with sending(ktls_pair, (ktls_pair.a, ktls_pair.b)):
        client, server = talk(ktls_pair, send=octets, receive=octets, cipher=cipher, chunk=0)
    assert (client.received, server.received) == (octets, octets)


@pytest.mark.parametrize("channels", [1, 4])
def test_several_connections_on_channels(ktls_pair: Pair, channels: int) -> None:
    with _channels(ktls_pair, channels), sending(ktls_pair, (ktls_pair.a, ktls_pair.b)) as sent:
        before = driver_statistics(ktls_pair.a)
        _, server = talk(
            ktls_pair, send=2 * MEBI, receive=2 * MEBI, connections=8, parallel=4, ipv6=True
        )
        queues = moved(before, driver_statistics(ktls_pair.a))
    assert server.received == 16 * MEBI
    assert sent.kernel["TlsTxDevice"] == 8
    used = [n for n in range(4) if queues.get(f"tx{n}_tls_encrypted_packets")]
    assert used == [0] if channels == 1 else len(used) > 1


def test_many_short_connections_with_keys_of_their_own(ktls_pair: Pair) -> None:
    """The pool of contexts is there after the first; then they are used again and again."""
    talk(ktls_pair, send=1)
    ktls_pair.a.wait_until(f"ethtool -S {IFACE} | awk '/tx_tls_pool_alloc/ {{ exit $2 < 1000 }}'")
    with sending(ktls_pair) as sent:
        _, server = talk(ktls_pair, send=5000, connections=200, chunk=0)
    assert server.received == 200 * 5000
    assert sent.driver["tx_tls_ctx"] == sent.driver["tx_tls_del"] == 200
    assert sent.kernel["TlsTxDevice"] == 200
    assert "tx_tls_pool_alloc" not in sent.driver


def test_contexts_are_used_again_by_other_connections(ktls_pair: Pair) -> None:
    """Many at one time, of both ciphers, so that the next has the other's context."""
    for cipher in (128, 256, 128):
        with sending(ktls_pair) as sent:
            _, server = talk(
                ktls_pair,
                send=30_000,
                cipher=cipher,
                connections=60,
                parallel=4,
                hold=1,
                record=1 << 33,
            )
        assert server.received == 60 * 30_000
        assert sent.driver["tx_tls_ctx"] == sent.driver["tx_tls_del"] == 60
    assert "tx_tls_pool_alloc" not in sent.driver


@pytest.mark.parametrize(
    "options",
    [
        {"chunk": 1, "send": 3000},
        {"chunk": 16385, "how": "more"},
        {"chunk": 4097, "control": 3},
        {"chunk": 0, "control": 1, "how": "more"},
        {"chunk": 0, "how": "sendfile"},
        {"chunk": 1 << 20, "how": "sendfile", "control": 1},
    ],
    ids=lambda options: "-".join(f"{key}{value}" for key, value in options.items()),
)
def test_records_of_all_sizes_and_types(ktls_pair: Pair, options: dict[str, Any]) -> None:
    settings: dict[str, Any] = {"send": 2 * MEBI, **options}
    with sending(ktls_pair):
        client, server = talk(ktls_pair, **settings)
    assert server.received == settings["send"]
    assert client.alerts_sent == server.alerts_received
    assert (client.alerts_sent > 0) == ("control" in options)


def test_driver_kernel_wire_and_model_count_the_same(ktls_pair: Pair, tmp_path: Path) -> None:
    before, port = tcp_counters(ktls_pair.a), 7399
    wire = Follower(ktls_pair.captures[0])
    with sending(ktls_pair) as sent:
        talk(ktls_pair, send=4 * MEBI, chunk=0, control=5, port=port)
    counted = sent.driver
    assert sent.kernel["TlsTxDevice"] == counted["tx_tls_ctx"] == counted["tx_tls_del"] == 1

    sent.same()

    sent_frames = [frame.data for frame in wire.conversation(port, fins=2)]
    path = write_pcap(tmp_path / "wire.pcap", sent_frames)
    # behind the connection's number, which goes before TLS
    frames = tshark.fields(path, "tcp.len", only=f"tcp.dstport == {port} && tcp.len > 4")
    assert len(frames) == counted["tx_tls_encrypted_packets"]
    assert sum(int(length) for (length,) in frames) == counted["tx_tls_encrypted_bytes"]

    after = tcp_counters(ktls_pair.a)
    segments = after["OutSegs"] - before["OutSegs"]
    assert after["RetransSegs"] - before["RetransSegs"] < segments / 10
    assert after["TCPTimeouts"] - before["TCPTimeouts"] <= 1
