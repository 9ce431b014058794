# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel TLS in guests: who encrypts and decrypts, the project's own program, the counters.

The program is told keys, which come from the seed of the run; no two conversations share one.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any

from nicmodel.testbed.agent import Completed, GuestProcess
from nicmodel.testbed.vm import Vm
from tests.vm import build
from tests.vm.pair import Pair
from tests.vm.traffic import IFACE, driver_statistics

SALT = bytes.fromhex("5a175a17")
IV = bytes.fromhex("a0a1a2a3a4a5a600")
"""Explicit nonce of the first record; it does not begin with the record's number."""

DATA: dict[str, Any] = {"match": "tcp.len > 0", "direction": "in"}
"""Segments with data on their way to guest b."""

_PORTS = count(7400)
_CONVERSATIONS = count()

Stats = dict[str, int]


def tls_stat(vm: Vm) -> Stats:
    """``/proc/net/tls_stat`` (Documentation/networking/tls.rst)."""
    words = vm.read_file("/proc/net/tls_stat").split()
    return dict(zip(words[::2], map(int, words[1::2]), strict=True))


def moved(before: Stats, after: Stats) -> Stats:
    """The counters that differ, by how much."""
    return {key: n for key in after if (n := after[key] - before.get(key, 0))}


def tls_counters(vm: Vm) -> Stats:
    """The driver's counters of TLS in both directions, over all queues."""
    found = driver_statistics(vm)
    return {key: n for key, n in found.items() if key.startswith(("tx_tls", "rx_tls"))}


def offload(vm: Vm, *, transmit: bool = True, receive: bool = False) -> None:
    """Say who encrypts and decrypts for the sockets that a guest opens from now on."""
    words = {True: "on", False: "off"}
    wanted = f"tls-hw-tx-offload {words[transmit]} tls-hw-rx-offload {words[receive]}"
    vm.run(f"ethtool -K {IFACE} {wanted}", timeout=60)


@contextmanager
def no_software(vm: Vm, *directions: str) -> Iterator[None]:
    """Fail if a guest's kernel crypts itself in ``Tx`` or ``Rx`` meanwhile, or the device does not.

    A kernel that cannot have a connection offloaded takes its own software without a word.
    """
    before = tls_stat(vm)
    yield
    found = moved(before, tls_stat(vm))
    for direction in directions:
        fallen = {key: n for key, n in found.items() if key in _software(direction)}
        assert fallen == {}, f"{vm.name}: software took part: {found}"
        assert found.get(f"Tls{direction}Device", 0) > 0, f"{vm.name}: no offload: {found}"


def _software(direction: str) -> tuple[str, str]:
    return f"Tls{direction}Sw", f"TlsCurr{direction}Sw"


@dataclass
class Sent:
    """What guest a's kernel, driver and model counted; complete when ``sending`` has ended."""

    kernel: Stats
    driver: Stats
    model: Stats
    """The sanitizer's accounts."""

    def same(self) -> None:
        """Driver and model have counted the same resyncs and DUMPs."""
        # each retransmission is out of order; these were found to need no resync, or no sending
        needless = ("tx_tls_skip_no_sync_data", "tx_tls_drop_no_sync_data")
        asked = self.driver.get("tx_tls_ooo", 0) - sum(self.driver.get(key, 0) for key in needless)
        assert self.model["resyncs"] == asked
        assert self.model["dumps"] == self.driver.get("tx_tls_dump_packets", 0)
        assert self.model["dump_octets"] == self.driver.get("tx_tls_dump_bytes", 0)


