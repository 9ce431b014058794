# SPDX-License-Identifier: GPL-2.0-or-later
"""How much a send queue does before others are looked at, and where it stops."""

import struct

import pytest

from nicmodel.frame import Traffic
from nicmodel.queues.datapath import TURN, TURNS
from nicmodel.wire.port import Way
from tests.unit.device.machine import SEND, Machine, Pair
from tests.unit.device.packets import ethernet
from tests.unit.device.test_conversation import BOTH_SUMS, A, B, datagram
from tests.unit.queues.rig import eth_segment


class Counted:
    """Watches a port: how many frames each object on the wire has."""

    def __init__(self, machine: Machine) -> None:
        self.counts: list[int] = []
        machine.nic.port.watch(self)

    def saw(self, way: Way, traffic: Traffic) -> None:
        if way is Way.OUT:
            self.counts.append(traffic.count)


@pytest.fixture
def a() -> Machine:
    return Pair().a


def post(a: Machine, frame: bytes, number: int, channel: int = 0) -> None:
    for _ in range(number):
        a.put(a.sq(channel), SEND, eth_segment(cs=BOTH_SUMS) + a.segment(frame))
    a.frontend.post(a.page() + 0x800, struct.pack(">II", 0, a.sq(channel).number << 8))


def test_a_queue_that_is_alone_has_all_its_turns_at_once(a: Machine) -> None:
    wire = Counted(a)
    post(a, datagram(), 3 * TURN)
    a.frontend.flush()
    assert wire.counts == [3 * TURN]


def test_two_queues_take_turns(a: Machine) -> None:
    wire = Counted(a)
    for channel in range(2):
        post(a, datagram(bytes(20 + channel)), 2 * TURN, channel)
    a.frontend.flush()
    assert wire.counts == [TURN] * 4


def test_even_alone_it_lets_the_event_loop_see_to_other_work() -> None:
    pair = Pair()
    wire = Counted(pair.a)
    post(pair.a, ethernet(B, A, 0x1234, bytes(46)), TURN * TURNS + 1)
    pair.a.frontend.flush()
    assert sum(wire.counts) == TURN * TURNS
    pair.loop.run()
    assert sum(wire.counts) == TURN * TURNS + 1


def test_a_card_that_is_frozen_does_not_end_its_turn(a: Machine) -> None:
    """Which is long if it is alone; when it thaws it goes on."""
    wire = Counted(a)

    class Freezes:
        def saw(self, way: Way, traffic: Traffic) -> None:
            if len(wire.counts) == 2:
                a.nic.freeze()

    a.nic.port.watch(Freezes())
    for length in range(46, 51):  # of one length they would leave as one
        post(a, ethernet(B, A, 0x1234, bytes(length)), 1)
    a.frontend.flush()
    assert wire.counts == [1, 1]
    a.nic.thaw()
    assert wire.counts == [1] * 5
