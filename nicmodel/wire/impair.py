# SPDX-License-Identifier: GPL-2.0-or-later
"""A link that impairs what it carries, by rules; without rules it is as ideal as any.

``fate`` says what becomes of a frame; here it happens, in time: a frame that is to be late waits,
a rate has a queue. Trains are cut only where a rule touches a frame.
"""

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from nicmodel.clock import Scheduler
from nicmodel.frame import Frame, Traffic, Train
from nicmodel.trace.tracer import Clock, Tracer
from nicmodel.wire.events import FrameImpaired
from nicmodel.wire.fabric import Fabric
from nicmodel.wire.fate import Fate, Judge, flipped
from nicmodel.wire.link import Link
from nicmodel.wire.port import Port
from nicmodel.wire.rule import Direction, Rule

BATCH = 64
"""Deliveries before the event loop sees to other work; a fabric has room for several of it."""

HELD_OCTETS = 32 << 20
"""Bytes that one direction may have on the way; a guest that floods a slow link loses the rest."""

HELD_FRAMES = 65536
"""Frames likewise."""

_BYTE_NS = 8 * 10**9
"""Bits/s times ns by bytes."""

OVERHEAD = 24
"""What a frame takes of the rate beside its bytes: preamble, FCS, gap (IEEE 802.3)."""


@dataclass(slots=True)
class WayCounts:
    """Frames of one direction; ``frames + duplicated`` is the sum of what became of them.

    That is ``delivered``, ``lost`` (by a rule), ``overflowed`` (a queue was full), ``cut`` (the
    cable was pulled meanwhile), and those that are still on the way.
    """

    frames: int = 0
    delivered: int = 0
    lost: int = 0
    duplicated: int = 0
    corrupted: int = 0
    reordered: int = 0
    overflowed: int = 0
    cut: int = 0


@dataclass(slots=True, eq=False)
class _Waiting:
    """Traffic on its way, in order of ``when`` (ns) and ``number``.

    ``gone``: it went earlier, behind the frames that it was to be reordered with.
    """

    when: int
    number: int
    traffic: Traffic
    hops: int
    gone: bool = False

    def __lt__(self, other: "_Waiting") -> bool:
        return (self.when, self.number) < (other.when, other.number)


@dataclass(slots=True)
class _Bucket:
    """A rate (bits/s) and the queue in front of it, as the times when its frames are through."""

    rate: int
    octets: int | None
    frames: int | None
    free: int = 0
    through: deque[int] = field(default_factory=deque)

    def take(self, now: int, length: int) -> int | None:
        """When a frame of ``length`` bytes is through; None if the queue has no room for it.

        A line that is idle takes any.
        """
        through = self.through
        while through and through[0] <= now:
            through.popleft()
        waits = max(0, self.free - now)
        if waits and self.octets is not None:
            queued = waits * self.rate // _BYTE_NS
            if queued + length > self.octets:
                return None
        if self.frames is not None and len(through) > self.frames:
            return None
        self.free = now + waits + (length + OVERHEAD) * _BYTE_NS // self.rate
        through.append(self.free)
        return self.free


