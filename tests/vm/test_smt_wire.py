# SPDX-License-Identifier: GPL-2.0-or-later
"""SMT over a wire that misbehaves, with peers that go, and with packets that nobody sent."""

import json
import re
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Self

import pytest

from nicmodel.testbed.vm import Vm
from tests.oracles import smt
from tests.oracles.capture import Follower
from tests.oracles.smt import PROTOCOL
from tests.oracles.smt_frames import (
    DATA,
    GRANT,
    RESEND,
    End,
    common,
    data_header,
    ip,
    message,
    packets,
    record,
)
from tests.vm import smt_fuzz
from tests.vm.conftest import PairMaker
from tests.vm.frames import SPOILER, inject
from tests.vm.smt import CORRUPTION, SMT, TAKEN, TIMERS, SmtPair
from tests.vm.traffic import IFACE

pytestmark = pytest.mark.timeout(300)

LOADS = ((64, 4, 60), (5000, 4, 40), (100_000, 2, 6))


@pytest.fixture(scope="module")
def smt_pair(make_pair: PairMaker) -> Iterator[SmtPair]:
    """Guests with the module; the oracle reads every record that they have sent in the end."""
    with make_pair("smtw") as pair:
        made = SmtPair(pair, pair.lab.folder)
        for vm in (pair.a, pair.b):
            made.load(vm)
        with made.no_leak():
            yield made
        pair.model.stop()
        records = 0
        for capture in pair.captures:
            verdict = smt.judge(capture, made.all_keys(), outbound=True)
            assert verdict.wrong[:5] == []
            records += verdict.records
            assert verdict.unread == 0
        assert records > 0


@pytest.mark.parametrize(
    ("words", "counted"),
    [
        ({"loss": 0.03}, "lost"),
        ({"loss": 0.02, "burst": 3}, "lost"),
        ({"duplicate": 0.1}, "duplicated"),
        ({"reorder": 0.1}, "reordered"),
        ({"corrupt": 0.02, **CORRUPTION}, "corrupted"),
    ],
    ids=["loss", "bursts", "duplicates", "reordering", "corruption"],
)
def test_every_message_survives(smt_pair: SmtPair, words: dict[str, Any], counted: str) -> None:
    """Both directions of the server's cable; corruption is that of record bytes."""
    cable = smt_pair.pair.model.control.link(smt_pair.b.name)
    cable.impair({"match": SMT, **words})
    before = cable.status()
    try:
        answer = smt_pair.talk(*LOADS, timeout=150)
        after = cable.status()
    finally:
        cable.clear()
    assert answer.errors == {}
    assert sum(after[way][counted] - before[way][counted] for way in ("in", "out")) > 0


@pytest.mark.parametrize("number", [1, 2, 3])
def test_one_corrupt_packet_is_refused_and_the_message_arrives(
    smt_pair: SmtPair, number: int
) -> None:
    cable = smt_pair.pair.model.control.link(smt_pair.b.name)
    words = {"match": f"{SMT} and frame.len > 500", "corrupt": 1, "corrupt_bytes": "94-"}
    cable.impair({**words, "nth": number, "direction": "in"})
    try:
        with smt_pair.counting(smt_pair.b) as moved:
            smt_pair.talk((5000, 1, 1))
    finally:
        cable.clear()
    assert moved["drop_auth"] == 1
    assert moved["rx_messages"] == 1


def test_tracepoints_tell_the_life_of_a_message(smt_pair: SmtPair) -> None:
    """In the server, where one packet of the request is corrupted."""
    b = smt_pair.b
    cable = smt_pair.pair.model.control.link(b.name)
    words = {"match": f"{SMT} and frame.len > 500", "corrupt": 1, "corrupt_bytes": "94-"}
    cable.impair({**words, "nth": 2, "direction": "in"})
    b.run("mountpoint -q /sys/kernel/tracing || mount -t tracefs none /sys/kernel/tracing")
    # a buffer of the usual size is memory that the kernel keeps
    b.run("echo 16 >/sys/kernel/tracing/buffer_size_kb; echo >/sys/kernel/tracing/trace")
    b.run("echo 1 >/sys/kernel/tracing/events/smt/enable")
    try:
        smt_pair.talk((5000, 1, 1))
        smt_pair.no_calls()
    finally:
        b.run("echo 0 >/sys/kernel/tracing/events/smt/enable")
        cable.clear()
    lines = b.read_file("/sys/kernel/tracing/trace").splitlines()
    seen = re.findall(r": smt_(\w+): (?:id=(\d+) )?(.*)", "\n".join(lines))
    assert len({number for _, number, _ in seen if number}) == 1
    told = [(name, rest.split()[-1]) for name, _, rest in seen]
    first, last = told.index(("drop", "reason=DROP_AUTH")), told.index(("end", "value=5"))
    assert told[0] == ("begin", "value=0")
    assert {name for name, _ in told[first + 1 : last]} >= {"ask_again", "record"}
    assert told[last - 5 :] == [
        *((name, "value=5000") for name in ("deliver", "recvmsg", "sendmsg", "send")),
        ("segment", "device=0"),
        told[last],
    ]
    assert "secure=1" in seen[last][2]


