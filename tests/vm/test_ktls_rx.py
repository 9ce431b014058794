# SPDX-License-Identifier: GPL-2.0-or-later
"""TLS receive offload: what the wire does to a stream, and what kernel and driver make of it.

The receiver has its software path switched off as a fallback: ``TlsRxSw`` must not move. Data are
compared in the guest; what the driver counts as decrypted must be what the model says, and what
the kernel counts as decrypted by itself is the rest.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from nicmodel.testbed.agent import GuestProcess
from nicmodel.testbed.vm import Vm
from tests.vm.frames import SPOILED_PORT
from tests.vm.ktls import conversation, report, talk, tls_stat
from tests.vm.pair import Pair
from tests.vm.test_receive import feature, moved, private_flag
from tests.vm.traffic import IFACE, MEBI, driver_statistics

TX, RX = "tls-hw-tx-offload", "tls-hw-rx-offload"
MSS = 1448


@dataclass
class Receiver:
    """Guest ``vm`` receives with offload; what moved since the beginning."""

    pair: Pair
    vm: Vm
    driver: dict[str, int] = field(default_factory=dict)
    kernel: dict[str, int] = field(default_factory=dict)
    ended: int = 0
    said: dict[str, int] = field(default_factory=dict)
    """Sums over the contexts that the model says have ended."""

    def mark(self) -> None:
        self.driver, self.kernel = driver_statistics(self.vm), tls_stat(self.vm)
        self.ended = len(self._ended())

    def settle(self, connections: int) -> None:
        """Wait until so many contexts have ended, then look at what moved."""
        self.vm.wait_until(
            f"ethtool -S {IFACE} | awk '/ rx_tls_ctx:/ {{c=$2}} / rx_tls_del:/ {{d=$2}} "
            f"END {{exit c != d || c != {self.driver['rx_tls_ctx'] + connections}}}'",
            timeout=30,
        )
        for _ in range(50):  # a TIR is destroyed just after ``rx_tls_del`` has moved
            ended = self._ended()[self.ended :]
            if len(ended) == connections:
                break
            self.vm.run("true")
        assert len(ended) == connections
        kinds = ("packets", "octets", "asked", "forged")
        self.said = {kind: sum(event[kind] for event in ended) for kind in kinds}
        self.driver = moved(self.vm, self.driver)
        now = tls_stat(self.vm)
        self.kernel = {name: value - self.kernel[name] for name, value in now.items()}

    def check(self, connections: int = 1) -> None:
        """Only hardware was used, and driver and model counted the same."""
        self.settle(connections)
        assert self.kernel["TlsRxSw"] == 0
        assert self.kernel["TlsRxDevice"] == connections
        assert self.kernel["TlsDecryptError"] == 0
        assert self.driver["rx_tls_err"] == 0
        self.same()

    def same(self) -> None:
        """Driver and model counted the same, but for frames that no buffer was there for."""
        lost = self.driver["rx_out_of_buffer"]
        pairs = (("packets", "decrypted_packets"), ("asked", "resync_req_pkt"), ("forged", "err"))
        for said, counted in pairs:
            here = self.said[said] - self.driver[f"rx_tls_{counted}"]
            assert 0 <= here <= lost, counted
        if not lost:
            assert self.driver["rx_tls_decrypted_bytes"] == self.said["octets"]
        assert self.driver["rx_tls_resync_res_ok"] == self.kernel["TlsRxDeviceResync"]
        assert self.driver["rx_tls_resync_res_skip"] == 0

    def _ended(self) -> list[dict[str, Any]]:
        events = self.pair.events("TlsRxEnded")
        return [event for event in events if event["nic"] == self.vm.name]


@contextmanager
def receiving(pair: Pair, vm: Vm) -> Iterator[Receiver]:
    """``vm`` has receive offload on meanwhile, its peer sends what software has encrypted."""
    peer = pair.a if vm is pair.b else pair.b
    with feature(vm, RX, "on", after="off"), feature(peer, TX, "off", after="on"):
        receiver = Receiver(pair, vm)
        receiver.mark()
        yield receiver


@pytest.fixture
def receiver(ktls_pair: Pair) -> Iterator[Receiver]:
    """Guest b receives with offload."""
    with receiving(ktls_pair, ktls_pair.b) as made:
        yield made


@pytest.fixture
def erring_receiver(erring_ktls_pair: Pair) -> Iterator[Receiver]:
    """The same; the stacks may count errors."""
    with receiving(erring_ktls_pair, erring_ktls_pair.b) as made:
        yield made


def test_not_until_it_is_asked_for(ktls_pair: Pair) -> None:
    """A driver that can do it says so, and does not."""
    said = ktls_pair.b.run(["ethtool", "-k", IFACE]).stdout
    assert f"{RX}: off\n" in said
    before, counted = tls_stat(ktls_pair.b), driver_statistics(ktls_pair.b)
    talk(ktls_pair, send=MEBI)
    after = tls_stat(ktls_pair.b)
    assert after["TlsRxSw"] == before["TlsRxSw"] + 1
    assert after["TlsRxDevice"] == before["TlsRxDevice"]
    assert moved(ktls_pair.b, counted)["rx_tls_decrypted_packets"] == 0


@pytest.mark.matrix
@pytest.mark.parametrize("striding", ["on", "off"])
@pytest.mark.parametrize("cipher", [128, 256])
def test_everything_is_decrypted(receiver: Receiver, cipher: int, striding: str) -> None:
    octets = 16 * MEBI
    with private_flag(receiver.vm, "rx_striding_rq", striding):
        receiver.mark()
        talk(receiver.pair, send=octets, cipher=cipher)
        receiver.check()
    assert receiver.driver["rx_tls_decrypted_packets"] > octets // MSS * 9 // 10
    # the rule for the connection may come when its first frames have gone by
    assert receiver.said["asked"] <= 1 + receiver.driver["rx_out_of_buffer"]


@pytest.mark.parametrize(
    ("options", "v6"),
    [
        ({"chunk": 0}, False),
        ({"chunk": 1}, True),
        ({"chunk": 300, "control": 7}, False),
        ({"chunk": 5000, "how": "more"}, True),
        ({"how": "sendfile"}, False),
    ],
)
def test_records_of_all_sizes(receiver: Receiver, options: dict[str, Any], v6: bool) -> None:
    octets = 5000 if options.get("chunk") == 1 else 4 * MEBI
    sent, got = talk(receiver.pair, send=octets, ipv6=v6, **options)
    if "control" in options:
        assert got.alerts_received == sent.alerts_sent > 0
    receiver.check()
    assert receiver.driver["rx_tls_decrypted_bytes"] > octets // 2


@pytest.mark.parametrize("loss", [0, 0.01])
def test_both_directions_and_both_engines(ktls_pair: Pair, loss: float) -> None:
    """Each guest encrypts and decrypts in its device, four connections at a time."""
    pair, octets = ktls_pair, 4 * MEBI
    if loss:
        pair.model.control.link(pair.b.name).impair(loss=loss)
    with feature(pair.a, RX, "on", after="off"), feature(pair.b, RX, "on", after="off"):
        ends = [Receiver(pair, vm) for vm in (pair.a, pair.b)]
        for end in ends:
            end.mark()
        several: dict[str, Any] = {"connections": 4, "parallel": 4, "cipher": 256}
        talk(pair, send=octets, receive=octets, timeout=200, **several)
        for end in ends:
            end.check(4)
            assert end.kernel["TlsTxSw"] == 0
            assert end.kernel["TlsTxDevice"] == 4
            assert end.driver["rx_tls_decrypted_packets"] > 0


def test_lro_leaves_it_alone(receiver: Receiver) -> None:
    with feature(receiver.vm, "lro", "on", after="off"):
        receiver.mark()
        talk(receiver.pair, send=8 * MEBI)
        receiver.check()
    assert receiver.driver["rx_tls_decrypted_packets"] > 8 * MEBI // MSS * 9 // 10


RULES = {
    "loss": {"loss": 0.01},
    "burst": {"loss": 0.01, "burst": 5},
    "reorder": {"reorder": 0.01},
    "duplicate": {"duplicate": 0.05},
}


@pytest.mark.parametrize("rule", RULES)
def test_the_stream_is_found_again(receiver: Receiver, rule: str) -> None:
    """Some of the wire's harm costs a record, some the place in the stream, for some time."""
    pair, octets = receiver.pair, 8 * MEBI
    pair.model.control.link(receiver.vm.name).impair(direction="in", **RULES[rule])
    talk(pair, send=octets, timeout=200)
    receiver.check()
    decrypted = receiver.driver["rx_tls_decrypted_packets"]
    assert decrypted > octets // MSS // 3
    if rule == "duplicate":
        assert receiver.driver["rx_tls_resync_req_pkt"] <= 1  # as above
        return
    assert decrypted < octets // MSS
    assert receiver.said["asked"] >= receiver.driver["rx_tls_resync_res_ok"]


