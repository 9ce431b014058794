# SPDX-License-Identifier: GPL-2.0-or-later
"""Two NICs on one cable, each brought up by commands: traffic, interrupts, and the ends of it."""

import struct
from collections.abc import Callable

import pytest

from nicmodel.command.caps import CONNECTX6DX, SEQUENCE_LSO, TCP_LSO, Profile
from nicmodel.frame import Frame
from nicmodel.queues.arbiter import Policy
from nicmodel.queues.datapath import RUN_OCTETS
from nicmodel.spec import commands as c
from nicmodel.spec.contexts import Cqc, QueueState, Rqc, RxHashFieldSelect, RxHashFn, Tirc
from nicmodel.spec.opcodes import CommandOpcode as Op
from nicmodel.spec.steering import FteMatchSetLyr24
from nicmodel.spec.vport import ModifyNicVportFieldSelect, NicVportContext
from nicmodel.trace.events import CommandRefused, QueueError, UnknownMmio
from tests.oracles.rss import flow_hash
from tests.unit.command.fake_driver import PORT_EVENT, Refused
from tests.unit.command.lifecycle import TO_TABLE
from tests.unit.device.machine import END, LSO, MPSW, REGIONS, SEND, Machine, Pair
from tests.unit.device.packets import ethernet, ones, right, tcp, udp
from tests.unit.queues.rig import eth_segment
from tests.unit.queues.test_lro import segment

A, B = b"\2\0\0\0\0\1", b"\2\0\0\0\0\2"
IP_A, IP_B = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))
BOTH_SUMS = 0xC0
L2_L3_L4_OK = 7
IPV4, TCP, UDP = 0x04, 0x40, 0x80
TRACED = (CommandRefused, QueueError, UnknownMmio)


@pytest.fixture
def pair() -> Pair:
    return Pair()


def faults(pair: Pair) -> list[object]:
    return [e for m in (pair.a, pair.b) for kind in TRACED for e in m.sink.of(kind)]


def datagram(payload: bytes = b"what is sent", sport: int = 1000, dst: bytes = B) -> bytes:
    return ethernet(dst, A, 0x0800, udp(IP_A, IP_B, sport, 53, payload))


def send(machine: Machine, frame: bytes, *, cs: int = BOTH_SUMS, halves: bool = False) -> int:
    """SEND with the first 18 bytes inline, as the driver does for L2 inline mode."""
    body = eth_segment(cs=cs, inline=frame[:18]) + machine.segment(frame[18:])
    return machine.send(SEND, body, halves=halves)


def received(machine: Machine) -> list[bytes]:
    return [cqe for n in range(len(machine.channels)) for cqe in machine.poll(machine.got_cq(n))]


def post_everywhere(machine: Machine, number: int = 64) -> dict[int, list[int]]:
    return {n: machine.buffers(machine.rq(n), number) for n in range(len(machine.channels))}


def take(machine: Machine, posted: dict[int, list[int]]) -> list[tuple[bytes, bytes]]:
    """New frames with their CQEs, by channel; what lies behind a frame is untouched."""
    found = []
    for channel, addrs in posted.items():
        for cqe in machine.poll(machine.got_cq(channel)):
            assert cqe[0x3F] >> 4 == 2
            (counter,) = struct.unpack_from(">H", cqe, 0x3C)
            (length,) = struct.unpack_from(">I", cqe, 0x2C)
            buffer = machine.memory.read(addrs[counter], 2048)
            assert buffer[length:] == b"\xaa" * (2048 - length)
            found.append((buffer[:length], cqe))
    return found