def test_server_that_dies_and_comes_back_with_other_keys(smt_pair: SmtPair) -> None:
    a, b = smt_pair.a, smt_pair.b
    port = 6000
    address = f"{smt_pair.v4(b)}:{port}"
    for _ in range(2):
        keys = smt_pair.new_keys(a, b, port)
        words = ["--keys", keys.path, "--secure"]
        with smt_pair.server(b, *words, port=port):
            smt_pair.ask(a, address, (1000, 4, 40), options=words)
    keys = smt_pair.new_keys(a, b, port)
    answer = smt_pair.ask(
        a, address, (100, 1, 2), options=["--keys", keys.path, "--secure"], check=False
    )
    assert answer.finished
    assert answer.errors == {"ENOTCONN": 2}


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "secure"])
def test_client_that_dies_in_the_middle(smt_pair: SmtPair, secure: bool) -> None:
    """Its requests are under way, and responses to it: its server forgets all."""
    a, b = smt_pair.a, smt_pair.b
    port = 6004 if secure else 6005  # the oracle has keys of the former
    address = f"{smt_pair.v4(b)}:{port}"
    words = f"--keys {smt_pair.new_keys(a, b, port).path} --secure" if secure else ""
    sent = smt_pair.stats(b)["tx_messages"]
    with smt_pair.server(b, words, port=port):
        client = a.start(f"/tmp/smt_echo {address} --load 1000000:8:1000 --timeout 60 {words}")
        smt_pair.wait_for(smt_pair.b, "tx_messages", sent + 4)
        client.kill()
        client.wait(20, check=False)
        smt_pair.no_calls()
        if not secure:  # these keys were that client's
            smt_pair.ask(a, address, (5000, 4, 20))


def test_server_that_dies_in_the_middle(smt_pair: SmtPair) -> None:
    """Each RPC of its client ends with an error; with new keys a new server serves a new client."""
    a, b = smt_pair.a, smt_pair.b
    address = f"{smt_pair.v4(b)}:6006"
    keys = smt_pair.new_keys(a, b, 6006)
    words = f"--keys {keys.path} --secure"
    served = smt_pair.stats(b)["tx_messages"]
    server = b.start(f"/tmp/smt_echo serve 6006 {words}")
    client = a.start(f"/tmp/smt_echo {address} --load 500000:4:12 --timeout 60 {words}")
    smt_pair.wait_for(smt_pair.b, "tx_messages", served + 2)
    server.kill()
    server.wait(20, check=False)
    said = json.loads(client.wait(90, check=False).stdout)
    assert said["finished"]
    assert set(said["errors"]) == {"ENOTCONN"}
    assert 0 < sum(said["errors"].values()) < 12
    smt_pair.no_calls()
    new = smt_pair.new_keys(a, b, 6006)
    words = f"--keys {new.path} --secure"
    with smt_pair.server(b, words, port=6006):
        smt_pair.ask(a, address, (5000, 4, 20), options=[words])


def test_server_without_the_keys_of_its_client(smt_pair: SmtPair) -> None:
    a, b = smt_pair.a, smt_pair.b
    keys = smt_pair.new_keys(a, b, 6010)
    with smt_pair.counting(b) as moved, smt_pair.server(b, port=6010) as server:
        answer = smt_pair.ask(
            a, f"{smt_pair.v4(b)}:6010", (100, 1, 1), check=False, timeout=30,
            options=["--keys", keys.path, "--secure"],
        )  # fmt: skip
    assert answer.finished
    assert answer.good == 0
    assert moved["drop_no_key"] > 0
    assert server.ended["served"] == 0


def test_client_with_other_keys_than_the_server(smt_pair: SmtPair) -> None:
    a, b = smt_pair.a, smt_pair.b
    theirs, mine = smt_pair.new_keys(a, b, 6011), smt_pair.new_keys(a, b, 6011)
    words = ["--keys", theirs.path, "--secure"]
    with smt_pair.counting(b) as moved, smt_pair.server(b, *words, port=6011) as server:
        answer = smt_pair.ask(
            a, f"{smt_pair.v4(b)}:6011", (100, 1, 1), check=False, timeout=6,
            options=["--keys", mine.path, "--secure"],
        )  # fmt: skip
    assert answer.good == 0
    assert moved["drop_auth"] > 0
    assert server.ended["served"] == 0


