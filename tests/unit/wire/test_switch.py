# SPDX-License-Identifier: GPL-2.0-or-later
"""The switch against a reference model, and each of its rules by itself."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from nicmodel.frame import Frame
from nicmodel.wire.switch import ADDRESSES_PER_PORT, AGEING_NS
from tests.unit.wire.stations import BROADCAST, Net, frame, mac, train

PORTS = 3
TAGS = {
    "none": (b"", ("c", 0)),
    "priority": (b"\x81\x00\xe0\x00", ("c", 0)),
    "c5": (b"\x81\x00\x20\x05", ("c", 5)),
    "c6": (b"\x81\x00\x00\x06", ("c", 6)),
    "s5": (b"\x88\xa8\x00\x05", ("s", 5)),
}
RESERVED = [bytes.fromhex("0180c2000000"), bytes.fromhex("0180c200000f")]
GROUPS = [BROADCAST, bytes.fromhex("0180c2000010"), bytes.fromhex("0180c2010000")]

# few stations and VLANs, so that frames often concern what was learned
ports = st.integers(0, PORTS - 1)
unicast = st.sampled_from([mac(1), mac(2)])
tags = st.sampled_from(["none", "none", "none", *TAGS])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), ports, unicast, unicast, tags),
        st.tuples(st.just("send"), ports, unicast, unicast, tags),
        st.tuples(st.just("send"), ports, st.sampled_from(RESERVED + GROUPS), unicast, tags),
        st.tuples(st.just("send"), ports, unicast, st.just(BROADCAST), tags),
        st.tuples(st.just("wait"), st.sampled_from([1, AGEING_NS // 2, AGEING_NS, AGEING_NS + 1])),
        st.tuples(st.just("flap"), ports),
    ),
    min_size=5,
    max_size=40,
)


@given(steps)
@settings(max_examples=300)
def test_against_reference(plan: list[tuple[object, ...]]) -> None:
    """A list of all that was ever heard, searched backwards, must give the same answers."""
    net = Net()
    _, stations, links = net.star(PORTS)
    heard: list[tuple[int, int, object, bytes]] = []
    for step in plan:
        match step:
            case ("wait", int(time)):
                net.clock.now += time
            case ("flap", int(port)):
                links[port].plug(False)
                links[port].plug(True)
                # what was learned there must not be found any more, nor where it was before
                gone = {(vlan, src) for _, at, vlan, src in _places(heard) if at == port}
                heard = [entry for entry in heard if (entry[2], entry[3]) not in gone]
            case ("send", int(port), bytes(dst), bytes(src), str(kind)):
                tag, vlan = TAGS[kind]
                stations[port].port.send(frame(dst, src, b"payload", tag))
                if not src[0] & 1:
                    heard.append((net.clock.now, port, vlan, src))
                expected = {p for p in range(PORTS) if p != port}
                if dst in RESERVED:
                    expected = set()
                elif not dst[0] & 1:
                    for time, at, known, address in reversed(heard):
                        if (known, address) == (vlan, dst):
                            if net.clock.now - time <= AGEING_NS:
                                expected = {at} - {port}
                            break
                got = {p for p, station in enumerate(stations) if station.take()}
                assert got == expected


def _places(heard: list[tuple[int, int, object, bytes]]) -> list[tuple[int, int, object, bytes]]:
    """The last time and port of each address."""
    last = {(vlan, src): (time, at, vlan, src) for time, at, vlan, src in heard}
    return list(last.values())


def test_traffic_passes_unchanged_as_one_object() -> None:
    _, (a, b, c), _ = Net().star(3)
    tagged = frame(mac(9), mac(1), b"data", b"\x81\x00\x20\x05")
    before = bytes(tagged.data)
    long = train(BROADCAST, mac(1), 40)
    a.port.send(tagged)
    a.port.send(long)
    assert b.got[0] is c.got[0] is tagged
    assert b.got[1] is c.got[1] is long
    assert tagged.data == before
    assert a.got == []


def test_counts_say_what_became_of_frames() -> None:
    switch, (a, b), _ = Net().star(2)
    a.port.send(train(mac(2), mac(1), 5))
    b.port.send(frame(mac(1), mac(2)))
    b.port.send(frame(mac(2), mac(2)))
    b.port.send(frame(bytes.fromhex("0180c200000e"), mac(2)))
    counts = switch.counts
    assert (counts.flooded, counts.forwarded, counts.filtered, counts.reserved) == (5, 1, 1, 1)


def test_headless_frames_are_dropped() -> None:
    switch, (a, b), _ = Net().star(2)
    whole = bytes(frame(mac(2), mac(1), b"", b"\x81\x00\x00\x05").data)
    for length in range(18):
        a.port.send(Frame(whole[:length]))
    a.port.send(Frame(bytearray(whole[:18])))
    assert switch.counts.malformed == 18
    assert len(b.got) == 1


def test_port_without_carrier_gets_no_flood() -> None:
    _, (a, b, c), links = Net().star(3)
    links[1].plug(False)
    a.port.send(frame(BROADCAST, mac(1)))
    assert b.got == []
    assert len(c.got) == 1


def test_flood_of_addresses_costs_only_its_own_port() -> None:
    switch, (quiet, hostile, sender), _ = Net().star(3)
    quiet.port.send(frame(BROADCAST, mac(1)))
    for number in range(100, 100 + 3 * ADDRESSES_PER_PORT):
        hostile.port.send(frame(BROADCAST, mac(number)))
    assert switch.known() == 1 + ADDRESSES_PER_PORT
    sender.take(), hostile.take(), quiet.take()
    sender.port.send(frame(mac(1), mac(2)))
    assert (len(quiet.got), len(hostile.got)) == (1, 0)
    sender.port.send(frame(mac(100), mac(2)))
    assert (len(quiet.got), len(hostile.got)) == (2, 1)


def test_address_that_talks_is_the_last_to_go() -> None:
    _, (talker, sender, other), _ = Net().star(3)
    for number in range(ADDRESSES_PER_PORT):
        talker.port.send(frame(BROADCAST, mac(100 + number)))
    talker.port.send(frame(BROADCAST, mac(100)))
    talker.port.send(frame(BROADCAST, mac(99)))
    other.take()
    sender.port.send(frame(mac(100), mac(2)))
    assert other.got == [], "mac 100 has just talked and must be known"
    sender.port.send(frame(mac(101), mac(2)))
    assert len(other.got) == 1, "mac 101 was silent longest and must be forgotten"


def test_group_address_as_source_is_forwarded_but_not_learned() -> None:
    switch, (a, b), _ = Net().star(2)
    a.port.send(frame(mac(1), BROADCAST))
    assert len(b.got) == 1
    assert switch.known() == 0


def test_address_that_moves_takes_no_second_place() -> None:
    switch, stations, _ = Net().star(3)
    for _, station in pairwise([*stations, *stations, *stations]):
        station.port.send(frame(BROADCAST, mac(1)))
    assert switch.known() == 1