@pytest.mark.parametrize("halves", [False, True])
def test_a_datagram_arrives_with_all_that_the_driver_reads(pair: Pair, halves: bool) -> None:
    a, b = pair.a, pair.b
    posted = post_everywhere(b)
    frame = datagram(b"p" * 100)
    for number in range(3):
        index = send(a, frame, halves=halves)
        ((got, cqe),) = take(b, posted)
        assert (got[:24], got[26:40], got[42:]) == (frame[:24], frame[26:40], frame[42:])
        assert right(got[14:])
        check_sum, hds_ip_ext, l4_l3 = struct.unpack_from(">H6xBB", cqe, 0x14)
        assert check_sum == ones(got[14:])
        assert hds_ip_ext == L2_L3_L4_OK
        assert l4_l3 == 2 << 4 | 2 << 2
        result, kind = struct.unpack_from(">IB", cqe, 0xC)
        assert kind == IPV4 | UDP
        assert result == flow_hash(bytes(range(40)), IP_A, IP_B, 1000, 53)
        assert struct.unpack_from(">H", cqe, 0x3C)[0] == number
        assert struct.unpack_from(">Q", cqe, 0x30)[0] == pair.loop.clock()
        (done,) = a.poll(a.sent_cq())
        assert done[0x3F] == 0
        assert done[0x38:0x3E] == struct.pack(">BBHH", SEND, 0, a.sq().number, index)
        pair.loop.advance(0.25)
    assert not faults(pair)


def test_a_sum_of_zero_is_never_reported(pair: Pair) -> None:
    """The kernel reads 0 as "no sum": with this address the datagram sums to 0 modulo 65535."""
    posted = post_everywhere(pair.b)
    length = 8 + 50
    rest = ones(IP_A + IP_B[:2] + struct.pack(">HH", 17, length))
    target = IP_B[:2] + (0xFFFF - rest).to_bytes(2, "big")
    send(pair.a, ethernet(B, A, 0x0800, udp(IP_A, target, 1, 2, b"z" * 50)))
    ((got, cqe),) = take(pair.b, posted)
    assert right(got[14:])
    assert ones(got[14:]) == 0xFFFF
    assert cqe[0x14:0x16] == b"\xff\xff"
    pair.a.nic.port.send(Frame(got))  # now summed by the receiver
    ((_, cqe),) = take(pair.b, posted)
    assert cqe[0x14:0x16] == b"\xff\xff"


def test_a_frame_that_is_not_ip_is_padded_and_has_no_sum(pair: Pair) -> None:
    posted = post_everywhere(pair.b)
    send(pair.a, ethernet(b"\xff" * 6, A, 0x88B5, b"short"))
    ((got, cqe),) = take(pair.b, posted)
    assert got == ethernet(b"\xff" * 6, A, 0x88B5, b"short").ljust(60, b"\0")
    assert cqe[0x14:0x16] == b"\0\0"
    assert cqe[0x1C:0x20] == b"\1\0\0\0"
    assert cqe[0x0C:0x11] == bytes(5)


def test_a_damaged_sum_is_reported(pair: Pair) -> None:
    posted = post_everywhere(pair.b)
    send(pair.a, datagram(bytes(range(50))), cs=0x40)
    damaged = bytearray(datagram(bytes(range(50))))
    damaged[40:42] = b"\x12\x34"
    send(pair.a, bytes(damaged), cs=0x40)
    (_, no_sum), (got, wrong) = take(pair.b, posted)
    assert no_sum[0x1C] == L2_L3_L4_OK, "UDP over IPv4 may go without"
    assert wrong[0x1C] == L2_L3_L4_OK & ~4
    assert int.from_bytes(wrong[0x14:0x16], "big") == ones(got[14:])


def test_lso_is_cut_and_every_segment_is_right(pair: Pair) -> None:
    a, b = pair.a, pair.b
    posted = post_everywhere(b)
    payload = bytes(i * 7 % 251 for i in range(5 * 1000 + 300))
    header = ethernet(B, A, 0x0800, tcp(IP_A, IP_B, 4000, 80, b""))
    body = eth_segment(cs=BOTH_SUMS, mss=1000, inline=header)
    body += a.segment(payload[:1500]) + a.segment(payload[1500:])
    a.send(LSO, body)
    frames = take(b, posted)
    assert b"".join(got[54:] for got, _ in frames) == payload
    assert [len(got) for got, _ in frames] == [1054] * 5 + [354]
    hashes = {cqe[0x0C:0x11] for _, cqe in frames}
    wanted = flow_hash(bytes(range(40)), IP_A, IP_B, 4000, 80)
    assert hashes == {struct.pack(">IB", wanted, IPV4 | TCP)}
    for number, (got, cqe) in enumerate(frames):
        assert right(got[14:])
        assert struct.unpack_from(">I", got, 38)[0] == 1000 + 1000 * number
        assert cqe[0x1C] == L2_L3_L4_OK
        assert cqe[0x1D] == 4 << 4 | 2 << 2
        assert struct.unpack_from(">H", cqe, 0x14)[0] == ones(got[14:])
        assert struct.unpack_from(">H", cqe, 0x3C)[0] == number
    (done,) = a.poll(a.sent_cq())
    assert done[0x38] == LSO
    assert not faults(pair)