class Way:
    """One direction of an impaired link, towards ``port``. ``name`` is for events."""

    def __init__(
        self,
        name: str,
        port: Port,
        fabric: Fabric,
        scheduler: Scheduler,
        clock: Clock,
        tracer: Tracer,
    ) -> None:
        self.counts = WayCounts()
        self.rules: tuple[Rule, ...] = ()
        self._name = name
        self._port = port
        self._fabric = fabric
        self._scheduler = scheduler
        self._clock = clock
        self._tracer = tracer
        self._judge = Judge((), "")
        self._buckets: dict[int, _Bucket] = {}
        self._waiting: list[_Waiting] = []
        self._passed = 0
        self._behind: list[tuple[int, _Waiting]] = []
        """Reordered frames, and how many are to have passed before them."""
        self._held_octets = 0
        self._held_frames = 0
        self._number = 0
        self._alarm: int | None = None

    def status(self) -> dict[str, int]:
        """Frames by what became of them, and those on the way."""
        return {**asdict(self.counts), "on_the_way": self._held_frames}

    def rule(self, rules: Sequence[Rule], seed: str) -> None:
        """Replace the rules; frames are counted anew, and what waits is delivered at once."""
        self.rules = tuple(rules)
        self._judge = Judge(rules, seed)
        self._buckets = {
            number: _Bucket(rule.rate, rule.queue_octets, rule.queue_frames)
            for number, rule in enumerate(rules, 1)
            if rule.rate
        }
        now = self._clock()
        waiting = sorted(one for one in self._waiting if not one.gone)
        for one in waiting:
            one.when = min(one.when, now)
        self._waiting = waiting
        self._behind.clear()
        self._drain(len(waiting))

    def cut(self) -> None:
        """Lose what is on the way."""
        self.counts.cut += self._held_frames
        self._waiting.clear()
        self._behind.clear()
        self._held_octets = self._held_frames = 0

    def carry(self, traffic: Traffic) -> None:
        """Take traffic that enters this direction now."""
        now = self._clock()
        self.counts.frames += traffic.count
        judge = self._judge.judge
        if isinstance(traffic, Frame):
            self._meet(traffic.data, traffic, judge(traffic.data), now)
        else:
            start = 0
            for index, view in enumerate(traffic.views()):
                fate = judge(view)
                if fate is not None or self._behind:
                    self._pass_part(traffic, start, index, now)
                    start = index + 1
                    self._meet(view, Frame(bytes(view), traffic.checked), fate, now)
            self._pass_part(traffic, start, traffic.count, now)
        self._drain()

    def _meet(
        self, data: bytes | bytearray | memoryview, frame: Frame, fate: Fate | None, now: int
    ) -> None:
        """Let a frame meet its fate."""
        counts = self.counts
        if fate is None:
            self._pass(frame, now)
            return
        for deed, rule in fate.why:
            self._tell(deed, rule, len(data), fate)
        if fate.lost:
            counts.lost += 1
            return
        if fate.flips:
            counts.corrupted += 1
            frame = Frame(flipped(data, fate.flips))
        counts.duplicated += fate.copies
        counts.reordered += bool(fate.behind)
        for _ in range(1 + fate.copies):
            when = self._through(fate, len(data), now)
            if when is None:
                counts.overflowed += 1
            elif fate.behind:
                one = self._put(when + fate.delay + fate.hold, frame)
                if one is not None:
                    heapq.heappush(self._behind, (self._passed + fate.behind, one))
            else:
                self._pass(frame, when + fate.delay)

    def _through(self, fate: Fate, length: int, now: int) -> int | None:
        """When the frame is through all rates; None if a queue is full."""
        when = now
        for rule in fate.rates:
            through = self._buckets[rule].take(when, length)
            if through is None:
                self._tell("overflowed", rule, length, fate)
                return None
            when = through
        return when

    def _pass_part(self, train: Train, start: int, end: int, when: int) -> None:
        """Pass frames ``start`` to ``end`` of a train, without a copy."""
        if start == 0 and end == train.count:
            self._pass(train, when)
        else:
            for part in train.split(start, end):
                self._pass(part, when)

    def _pass(self, traffic: Traffic, when: int) -> None:
        """Let traffic arrive at ``when``, and right behind it what has waited for it."""
        self._put(when, traffic)
        self._passed += traffic.count
        while self._behind and self._behind[0][0] <= self._passed:
            one = heapq.heappop(self._behind)[1]
            if not one.gone:
                one.gone = True
                self._push(_Waiting(when, 0, one.traffic, one.hops))

    def _put(self, when: int, traffic: Traffic) -> _Waiting | None:
        octets, count = traffic.octets, traffic.count
        if (
            self._held_octets + octets > HELD_OCTETS
            or self._held_frames + count > HELD_FRAMES
            or len(self._waiting) > 2 * HELD_FRAMES
        ):
            self.counts.overflowed += count
            return None
        self._held_octets += octets
        self._held_frames += count
        return self._push(_Waiting(when, 0, traffic, self._fabric.hops))

    def _push(self, one: _Waiting) -> _Waiting:
        self._number += 1
        one.number = self._number
        heapq.heappush(self._waiting, one)
        return one

    def _drain(self, most: int = BATCH) -> None:
        """Deliver what is due."""
        now = self._clock()
        waiting = self._waiting
        while waiting and (waiting[0].gone or waiting[0].when <= now):
            if not most:
                break
            one = heapq.heappop(waiting)
            if one.gone:
                continue
            one.gone = True
            most -= 1
            self._held_octets -= one.traffic.octets
            self._held_frames -= one.traffic.count
            self.counts.delivered += one.traffic.count
            self._fabric.deliver(self._port, one.traffic, one.hops)
        if waiting:
            self._set_alarm(waiting[0].when, now)

    def _set_alarm(self, when: int, now: int) -> None:
        if self._alarm is not None and self._alarm <= when:
            return
        self._alarm = when
        if when <= now:
            self._scheduler.call_soon(self._wake)
        else:
            self._scheduler.call_later((when - now) / 1e9, self._wake)

    def _wake(self) -> None:
        self._alarm = None
        self._drain()

    def _tell(self, deed: str, rule: int, length: int, fate: Fate) -> None:
        bits = fate.flips if deed == "corrupted" else ()
        self._tracer.emit(
            FrameImpaired(self._name, self._judge.frames, length, deed, rule, bits[:16])
        )


