# SPDX-License-Identifier: GPL-2.0-or-later
"""From what a run has left to the moments of one SMT message, or of one TLS record.

A frame is the same wherever its bytes are the same. What two captures differ in happened on the way
between them.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from nicmodel.errors import UserError
from nicmodel.explain.inside import Inside
from nicmodel.explain.moment import Moment, Story
from nicmodel.explain.sights import Left, Sight
from nicmodel.offload.smt.packet import record_index
from nicmodel.sanitizer.findings import number
from nicmodel.spec.smt import SmtProtocol, SmtType
from nicmodel.wire.keyfile import Flow
from nicmodel.wire.port import Way

BURST = 1_000_000
"""Frames of one send, or arrivals, that are no further apart are one moment, ns."""

NEAR = 100_000_000
"""An event of a link is about the nearest frame of its length, if that is no further away, ns.

It is judged when all of a send is through; on a busy machine that was 9 ms later.
"""

LATEST = 10_000_000_000
"""A completion that comes later is another one's, ns."""

_INDEX = 0xFFFF
_RANKS = (
    "program",
    "kernel",
    "resync",
    "send",
    "resend",
    "complete",
    "lost",
    "arrive",
    "wrong",
    "whole",
    "control",
)
"""Which of the moments at one time is told first."""

_OF_ANSWER = (SmtType.GRANT, SmtType.RESEND)


Asked = Callable[[Sight], bool]


def of_message(left: Left, message: int, wanted: str = "") -> Story:
    """The story of an SMT message: ``message`` is its id as its sender has it.

    ``wanted`` is a part of the name of its flow, where there are several. Raises UserError.
    """

    def asked(sight: Sight) -> bool:
        return sight.data is not None and sight.data.sender_id == message

    name, sent = _choose(left, asked, f"message {message:#x}", wanted)
    data = sent[0].data
    assert data is not None
    controls = [
        sight
        for sight in left.sights
        if sight.control is not None
        and (
            sight.control.sender_id in (message, message ^ 1) or message & ~1 in sight.control.acked
        )
        and {sight.flow.src, sight.flow.dst} == {sent[0].flow.src, sent[0].flow.dst}
        and _about(sight, sent[0])
    ]
    variant = SmtProtocol(data.variant).name
    title = (
        f"message {message:#x}, {name}: SMT variant {variant}, {data.message_length} bytes in "
        f"{len(_distinct(sent))} packets"
    )
    found = [event for event in left.events if event.get("message") == message]
    arrived = _arrived(left, sent, asked)
    inside = Inside(left.traces, message, sent, arrived, controls)
    return _Teller(left, sent, arrived, found).tell(
        title, controls, tuple(inside.moments()), tuple(inside.notes())
    )


def messages(left: Left) -> Iterator[str]:
    """A line for each SMT message that was sent, with the flow before its first one."""
    flows: dict[str, dict[int, list[Sight]]] = defaultdict(lambda: defaultdict(list))
    for sight in left.sights:
        if sight.data is not None and sight.way is not Way.IN:
            flows[f"{sight.nic}, {sight.flow}"][sight.data.sender_id].append(sight)
    for name, found in flows.items():
        yield name
        for message, sights in found.items():
            again = len(sights) - len(_distinct(sights))
            data = sights[0].data
            assert data is not None
            yield (
                f"  message {message:#x}: {data.message_length} bytes, {len(sights)} packets sent"
                + (f", {again} of them again" if again else "")
            )


def of_record(left: Left, record: int, wanted: str = "") -> Story:
    """The story of TLS record ``record`` that a NIC has encrypted, over TCP or what else there is.

    ``wanted``: as for ``of_message``. Raises UserError.
    """

    def asked(sight: Sight) -> bool:
        return sight.sent is not None and record in sight.sent.records

    name, sent = _choose(left, asked, f"record {number(record)}", wanted)
    frames = {sight.frame for sight in sent}
    tises = {sight.sent.tisn for sight in sent if sight.sent is not None}
    found = [
        event
        for event in left.events
        if event.get("record") == record
        and event["severity"] == "finding"
        and event.get("tisn") in tises
    ]
    of_it = len(_distinct(sent))
    parts = "1 frame has" if of_it == 1 else f"{of_it} frames have"
    title = f"record {number(record)}, {name}: {parts} a part of it"
    arrived = _arrived(left, sent, lambda sight: sight.frame in frames)
    return _Teller(left, sent, arrived, found).tell(title)


