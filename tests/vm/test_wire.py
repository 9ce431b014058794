# SPDX-License-Identifier: GPL-2.0-or-later
"""A wire that misbehaves on demand: the guests notice what they should, and nothing else."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nicmodel.entry import Entry
from nicmodel.wire.fate import Judge
from nicmodel.wire.rule import rule
from tests.oracles.capture import Follower, write_pcap
from tests.oracles.tshark import fields, needs_tshark
from tests.vm.frames import SPOILED_PORT
from tests.vm.pair import Pair
from tests.vm.traffic import IFACE, MEBI, tcp_counters, transfer

CARRIER = f"/sys/class/net/{IFACE}/carrier"
CARRIER_CHANGES = f"/sys/class/net/{IFACE}/carrier_changes"
DATA = {"match": "tcp.len > 0", "direction": "in"}
"""Segments with data on their way to guest b."""


@pytest.fixture
def wire(erring: Pair) -> Pair:
    """The shared guests; the next test that needs whole cables mends them."""
    return erring


def wait(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Impaired:
    """The cable of guest b with a rule; counts what the wire and the guests' TCP did meanwhile."""

    def __init__(self, pair: Pair, **words: Any) -> None:
        self.pair = pair
        self.cable = pair.model.control.link(pair.b.name)
        self.words = words

    def __enter__(self) -> "Impaired":
        self.cable.impair(self.words)
        self.before = self.counted()
        return self

    def __exit__(self, *_: object) -> None:
        after = self.counted()
        self.cable.clear()
        self.wire, self.a, self.b = (
            {key: value - was.get(key, 0) for key, value in now.items()}
            for now, was in zip(after, self.before, strict=True)
        )

    def counted(self) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
        found: dict[str, int] = self.cable.status()["in"]
        return found, tcp_counters(self.pair.a), tcp_counters(self.pair.b)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "words",
    [{"loss": 0.01}, {"loss": 0.05}, {"loss": 0.03, "burst": 2}],
    ids=["1 percent", "5 percent", "bursts"],
)
def test_tcp_survives_loss(wire: Pair, words: dict[str, Any]) -> None:
    """What is lost is sent again, by the sender's own count.

    It may be a little lower: neighbours that are short go as one (tcp_retrans_try_collapse). Bursts
    are short, for they last by frames: one that meets a lone retransmission doubles its time-out.
    """
    with Impaired(wire, **DATA, **words) as link:
        transfer(wire.a, wire.b, wire.v4(wire.b), 4 * MEBI, timeout=200)
    assert link.wire["lost"] > 0
    assert link.a["RetransSegs"] >= 0.8 * link.wire["lost"]


@pytest.mark.timeout(300)
def test_tcp_survives_duplicates(wire: Pair) -> None:
    """The receiver tells the sender of each segment that it got twice (RFC 2883)."""
    with Impaired(wire, **DATA, duplicate=0.05) as link:
        transfer(wire.a, wire.b, wire.v4(wire.b), 4 * MEBI, timeout=100)
    assert link.wire["duplicated"] > 0
    assert link.b["TCPDSACKOldSent"] + link.b["TCPDSACKOfoSent"] > 0


@pytest.mark.timeout(300)
def test_tcp_survives_reordering(wire: Pair) -> None:
    with Impaired(wire, **DATA, reorder=0.05) as link:
        transfer(wire.a, wire.b, wire.v4(wire.b), 4 * MEBI, timeout=100)
    assert link.wire["reordered"] > 0
    assert link.wire["lost"] == 0
    assert link.b["TCPOFOQueue"] > 0


@pytest.mark.timeout(300)
def test_corruption_is_found_and_repaired(wire: Pair) -> None:
    """Each segment with a flipped bit is counted by the receiver's kernel and sent again."""
    with Impaired(wire, **DATA, corrupt=0.02, corrupt_bytes="66-") as link:
        transfer(wire.a, wire.b, wire.v4(wire.b), 4 * MEBI, port=SPOILED_PORT, timeout=150)
    assert link.wire["corrupted"] > 0
    assert link.b["InCsumErrors"] == link.wire["corrupted"]
    assert link.a["RetransSegs"] >= 0.8 * link.wire["corrupted"]