def merging(machine: Machine, mask: int = 3) -> None:
    """Turn LRO on as ``en/tir.c`` mlx5e_tir_builder_build_packet_merge does."""
    context = Tirc(packet_merge_mask=mask, lro_max_ip_payload_size=255, lro_timeout_period_usecs=32)
    for tirn in machine.tirs:
        bitmask = c.ModifyTirBitmask(packet_merge=True)
        machine.run(Op.MODIFY_TIR, c.ModifyTirIn(tirn=tirn, bitmask=bitmask, ctx=context), c.Done)


def large_send(machine: Machine, payload: bytes, *, psh: bool = True) -> None:
    """LSO in segments of 500 bytes."""
    packet = bytearray(tcp(IP_A, IP_B, 4000, 80, b""))
    packet[33] = 0x18 if psh else 0x10
    body = eth_segment(cs=BOTH_SUMS, mss=500, inline=ethernet(B, A, 0x0800, bytes(packet)))
    machine.send(LSO, body + machine.segment(payload))


@pytest.mark.parametrize("psh", [True, False])
def test_a_tir_with_packet_merge_makes_one_packet_of_a_train(pair: Pair, psh: bool) -> None:
    a, b = pair.a, pair.b
    posted = post_everywhere(b)
    merging(b)
    payload = bytes(i * 7 % 251 for i in range(3 * 500))
    large_send(a, payload, psh=psh)
    ((got, cqe),) = take(b, posted)
    assert got[54:] == payload
    assert cqe[0x20] == 3
    assert cqe[4] == (0x40 if psh else 0)
    assert struct.unpack_from(">BHI", cqe, 5) == (64, 500, 2000)
    assert ones(payload) == int.from_bytes(cqe[0x14:0x16], "big")
    merging(b, mask=0)
    large_send(a, payload, psh=psh)
    assert len(take(b, posted)) == 3
    assert not faults(pair)


def test_what_lro_holds_does_not_outlive_its_queue(pair: Pair) -> None:
    b = pair.b
    posted = post_everywhere(b)
    merging(b)
    assert b.nic._life is not None
    b.nic.receive(Frame(segment(1000, b"held")))
    assert take(b, posted) == [], "held until the batch of work is done"
    for channel in b.channels:
        # as a command of the same batch would; running one here lets the batch end first
        b.nic._life.datapath.destroy_rq(channel.rq)
    before = b.memory.read(16 << 20, 1 << 20)
    pair.loop.run()
    assert b.memory.read(16 << 20, 1 << 20) == before
    assert not faults(pair)


@pytest.mark.parametrize(
    "context",
    [
        Tirc(packet_merge_mask=4, lro_max_ip_payload_size=255, lro_timeout_period_usecs=32),
        Tirc(packet_merge_mask=1, lro_max_ip_payload_size=255, lro_timeout_period_usecs=33),
    ],
)
def test_merging_that_is_not_offered_is_refused(pair: Pair, context: Tirc) -> None:
    bitmask = c.ModifyTirBitmask(packet_merge=True)
    request = c.ModifyTirIn(tirn=pair.b.tirs[0], bitmask=bitmask, ctx=context)
    with pytest.raises(Refused):
        pair.b.run(Op.MODIFY_TIR, request, c.Done)


def other_lso(pair: Pair, payload: bytes) -> None:
    """LSO of IP protocol 253 with a header of 40 bytes."""
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 60, 0xFFFF, 0x4000, 64, 253, 0) + IP_A + IP_B
    header = ethernet(B, A, 0x0800, ip + bytes(range(40)))
    body = eth_segment(cs=BOTH_SUMS, mss=1420, inline=header) + pair.a.segment(payload)
    pair.a.send(LSO, body)


