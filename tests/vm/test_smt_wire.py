# SPDX-License-Identifier: GPL-2.0-or-later
"""SMT over a wire that misbehaves, with peers that go, and with packets that nobody sent."""

import struct
from collections.abc import Iterator
from typing import Any

import pytest

from tests.oracles import smt
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
from tests.vm.conftest import PairMaker
from tests.vm.frames import inject
from tests.vm.smt import SmtPair

pytestmark = pytest.mark.timeout(240)

SMT = "ip.proto == 253"
LOADS = ((64, 4, 60), (5000, 4, 40), (100_000, 2, 6))


@pytest.fixture(scope="module")
def smt_pair(make_pair: PairMaker) -> Iterator[SmtPair]:
    """Guests with the module; the oracle reads every record that they have sent in the end."""
    with make_pair("smtw") as pair:
        made = SmtPair(pair, pair.lab.folder)
        for vm in (pair.a, pair.b):
            made.load(vm)
        yield made
        pair.model.stop()
        records = 0
        for capture in pair.captures:
            verdict = smt.judge(capture, made.all_keys(), outbound=True)
            assert verdict.wrong[:5] == []
            records += verdict.records
        assert records > 0


@pytest.mark.parametrize(
    ("words", "counted"),
    [
        ({"loss": 0.03}, "lost"),
        ({"loss": 0.02, "burst": 3}, "lost"),
        ({"duplicate": 0.1}, "duplicated"),
        ({"reorder": 0.1}, "reordered"),
        ({"corrupt": 0.02, "corrupt_bytes": "74-"}, "corrupted"),
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
            a, f"{smt_pair.v4(b)}:6011", (100, 1, 1), check=False, timeout=30,
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
        key = smt.read_keys([self._save(made.text)])[0]
        macs = bytes.fromhex((pair.mac(pair.b) + pair.mac(pair.a)).replace(":", ""))
        self.end = End(
            key.key, key.salt, pair.v4(pair.a), self.PORT, pair.v4(pair.b), port, macs=macs
        )

    PORT = 50_000

    def _save(self, text: str) -> Any:
        path = self.smt_pair.folder / "forger.keys"
        path.write_text(text)
        return path

    def send(self, frames: list[bytes]) -> None:
        inject(self.smt_pair.pair.host, frames)


def wait_for(smt_pair: SmtPair, name: str, least: int) -> None:
    smt_pair.b.wait_until(
        f"test $(awk '$1 == \"{name}\" {{print $2}}' /proc/net/smt) -ge {least}", timeout=20
    )


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
        wait_for(smt_pair, "rx_messages", start["rx_messages"] + 1)

        def refused(name: str, frames: list[bytes]) -> None:
            before = smt_pair.stats(pair.b)
            forger.send(frames)
            wait_for(smt_pair, name, before[name] + 1)
            assert smt_pair.stats(pair.b)["rx_messages"] == start["rx_messages"] + 1

        one = record(end, 4, 0, 0, text, length=len(text))
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
        wait_for(smt_pair, "rx_messages", start["rx_messages"] + 2)
    assert server.ended["served"] + server.ended["refused"] == 2


def _but_key(end: End) -> dict[str, Any]:
    names = ("salt", "src", "sport", "dst", "dport", "macs")
    return {name: getattr(end, name) for name in names}


def test_module_is_unloaded_and_loaded_under_traffic(smt_pair: SmtPair) -> None:
    a, b = smt_pair.a, smt_pair.b
    with smt_pair.server(b, port=6030):
        client = a.start(f"/tmp/smt_echo {smt_pair.v4(b)}:6030 --load 2000:20:100000 --timeout 60")
        wait_for(smt_pair, "rx_messages", smt_pair.stats(b)["rx_messages"] + 50)
        # a socket holds the module: it goes with the last one
        assert b.run("rmmod smt", check=False).status != 0
        client.kill()
        client.wait(20, check=False)
    for vm in (a, b):
        vm.run("rmmod smt", timeout=60)
        smt_pair.load(vm)
    smt_pair.talk((5000, 4, 20))