def round_trip(pair: Pair) -> float:
    """The shortest of ten, ms."""
    said = pair.a.run(["ping", "-c", "10", "-i", "0.05", pair.v4(pair.b)], timeout=60).stdout
    found = re.search(r"= ([\d.]+)/", said)
    assert found, said
    return float(found[1])


def test_delay_is_what_was_asked_for(pair: Pair) -> None:
    usual = round_trip(pair)
    with Impaired(pair, delay="40ms", direction="in"):
        one_way = round_trip(pair)
    with Impaired(pair, delay="40ms"):
        both_ways = round_trip(pair)
    assert 40 <= one_way < 40 + usual + 15
    assert 80 <= both_ways < 80 + usual + 15


@pytest.mark.timeout(300)
def test_rate_bounds_the_throughput(pair: Pair) -> None:
    def throughput() -> float:
        command = ["iperf3", "-c", pair.v4(pair.b), "-n", "6M", "-J"]
        said = json.loads(pair.a.run(command, timeout=90).stdout)
        return float(said["end"]["sum_received"]["bits_per_second"])

    with pair.iperf_server(pair.b):
        free = throughput()
        with Impaired(pair, rate="10Mbit", direction="in"):
            bounded = throughput()
    assert free > 15e6
    assert 5e6 < bounded < 10e6


def test_rate_of_the_whole_cable_is_its_speed(pair: Pair) -> None:
    def speed() -> str:
        said = pair.b.run(["ethtool", IFACE]).stdout
        return next(line.split()[1] for line in said.splitlines() if "Speed:" in line)

    usual = speed()
    with Impaired(pair, rate="10Gbit"):
        assert speed() == "10000Mb/s"
    assert speed() == usual == "100000Mb/s"


def test_pulled_cable(pair: Pair) -> None:
    """The guest's kernel sees the carrier go and come, the other guest's does not."""
    cable = pair.model.control.link(pair.b.name)
    changes = int(pair.b.read_file(CARRIER_CHANGES))
    said = len(pair.b.kernel_log())
    cable.down()
    try:
        pair.b.wait_until(f"grep -q 0 {CARRIER}", timeout=20)
        assert pair.a.read_file(CARRIER).strip() == "1"
        assert pair.a.run(f"ping -c 1 -W 1 {pair.v4(pair.b)}", check=False).status
    finally:
        cable.up()
    pair.b.wait_until(f"grep -q 1 {CARRIER}", timeout=20)
    pair.connected()
    assert int(pair.b.read_file(CARRIER_CHANGES)) == changes + 2
    log = pair.b.kernel_log()[said:]
    assert 0 < log.find("Link down") < log.find("Link up")


@pytest.mark.timeout(300)
def test_transfer_goes_on_after_the_cable_was_pulled(wire: Pair) -> None:
    """Three times in mid transfer, which lasts until it is told to end."""
    link = Impaired(wire, rate="20Mbit", direction="in")
    receiver = wire.b.start("sh -c 'socat -u TCP-LISTEN:7001,reuseaddr - | sha256sum'")
    with link:
        wire.a.run(f"rm -f /tmp/stop /tmp/rounds; head -c {MEBI} /dev/urandom >/tmp/sent")
        sender = wire.a.start(
            "until test -e /tmp/stop; do cat /tmp/sent; echo >>/tmp/rounds; done | "
            f"socat -u - TCP:{wire.v4(wire.b)}:7001,retry=50,interval=0.1"
        )
        for _ in range(3):
            goal = link.counted()[0]["delivered"] + 500
            wait(lambda goal=goal: link.counted()[0]["delivered"] > goal, 60)  # type: ignore[misc]
            assert sender.poll() is None
            link.cable.down()
            wire.b.wait_until(f"grep -q 0 {CARRIER}", timeout=20)
            link.cable.up()
            wire.b.wait_until(f"grep -q 1 {CARRIER}", timeout=20)
        wire.a.run("touch /tmp/stop")
        sender.wait(120)
        received = receiver.wait(60).stdout.split()[0]
    again = "for i in $(seq $(wc -l </tmp/rounds)); do cat /tmp/sent; done | sha256sum"
    assert received == wire.a.run(again).stdout.split()[0]
    wire.a.run("rm /tmp/sent /tmp/stop /tmp/rounds")
    assert link.a["RetransSegs"] > 0


