# SPDX-License-Identifier: GPL-2.0-or-later
from itertools import pairwise

import pytest

from nicmodel.wire.events import FrameLoop
from nicmodel.wire.fabric import HOP_LIMIT, PENDING_LIMIT
from nicmodel.wire.link import Link
from nicmodel.wire.port import Way
from nicmodel.wire.switch import Switch
from tests.unit.wire.stations import BROADCAST, Net, Station, frame, mac, train


class Notes:
    def __init__(self) -> None:
        self.seen: list[tuple[Way, int]] = []

    def saw(self, way: Way, traffic: object) -> None:
        self.seen.append((way, id(traffic)))


def test_both_directions_carry_the_same_object_and_count() -> None:
    a, b, _ = Net().pair()
    out, back = frame(mac(2), mac(1), b"x" * 100), train(mac(1), mac(2), 3)
    a.port.send(out)
    b.port.send(back)
    assert b.got[0] is out
    assert a.got[0] is back
    assert (a.port.counts.sent, a.port.counts.sent_octets) == (1, 114)
    assert (b.port.counts.received, b.port.counts.received_octets) == (1, 114)
    assert (b.port.counts.sent, b.port.counts.sent_octets) == (3, 280)
    assert (a.port.counts.received, a.port.counts.received_octets) == (3, 280)


def test_pulled_cable_takes_carrier_from_both_ends_and_loses_traffic() -> None:
    a, b, link = Net().pair()
    link.plug(False)
    a.port.send(train(mac(2), mac(1), 4))
    link.plug(True)
    a.port.send(frame(mac(2), mac(1)))
    assert a.carriers == b.carriers == [True, False, True]
    assert a.port.counts.dropped == 4
    assert len(b.got) == 1


def test_disabled_port_takes_carrier_from_both_ends() -> None:
    a, b, link = Net().pair()
    a.port.enable(False)
    assert a.carriers == b.carriers == [True, False]
    link.plug(True)
    assert not b.port.up
    a.port.enable(True)
    assert a.port.up
    assert b.port.up


def test_owner_hears_of_changes_only() -> None:
    a, _, link = Net().pair()
    link.plug(True)
    a.port.enable(True)
    assert a.carriers == [True]


def test_port_takes_one_cable() -> None:
    net = Net()
    a, b, _ = net.pair()
    with pytest.raises(ValueError, match="port a is connected already"):
        Link(net.fabric, a.port, b.port)


def test_traffic_in_flight_when_the_cable_is_pulled_is_lost() -> None:
    net = Net()
    a, b, link = net.pair()

    class Cutter:
        def saw(self, way: Way, _traffic: object) -> None:
            if way is Way.OUT:
                link.plug(False)

    a.port.watch(Cutter())
    a.port.send(frame(mac(2), mac(1)))
    assert b.got == []
    assert b.port.counts.dropped == 1


def test_watcher_sees_both_ways() -> None:
    a, b, _ = Net().pair()
    notes = Notes()
    a.port.watch(notes)
    out, back = frame(mac(2), mac(1)), frame(mac(1), mac(2))
    a.port.send(out)
    b.port.send(back)
    assert notes.seen == [(Way.OUT, id(out)), (Way.IN, id(back))]


def test_answers_do_not_recurse_and_end() -> None:
    """Two stations that answer each other at once: bounded, in order, no recursion."""
    net = Net()
    a = Station("a", answer=frame(mac(2), mac(1)))
    b = Station("b", answer=frame(mac(1), mac(2)))
    Link(net.fabric, a.port, b.port)
    a.port.send(frame(mac(2), mac(1)))
    assert len(a.got) + len(b.got) == HOP_LIMIT
    assert a.deepest == b.deepest == 1
    assert net.fabric.looped == 1
    assert len(net.sink.of(FrameLoop)) == 1
    a.got.clear()
    b.port.send(frame(mac(1), mac(2)))
    assert a.got, "a loop before must not cost later traffic its hops"


def test_held_back_traffic_keeps_its_hops() -> None:
    net = Net()
    _, b, _ = net.pair()
    net.fabric.deliver(b.port, frame(mac(2), mac(1)), HOP_LIMIT - 1)
    net.fabric.deliver(b.port, frame(mac(2), mac(1)), HOP_LIMIT)
    assert len(b.got) == 1
    assert net.fabric.looped == 1


@pytest.mark.parametrize("cables", [2, 3, 5])
def test_loop_of_switches_is_bounded_and_reported_once(cables: int) -> None:
    net = Net()
    left, right = Switch("left", net.clock), Switch("right", net.clock)
    for index in range(cables):
        Link(net.fabric, left.add_port(f"{index}"), right.add_port(f"{index}"))
    a, b = Station("a"), Station("b")
    Link(net.fabric, a.port, left.add_port("a"))
    Link(net.fabric, b.port, right.add_port("b"))
    for _ in range(3):
        a.port.send(frame(BROADCAST, mac(1)))
    assert b.got
    assert net.fabric.looped > 0
    assert len(b.got) <= 3 * HOP_LIMIT * PENDING_LIMIT
    assert len(net.sink.of(FrameLoop)) == 1


def test_longest_sane_chain_of_switches_works() -> None:
    net = Net()
    switches = [Switch(f"{index}", net.clock) for index in range(7)]
    for left, right in pairwise(switches):
        Link(net.fabric, left.add_port("right"), right.add_port("left"))
    a, b = Station("a"), Station("b")
    Link(net.fabric, a.port, switches[0].add_port("a"))
    Link(net.fabric, b.port, switches[-1].add_port("b"))
    a.port.send(frame(mac(2), mac(1)))
    b.port.send(frame(mac(1), mac(2)))
    assert len(a.got) == len(b.got) == 1
    assert net.fabric.looped == 0
