# SPDX-License-Identifier: GPL-2.0-or-later
"""SMT between guests by software: every size class, many at once, large beside small.

All runs of this file share one capture, of which the oracle decrypts every record in the end.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from nicmodel.testbed.lab import Lab
from nicmodel.testbed.vm import Vm
from tests.oracles import smt, smt_grants
from tests.oracles.capture import Follower
from tests.vm.conftest import PairMaker
from tests.vm.smt import PEER, TIMERS, SmtPair
from tests.vm.traffic import IFACE

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(300)]

LONGEST = 1_000_000

NEVER = (
    *("call_timeouts", "call_stuck", "call_forgotten", "tx_errors", "tx_seal_errors"),
    *("drop_short", "drop_type", "drop_header", "drop_length", "drop_excess", "drop_no_memory"),
    *("drop_plaintext", "drop_no_key", "drop_record", "drop_auth", "drop_framing"),
    *("drop_truncated", "drop_replay", "drop_role"),
)
"""Counters that stay 0 where nothing is wrong.

Not ``call_icmp``: a server that asks for the ack of its last response is told so when the client,
which has all it wanted, has closed its socket.
"""


def room(mtu: int) -> int:
    """M of the protocol: bytes of a message in a packet in the middle of a segment."""
    return mtu - 20 - 40 - 20


def packets(mtu: int) -> int:
    """S of the protocol, with 16 KiB as the longest record."""
    return max(1, (16384 + 29) // (room(mtu) + 20))


def sizes(mtu: int) -> list[int]:
    """Every size class, with both sides of each boundary; 17 bytes more than a tag spill."""
    m, s = room(mtu), packets(mtu)
    edges = sorted({m - 29, 2 * m - 29, s * m - 29, 2 * s * m - 29})
    found = {0, 1, 2, 10_000, 10_001, 100_000, LONGEST - 1, LONGEST}
    found |= {edge + step for edge in edges for step in (-1, 0, 1, 15, 16, 17)}
    return sorted(found)


@pytest.fixture(scope="module")
def smt_pair(make_pair: PairMaker) -> Iterator[SmtPair]:
    """Guests with the module, judged in the end: captures, counters, memory."""
    with make_pair("smt", peer=True) as pair:
        made = SmtPair(pair, pair.lab.folder)
        for vm in (pair.a, pair.b):
            made.load(vm)
        made.peer_network()
        with made.no_leak():
            yield made
            for vm in (pair.a, pair.b):
                counted = made.stats(vm)
                assert {name: counted[name] for name in NEVER if counted[name]} == {}
        seen = pair.captures[0]
        for vm in (pair.a, pair.b):
            unload(made, vm)
        pair.model.stop()
        keys = made.all_keys()
        verdict = smt.judge(seen, keys, mtus=(1500, 9000), outbound=True)
        assert verdict.wrong[:5] == []
        assert verdict.records > 0 or not keys  # no chosen test had any
        assert verdict.unread == 0


@pytest.fixture
def nic(request: pytest.FixtureRequest, smt_pair: SmtPair) -> Iterator[str]:
    """``tso``: our NIC cuts segments; ``gso``: the stack does; ``e1000e``: another NIC."""
    kind: str = request.param
    if kind == "gso":
        for vm in (smt_pair.a, smt_pair.b):
            vm.run(f"ethtool -K {IFACE} tso off", timeout=60)
    yield kind
    if kind == "gso":
        for vm in (smt_pair.a, smt_pair.b):
            vm.run(f"ethtool -K {IFACE} tso on", timeout=60)


def unload(smt_pair: SmtPair, vm: Vm) -> None:
    """Unload the module, whose kernel warns (a fault on the console) of an RPC that was leaked."""
    vm.run("rmmod smt", timeout=60)
    smt_pair.load(vm)


def self_signed() -> tuple[bytes, bytes]:
    """A certificate and its private key, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "server")])
    now, day = datetime.now(UTC), timedelta(days=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now - day, now + day)
    basic = x509.BasicConstraints(ca=True, path_length=0)
    certificate = builder.add_extension(basic, critical=True).sign(key, hashes.SHA256())
    return certificate.public_bytes(Encoding.PEM), key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )


SERVER_TLS = ("--tls", "/tmp/tls.crt", "--secure", "/tmp/tls.key")
CLIENT_TLS = "--tls /tmp/tls.crt --keylog /tmp/tls.keys --secure"


def certify(smt_pair: SmtPair) -> None:
    """Give the server a certificate, and the client the same to check it by; no keys are logged."""
    certificate, key = self_signed()
    smt_pair.b.write_file("/tmp/tls.crt", certificate)
    smt_pair.b.write_file("/tmp/tls.key", key, mode=0o600)
    smt_pair.a.write_file("/tmp/tls.crt", certificate)
    smt_pair.a.run("rm -f /tmp/tls.keys")


NICS = pytest.mark.parametrize("nic", ["tso", "gso", "e1000e"], indirect=True)


@NICS
def test_echo_of_every_size_class(smt_pair: SmtPair, nic: str) -> None:
    loads = [(size, 1, 1) for size in sizes(1500)]
    answer = smt_pair.talk(*loads, peer=nic == "e1000e", options=["--serial"], timeout=150)
    assert answer.errors == {}


@pytest.mark.parametrize("peer", [False, True], ids=["ours", "e1000e"])
def test_jumbo_frames(smt_pair: SmtPair, peer: bool) -> None:
    interface = PEER if peer else IFACE
    guests = (smt_pair.a, smt_pair.b)
    for vm in guests:
        vm.run(f"ip link set {interface} mtu 9000", timeout=60)
    try:
        loads = [(size, 1, 1) for size in sizes(9000)]
        smt_pair.talk(*loads, peer=peer, options=["--serial"], timeout=120)
    finally:
        for vm in guests:
            vm.run(f"ip link set {interface} mtu 1500", timeout=60)


@pytest.mark.parametrize("way", ["plain", "AES-256", "other direction"])
def test_other_ways_of_talking(smt_pair: SmtPair, way: str) -> None:
    edges = [(size, 1, 1) for size in sizes(1500) if size < 20_000]
    smt_pair.talk(
        *edges,
        (LONGEST, 1, 1),
        secure=way != "plain",
        bits=256 if way == "AES-256" else 128,
        client=smt_pair.b if way == "other direction" else None,
        options=["--serial"],
        timeout=120,
    )


@pytest.mark.timeout(480)
@pytest.mark.parametrize(
    ("secure", "concurrency", "number"),
    [
        (False, 200, 5000),
        (True, 1, 1000),
        (True, 10, 10_000),
        (True, 50, 34_000),
        (True, 200, 50_000),
    ],
)
def test_many_small_messages(
    smt_pair: SmtPair, first_lab: Lab, secure: bool, concurrency: int, number: int
) -> None:
    """They are 100,000 on the first kernel, and 5000 on others; acks end nearly all."""
    if smt_pair.pair.lab is not first_lab:
        number //= 20
    with smt_pair.counting(smt_pair.b) as moved:
        answer = smt_pair.talk((64, concurrency, number), secure=secure, timeout=400)
    assert answer.errors == {}
    assert moved["rx_messages"] == moved["tx_messages"] == number
    # of the last ones the server may ask a client that is gone, or go itself
    assert moved.get("call_icmp", 0) + moved.get("call_aborts", 0) < 20


def test_large_messages_do_not_hold_up_small_ones(smt_pair: SmtPair) -> None:
    """Small ones end while the same large one is under way: many within the time of one large.

    The times are in latency.json in the run's folder, too.
    """
    answer = smt_pair.talk((LONGEST, 2, 6), (64, 1, 100), timeout=150)
    large, small = (load["us"] for load in answer.loads)
    shown = json.dumps({"large, us": large, "small beside them, us": small}, indent=1)
    print(shown)
    (smt_pair.folder / "latency.json").write_text(shown + "\n")
    assert small["p50"] < large["p50"] / 4