@pytest.mark.parametrize("profile", [CONNECTX6DX, SEQUENCE_LSO])
def test_lso_of_another_protocol_replicates_its_header(profile: Profile) -> None:
    pair = Pair(profile=profile)
    posted = post_everywhere(pair.b)
    payload = bytes(i * 11 % 253 for i in range(2 * 1420 + 1))
    other_lso(pair, payload)
    frames = [got for got, _ in take(pair.b, posted)]
    assert b"".join(got[74:] for got in frames)[: len(payload)] == payload
    first = int.from_bytes(bytes(range(4, 8)), "big")
    for number, got in enumerate(frames):
        length, ident = struct.unpack_from(">HH", got, 16)
        assert length == 60 + (1420 if number < 2 else 1)
        assert ident == (0xFFFF + number) & 0xFFFF
        assert ones(got[14:34]) == 0xFFFF
        counted = first + number * 1420 if profile is SEQUENCE_LSO else first
        assert got[34:74] == bytes(range(4)) + counted.to_bytes(4, "big") + bytes(range(8, 40))
    assert not faults(pair)


def test_a_card_for_tcp_alone_refuses_other_protocols() -> None:
    pair = Pair(profile=TCP_LSO)
    posted = post_everywhere(pair.b)
    other_lso(pair, bytes(3000))
    assert take(pair.b, posted) == []
    (cqe,) = pair.a.poll(pair.a.sent_cq())
    assert cqe[0x3F] >> 4 == 13
    assert cqe[0x37] == 2
    assert [type(fault) for fault in faults(pair)] == [QueueError]


@pytest.mark.parametrize(
    ("policy", "order"),
    [
        (Policy.FAIR, [0] * 16 + [1] * 16 + [0] * 4 + [1] * 4),
        (Policy.GREEDY, [0] * 20 + [1] * 20),
        (Policy.REVERSE, [1] * 16 + [0] * 16 + [1] * 4 + [0] * 4),
    ],
)
def test_a_policy_orders_the_queues(policy: Policy, order: list[int]) -> None:
    pair = Pair(arbitration=policy)
    a = pair.a
    posted = post_everywhere(pair.b)
    for channel in range(2):
        for _ in range(20):
            a.put(a.sq(channel), SEND, eth_segment() + a.segment(datagram(bytes([channel]) * 60)))
        doorbell = struct.pack(">II", 0, a.sq(channel).number << 8)
        a.frontend.post(a.page() + 0x800, doorbell)
    a.frontend.flush()
    pair.loop.run()
    assert [got[42] for got, _ in take(pair.b, posted)] == order


def test_one_run_is_bounded_in_bytes(pair: Pair) -> None:
    """Large sends of one guest must not hold the event loop for seconds."""
    a = pair.a
    header = ethernet(B, A, 0x0800, tcp(IP_A, IP_B, 4000, 80, b""))
    body = eth_segment(mss=1000, inline=header) + a.segment(bytes(60_000)) * 4
    for _ in range(40):
        a.put(a.sq(), LSO, body)
    counts = a.nic.port.counts
    a.frontend.post(a.page() + 0x800, struct.pack(">II", 0, a.sq().number << 8))
    a.frontend.flush()
    before = counts.sent_octets
    assert RUN_OCTETS <= before < RUN_OCTETS + 300_000
    pair.loop.run()
    assert counts.sent_octets == 40 * 240 * 1054


def test_mpsw_carries_a_frame_in_each_segment(pair: Pair) -> None:
    a, b = pair.a, pair.b
    posted = post_everywhere(b)
    sent = [datagram(bytes((n,)) * 60) for n in range(5)]
    a.send(MPSW, eth_segment(cs=BOTH_SUMS) + b"".join(map(a.segment, sent)))
    frames = take(b, posted)
    assert [got[42:] for got, _ in frames] == [frame[42:] for frame in sent]
    assert all(right(got[14:]) for got, _ in frames)
    assert len(a.poll(a.sent_cq())) == 1
    assert not faults(pair)