@contextmanager
def sending(pair: Pair, vms: tuple[Vm, ...] = (), *, harm: bool = False) -> Iterator[Sent]:
    """Only devices encrypt meanwhile, in guest a unless ``vms`` says where.

    Nothing is lost unless there is ``harm``: then TCP may send again what was acknowledged just
    now, which the driver has to drop.
    """
    accounts = _accounts(pair)
    kernels = {vm.name: tls_stat(vm) for vm in (pair.a, pair.b)}
    counted = tls_counters(pair.a)
    found = Sent({}, {}, {})
    both = vms or (pair.a,)
    with no_software(both[0], "Tx"), no_software(both[-1], "Tx"):
        yield found
    for vm in (pair.a, pair.b):
        changed = moved(kernels[vm.name], tls_stat(vm))
        assert "TlsDecryptError" not in changed
        assert changed.get("TlsCurrTxDevice", 0) == 0, "a context is left"
    found.kernel = moved(kernels[pair.a.name], tls_stat(pair.a))
    found.driver = moved(counted, tls_counters(pair.a))
    found.model = {key: n - accounts[key] for key, n in _accounts(pair).items()}
    # the driver could not find the record of a retransmission, and dropped it
    assert harm or "tx_tls_drop_no_sync_data" not in found.driver
    assert "tx_tls_drop_bypass_req" not in found.driver


@contextmanager
def harmed(pair: Pair, **words: Any) -> Iterator[dict[str, int]]:
    """What guest a sends meets harm at b; what the cable did is in the body's dict at the end."""
    cable = pair.model.control.link(pair.b.name)
    did: dict[str, int] = {}
    cable.impair(**DATA, **words)
    before = cable.status()["in"]
    try:
        yield did
    finally:
        did |= moved(before, cable.status()["in"])
        cable.clear()


def _accounts(pair: Pair) -> Stats:
    judged = pair.model.control.status()["sanitizer"][pair.a.name]
    return {key: n for key, n in judged.items() if isinstance(n, int)}


@dataclass(frozen=True)
class Report:
    """What one end of the program says."""

    connections: int
    sent: int
    received: int
    alerts_sent: int
    alerts_received: int
    nanoseconds: int
    error: str = ""

    @property
    def mbits(self) -> float:
        """Received Mbit/s, from the first byte to the last."""
        return self.received * 8000 / self.nanoseconds


def report(ended: Completed) -> Report:
    """What an end of the program said."""
    return Report(**json.loads(ended.stdout))


@contextmanager
def conversation(
    pair: Pair,
    *,
    client: Vm | None = None,
    send: int = 0,
    receive: int = 0,
    cipher: int = 128,
    ipv6: bool = False,
    port: int = 0,
    **options: object,
) -> Iterator[tuple[GuestProcess, GuestProcess]]:
    """The program runs between the guests: client (guest a) and server; both end with it.

    ``send`` and ``receive`` are the client's, in bytes of each connection; ``options`` are those of
    the program, for both ends.
    """
    source = client or pair.a
    sink = pair.b if source is pair.a else pair.a
    where = str(port or next(_PORTS))
    key = Random(f"{pair.lab.seed}/{next(_CONVERSATIONS)}").randbytes(cipher // 8)
    common = {"cipher": cipher, "key": key.hex(), "salt": SALT.hex()}
    common |= {"iv": IV.hex(), "seed": pair.lab.seed, **options}
    words = [f"{name}={value}" for name, value in common.items()]
    paths = [build.install(vm, build.own("ktls")) for vm in (source, sink)]
    ends = [sink.start([paths[1], "listen", where, f"send={receive}", f"receive={send}", *words])]
    try:
        address = pair.v6(sink) if ipv6 else pair.v4(sink)
        command = [paths[0], "connect", address, where, f"send={send}", f"receive={receive}"]
        ends.append(source.start([*command, *words]))
        yield ends[1], ends[0]
    finally:
        for end in ends:
            end.kill()


def talk(
    pair: Pair, *, timeout: float = 90.0, check: bool = True, **options: Any
) -> tuple[Report, Report]:
    """Have a ``conversation``; what client and server say.

    The data was compared with what was sent unless ``error`` says so.
    """
    with conversation(pair, **options) as (client, server):
        done = client.wait(timeout, check=False)
        ended = server.wait(timeout if done.status == 0 else 10, check=False)
    reports = report(done), report(ended)
    if check:
        assert [one.error for one in reports] == ["", ""], reports
    return reports