def test_no_more_is_granted_than_may_come(smt_pair: SmtPair) -> None:
    """Priorities are those of the cutoffs that receivers announce; control packets have the first.

    The receiver's NIC has seen both, what it grants and what comes.
    """
    wire = Follower(smt_pair.pair.captures[1])
    loads = ((500_000, 10, 30), (150, 1, 20), (2000, 1, 20))
    with ExitStack() as stack:
        # else the client's SO_SNDBUF has room for one long message at a time
        smt_pair.a.run("sysctl -qw net.core.wmem_default=16777216")
        stack.callback(smt_pair.a.run, "sysctl -qw net.core.wmem_default=212992")
        server = stack.enter_context(smt_pair.server(smt_pair.b))
        address = f"{smt_pair.v4(smt_pair.b)}:{server.port}"
        smt_pair.ask(smt_pair.a, address, *loads, timeout=90)
    total = sum(size * number for size, _, number in loads)
    frames = wire.collect(
        lambda one: True, lambda seen: smt_grants.look(seen, server.port).octets == total
    )
    found = smt_grants.look(frames, server.port)
    assert found.octets == total
    assert found.wrong == []
    # net.smt.max_incoming, the step of the oldest, and 10 requests that are not known there yet
    assert 200_000 < found.awaited <= 400_000 + 10_000 + 10 * 10_000
    assert found.control == {7}
    # 6 until the cutoffs have come
    assert found.unscheduled[150] - {6} == {7}
    assert found.unscheduled[2000] == {6}
    assert found.unscheduled[500_000] - {6} == {4}


def test_server_that_does_not_read(smt_pair: SmtPair) -> None:
    """Its buffer fills up, the rest is refused and kept alive, and all is answered in the end."""
    a, b = smt_pair.a, smt_pair.b
    with ExitStack() as stack:
        b.run("sysctl -qw net.core.rmem_max=106496")  # of which programs get the double
        stack.callback(b.run, "sysctl -qw net.core.rmem_max=4194304")
        moved = stack.enter_context(smt_pair.counting(b))
        server = stack.enter_context(smt_pair.server(b))
        b.run("pkill -STOP smt_echo")
        stack.callback(b.run, "pkill -CONT smt_echo", check=False)
        before = smt_pair.stats(b)
        words = f"{smt_pair.v4(b)}:{server.port} --load 9000:30:30 --timeout 60"
        # SO_SNDBUF bounds what one client has under way
        clients = [a.start(f"/tmp/smt_echo {words}") for _ in range(4)]
        smt_pair.wait_for(b, "drop_rcvbuf", before["drop_rcvbuf"] + 20)
        smt_pair.wait_for(b, "tx_busy", before["tx_busy"] + 20)
        held = smt_pair.stats(b)["rx_messages"] - before["rx_messages"]
        b.run("pkill -CONT smt_echo")
        said = [json.loads(client.wait(90, check=False).stdout) for client in clients]
    assert [one["errors"] for one in said] == [{}] * 4
    assert server.ended["served"] == 120 == moved["rx_messages"]
    # there were 208 KiB of memory, and a message may begin as long as it is not used up
    assert 5 < held < 40


def test_server_that_thinks_for_long(smt_pair: SmtPair) -> None:
    """It says that it is busy, and its client asks on where it would give up after 6 questions."""
    a, b = smt_pair.a, smt_pair.b
    with ExitStack() as stack:
        a.run("sysctl -qw net.smt.timeout_resends=3")
        stack.callback(a.run, f"sysctl -qw {TIMERS}")
        server = stack.enter_context(smt_pair.server(b))
        b.run("pkill -STOP smt_echo")
        stack.callback(b.run, "pkill -CONT smt_echo", check=False)
        before = smt_pair.stats(a)
        client = a.start(f"/tmp/smt_echo {smt_pair.v4(b)}:{server.port} --load 64:1:1 --timeout 60")
        smt_pair.wait_for(a, "rx_busy", before["rx_busy"] + 8)
        b.run("pkill -CONT smt_echo")
        assert json.loads(client.wait(60, check=False).stdout)["errors"] == {}