def test_an_armed_queue_interrupts_once(pair: Pair) -> None:
    a, b = pair.a, pair.b
    post_everywhere(b)
    hashed = flow_hash(bytes(range(40)), IP_A, IP_B, 1000, 53) & 1
    vector = b.frontend.host.interrupts
    before = list(vector)

    def news() -> list[int]:
        return [now - then for now, then in zip(vector[:3], before[:3], strict=True)]

    expected = [0, 0, 0]
    send(a, datagram())
    assert news() == expected, "nobody has armed the queue"
    cq = b.got_cq(hashed)
    b.arm_cq(cq)
    expected[hashed] += 1
    assert news() == expected, "armed with an entry not yet seen"
    assert b.poll_eq(b.eqs[3 + hashed]) == [(0, 0, cq.cqn.to_bytes(28, "big"))]
    assert len(b.poll(cq)) == 1
    b.arm_cq(cq)
    assert news() == expected
    for _ in range(3):
        send(a, datagram())
    expected[hashed] += 1
    assert news() == expected, "one event for all"
    assert len(b.poll_eq(b.eqs[3 + hashed])) == 1
    assert len(b.poll(cq)) == 3
    send(a, datagram())
    assert news() == expected, "not armed again"
    assert not faults(pair)


def test_the_sender_hears_of_its_completion(pair: Pair) -> None:
    a = pair.a
    before = a.frontend.host.interrupts[0]
    cq = a.sent_cq()
    for number in range(1, 4):
        a.arm_cq(cq)
        send(a, datagram())
        assert a.frontend.host.interrupts[0] == before + number
        assert len(a.poll_eq(a.eqs[3])) == 1
        assert len(a.poll(cq)) == 1


def test_an_event_queue_interrupts_once_until_it_is_armed_again(pair: Pair) -> None:
    a = pair.a
    assert a.poll_eq(a.eqs[1])
    before = a.frontend.host.interrupts[2]
    pair.link.plug(False)
    pair.link.plug(True)
    assert a.frontend.host.interrupts[2] == before + 1
    a.arm_eq(a.eqs[1])
    assert a.frontend.host.interrupts[2] == before + 2, "both are still unseen"
    pair.link.plug(False)
    assert a.frontend.host.interrupts[2] == before + 2


@pytest.mark.parametrize("symmetric", [True, False])
def test_flows_are_spread_by_their_hash(pair: Pair, symmetric: bool) -> None:
    a, b = pair.a, pair.b
    key = bytes.fromhex(
        "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa"
    )
    context = Tirc(
        rx_hash_fn=RxHashFn.TOEPLITZ,
        rx_hash_symmetric=symmetric,
        rx_hash_toeplitz_key=key,
        rx_hash_field_selector_outer=RxHashFieldSelect(selected_fields=0xF),
    )
    request = c.ModifyTirIn(tirn=b.tirs[1], bitmask=c.ModifyTirBitmask(hash=True), ctx=context)
    b.run(Op.MODIFY_TIR, request, c.Done)
    posted = post_everywhere(b)
    counts = []
    for sport in range(1000, 1040):
        send(a, datagram(sport=sport))
        wanted = flow_hash(key, IP_A, IP_B, sport, 53, symmetric=symmetric)
        queue = wanted & 1
        ((_, cqe),) = take(b, {queue: posted[queue]})
        assert struct.unpack_from(">IB", cqe, 0xC) == (wanted, IPV4 | UDP)
        counts.append(queue)
    assert 5 < sum(counts) < 35
    assert not received(b)


def test_a_stranger_is_for_promiscuous_ones_only(pair: Pair) -> None:
    a, b = pair.a, pair.b
    posted = post_everywhere(b)
    stranger = b"\2\0\0\0\0\x99"
    send(a, datagram(dst=stranger))
    assert take(b, posted) == []
    every = b.create_group(b.l2, 65535, 65535, FteMatchSetLyr24())
    b.set_entry(b.l2, every, 65535, FteMatchSetLyr24(), TO_TABLE, b.ttc)
    send(a, datagram(dst=stranger))
    assert take(b, posted) == []
    b.modify_vport(ModifyNicVportFieldSelect(promisc=True), NicVportContext(promisc_all=True))
    send(a, datagram(dst=stranger))
    assert len(take(b, posted)) == 1
    b.run(Op.DELETE_FLOW_TABLE_ENTRY, c.DeleteFteIn(table_id=b.l2, flow_index=65535), c.Done)
    send(a, datagram(dst=stranger))
    assert take(b, posted) == []


