# SPDX-License-Identifier: GPL-2.0-or-later
"""The part of a message's story that happens in guests: before its WQEs, and behind its frames."""

import errno
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Address

from nicmodel.explain.guests import SUFFIX, GuestTrace, Told, aligned
from nicmodel.explain.moment import Moment
from nicmodel.explain.sights import Sight
from nicmodel.spec.smt import SmtType
from nicmodel.wire.port import Way

HOW = (
    "what programs and SMT did in the guests is not in it: scenarios of 'nicmodel test' and "
    f"'nicmodel up --smt-kmod' leave it in NAME{SUFFIX}"
)

Bound = tuple[int | None, int | None]
Words = dict[str, Callable[[Told], str]]


class Inside:
    """Of message ``message``, as its sender calls it; ``sent``, ``arrived`` are its frames."""

    def __init__(
        self,
        traces: Sequence[GuestTrace],
        message: int,
        sent: Sequence[Sight],
        arrived: Sequence[Sight],
        controls: Sequence[Sight],
    ) -> None:
        self._any = bool(traces)
        self._sent = sent
        self._arrived = arrived
        self._controls = controls
        self._notes: list[str] = []
        self._moments: list[Moment] = []
        flow, sender = sent[0].flow, sent[0].nic
        here = f"{IPv4Address(flow.src)}:{flow.sport}"
        there = f"{IPv4Address(flow.dst)}:{flow.dport}"
        for trace in traces:
            if trace.guest == sender:
                found = _of(trace, message, flow.sport, there)
                self._take(trace, found, _SENDER, self._from_sender(found))
            else:
                found = _of(trace, message ^ 1, flow.dport, here)
                if any("peer" in one.values for one in found):
                    self._take(trace, found, _RECEIVER, self._from_receiver(trace.guest, found))

    def moments(self) -> Iterator[Moment]:
        """What happened, in no order but the sender's first."""
        yield from self._moments

    def notes(self) -> Iterator[str]:
        """How far this can be trusted, or why there is nothing."""
        yield from self._notes
        if not self._any:
            yield HOW
        elif not self._moments:
            yield "no guest's trace has anything of this message"

    def _take(
        self, trace: GuestTrace, found: Sequence[Told], words: Words, bounds: Iterator[Bound]
    ) -> None:
        """Tell of what ``found`` has ``words``, on the clock of the frames."""
        if not found:
            return
        move, error = aligned(trace.error, bounds)
        for one in _anew(found):
            text = words[one.kind](one) if one.kind in words else ""
            if text:
                kind = "program" if one.kind in _PROGRAMS else "kernel"
                place = f"guest {trace.guest}"
                self._moments.append(Moment(one.time + move, place, kind, text))
        lost = f"; {trace.lost} events before were lost" if trace.lost else ""
        self._notes.append(
            f"guest {trace.guest}: its times may be wrong by {error / 1e6:.3f} ms beside those of "
            f"the NICs{lost}"
        )

    def _from_sender(self, found: Sequence[Told]) -> Iterator[Bound]:
        """An skb is handed over before its frames leave; a RESEND arrives before it is heard."""
        frames: dict[tuple[int, int], list[int]] = defaultdict(list)
        handed: dict[tuple[int, int], list[int]] = defaultdict(list)
        for sight in self._sent:
            if sight.data is not None:
                frames[sight.data.offset, sight.data.index].append(sight.time)
        for one in found:
            if one.kind == "segment":
                first = one.number("index")
                for index in range(first, min(first + one.number("packets"), 1 << 16)):
                    handed[one.number("start"), index].append(one.time)
        for place, times in handed.items():
            yield from _before(times, frames[place])
        came = self._control(SmtType.RESEND, lambda sight: sight.way is Way.IN)
        yield from _after(_times(found, "asked_again"), came)

    def _from_receiver(self, guest: str, found: Sequence[Told]) -> Iterator[Bound]:
        """Packets arrive before they are decrypted and delivered; what is asked for leaves then."""
        earliest: dict[tuple[int, int], int] = {}
        for sight in self._arrived:
            if sight.data is not None and sight.nic == guest:
                earliest.setdefault((sight.data.offset, sight.data.index), sight.time)
        if not earliest:
            return
        for one in found:
            if one.kind == "begin" and not one.number("value"):
                yield from _after([one.time], [min(earliest.values())])
            elif one.kind == "record":
                of_it = [
                    when for (start, _), when in earliest.items() if start == one.number("start")
                ]
                yield from _after([one.time], [max(of_it)] if of_it else [])
            elif one.kind == "deliver" and one.number("value") >= 0:
                yield from _after([one.time], [max(earliest.values())])
        for kind, name in ((SmtType.RESEND, "ask_again"), (SmtType.GRANT, "grant")):
            left = self._control(kind, lambda one: one.way is not Way.IN and one.nic == guest)
            yield from _before(_times(found, name), left)

    def _control(self, kind: SmtType, seen: Callable[[Sight], bool]) -> list[int]:
        """When packets of the receiver were seen that ask for, or permit, something."""
        return [
            one.time
            for one in self._controls
            if one.control is not None
            and one.control.kind is kind
            and one.flow.src == self._sent[0].flow.dst
            and seen(one)
        ]


