# SPDX-License-Identifier: GPL-2.0-or-later
"""What a driver without bugs does, in all its variety: no finding."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nicmodel.objects.queue import QueueState
from tests.unit.offload.tls.records import plain13, sealed12
from tests.unit.queues.tls import (
    KEY,
    SALT,
    TLS13,
    add_dek,
    destroy_dek,
    headers,
    post_dump,
    post_params,
    post_progress,
    post_send,
    tls_objects,
)
from tests.unit.sanitizer.rig import SecondQueue as OtherQueue
from tests.unit.sanitizer.rig import Sender, Watched, doorbell, record


@pytest.fixture
def rig() -> Watched:
    return Watched()


def test_retransmission(rig: Watched) -> None:
    sender = Sender(rig)
    for number in range(4):
        sender.write(bytes([number]) * 1000)
    sender.packet(0, 2000, mss=500)
    sender.ring()
    sender.packet(500, 1000)  # in the middle of a record: DUMP
    sender.packet(1000, 1500)  # goes on there
    sender.packet(2000, 4116, mss=500)  # and back to new data
    sender.ring()
    sender.packet(3000, 3500)
    sender.packet(3000, 3500)
    sender.ring()
    assert rig.findings == []
    assert rig.sanitizer.accounts.resyncs == 4
    assert rig.sanitizer.accounts.resyncs_per_record == 2
    assert rig.sanitizer.ledger.uncompared == 0
    assert rig.sanitizer.ledger.repeated > 0


def test_two_connections_in_turns(rig: Watched) -> None:
    one, two = Sender(rig), Sender(rig, start=0xFFFFFF00, first=1 << 40, iv=77)
    for number in range(8):
        one.write(bytes([number]) * 100)
        two.write(bytes([number]) * 100)
        one.packet(number * 129, number * 129 + 129)
        two.packet(number * 129, number * 129 + 129)
        one.ring()
    assert [found.sentence() for found in rig.findings] == []


def test_tis_used_again(rig: Watched) -> None:
    """A closed connection's TIS goes back to the pool; the next one has another key there."""
    tisn, dek = tls_objects(rig)
    for key in range(5):
        sender = Sender(rig, start=key * 7000, iv=key * 1000, tisn=tisn, dek=dek)
        sender.write(bytes([key]) * 100)
        sender.packet(0, 129)
        sender.ring()
        destroy_dek(rig, dek)
        _, dek = tls_objects(rig, bytes([key + 1]) * 16)
    assert rig.findings == []
    assert rig.sanitizer.accounts.contexts == 0
    assert rig.sanitizer.accounts.most_contexts == 1


def test_record_that_a_closed_connection_left_behind(rig: Watched) -> None:
    """It is given up when the TIS gets another key: its nonce was one of the old key."""
    key = bytes(range(50, 66))
    other = Sender(rig, tisn=tls_objects(rig)[0], dek=add_dek(rig, key))
    other.write(b"x" * 100)
    other.packet(0, 129)
    closed = Sender(rig, start=3000)
    closed.write(b"y" * 100)
    closed.packet(0, 100)
    closed.ring()
    destroy_dek(rig, closed.dek)
    again = Sender(rig, start=7000, iv=1 << 20, tisn=closed.tisn, dek=add_dek(rig, key))
    again.write(b"z" * 100)
    again.packet(0, 129)
    again.ring()
    assert [found.sentence() for found in rig.findings] == []


def test_dump_only(rig: Watched) -> None:
    """A resync whose packet never came, then a whole record by DUMP."""
    tisn, dek = tls_objects(rig)
    post_params(rig, tisn, dek, 0)
    whole = record(0, b"x" * 200)
    post_dump(rig, tisn, whole[:100])
    post_progress(rig, tisn)
    post_dump(rig, tisn, whole)
    post_send(rig, tisn, record(1, b"y"), seq=5000)
    rig.ring()
    assert rig.findings == []
    assert rig.sanitizer.accounts.dumps == 2


def test_composite_record_numbers(rig: Watched) -> None:
    """Messages of another transport: message id and index, a resync for each message."""
    tisn, dek = tls_objects(rig)
    for message in (3, 9, 4, 1 << 40):
        number = message << 16
        post_params(rig, tisn, dek, number)
        for index in range(3):
            text = message.to_bytes(8, "big") + bytes([index])
            post_send(rig, tisn, record(number + index, text), proto=253)
        rig.ring()
        rig.consume()
    assert rig.findings == []