@pytest.mark.parametrize("strip", [True, False])
def test_a_tag_is_inserted_and_stripped(pair: Pair, strip: bool) -> None:
    a, b = pair.a, pair.b
    posted = post_everywhere(b)
    value = FteMatchSetLyr24(cvlan_tag=True, first_vid=5)
    for channel in b.channels:
        if not strip:
            request = c.ModifyRqIn(
                rq_state=1,
                rqn=channel.rq,
                modify_bitmask=2,
                ctx=Rqc(vsd=True, state=QueueState.RDY),
            )
            b.run(Op.MODIFY_RQ, request, c.Done)
    frame = datagram(b"tagged" * 20)
    insert = 0x8000 << 16 | 0x6005
    body = eth_segment(cs=BOTH_SUMS, insert=insert) + a.segment(frame)
    a.send(SEND, body)
    assert take(b, posted) == [], "no VLAN filter lets it in"
    b.set_entry(b.vlan, b.vlan_exact, 5, value, TO_TABLE, b.l2)
    a.send(SEND, body)
    ((got, cqe),) = take(b, posted)
    tag = b"" if strip else b"\x81\x00\x60\x05"
    assert (got[:12], got[12:-150]) == (frame[:12], tag)
    assert got[-120:] == frame[-120:]
    assert right(got[14 + len(tag) :])
    assert cqe[0x1D] & 1 == strip
    assert cqe[0x1E:0x20] == (b"\x60\x05" if strip else b"\0\0")
    assert cqe[0x1C] == L2_L3_L4_OK
    assert not faults(pair)


def test_an_s_tag_stays(pair: Pair) -> None:
    """The driver takes each stripped tag for a C-tag (``en_rx.c`` mlx5e_build_rx_skb)."""
    a, b = pair.a, pair.b
    posted = post_everywhere(b)
    value = FteMatchSetLyr24(svlan_tag=True, first_vid=5)
    group = b.create_group(b.vlan, 5000, 5001, FteMatchSetLyr24(svlan_tag=True, first_vid=0xFFF))
    b.set_entry(b.vlan, group, 5000, value, TO_TABLE, b.l2)
    frame = datagram(b"tagged" * 20)
    a.send(SEND, eth_segment(cs=BOTH_SUMS, insert=0x8001 << 16 | 5) + a.segment(frame))
    ((got, cqe),) = take(b, posted)
    assert got[12:18] == b"\x88\xa8\0\5\x08\0"
    assert cqe[0x1D] & 1 == 0


def test_a_ring_goes_round_more_than_once(pair: Pair) -> None:
    """Owner bits, counters and WQEs of 3 WQEBBs stay right over the end of the rings."""
    a, b = pair.a, pair.b
    index = 0
    counters: list[int] = []
    busy = flow_hash(bytes(range(40)), IP_A, IP_B, 1000, 53) & 1
    for lap in range(40):
        a.rewind()
        b.rewind()
        b.buffers(b.rq(busy), 70, 256)
        body = eth_segment(cs=BOTH_SUMS)
        body += b"".join(a.segment(datagram(bytes((lap,)) * 60)) for _ in range(7))
        indices = [a.put(a.sq(), MPSW, body) for _ in range(10)]
        a.ring(a.sq())
        counters += [int.from_bytes(cqe[0x3C:0x3E], "big") for cqe in received(b)]
        done = [int.from_bytes(cqe[0x3C:0x3E], "big") for cqe in a.poll(a.sent_cq())]
        assert done == indices == list(range(index, index + 30, 3))
        index += 30
    assert counters == list(range(40 * 70))
    assert not faults(pair)


Ending = Callable[[Machine], object]