def _of(trace: GuestTrace, number: int, port: int, peer: str) -> list[Told]:
    """What was said of an RPC; where several have its number, ports tell them apart."""
    return [
        one
        for one in trace.told
        if one.number("id") == number
        and one.values.get("peer", peer) == peer
        and one.values.get("port", str(port)) == str(port)
    ]


def _times(found: Sequence[Told], kind: str) -> list[int]:
    return [one.time for one in found if one.kind == kind]


def _before(causes: Sequence[int], effects: Sequence[int]) -> Iterator[Bound]:
    """The guest did it, and then it was seen; if not all of both are known, nothing is."""
    if len(causes) == len(effects):
        for cause, effect in zip(causes, effects, strict=True):
            yield None, effect - cause - 1


def _after(effects: Sequence[int], causes: Sequence[int]) -> Iterator[Bound]:
    """It was seen, and then the guest had it."""
    if len(causes) == len(effects):
        for cause, effect in zip(causes, effects, strict=True):
            yield cause - effect + 1, None


def _anew(found: Sequence[Told]) -> Iterator[Told]:
    """Mark what is said of an RPC once more."""
    seen: set[str] = set()
    for one in found:
        yield replace(one, values=one.values | {"anew": "1"}) if one.kind in seen else one
        seen.add(one.kind)


def _bytes(one: Told) -> str:
    start, length = one.number("start"), one.number("length")
    return f"bytes {start} to {start + length - 1}" if length else "no bytes"


def _failed(one: Told) -> str:
    number = -one.number("value")
    return f"the RPC fails: {errno.errorcode.get(number, number)}" if number > 0 else ""


def _handed(one: Told) -> str:
    first, count = one.number("index"), one.number("packets")
    which = f"packet {first}" if count == 1 else f"packets {first}-{first + count - 1}"
    again = " again" if one.number("again") else ""
    where = ", which is to encrypt it" if one.number("device") else ""
    return (
        f"hands {which} of the segment at byte {one.number('start')} to the device{again} as one "
        f"skb with {one.number('bytes')} bytes{where}"
    )


def _asked(one: Told) -> str:
    return f"is asked again for {_bytes(one)}" if one.number("length") else "is asked if it lives"


_PROGRAMS = ("sendmsg", "recvmsg")
_SENDER: Words = {
    "sendmsg": lambda one: f"sendmsg() of {one.number('value')} bytes ({one.process})",
    "send": lambda one: (
        "sends it from its start again"
        if one.number("anew")
        else "its segments are built, and go as far as they may"
    ),
    "segment": _handed,
    "asked_again": _asked,
    "deliver": _failed,
    "end": lambda _: "the RPC is over",
}
_RECEIVER: Words = {
    # a client's began when it sent the request
    "begin": lambda one: "" if one.number("value") else "its first packet begins an RPC",
    "record": lambda one: f"the record with {_bytes(one)} is decrypted and authentic",
    "grant": lambda one: f"permits bytes up to {one.number('start') + one.number('length')}",
    "ask_again": lambda one: f"asks again for {_bytes(one)}",
    "deliver": lambda one: _failed(one) or f"all {one.number('value')} bytes wait for recvmsg()",
    "recvmsg": lambda one: (
        _failed(one) or f"recvmsg() of {one.number('value')} bytes ({one.process})"
    ),
    "end": lambda _: "the RPC is over",
}