def _choose(left: Left, asked: Asked, what: str, wanted: str) -> tuple[str, list[Sight]]:
    """The flow that is meant, and what its sender has sent of it."""
    flows: dict[tuple[str, Flow], list[Sight]] = defaultdict(list)
    for sight in left.sights:
        if asked(sight) and sight.way is not Way.IN:
            flows[sight.nic, sight.flow].append(sight)
    if not flows:
        raise UserError(f"no NIC has sent {what} in these captures")
    names = {f"{nic}, {flow}": sights for (nic, flow), sights in flows.items()}
    fits = {name: sights for name, sights in names.items() if wanted in name}
    if not fits:
        raise UserError(f"no flow of {what} has {wanted!r} in its name; {_list(names)}")
    if len(fits) > 1:
        raise UserError(f"there are several {what}; say which one by --flow: {_list(fits)}")
    ((name, sights),) = fits.items()
    return name, sights


def _arrived(left: Left, sent: Sequence[Sight], asked: Asked) -> list[Sight]:
    """What has arrived anywhere of what was ``sent``."""
    flow = sent[0].flow
    return [one for one in left.sights if one.way is Way.IN and one.flow == flow and asked(one)]


def _list(names: Iterable[str], most: int = 8) -> str:
    listed = sorted(names)
    more = f", and {len(listed) - most} more" if len(listed) > most else ""
    return "; ".join(f"'{name}'" for name in listed[:most]) + more


def _about(control: Sight, sent: Sight) -> bool:
    """Is the packet of this flow, either way? Servers of a variant may answer from any port."""
    flow = control.flow
    return flow in (sent.flow, sent.flow.reversed()) or not (flow.sport and flow.dport)


def _distinct(sights: Iterable[Sight]) -> set[object]:
    return {_identity(sight) for sight in sights}


def _identity(sight: Sight) -> object:
    """What a packet is for: a resend is for the same."""
    if sight.data is not None:
        return sight.data.offset, sight.data.index
    return sight.frame