def test_plaintext_to_a_server_with_keys(smt_pair: SmtPair) -> None:
    a, b = smt_pair.a, smt_pair.b
    keys = smt_pair.new_keys(a, b, 6012)
    with (
        smt_pair.counting(b) as moved,
        smt_pair.server(b, "--keys", keys.path, "--secure", port=6012) as server,
    ):
        answer = smt_pair.ask(a, f"{smt_pair.v4(b)}:6012", (100, 1, 1), check=False, timeout=30)
    smt_pair.keys.remove(keys.text)  # for the oracle this is plaintext of no key
    assert answer.good == 0
    assert moved["drop_plaintext"] > 0
    assert server.ended["served"] == 0


WHY = (
    *("short", "type", "unknown_call", "not_begun", "header", "duplicate", "plaintext", "record"),
    *("auth", "framing", "truncated", "replay"),
)
"""Of these reasons there must be each when thousands of hostile packets come."""


class Hostilities:
    """A server in guest b with keys for two clients: a real one, and one that the host speaks for.

    In the end the latter says something that is right; ``delivered`` is what the server was given.
    """

    PORT = 50_000
    NOBODY = "10.77.0.99"
    """The host is silent when this machine is spoken to."""

    def __init__(self, smt_pair: SmtPair, port: int) -> None:
        self.smt_pair = smt_pair
        pair, b = smt_pair.pair, smt_pair.b
        self.server_name = f"{pair.v4(b)}:{port}"
        forged = smt_pair.keys_between(f"{self.NOBODY}:{self.PORT}", self.server_name, b)
        self.keys = smt_pair.new_keys(pair.a, b, port)
        self.words = f"--keys {forged.path} --keys {self.keys.path} --secure"
        key = smt.read_keys([smt_pair.key_file(forged)])[0]
        self.own = End(
            key.key, key.salt, self.NOBODY, self.PORT, pair.v4(b), port, macs=self.macs(b)
        )
        said = message(self.own, 2, b"the first message")
        self.forger = smt_fuzz.Forger(self.own, [], said)
        self.moved: dict[str, int] = {}
        self.delivered = 0

    def macs(self, vm: Vm) -> bytes:
        return bytes.fromhex((self.smt_pair.pair.mac(vm) + SPOILER).replace(":", ""))

    def speak_for(self, client: str, port: int) -> None:
        """Speak for that client and the server too, without their keys."""
        there = End(src=client, sport=port, dst=self.own.dst, dport=self.own.dport)
        a, b = self.macs(self.smt_pair.a), self.macs(self.smt_pair.b)
        self.forger.others += [replace(there, macs=b), replace(there.reversed, macs=a)]

    def send(self, frames: list[bytes]) -> None:
        for frame in frames:
            self.out.send(frame)

    def taken(self) -> int:
        """Packets that guest b has looked at since it was booted."""
        stats = self.smt_pair.stats(self.smt_pair.b)
        return sum(stats[name] for name in TAKEN)

    def until_taken(self, least: int) -> None:
        """Wait until it is so many."""
        names = "|".join(TAKEN)
        total = f"awk '$1 ~ /^({names})$/ {{n += $2}} END {{print n}}' /proc/net/smt"
        self.smt_pair.b.wait_until(f"test $({total}) -ge {least}")

    def __enter__(self) -> Self:
        b = self.smt_pair.b
        # nobody answers: give up soon
        fast = "net.smt.resend_ticks=15 net.smt.resend_interval=10 net.smt.timeout_resends=5"
        b.run(f"sysctl -qw {fast}; ip neigh replace {self.NOBODY} lladdr {SPOILER} dev {IFACE}")
        self.stack = ExitStack()
        self.stack.callback(b.run, f"sysctl -qw {TIMERS}; ip neigh del {self.NOBODY} dev {IFACE}")
        self.moved = self.stack.enter_context(self.smt_pair.counting(b))
        self.server = self.stack.enter_context(
            self.smt_pair.server(b, self.words, port=self.own.dport)
        )
        self.out = self.stack.enter_context(self.smt_pair.pair.host.packet_socket())
        delivered = self.smt_pair.stats(b)["rx_messages"]
        self.send(self.forger.said)
        self.smt_pair.wait_for(self.smt_pair.b, "rx_messages", delivered + 1)
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        with self.stack:
            if kind is None:
                self.smt_pair.no_calls()
                before = self.smt_pair.stats(self.smt_pair.b)["rx_messages"]
                self.send(message(self.own, next(self.forger.fresh), b"the last one"))
                self.smt_pair.wait_for(self.smt_pair.b, "rx_messages", before + 1)
        if kind is None:
            self.delivered = sum(self.server.ended[way] for way in ("served", "refused", "failed"))


