# SPDX-License-Identifier: GPL-2.0-or-later
"""Impaired links: conservation, replay, and each thing that a rule can do; the test owns time."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nicmodel.entry import Entry
from nicmodel.errors import UserError
from nicmodel.frame import Checked, Frame, Train
from nicmodel.wire import impair
from nicmodel.wire.cables import RULES_MAX, Cables
from nicmodel.wire.events import FrameImpaired
from nicmodel.wire.fate import Judge, flipped
from nicmodel.wire.impair import ImpairedLink
from nicmodel.wire.rule import Rule, of_words, rule
from nicmodel.wire.switch import Switch
from tests.unit.wire.stations import Clock, Net, Station, frame, mac, train

MS = 10**6


@dataclass
class Time(Clock):
    """A clock and scheduler that the test turns."""

    waiting: list[tuple[int, int, Callable[[], None]]] = field(default_factory=list)
    number: int = 0

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.call_later(0, callback)

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        self.number += 1
        heapq.heappush(self.waiting, (self.now + round(delay * 1e9), self.number, callback))

    def until(self, when: int) -> None:
        while self.waiting and self.waiting[0][0] <= when:
            self.now, _, callback = heapq.heappop(self.waiting)
            callback()
        self.now = when


class Bench:
    """Stations a and b on one link with rules."""

    def __init__(self, *rules: dict[str, Any], seed: int = 1) -> None:
        self.net = Net()
        self.time = Time()
        self.a, self.b = Station("a"), Station("b")
        self.link = ImpairedLink(
            self.net.fabric,
            self.a.port,
            self.b.port,
            name="a",
            seed=seed,
            scheduler=self.time,
            clock=self.time,
            tracer=self.net.tracer,
        )
        self.rule(*rules)

    def rule(self, *rules: dict[str, Any]) -> None:
        self.link.rule([made(**one) for one in rules])

    def send(self, count: int, first: int = 0, gap: int = 0) -> None:
        for number in range(first, first + count):
            self.a.port.send(numbered(number))
            self.time.until(self.time.now + gap)

    def got(self) -> list[int]:
        """Numbers of the frames that b got since the last call."""
        return [int.from_bytes(one.data[14:18], "big") for t in self.b.take() for one in t.frames()]

    def deeds(self) -> list[tuple[int, str]]:
        return [(event.frame, event.deed) for event in self.net.sink.of(FrameImpaired)]

    @property
    def out(self) -> dict[str, int]:
        return self.link._ways["out"].status()


def made(**words: Any) -> Rule:
    return rule(Entry("rule", words))


def numbered(number: int, length: int = 100) -> Frame:
    return frame(mac(2), mac(1), number.to_bytes(4, "big").ljust(length - 14, b"\x55"))


def long_train(count: int) -> Train:
    made = train(mac(2), mac(1), count)
    for index, row in enumerate(made.rows):
        row[14:18] = list(index.to_bytes(4, "big"))
    return made


def test_without_rules_the_same_object_arrives() -> None:
    bench = Bench()
    sent = train(mac(2), mac(1), 5)
    bench.a.port.send(sent)
    assert bench.b.got[0] is sent
    assert bench.link.ways() == {}


def test_rule_of_one_direction_leaves_the_other_alone() -> None:
    bench = Bench({"loss": 1, "direction": "in"})
    sent = train(mac(2), mac(1), 5)
    bench.a.port.send(sent)
    assert bench.b.got[0] is sent
    bench.b.port.send(frame(mac(1), mac(2)))
    assert bench.a.got == []


def test_loss_cuts_a_train_only_where_it_strikes() -> None:
    bench = Bench({"loss": 1, "nth": "3-4"})
    bench.a.port.send(long_train(8))
    arrived = bench.b.got
    assert [one.count for one in arrived] == [2, 4]
    assert all(isinstance(one, Train) for one in arrived)
    assert [one.octets for one in arrived] == [2 * 100, 3 * 100 + 80]
    assert bench.got() == [0, 1, 4, 5, 6, 7]
    assert bench.deeds() == [(3, "lost"), (4, "lost")]


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("probability", [0.01, 0.2])
def test_loss_is_as_frequent_as_asked(probability: float, whole: bool) -> None:
    bench = Bench({"loss": probability})
    if whole:
        bench.a.port.send(long_train(20_000))
        bench.time.until(1)
    else:
        bench.send(20_000)
    deviation = (20_000 * probability * (1 - probability)) ** 0.5
    assert abs(bench.out["lost"] - 20_000 * probability) < 5 * deviation
    assert len(bench.got()) == 20_000 - bench.out["lost"]


def test_bursts_are_as_long_as_asked() -> None:
    bench = Bench({"loss": 0.1, "burst": 5})
    bench.send(50_000)
    got = bench.got()
    gaps = [after - before - 1 for before, after in pairwise(got)]
    bursts = [gap for gap in gaps if gap]
    assert 4.5 < sum(bursts) / len(bursts) < 5.5
    assert 0.085 < sum(bursts) / 50_000 < 0.115


def test_gilbert_is_the_same_in_other_words() -> None:
    one, other = Bench({"loss": 0.2, "burst": 4}), Bench({"gilbert": [0.0625, 0.25]})
    for bench in (one, other):
        bench.send(1000)
    assert one.got() == other.got()


def test_duplicate() -> None:
    bench = Bench({"duplicate": 1, "nth": 2})
    bench.send(3)
    assert bench.got() == [0, 1, 1, 2]


@pytest.mark.parametrize("whole", [True, False])
def test_reordered_frame_waits_for_later_ones(whole: bool) -> None:
    bench = Bench({"reorder": 1, "nth": 2, "reorder_by": 3})
    if whole:
        bench.a.port.send(long_train(8))
    else:
        bench.send(8)
    assert bench.got() == [0, 2, 3, 4, 1, 5, 6, 7]
    assert bench.out["reordered"] == 1


def test_reordered_frame_does_not_wait_for_ever() -> None:
    bench = Bench({"reorder": 1, "nth": 2, "reorder_by": 3, "reorder_time": "20ms"})
    bench.send(3)
    bench.time.until(19 * MS)
    assert bench.got() == [0, 2]
    assert bench.out["on_the_way"] == 1
    bench.time.until(20 * MS)
    assert bench.got() == [1]
    bench.send(5, first=3)
    assert bench.got() == [3, 4, 5, 6, 7]


def test_corruption_flips_bits_where_asked_and_drops_the_flags() -> None:
    bench = Bench({"corrupt": 1, "corrupt_bits": 3, "corrupt_bytes": "20-23"})
    before = numbered(0)
    bench.a.port.send(Frame(before.data, Checked.BOTH))
    (after,) = bench.b.got
    assert isinstance(after, Frame)
    assert after.checked is Checked.NONE
    assert after.headers is None
    changed = [a ^ b for a, b in zip(before.data, after.data, strict=True)]
    assert sum(bits.bit_count() for bits in changed) == 3
    assert not any(changed[:20] + changed[24:])
    (event,) = bench.net.sink.of(FrameImpaired)
    assert flipped(before.data, event.bits) == after.data


def test_corruption_spares_the_ethernet_header_and_short_frames() -> None:
    bench = Bench({"corrupt": 1, "corrupt_bits": 9999}, {"corrupt": 1, "corrupt_bytes": "500-"})
    before = numbered(7)
    bench.a.port.send(before)
    (after,) = bench.b.got
    assert isinstance(after, Frame)
    assert after.data[:14] == before.data[:14]
    assert all(a ^ b == 0xFF for a, b in zip(before.data[14:], after.data[14:], strict=True))


def test_delay_keeps_order_and_is_exact() -> None:
    bench = Bench({"delay": "5ms"})
    bench.send(3, gap=1000)
    bench.time.until(5 * MS - 1)
    assert bench.got() == []
    bench.time.until(5 * MS)
    assert bench.got() == [0]
    bench.time.until(5 * MS + 2000)
    assert bench.got() == [1, 2]


@pytest.mark.parametrize("distribution", ["uniform", "normal"])
def test_jitter_spreads_arrivals_and_reorders(distribution: str) -> None:
    bench = Bench({"delay": "10ms", "jitter": "2ms", "distribution": distribution})
    bench.send(2000)
    times = []
    for at in range(0, 30 * MS, MS // 10):
        bench.time.until(at)
        times += [at] * len(bench.got())
    assert len(times) == 2000
    mean = sum(times) / 2000
    spread = (sum((at - mean) ** 2 for at in times) / 2000) ** 0.5
    assert abs(mean - 10 * MS) < 0.3 * MS
    wanted = 2 * MS / 3**0.5 if distribution == "uniform" else 2 * MS
    assert abs(spread - wanted) < 0.2 * MS


def test_rate_bounds_the_throughput_and_a_full_queue_drops_the_tail() -> None:
    """1 Mbit/s: a frame of 101 + 24 bytes takes 1 ms."""
    bench = Bench({"rate": "1Mbit", "queue": "1010"})
    for number in range(20):
        bench.a.port.send(numbered(number, 101))
    bench.time.until(MS - 1)
    assert bench.got() == []
    bench.time.until(3 * MS)
    assert bench.got() == [0, 1, 2]
    bench.time.until(1000 * MS)
    # an idle line takes any; then a frame of 101 finds room behind 7 that take 125 each
    assert bench.got() == list(range(3, 8))
    assert bench.out["overflowed"] == 12
    assert bench.deeds()[0] == (9, "overflowed")


def test_queue_in_frames() -> None:
    bench = Bench({"rate": "1Mbit", "queue": "4 frames"})
    bench.send(20)
    bench.time.until(1000 * MS)
    assert bench.got() == [0, 1, 2, 3, 4]


def test_rate_of_all_frames_is_the_speed_of_the_link() -> None:
    bench = Bench()
    bench.rule({"rate": "25Gbit"}, {"rate": "10Gbit"})
    assert [port.speed for port in (bench.a.port, bench.b.port)] == [10_000, 10_000]
    for other in ({"direction": "out"}, {"match": "tcp"}):
        bench.rule({"rate": "10Gbit", **other})
        assert [port.speed for port in (bench.a.port, bench.b.port)] == [None, None]


def test_match_counts_only_what_it_means() -> None:
    bench = Bench({"match": "frame.len > 100", "nth": 2, "loss": 1})
    for number, length in enumerate([100, 101, 100, 101, 101]):
        bench.a.port.send(numbered(number, length))
    assert bench.got() == [0, 1, 2, 4]


def test_every_rule_judges_the_frame_as_sent() -> None:
    """A lost frame still counts for the rules behind, so that these do the same as alone."""
    bench = Bench({"loss": 1, "nth": 1}, {"duplicate": 1, "nth": 2})
    bench.send(3)
    assert bench.got() == [1, 1, 2]


def test_pulled_cable_loses_what_is_on_the_way() -> None:
    bench = Bench({"delay": "5ms"}, {"reorder": 1, "nth": 2})
    bench.send(3)
    bench.link.plug(False)
    bench.link.plug(True)
    bench.time.until(1000 * MS)
    assert bench.got() == []
    assert (bench.out["cut"], bench.out["on_the_way"]) == (3, 0)
    bench.send(1, first=9)
    bench.time.until(2000 * MS)
    assert bench.got() == [9]


def test_clearing_delivers_what_waits_first() -> None:
    bench = Bench({"delay": "5ms"}, {"reorder": 1, "nth": 2})
    bench.send(300)
    bench.rule()
    bench.send(1, first=300)
    got = bench.got()
    assert got[-1] == 300
    assert sorted(got) == list(range(301))
    bench.time.until(1000 * MS)
    assert bench.got() == []


def test_what_is_on_the_way_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(impair, "HELD_OCTETS", 1000)
    bench = Bench({"delay": "1s"})
    bench.send(100)
    assert bench.out["on_the_way"] == 10
    monkeypatch.setattr(impair, "HELD_FRAMES", 12)
    monkeypatch.setattr(impair, "HELD_OCTETS", 10**6)
    bench.send(100)
    assert bench.out["on_the_way"] == 12
    assert bench.out["overflowed"] == 188


def test_reordering_everything_costs_little_and_loses_nothing() -> None:
    bench = Bench({"reorder": 0.5, "reorder_by": 5000, "reorder_time": "1s"})
    bench.send(30_000)
    bench.time.until(10**10)
    assert sorted(bench.got()) == list(range(30_000))


def test_long_train_through_a_switch_is_not_taken_for_a_loop() -> None:
    """All frames of a train are delayed or doubled alone, behind another delivery."""
    bench = Bench()
    switch = Switch("sw", bench.time)
    net, far = bench.net, Station("far")
    a = Station("x")
    options = {"scheduler": bench.time, "clock": bench.time, "tracer": net.tracer, "seed": 1}
    ImpairedLink(net.fabric, a.port, switch.add_port("x"), name="x", **options)  # type: ignore[arg-type]
    link = ImpairedLink(net.fabric, far.port, switch.add_port("far"), name="far", **options)  # type: ignore[arg-type]
    link.rule([made(duplicate=1)])
    a.port.send(long_train(3000))
    bench.time.until(10**9)
    assert sum(one.count for one in far.got) == 6000
    assert net.fabric.looped == 0


RULES = st.fixed_dictionaries(
    {},
    optional={
        "direction": st.sampled_from(["out", "in"]),
        "match": st.sampled_from(["frame.len > 90", "frame.number in {1..7, 20}", "tcp"]),
        "nth": st.sampled_from(["1-", "2", "3-9"]),
        "loss": st.sampled_from([0.1, 0.5, "100%"]),
        "duplicate": st.sampled_from([0.1, 1]),
        "corrupt": st.sampled_from([0.1, 1]),
        "reorder": st.sampled_from([0.2, 1]),
        "delay": st.sampled_from(["0", "1ms", "30us"]),
        "jitter": st.sampled_from(["1ms"]),
        "rate": st.sampled_from(["1Mbit", "1Gbit"]),
    },
).filter(lambda words: words.keys() - {"direction", "match", "nth"})
ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("frame"), st.integers(60, 200)),
        st.tuples(st.just("train"), st.integers(1, 40)),
        st.tuples(st.just("wait"), st.integers(0, 3 * MS)),
        st.tuples(st.just("pull"), st.just(0)),
        st.tuples(st.just("clear"), st.just(0)),
    ),
    max_size=20,
)


@given(st.lists(RULES, max_size=4), ACTS)
def test_nothing_is_lost_or_made_that_is_not_counted(
    rules: list[dict[str, Any]], acts: list[tuple[str, int]]
) -> None:
    bench = Bench(*rules)
    sent = 0
    for act, size in acts:
        if act == "wait":
            bench.time.until(bench.time.now + size)
        elif act == "pull":
            bench.link.plug(False)
            bench.link.plug(True)
        elif act == "clear":
            bench.rule(*rules)
        else:
            traffic = numbered(0, size) if act == "frame" else long_train(size)
            sent += traffic.count
            bench.a.port.send(traffic)
        if bench.link._out is not None:
            out = bench.out
            gone = ("delivered", "lost", "overflowed", "cut", "on_the_way")
            assert out["frames"] == sent
            assert out["frames"] + out["duplicated"] == sum(out[key] for key in gone)
            assert out["delivered"] == bench.b.port.counts.received
    bench.time.until(bench.time.now + 10**11)
    assert bench.out["on_the_way"] == 0
    assert bench.link._ways["out"]._held_octets == 0


@given(st.lists(RULES, min_size=1, max_size=3), st.lists(st.integers(60, 200), max_size=60))
def test_time_has_no_part_in_a_frames_fate(rules: list[dict[str, Any]], lengths: list[int]) -> None:
    """The same frames at other times, alone or as a train, and judged once more without a link."""
    rules = [{key: value for key, value in words.items() if key != "rate"} for words in rules]
    rules = [words for words in rules if words.keys() - {"direction", "match", "nth"}]
    slow, fast = Bench(*rules), Bench(*rules)
    for number, length in enumerate(lengths):
        slow.a.port.send(numbered(number, length))
        slow.time.until(slow.time.now + 7 * MS)
        fast.a.port.send(numbered(number, length))
    assert slow.net.sink.of(FrameImpaired) == fast.net.sink.of(FrameImpaired)
    judge = Judge(
        [made(**words) for words in rules if words.get("direction") != "in"], "1/link/a/out"
    )
    again = []
    for number, length in enumerate(lengths, 1):
        fate = judge.judge(numbered(number - 1, length).data)
        again += [(number, deed) for deed, _ in fate.why] if fate else []
    assert again == fast.deeds()


def test_seed_decides() -> None:
    one, same, other = (Bench({"loss": 0.1, "corrupt": 0.1}, seed=seed) for seed in (1, 1, 2))
    for bench in (one, same, other):
        bench.send(1000)
    assert one.deeds() == same.deeds() != other.deeds()
    assert one.got() == same.got() != other.got()
    one.net.sink.records.clear()
    one.rule({"loss": 0.1, "corrupt": 0.1})
    one.send(1000)
    assert one.deeds() == same.deeds(), "rules that are set begin anew"


def test_directions_are_independent() -> None:
    bench = Bench({"loss": 0.1})
    for number in range(1000):
        bench.a.port.send(numbered(number))
        bench.b.port.send(numbered(number))
    links = {"a/out", "a/in"}
    lost = {
        link: [e.frame for e in bench.net.sink.of(FrameImpaired) if e.link == link]
        for link in links
    }
    assert lost["a/out"] != lost["a/in"]


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({}, "rule: nothing happens; add for example loss = 0.01"),
    ({"direction": "out"}, "rule: nothing happens;"),
    ({"los": 1}, "rule: los is unknown; did you mean loss?"),
    ({"loss": 1.5}, "rule, loss: write a share from 0 to 1, or like 5%, instead of 1.5"),
    ({"loss": "x"}, "rule, loss: write a share from 0 to 1"),
    ({"loss": True}, "rule, loss: write a share from 0 to 1"),
    ({"loss": float("nan")}, "rule, loss: write a share from 0 to 1"),
    ({"loss": "101%"}, "rule, loss: write a share from 0 to 1"),
    ({"loss": 0.1, "gilbert": [0, 1]}, "rule: loss and gilbert say the same; remove one"),
    ({"gilbert": 0.1}, "rule, gilbert: write two shares"),
    ({"burst": 3}, "rule: burst means nothing without loss; add loss"),
    (
        {"loss": 0.9, "burst": 2},
        "rule, burst: 0.9 of all frames are lost in longer bursts; raise it",
    ),
    ({"loss": 0.1, "burst": 0.5}, "rule, burst: write the mean length in frames, 1 or more"),
    ({"corrupt_bits": 3}, "rule: corrupt_bits means nothing without corrupt; add corrupt"),
    ({"corrupt": 1, "corrupt_bits": 0}, "rule, corrupt_bits: write a number from 1 to 99999"),
    ({"corrupt": 1, "corrupt_bytes": "9-3"}, "corrupt_bytes: the range 9-3 is empty; begin"),
    ({"loss": 1, "nth": 0}, "rule, nth: frames are counted from 1"),
    ({"loss": 1, "nth": "a"}, "rule, nth: write a number, or a range like 3-5 or 3-, instead of"),
    ({"delay": 5}, "rule, delay: write a time with its unit, like 5ms or 200us, instead of 5"),
    ({"delay": "2h"}, "rule, delay: write a time with its unit"),
    ({"delay": "61s"}, "rule, delay: 61s is too long; 60s is the most"),
    ({"delay": "9" * 39 + "s"}, "is too long"),
    ({"delay": "1ms", "distribution": "normal"}, "rule: distribution means nothing without jitter"),
    ({"jitter": "1ms", "distribution": "norma"}, "distribution: norma is unknown; did you mean"),
    ({"rate": 0}, "rule, rate: write bits a second like 10Mbit"),
    ({"rate": "10 apples"}, "rule, rate: write bits a second like 10Mbit"),
    ({"rate": "1Mbit", "queue": "many"}, "rule, queue: write bytes like 64KiB, or frames like"),
    ({"queue": 5}, "rule: queue means nothing without rate; add rate"),
    ({"loss": 1, "direction": "up"}, "rule, direction: up is unknown; known are out, in"),
    (
        {"loss": 1, "match": "tcp and"},
        "rule, match: a field or protocol like tcp.dstport or arp is",
    ),
    ({"loss": 1, "match": 5}, "rule, match: write a text in quotes instead of 5"),
]


@pytest.mark.parametrize(("words", "sentence"), MISTAKES, ids=range(len(MISTAKES)))
def test_mistakes(words: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        made(**words)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_words_of_the_command_line_mean_the_same() -> None:
    words = of_words("link", ["loss=1%", "burst=2", "delay=1.5ms", "rate=1Mbit", "queue=9 frames"])
    assert made(**words) == made(
        loss=0.01, burst=2, delay="1500us", rate=1_000_000, queue="9 frames"
    )
    with pytest.raises(UserError, match=r"link: 'dwn' is no rule; write KEY=VALUE, like loss=0.01"):
        of_words("link", ["dwn"])


values = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just([0.1, 0.2])


@given(st.dictionaries(st.sampled_from(sorted(made(loss=1).words.keys() | {
    "direction", "match", "nth", "loss", "burst", "gilbert", "duplicate", "corrupt", "corrupt_bits",
    "corrupt_bytes", "reorder", "reorder_by", "reorder_time", "delay", "jitter", "distribution",
    "rate", "queue"})), values))  # fmt: skip
def test_any_words_are_a_rule_or_a_sentence(words: dict[str, Any]) -> None:
    try:
        made(**words)
    except UserError:
        return


def ask(cables: Cables, **request: Any) -> Any:
    return cables.control(Entry("link", request))["link"]


def test_both_ends_of_a_cable_between_nics() -> None:
    bench = Bench()
    cables = Cables()
    cables.add(bench.link, "a", "b")
    ask(cables, nic="b", rules=[{"loss": 1, "direction": "in"}])
    ask(cables, nic="a", rules=[{"duplicate": 1, "direction": "in"}], add=True)
    bench.send(1)
    assert bench.got() == []
    bench.b.port.send(numbered(0))
    assert len(bench.a.got) == 2
    a, b = cables.status()["a"], cables.status()["b"]
    assert a["out"] == b["in"]
    assert a["in"] == b["out"]
    assert a["rules"][0] == {"loss": 1, "direction": "out"}
    assert b["rules"][1] == {"duplicate": 1, "direction": "out"}
    assert len(list(cables.summary())) == 2
    assert ask(cables, nic="a", state="down")["up"] is False
    assert "rules" not in ask(cables, nic="a", rules=[])


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"nic": "c", "state": "up"}, "link, nic: c is unknown; known are a"),
        ({"nic": "a"}, "link: state is missing"),
        ({"nic": "a", "rules": 5}, 'link, rules: write a list like [{"loss": 0.01}], not 5'),
        ({"nic": "a", "rules": [{"loss": 2}]}, "rule 1, loss: write a share"),
        ({"nic": "a", "rules": [{"loss": 1}] * (RULES_MAX + 1)}, "rules: a cable has at most 32"),
        ({"nic": "a", "rules": [], "add": 1}, "link, add: write true or false instead of 1"),
    ],
)
def test_requests_that_make_no_sense(request_: dict[str, Any], sentence: str) -> None:
    cables = Cables()
    cables.add(Bench().link, "a")
    with pytest.raises(UserError) as caught:
        ask(cables, **request_)
    assert sentence in str(caught.value)
