# SPDX-License-Identifier: GPL-2.0-or-later
"""What the port counts, filters and sends back."""

import struct
from dataclasses import replace

import pytest

from nicmodel.frame import Frame, Traffic, Train
from nicmodel.objects.counters import PortCounters
from nicmodel.objects.port import L2Table, PortState, PortStatus
from nicmodel.queues.mac import Mac
from tests.unit.offload.cut import segment

OWN, OTHER = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
GROUP, ALL = bytes.fromhex("01005e000001"), b"\xff" * 6


class Bench:
    """A port whose vport has one address."""

    def __init__(self) -> None:
        self.table = L2Table()
        self.table.put(0, OWN)
        self.counters = PortCounters()
        self.port = PortState()
        self.sent: list[Traffic] = []
        self.got: list[tuple[Traffic, bool]] = []
        self.mac = Mac(
            self.table, self.counters, lambda: self.port, self.sent.append, self._deliver
        )

    def _deliver(self, traffic: Traffic, *, looped: bool) -> None:
        self.got.append((traffic, looped))


def frame(destination: bytes, size: int = 60, kind: bytes = b"\x08\x00") -> Frame:
    return Frame(bytearray(destination + OTHER + kind).ljust(size, b"\0"))


@pytest.mark.parametrize("destination", [OWN, GROUP, ALL], ids=["own", "group", "all"])
def test_own_unicast_and_every_group_pass(destination: bytes) -> None:
    bench = Bench()
    bench.mac.receive(frame(destination))
    assert [looped for _, looped in bench.got] == [False]


def test_unicast_to_others_passes_a_promiscuous_vport_only() -> None:
    bench = Bench()
    bench.mac.receive(frame(OTHER))
    assert bench.got == []
    assert bench.counters.rx.by_class.unicast.packets == 1
    assert bench.counters.vport_rx.unicast.packets == 0
    bench.table.promiscuous = True
    bench.mac.receive(frame(OTHER))
    assert len(bench.got) == 1
    assert bench.counters.vport_rx.unicast.packets == 1


def test_unicast_to_oneself_comes_back_and_is_not_on_the_wire() -> None:
    bench = Bench()
    bench.mac.transmit(frame(OWN))
    assert (bench.sent, [looped for _, looped in bench.got]) == ([], [True])
    counters = bench.counters
    assert counters.vport_tx.unicast.packets == counters.vport_rx.unicast.packets == 1
    assert counters.tx.by_class.total.packets == counters.rx.by_class.total.packets == 0


def test_what_is_sent_while_the_port_is_down_is_discarded() -> None:
    bench = Bench()
    bench.port = replace(bench.port, admin=PortStatus.DOWN)
    bench.mac.transmit(frame(OTHER))
    bench.mac.receive(frame(OWN))
    assert (bench.sent, bench.got) == ([], [])
    assert bench.counters.tx_discards == 1
    assert bench.counters.rx.by_class.total.packets == 0


def test_mac_control_frames_end_at_the_port() -> None:
    bench = Bench()
    pause = bytes.fromhex("0180c2000001") + OTHER + b"\x88\x08" + struct.pack(">HH", 1, 0xFFFF)
    bench.mac.receive(Frame(pause.ljust(60, b"\0")))
    bench.mac.receive(frame(OWN, kind=b"\x88\x08"))
    assert bench.got == []
    assert (bench.counters.rx_control, bench.counters.rx_pause) == (2, 1)
    assert bench.counters.vport_rx.total.packets == 0


@pytest.mark.parametrize(
    ("size", "kind"),
    [(60, 0), (61, 1), (123, 1), (124, 2), (252, 3), (1019, 4), (1020, 5), (1514, 5), (1515, 6)],
)
def test_classes_of_size_count_the_fcs(size: int, kind: int) -> None:
    bench = Bench()
    bench.port = replace(bench.port, mtu=9000)
    bench.mac.receive(frame(OWN, size))
    assert bench.counters.rx.sizes.index(1) == kind


def test_a_train_is_counted_frame_by_frame() -> None:
    tcp = struct.pack(">HHIIBBHHH", 1, 2, 7, 8, 0x50, 0x10, 99, 0, 0)
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 0, 7, 0, 64, 6, 0) + b"\x0a\0\0\1\x0a\0\0\2"
    header = OWN + OTHER + b"\x81\x00\x60\x07\x08\x00" + ip + tcp
    train = segment(header, [memoryview(bytes(2500))], 1000, l3=True, l4=True)
    assert isinstance(train, Train)
    one, other = Bench(), Bench()
    one.mac.receive(train)
    for cut in train.frames():
        other.mac.receive(cut)
    assert one.counters == other.counters
    assert one.counters.rx.priority(3).packets == 3
    assert one.counters.rx.priority(0).packets == 0


def test_a_tag_that_ends_too_early_has_no_priority() -> None:
    bench = Bench()
    bench.mac.receive(Frame(OWN + OTHER + b"\x81\x00"))
    assert bench.counters.rx.priority(0).packets == 1


def test_frames_longer_than_the_mtu_are_counted_and_lost() -> None:
    bench = Bench()
    bench.port = replace(bench.port, mtu=100)
    bench.mac.receive(frame(OWN, 97))
    bench.mac.receive(frame(OWN, 96))
    assert len(bench.got) == 1
    assert (bench.counters.rx.by_class.total.packets, bench.counters.rx_oversize) == (1, 1)