class Forger:
    """The host, which can send anything: also in the name of guest a to a server in guest b."""

    def __init__(self, smt_pair: SmtPair, port: int) -> None:
        self.smt_pair = smt_pair
        pair = smt_pair.pair
        client = f"{pair.v4(pair.a)}:{self.PORT}"
        ends = {"10.77.0.1": pair.a, "10.77.0.2": pair.b}
        assert pair.v4(pair.a) in ends
        made = smt_pair.new_keys(pair.a, pair.b, port)
        self.path, self.client = made.path, client
        key = smt.read_keys([smt_pair.key_file(made)])[0]
        # the switch must not look for guest a behind the host
        macs = bytes.fromhex((pair.mac(pair.b) + SPOILER).replace(":", ""))
        self.end = End(
            key.key, key.salt, pair.v4(pair.a), self.PORT, pair.v4(pair.b), port, macs=macs
        )

    PORT = 50_000

    def send(self, frames: list[bytes]) -> None:
        inject(self.smt_pair.pair.host, frames)


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_replayed_spliced_truncated_and_forged_packets(smt_pair: SmtPair) -> None:
    """One message of the forger's own is right and is delivered; nothing else is."""
    pair = smt_pair.pair
    forger = Forger(smt_pair, 6020)
    end = forger.end
    words = ["--keys", forger.path, "--secure"]
    text = b"a message that the host has encrypted"
    with smt_pair.server(pair.b, *words, port=6020) as server:
        start = smt_pair.stats(pair.b)
        right = message(end, 2, text)
        forger.send(right)
        smt_pair.wait_for(smt_pair.b, "rx_messages", start["rx_messages"] + 1)

        def refused(name: str, frames: list[bytes]) -> None:
            before = smt_pair.stats(pair.b)
            forger.send(frames)
            smt_pair.wait_for(smt_pair.b, name, before[name] + 1)
            assert smt_pair.stats(pair.b)["rx_messages"] == before["rx_messages"]

        one = record(end, 4, 0, 0, text, length=len(text))
        # the server's answer finds no client, so the RPC is over: now only the window knows it
        smt_pair.wait_for(smt_pair.b, "call_icmp", start["call_icmp"] + 1)
        refused("drop_replay", right)
        # another id for the same record, a flipped bit, the record of another message
        refused("drop_auth", packets(end, 6, 0, one, len(text)))
        refused("drop_auth", packets(end, 8, 0, flip(one, 50), len(text)))
        refused("drop_auth", message(End(b"x" * 16, **_but_key(end)), 10, text))
        # cut at a record boundary: the clear length says that the first record is all
        cut = record(end, 12, 0, 0, text, length=2 * len(text))
        refused("drop_truncated", packets(end, 12, 0, cut, len(text)))
        refused("drop_plaintext", [ip(end, data_header(end, 14, 4, 0) + bytes(20) + b"text")])
        refused("drop_short", [ip(end, common(end, GRANT, 2) + b"\0")])
        refused("drop_type", [ip(end, common(end, 0x99, 2))])
        refused("drop_unknown_call", [ip(end, common(end, GRANT, 2000) + struct.pack(">IB", 9, 1))])
        for kind in (DATA, RESEND):
            forger.send([ip(end, common(end, kind, 16) + bytes(size)) for size in range(0, 30, 3)])
        forger.send(message(end, 18, b"the last one"))
        smt_pair.wait_for(smt_pair.b, "rx_messages", start["rx_messages"] + 2)
        refused("drop_replay", right)
    assert server.ended["served"] + server.ended["refused"] == 2


def is_from_client(frame: bytes, port: int) -> bool:
    return frame[12:14] + frame[23:24] == b"\x08\0\xfd" and frame[36:38] == port.to_bytes(2)


def new_smt(wire: Follower) -> list[bytes]:
    """What guests have sent, as if the host sends it."""
    spoiler = bytes.fromhex(SPOILER.replace(":", ""))
    found = [one.data for one in wire.new() if one.data[12:14] == b"\x08\x00"]
    return [
        data[:6] + spoiler + data[12:]
        for data in found
        if data[23] == PROTOCOL and data[6:12] != spoiler
    ]