@pytest.mark.matrix
def test_lost_headers_are_asked_for(receiver: Receiver) -> None:
    """Frames with record headers are lost in a fast stream: kernel and device have to talk."""
    pair, octets = receiver.pair, 24 * MEBI
    pair.model.control.link(receiver.vm.name).impair(
        direction="in", loss=1.0, nth="2000-2015", match="tcp.len > 1000"
    )
    talk(pair, send=octets)
    receiver.check()
    assert receiver.driver["rx_tls_resync_req_pkt"] > 0
    assert receiver.driver["rx_tls_resync_req_end"] > 0
    assert receiver.driver["rx_tls_resync_res_ok"] > 0
    assert receiver.kernel["TlsRxDeviceResync"] > 0
    # and it went on with decryption after that
    assert receiver.driver["rx_tls_decrypted_packets"] > octets // MSS // 2


def test_damaged_frames_are_no_business_of_the_engine(erring_receiver: Receiver) -> None:
    """Their checksums are wrong, so TCP has them sent again, and no tag is found to be wrong."""
    receiver = erring_receiver
    receiver.pair.model.control.link(receiver.vm.name).impair(
        direction="in", corrupt=0.01, corrupt_bytes="66-", match="tcp.len > 0"
    )
    talk(receiver.pair, send=4 * MEBI, port=SPOILED_PORT)
    receiver.check()
    assert receiver.said["forged"] == 0