@needs_tshark
def test_third_segment_is_lost(pair: Pair, tmp_path: Path) -> None:
    """tshark sees exactly one retransmission where guest a sends, and none that is not needed."""
    followers = [Follower(path) for path in pair.captures]
    with Impaired(
        pair, match="tcp.dstport == 5001 and tcp.len > 0", nth=3, loss=1, direction="in"
    ) as link:
        transfer(pair.a, pair.b, pair.v4(pair.b), 40_000, port=5001)
    assert link.wire["lost"] == 1
    # the captures of all the tests before are long: tshark reads this conversation alone
    talks = [follower.conversation(5001, fins=2) for follower in followers]
    a, b = (
        write_pcap(tmp_path / f"{name}.pcap", [frame.data for frame in talk])
        for name, talk in zip("ab", talks, strict=True)
    )
    segments = "tcp.dstport == 5001 && tcp.len > 0"
    sent = [int(seq) for (seq,) in fields(a, "tcp.seq", only=segments)]
    arrived = [int(seq) for (seq,) in fields(b, "tcp.seq", only=segments)]
    (lost,) = {seq for seq in sent if sent.count(seq) > 1}
    assert sent.index(lost) == 2
    assert len(sent) == len(arrived) + 1
    assert arrived.count(lost) == 1
    again = fields(a, "tcp.seq", only=f"{segments} && tcp.analysis.retransmission")
    assert again == [(str(lost),)]


@needs_tshark
def test_a_run_can_be_judged_again(wire: Pair) -> None:
    """The capture of what entered the link, and the seed, give the same decisions once more."""
    cable = wire.model.control.link(wire.a.name)
    chances = {"loss": 0.03, "duplicate": 0.03, "reorder": 0.03}
    words = {"match": "frame.len > 500", "direction": "out", **chances}

    def told() -> list[tuple[int, str]]:
        events = wire.events("FrameImpaired")
        return [(e["frame"], e["deed"]) for e in events if e["link"] == f"{wire.a.name}/out"]

    # without rules nothing is judged: these stand still, while a guest may send at any time
    told_before = len(told())
    judged_before = cable.status().get("out", {"frames": 0})["frames"]
    cable.impair(words)
    try:
        transfer(wire.a, wire.b, wire.v4(wire.b), 2 * MEBI, timeout=100)
    finally:
        state = wire.model.control.status()
        cable.clear()
    judged = state["links"][wire.a.name]["out"]["frames"] - judged_before
    first = state["ports"][wire.a.name]["sent"] - judged
    sent = "frame.packet_flags == 2"
    wait(lambda: len(fields(wire.captures[0], "frame.len", only=sent)) >= first + judged)
    lengths = [int(length) for (length,) in fields(wire.captures[0], "frame.len", only=sent)]
    lengths = lengths[first : first + judged]

    def judge(seed: int) -> list[tuple[int, str]]:
        court = Judge([rule(Entry("rule", words))], f"{seed}/link/{wire.a.name}/out")
        fates = [(number, court.judge(bytes(length))) for number, length in enumerate(lengths, 1)]
        return [(number, deed) for number, fate in fates if fate for deed, _ in fate.why]

    decided = [(frame, deed) for frame, deed in told()[told_before:] if frame <= judged]
    assert len(decided) > 20
    assert judge(wire.lab.seed) == decided
    assert judge(wire.lab.seed + 1) != decided