def test_namespaces_have_ports_and_counters_of_their_own(smt_pair: SmtPair) -> None:
    """The same port serves in both; one goes in the end."""
    a = smt_pair.a
    with ExitStack() as stack:
        a.run("ip netns add other && ip -n other link set lo up")
        stack.callback(a.run, "ip netns del other")
        server = stack.enter_context(smt_pair.server(a))
        ours = stack.enter_context(smt_pair.counting(a))
        inside = "exec ip netns exec other"
        other = a.start(f"{inside} /tmp/smt_echo serve {server.port} >/tmp/serve.other")
        stack.callback(other.wait, 20, check=False)
        stack.callback(other.kill, "TERM")
        a.wait_until("grep -q ready /tmp/serve.other", timeout=20)
        said = a.run(f"{inside} /tmp/smt_echo 127.0.0.1:{server.port} --load 5000:4:40")
        assert json.loads(said.stdout)["errors"] == {}
        counted = a.run(f"{inside} grep -x 'rx_messages 80' /proc/net/smt", check=False)
        assert counted.status == 0
    assert ours == {}
    assert server.ended["served"] == 0


def test_both_directions_and_two_sockets_at_once(smt_pair: SmtPair) -> None:
    """Each guest serves and asks, on two sockets each, with keys of their own."""
    a, b = smt_pair.a, smt_pair.b
    ways = [(a, b, 4900), (b, a, 4901), (a, b, 4902), (b, a, 4903)]
    with ExitStack() as stack:
        running = []
        for client, server, port in ways:
            keys = ["--keys", smt_pair.new_keys(client, server, port).path, "--secure"]
            stack.enter_context(smt_pair.server(server, *keys, port=port))
            address = f"{smt_pair.v4(server)}:{port}"
            loads = "--load 64:4:100 --load 20000:2:10 --timeout 90"
            command = f"/tmp/smt_echo {address} {loads} {' '.join(keys)}"
            running.append(client.start(command))
        for process in running:
            said = process.wait(120, check=False)
            assert said.status == 0, said


def test_one_server_and_two_peers(smt_pair: SmtPair) -> None:
    """One socket has keys of its own for each of two machines (here: addresses), which ask it."""
    a, b = smt_pair.a, smt_pair.b
    certify(smt_pair)
    with smt_pair.server(b, *SERVER_TLS) as server:
        running = [
            a.start(
                f"/tmp/smt_echo {smt_pair.v4(b, peer=peer)}:{server.port} --load 64:8:200"
                f" --load 30000:2:8 --timeout 60 {CLIENT_TLS}"
            )
            for peer in (False, True)
        ]
        for process in running:
            said = process.wait(90, check=False)
            assert said.status == 0, said
    smt_pair.keys.append(a.read_file("/tmp/tls.keys"))
    assert server.ended["handshakes"] == 2
    assert server.ended["served"] == 2 * 208


def test_keys_from_a_handshake_in_user_space(smt_pair: SmtPair) -> None:
    """The certificate is checked, both ends derive the same keys, and records have them."""
    a, b = smt_pair.a, smt_pair.b
    certify(smt_pair)
    a.write_file("/tmp/other.crt", self_signed()[0])
    with smt_pair.server(b, *SERVER_TLS) as server:
        address = f"{smt_pair.v4(b)}:{server.port}"
        for _ in range(2):
            smt_pair.ask(a, address, (1000, 4, 40), (100_000, 1, 2), options=[CLIENT_TLS])
        smt_pair.keys.append(a.read_file("/tmp/tls.keys"))
        said = a.run(f"/tmp/smt_echo {address} --load 1:1:1 --tls /tmp/other.crt", check=False)
        assert said.status == 2
        assert "certificate verify failed" in said.stderr
    assert server.ended["handshakes"] == 2
    assert server.ended["served"] == 2 * 42


def test_wrong_arguments_return_the_documented_errno(smt_pair: SmtPair) -> None:
    said = smt_pair.a.run("/tmp/smt_refuses 10.77.0.1 4999", check=False)
    *wrong, last = said.stdout.splitlines()
    assert (wrong, said.stderr) == ([], "")
    assert said.status == 0
    assert int(last.split()[0]) > 50