@contextmanager
def decrypting(pair: Pair, **options: Any) -> Iterator[tuple[GuestProcess, GuestProcess]]:
    """A ``conversation`` of which guest b has decrypted some frames when the body begins."""
    wanted = driver_statistics(pair.b)["rx_tls_decrypted_packets"] + 100
    with conversation(pair, **options) as ends:
        pair.b.wait_until(
            f"ethtool -S {IFACE} | awk '/ rx_tls_decrypted_packets:/ {{exit !($2 > {wanted})}}'",
            timeout=30,
        )
        yield ends


@contextmanager
def forging(vm: Vm, port: int) -> Iterator[None]:
    """A byte in the payload of each TCP packet to ``port`` is changed; the checksum is right."""
    vm.run(
        f"tc qdisc add dev {IFACE} clsact && tc filter add dev {IFACE} egress protocol ip u32 "
        f"match ip dport {port} 0xffff action pedit munge offset 600 u8 set 0x5a"
    )
    try:
        yield
    finally:
        vm.run(["tc", "qdisc", "del", "dev", IFACE, "clsact"])


def test_a_forged_record_ends_the_connection(receiver: Receiver) -> None:
    """What came before is right; the forged record is never given to the program.

    The device finds it, or the kernel if the device has just lost its place, since frames overtake
    each other where the sender is busy.
    """
    octets, port, number = 64 * MEBI, 7200, 0
    while number < 5:
        number += 1
        ends = decrypting(receiver.pair, send=octets, pause=20000, port=port)
        with ends as (_, server), forging(receiver.pair.a, port):
            got = report(server.wait(60, check=False))
        # the program compares all that it gets
        assert got.error.startswith("recvmsg at ")
        assert got.error.endswith(": Bad message")
        assert 100 * MSS < got.received < octets
        if driver_statistics(receiver.vm)["rx_tls_err"] > receiver.driver["rx_tls_err"]:
            break
    receiver.settle(number)
    receiver.same()
    # who has not found it had to ask where it is
    ended = receiver.pair.events("TlsRxEnded")[-number:]
    assert all(one["forged"] or one["asked"] for one in ended)
    assert receiver.kernel["TlsDecryptError"] == number
    assert receiver.kernel["TlsRxSw"] == 0
    assert receiver.driver["rx_tls_err"] > 0


def test_many_short_connections(receiver: Receiver) -> None:
    number, octets = 150, 60_000
    _, got = talk(receiver.pair, send=octets, connections=number, parallel=2, timeout=200)
    assert got.received == number * octets
    receiver.check(number)
    assert receiver.driver["rx_tls_decrypted_packets"] > number


def test_a_receiver_that_dies_in_the_stream(receiver: Receiver) -> None:
    for _ in range(3):
        with decrypting(receiver.pair, send=1 << 40) as (client, server):
            server.kill()
            assert report(client.wait(30, check=False)).error
    receiver.check(3)
    talk(receiver.pair, send=MEBI)


def test_offload_goes_off_under_a_stream(receiver: Receiver) -> None:
    """Rules of connections that are there are no more; the data come raw, and are right."""
    with decrypting(receiver.pair, send=64 * MEBI) as (_, server):
        receiver.vm.run(["ethtool", "-K", IFACE, RX, "off"])
        got = report(server.wait(120, check=False))
    receiver.vm.run(["ethtool", "-K", IFACE, RX, "on"])
    assert not got.error
    receiver.check()


def test_the_driver_goes_and_comes_back_under_a_stream(erring_receiver: Receiver) -> None:
    """The device is taken away from an open socket, whose kernel goes on by itself."""
    receiver = erring_receiver
    pair, vm = receiver.pair, receiver.vm
    driver = "/sys/bus/pci/drivers/mlx5_core"
    with decrypting(pair, send=64 * MEBI) as (_, server):
        device = vm.run(f"basename $(readlink /sys/class/net/{IFACE}/device)").stdout.strip()
        vm.run(f"echo {device} >{driver}/unbind", timeout=60)
        vm.run(f"echo {device} >{driver}/bind", timeout=60)
        vm.wait_until(f"test -e /sys/class/net/{IFACE}", timeout=30)
        pair.restore(vm)
        assert f"{RX}: off\n" in vm.run(["ethtool", "-k", IFACE]).stdout, "the kernel has it off"
        got = report(server.wait(120, check=False))
    assert not got.error
    after = tls_stat(vm)
    assert after["TlsRxSw"] == receiver.kernel["TlsRxSw"]
    assert after["TlsCurrRxDevice"] == 0
    vm.run(["ethtool", "-K", IFACE, RX, "on"])
    receiver.mark()
    talk(pair, send=MEBI)
    receiver.check()