class ImpairedLink(Link):
    """A link with a list of rules; ``name`` is that of the NIC or tap at end ``a``.

    Each direction draws from ``Random(f"{seed}/link/{name}/{direction}")`` and starts anew whenever
    the rules are set, so the same frames have the same fate then.
    """

    def __init__(
        self,
        fabric: Fabric,
        a: Port,
        b: Port,
        *,
        name: str,
        seed: int,
        scheduler: Scheduler,
        clock: Clock,
        tracer: Tracer,
    ) -> None:
        self.rules: tuple[Rule, ...] = ()
        self._seed = f"{seed}/link/{name}"
        self._ways: dict[Direction, Way] = {
            "out": Way(f"{name}/out", b, fabric, scheduler, clock, tracer),
            "in": Way(f"{name}/in", a, fabric, scheduler, clock, tracer),
        }
        self._out: Way | None = None
        self._in: Way | None = None
        super().__init__(fabric, a, b)

    def rule(self, rules: Sequence[Rule]) -> None:
        """Replace all rules. A rate of all frames is the speed of the link, which both ends see."""
        self.rules = tuple(rules)
        for direction, way in self._ways.items():
            chosen = [rule for rule in rules if rule.direction in (None, direction)]
            way.rule(chosen, f"{self._seed}/{direction}")
        self._out = self._ways["out"] if self._ways["out"].rules else None
        self._in = self._ways["in"] if self._ways["in"].rules else None
        rates = [rule.line_rate for rule in rules if rule.line_rate]
        speed = max(1, min(rates) // 10**6) if rates else None
        self._a.pace(speed)
        self._b.pace(speed)

    def plug(self, plugged: bool) -> None:
        """See ``Link.plug``; what is on the way is lost with the cable."""
        super().plug(plugged)
        if not plugged:
            for way in self._ways.values():
                way.cut()

    def carry(self, source: Port, traffic: Traffic) -> None:
        """See ``Line.carry``."""
        if source is self._a:
            way, far = self._out, self._b
        else:
            way, far = self._in, self._a
        if way is None:
            self._fabric.deliver(far, traffic)
        else:
            way.carry(traffic)

    def ways(self) -> dict[Direction, Way]:
        """Both directions, as end ``a`` sees them, where frames were ever judged."""
        return {name: way for name, way in self._ways.items() if way.rules or way.counts.frames}