def test_tls13(rig: Watched) -> None:
    tisn, dek = tls_objects(rig)
    data = plain13(b"one"), plain13(b"two")
    post_params(rig, tisn, dek, 0, version=TLS13)
    post_send(rig, tisn, data[0], seq=1000)
    post_send(rig, tisn, data[1], seq=1000 + len(data[0]))
    post_progress(rig, tisn)
    post_send(rig, tisn, data[0], seq=1000)
    rig.ring()
    assert rig.findings == []


def test_bytes_from_before_the_offload(rig: Watched) -> None:
    sender = Sender(rig)
    sender.write(b"x" * 100)
    sender.packet(0, 129)
    post_send(rig, 0, b"handshake", seq=991)
    post_send(rig, 0, b"", seq=1129)  # an acknowledgment
    sender.ring()
    assert rig.findings == []


def test_the_same_ports_again(rig: Watched) -> None:
    """A connection that is not offloaded may have addresses and ports of one that was."""
    sender = Sender(rig)
    sender.write(b"x" * 100)
    sender.packet(0, 129)
    syn = bytearray(headers(0, 77))
    syn[47] = 0x02
    rig.post(0x0A, _send_body(rig, bytes(syn)))
    post_send(rig, 0, b"GET / HTTP/1.0\r\n", seq=1129)
    sender.ring()
    assert rig.findings == []


def _send_body(rig: Watched, frame: bytes) -> bytes:
    return bytes(16) + rig.seg(frame)


def test_queue_in_error_forgets_what_it_was_given(rig: Watched) -> None:
    """What a queue flushes, the driver believes to have been sent: its resyncs look needless."""
    sender = Sender(rig)
    for number in range(3):
        sender.write(bytes([number]) * 100)
    sender.packet(0, 129)
    sender.ring()
    index = rig.post(0x3F)  # no such opcode
    sender.packet(129, 258)
    sender.ring()
    assert [found.wqe for found in rig.findings] == [index]
    rig.sq.modify(QueueState.RST)
    rig.sq.modify(QueueState.RDY)
    rig.posted = 0
    doorbell(rig)
    sender.packet(129, 258)
    sender.ring()
    assert len(rig.findings) == 1


def test_software_records_of_a_lost_device_are_only_a_fallback(rig: Watched) -> None:
    sender = Sender(rig)
    for number in range(3):
        sender.write(bytes([number]) * 100)
    sender.packet(0, 129)
    sealed = sealed12(KEY, SALT, 1, sender.records[1][1])
    # in three packets, the second one twice
    for begin, end in ((0, 50), (50, 90), (50, 90), (90, 129)):
        post_send(rig, 0, sealed[begin:end], seq=1129 + begin)
    sender.ring()
    assert [found.KIND for found in rig.findings] == []
    assert rig.sanitizer.accounts.software_records == 0  # a byte came twice: not put together
    for begin, end in ((0, 50), (50, 129)):
        post_send(rig, 0, sealed[begin:end], seq=1129 + begin)
    sender.ring()
    assert [found.KIND for found in rig.findings] == ["fallback"]


steps = st.lists(
    st.tuples(
        st.sampled_from(["new", "new", "new", "again", "queue", "lost"]),
        st.integers(1, 3000),
        st.floats(0, 1),
        st.sampled_from([0, 0, 300, 1460]),
    ),
    max_size=25,
)


@settings(max_examples=150)
@given(
    steps=steps,
    texts=st.lists(st.integers(1, 2500), min_size=1, max_size=12),
    start=st.sampled_from([0, 1000, 0xFFFFF000]),
    first=st.sampled_from([0, 5, (1 << 32) - 3, (1 << 64) - 3]),
    iv=st.sampled_from([0, 1, 1 << 63]),
)
def test_any_stream_with_any_loss(
    steps: list[tuple[str, int, float, int]],
    texts: list[int],
    start: int,
    first: int,
    iv: int,
) -> None:
    rig = Watched()
    sender = Sender(rig, start=start, first=first, iv=iv)
    for number, length in enumerate(texts):
        sender.write(bytes([number + 1]) * length)
    queues = [rig, OtherQueue(rig)]
    total, sent = len(sender.stream), 0
    for what, length, where, mss in steps:
        if what == "queue":  # all before is done
            queues.reverse()
            sender.queue = queues[0]
            continue
        begin = sent if what != "again" else int(sent * where)
        end = min(total, begin + length)
        if begin == end:
            continue
        if what == "lost":  # before the driver had it
            sent = max(sent, end)
            continue
        sender.packet(begin, end, mss=mss)
        sent = max(sent, end)
        sender.ring()
        queues[0].consume()
    assert [found.sentence() for found in rig.findings] == []
    assert rig.sanitizer.ledger.uncompared == 0