def test_all_traffic_again_while_it_goes_on(smt_pair: SmtPair) -> None:
    """The host sends each packet of a client and its server once more, to whom it went."""
    a, b = smt_pair.a, smt_pair.b
    host = smt_pair.pair.host
    wire = Follower(smt_pair.pair.captures[1])  # of b: it has both directions
    number = 300
    keys = smt_pair.new_keys(a, b, 6025)
    words = f"--keys {keys.path} --secure"
    with (
        smt_pair.counting(a) as back,
        smt_pair.counting(b) as there,
        smt_pair.server(b, words, port=6025) as server,
    ):
        client = a.start(
            f"/tmp/smt_echo {smt_pair.v4(b)}:6025 --load 2000:4:{number} --load 100000:1:20"
            f" --timeout 90 {words}"
        )
        again = 0
        while client.poll() is None:
            frames = new_smt(wire)
            again += len(frames)
            inject(host, frames)
        said = json.loads(client.wait(90, check=False).stdout)
        inject(host, new_smt(wire))
    assert said["errors"] == {}
    assert server.ended["served"] == number + 20 == there["rx_messages"] == back["rx_messages"]
    assert again > 2 * number
    assert there["drop_replay"] > number / 2
    assert back["drop_unknown_call"] > number / 2


def _but_key(end: End) -> dict[str, Any]:
    names = ("salt", "src", "sport", "dst", "dport", "macs")
    return {name: getattr(end, name) for name in names}


@pytest.mark.timeout(240 + smt_fuzz.PACKETS / 50)
def test_hostile_packets(smt_pair: SmtPair) -> None:
    """All in the name of one client, who has keys: each is counted, none is delivered."""
    with Hostilities(smt_pair, 6040) as they:
        total = they.taken()

        def send(frames: list[bytes]) -> None:
            nonlocal total
            total += len(frames)
            they.send(frames)
            they.until_taken(total)

        smt_fuzz.attack(they.forger, send, smt_pair.pair.lab.seed)
    assert they.delivered == 2  # the first and the last, which are right
    missing = {f"drop_{why}" for why in WHY} - set(they.moved)
    assert missing == set()


@pytest.mark.timeout(240 + smt_fuzz.PACKETS / 50)
def test_hostile_packets_beside_a_client(smt_pair: SmtPair) -> None:
    """Also in the name of a client, and of its server, with the ids of what they have under way."""
    a, b = smt_pair.a, smt_pair.b
    wire = Follower(smt_pair.pair.captures[1])
    with Hostilities(smt_pair, 6041) as they:
        loads = "--load 1000000:2:100000 --load 3000:2:1000000"
        client = a.start(
            f"exec /tmp/smt_echo {they.server_name} {loads} --timeout 3600 --secure"
            f" --keys {they.keys.path}"
        )
        smt_pair.wait_for(smt_pair.b, "rx_messages", smt_pair.stats(b)["rx_messages"] + 5)
        first = wire.collect(lambda one: is_from_client(one.data, they.own.dport), bool)[0].data
        they.speak_for(smt_pair.v4(a), int.from_bytes(first[34:36], "big"))

        def send(frames: list[bytes]) -> None:
            they.forger.ids += [int.from_bytes(f[54:62], "big") for f in new_smt(wire)[-20:]]
            before = they.taken()
            they.send(frames)
            they.until_taken(before + len(frames) // 2)  # others are for guest a

        smt_fuzz.attack(they.forger, send, smt_pair.pair.lab.seed)
        client.kill("TERM")
        said = json.loads(client.wait(60, check=False).stdout)
    assert they.delivered <= 2 + sum(load["sent"] for load in said["loads"])
    # who can forge can also end an RPC, but not have another text delivered
    assert set(said["errors"]) <= {"ETIMEDOUT", "ECONNRESET"}
    assert sum(load["good"] for load in said["loads"]) > 0


def test_module_is_unloaded_and_loaded_under_traffic(smt_pair: SmtPair) -> None:
    a, b = smt_pair.a, smt_pair.b
    with smt_pair.server(b, port=6030):
        client = a.start(f"/tmp/smt_echo {smt_pair.v4(b)}:6030 --load 2000:20:100000 --timeout 60")
        smt_pair.wait_for(smt_pair.b, "rx_messages", smt_pair.stats(b)["rx_messages"] + 50)
        # a socket holds the module: it goes with the last one
        assert b.run("rmmod smt", check=False).status != 0
        client.kill()
        client.wait(20, check=False)
    for vm in (a, b):
        vm.run("rmmod smt", timeout=60)
        smt_pair.load(vm)
    smt_pair.talk((5000, 4, 20))