@pytest.mark.parametrize(
    "end",
    [
        lambda m: m.nic.reset(),
        lambda m: m.nic.detach(),
        lambda m: m.frontend.bus_master(False),
        lambda m: m.run(Op.TEARDOWN_HCA, c.TeardownHcaIn(), c.TeardownHcaOut),
        lambda m: [m.take_away(number) for number in range(len(REGIONS))],
    ],
    ids=["reset", "detach", "bus master", "teardown", "unplugged"],
)
def test_memory_is_not_touched_after_the_end(pair: Pair, end: Ending) -> None:
    """In the midst of traffic: WQEs not executed, events held back, frames on their way."""
    a, b = pair.a, pair.b
    for number in range(2):
        request = c.ModifyCqIn(
            cqn=b.channels[number].cqs[4],
            modify_field_select_resize_field_select=3,
            cq_context=Cqc(cq_period=4000, cq_max_count=1000),
        )
        b.run(Op.MODIFY_CQ, request, c.Done)
        b.arm_cq(b.got_cq(number))
        b.arm_cq(b.sent_cq(number))
    post_everywhere(b, 200)
    send(a, datagram())
    reply = ethernet(A, B, 0x0800, udp(IP_B, IP_A, 1, 2, b"x" * 50))
    body = eth_segment(cs=BOTH_SUMS, inline=reply[:18]) + b.segment(reply[18:])
    for _ in range(300):
        b.put(b.sq(), SEND, body)
    # rung without letting the loop run: more than one batch remains
    b.frontend.write(b.page() + 0x800, struct.pack(">II", 0, b.sq().number << 8))
    b.listening = False
    consumed = len(b.poll(b.sent_cq()))
    assert 0 < consumed < 300
    b.memory.store_be32(b.sent_cq().dbr, 0)
    end(b)
    before = b.memory.read(0, END)
    interrupts = list(b.frontend.host.interrupts)
    pair.loop.run()
    b.frontend.flush()
    for _ in range(5):
        send(a, datagram())
    b.ring(b.sq())
    b.nic.flush()
    pair.loop.advance(1)
    pair.link.plug(False)
    pair.link.plug(True)
    send(a, datagram())
    pair.loop.advance(1)
    assert b.memory.read(0, END) == before
    assert b.frontend.host.interrupts == interrupts


def test_everything_goes_and_comes_back(pair: Pair) -> None:
    a, b = pair.a, pair.b
    life = b.nic._life
    assert life is not None
    for _ in range(3):
        b.leave()
        assert life.firmware.objects.leaked() == {}
        b.forget()
        b.up()
        posted = post_everywhere(b)
        send(a, datagram())
        assert len(take(b, posted)) == 1
    assert not faults(pair)


def test_a_port_that_is_down_neither_sends_nor_receives(pair: Pair) -> None:
    a, b = pair.a, pair.b
    post_everywhere(a)
    post_everywhere(b)
    b.port_admin(up=False)
    send(a, datagram())
    send(b, ethernet(A, B, 0x88B5, b""))
    assert not received(a)
    assert not received(b)
    b.port_admin(up=True)
    send(a, datagram())
    send(b, ethernet(A, B, 0x88B5, b""))
    assert len(received(a)) == 1
    assert len(received(b)) == 1


def test_a_pulled_cable_is_an_event_with_an_interrupt(pair: Pair) -> None:
    a = pair.a
    a.poll_eq(a.eqs[1])
    for plugged, sub_type in ((False, 1), (True, 4)):
        before = a.frontend.host.interrupts[2]
        pair.link.plug(plugged)
        assert a.frontend.host.interrupts[2] == before + 1
        ((kind, sub, data),) = a.poll_eq(a.eqs[1])
        assert (kind, sub, data[8] >> 4) == (PORT_EVENT, sub_type, 1)


def test_out_of_buffers_is_counted_and_recovers(pair: Pair) -> None:
    a, b = pair.a, pair.b
    for _ in range(4):
        send(a, datagram())
    posted = post_everywhere(b, 2)
    for _ in range(3):
        send(a, datagram())
    assert len(take(b, posted)) == 2
    request = c.QueryQCounterIn(counter_set_id=b.counter_sets[0])
    assert b.run(Op.QUERY_Q_COUNTER, request, c.QueryQCounterOut).out_of_buffer == 5