class _Teller:
    """Tells of a message whose frames were ``sent``, in order, and have ``arrived`` elsewhere."""

    def __init__(
        self,
        left: Left,
        sent: Sequence[Sight],
        arrived: Sequence[Sight],
        found: Iterable[dict[str, Any]],
    ) -> None:
        self._left = left
        self._sent = sent
        self._nic = sent[0].nic
        self._found = found
        self._arrived = arrived
        self._impaired = [one for one in left.events if one["event"] == "FrameImpaired"]

    def tell(
        self,
        title: str,
        controls: Sequence[Sight] = (),
        inside: Sequence[Moment] = (),
        notes: tuple[str, ...] = (),
    ) -> Story:
        moments = [*inside, *self._sends(), *self._engine(), *self._way()]
        for sight in controls:
            if sight.control is not None and sight.way is not Way.IN:
                # what the sender itself asks for or permits is the answer
                answer = sight.nic == self._nic and sight.control.kind in _OF_ANSWER
                of = " of the answer" if answer else ""
                what = f"{sight.control.kind.name}, {_frames([sight])}"
                text = f"{sight.control.words}{of} ({what})"
                moments.append(Moment(sight.time, sight.nic, "control", text))
        moments += [
            Moment(event["time"], self._nic, "wrong", event["sentence"])
            for event in self._found
            if event["nic"] == self._nic and event["severity"] == "finding"
        ]
        # as a message goes, from guest to guest
        places = [moment.place for moment in inside[:1]] + [self._nic]
        for nic in dict.fromkeys(sight.nic for sight in self._arrived):
            places += [
                moment.place for moment in moments if moment.place == _between(self._nic, nic)
            ]
            places.append(nic)
        places += [moment.place for moment in moments]
        moments.sort(key=lambda one: (one.time, _RANKS.index(one.kind)))
        return Story(title, tuple(moments), tuple(dict.fromkeys(places)), notes)

    def _sends(self) -> Iterator[Moment]:
        before: set[object] = set()
        for part in _bursts(self._sent, lambda one: (_wqe(one), _offset(one), _again(one))):
            identities = _distinct(part)
            again = bool(identities & before)
            before |= identities
            yield Moment(
                part[0].time, self._nic, "resend" if again else "send", _sending(part, again)
            )

    def _engine(self) -> Iterator[Moment]:
        """Resyncs before what was sent, and completions behind it."""
        complete: set[int] = set()
        begun = self._resyncs()
        for (sqn, wqe, tisn), part in groupby(self._sent, _work):
            if sqn is None or wqe is None or tisn is None:
                continue
            first = next(part)
            for event in begun.get((sqn, wqe, tisn), ()):
                if -BURST <= first.time - event["time"] < LATEST:
                    text = (
                        f"SQ {sqn:#x} WQE {event['wqe']}: TIS {tisn:#x} is told to go on with "
                        f"record {number(event['record'])}"
                    )
                    yield Moment(min(event["time"], first.time), self._nic, "resync", text)
            for event in self._own("TlsTxCompleted"):
                behind = event["sqn"] == sqn and event["wqe"] - wqe & _INDEX < _INDEX // 2
                if behind and -BURST <= event["time"] - first.time < LATEST:
                    if id(event) not in complete:
                        text = f"SQ {sqn:#x}: all up to WQE {event['wqe']} is complete"
                        when = max(event["time"], first.time)
                        yield Moment(when, self._nic, "complete", text)
                    complete.add(id(event))
                    break

    def _own(self, kind: str) -> list[dict[str, Any]]:
        return [
            one for one in self._left.events if one["event"] == kind and one["nic"] == self._nic
        ]

    def _resyncs(self) -> dict[tuple[int, int, int], list[dict[str, Any]]]:
        """Events by the packet that they are for: the next one of the context on the queue."""
        sent: dict[tuple[int, int], dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        for one in self._left.sights:
            if one.sent is not None and one.nic == self._nic:
                work = one.sent
                sent[work.sqn, work.tisn][work.wqe].append(one.time)
        out: dict[tuple[int, int, int], list[dict[str, Any]]] = defaultdict(list)
        for event in self._own("TlsTxBegun"):
            sqn, tisn, index = event["sqn"], event["tisn"], event["wqe"]
            behind = [
                (wqe - index & _INDEX, wqe)
                for wqe, times in sent[sqn, tisn].items()
                if any(-BURST <= time - event["time"] < LATEST for time in times)
            ]
            if behind:
                out[sqn, min(behind)[1], tisn].append(event)
        return out

    def _way(self) -> Iterator[Moment]:
        """What arrives, what does not, and what arrives otherwise."""
        arrived: dict[str, list[Sight]] = defaultdict(list)
        for sight in self._arrived:
            arrived[sight.nic].append(sight)
        for nic, sights in arrived.items():
            waiting: dict[bytes, list[Sight]] = defaultdict(list)
            for one in self._sent:
                waiting[one.frame].append(one)
            strange: set[int] = set()
            twice: set[int] = set()
            for one in sights:
                # of equal frames it is the last one that can have arrived by now
                before = [out for out in waiting.get(one.frame, ()) if out.time <= one.time + BURST]
                if before:
                    waiting[one.frame].remove(before[-1])
                else:
                    (twice if one.frame in waiting else strange).add(id(one))
            yield from self._arrivals(nic, sights, strange, twice)
            lost = [one for one in self._sent if any(one is out for out in waiting[one.frame])]
            for part in _bursts(lost, _lost_alike):
                why = self._why(part[0], nic, ("lost", "corrupted", "overflowed", "cut"))
                text = f"{_packets(part)} {_verb(part, 'do')} not arrive at {nic}{why}"
                yield Moment(part[0].time, _between(self._nic, nic), "lost", text)
        if not arrived:
            last = self._sent[-1]
            text = "no capture has any of it at its other end: nothing arrived, or nobody looked"
            yield Moment(last.time, "elsewhere", "lost", text)

    def _arrivals(
        self, nic: str, sights: Sequence[Sight], strange: set[int], twice: set[int]
    ) -> Iterator[Moment]:
        missing = _distinct(self._sent)
        for part in _bursts(
            sights, lambda one: (_offset(one), id(one) in strange, id(one) in twice)
        ):
            where = f"({_frames(part)})"
            if id(part[0]) in strange:
                text = f"{_packets(part)} with other bytes than were sent {where}"
                why = self._why(part[0], nic, ("corrupted",))
                yield Moment(part[0].time, nic, "wrong", f"{text}{why}")
                continue
            again = " once more than sent" if id(part[0]) in twice else ""
            text = f"{_packets(part)} {_verb(part, 'arrive')}{again} {where}"
            yield Moment(part[0].time, nic, "arrive", text)
            for one in part:
                if missing:
                    missing.discard(_identity(one))
                    if not missing:
                        yield Moment(one.time, nic, "whole", "now all of it has arrived")

    def _why(self, one: Sight, nic: str, deeds: Sequence[str]) -> str:
        """Which rule of which link did it, if an event says so."""
        links = (f"{self._nic}/out", f"{nic}/in")
        near = [
            event
            for event in self._impaired
            if event["link"] in links
            and event["deed"] in deeds
            and event["length"] == one.octets
            and abs(event["time"] - one.time) < NEAR
        ]
        if not near:
            return ""
        event = min(near, key=lambda event: abs(event["time"] - one.time))
        return f": {event['deed']} by rule {event['rule']} of link {event['link']}"


def _between(source: str, sink: str) -> str:
    return f"{source} > {sink}"


def _lost_alike(one: Sight) -> object:
    return _offset(one), _again(one)


def _verb(part: Sequence[Sight], verb: str) -> str:
    """``verb`` as it is for so many."""
    if len(part) > 1:
        return verb
    return f"{verb}es" if verb.endswith("o") else f"{verb}s"


def _work(one: Sight) -> tuple[int | None, int | None, int | None]:
    sent = one.sent
    return (None, None, None) if sent is None else (sent.sqn, sent.wqe, sent.tisn)


def _wqe(one: Sight) -> object:
    return _work(one)


def _offset(one: Sight) -> int | None:
    return None if one.data is None else one.data.offset


def _again(one: Sight) -> bool:
    return one.data is not None and one.data.retransmit


def _bursts(sights: Sequence[Sight], alike: Callable[[Sight], object]) -> Iterator[list[Sight]]:
    """Runs of frames that are alike and close to each other."""
    part: list[Sight] = []
    for one in sights:
        if part and (alike(one) != alike(part[-1]) or one.time - part[-1].time > BURST):
            yield part
            part = []
        part.append(one)
    if part:
        yield part


def _sending(part: Sequence[Sight], again: bool) -> str:
    verb = "sends again" if again else "sends"
    text = f"{verb} {_packets(part)} ({_frames(part)})"
    sent = part[0].sent
    if sent is None:
        return f"{text}, as the guest made it"
    numbers = sorted({n for one in part if one.sent is not None for n in one.sent.records})
    records = ""
    if numbers:
        names = [_record(part[0], n) for n in numbers]
        records = f", record {names[0]}" if len(names) == 1 else f", records {', '.join(names)}"
    return f"SQ {sent.sqn:#x} WQE {sent.wqe}, TIS {sent.tisn:#x}{records}: {text}, {sent.verdict}"


def _record(one: Sight, n: int) -> str:
    """A record's number; of SMT, which one of the message it is, too."""
    if one.data is None:
        return number(n)
    return f"{record_index(one.data.variant, n)} (number {number(n)})"


def _packets(part: Sequence[Sight]) -> str:
    """Which packets they are."""
    first = part[0].data
    if first is None:
        return "1 frame" if len(part) == 1 else f"{len(part)} frames"
    places = sorted(one.data.index for one in part if one.data is not None)
    which = f"packet{'s' if len(places) > 1 else ''} {_spans(places)}"
    return f"{which} of the segment at byte {first.offset}"


def _spans(numbers: Sequence[int]) -> str:
    """Sorted numbers, as in 0-3, 5."""
    spans: list[list[int]] = []
    for n in numbers:
        if spans and n == spans[-1][-1] + 1:
            spans[-1].append(n)
        else:
            spans.append([n])
    return ", ".join(f"{one[0]}" if len(one) == 1 else f"{one[0]}-{one[-1]}" for one in spans)


def _frames(part: Sequence[Sight]) -> str:
    """Where they are in the capture."""
    numbers = sorted(one.number for one in part)
    return f"frame{'s' if len(numbers) > 1 else ''} {_spans(numbers)} of {part[0].file}"
