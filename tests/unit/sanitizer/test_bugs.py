# SPDX-License-Identifier: GPL-2.0-or-later
"""Bugs that real projects had, WQE by WQE: each is named with the first packet that it spoils."""

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from nicmodel.objects.queue import QueueState
from nicmodel.sanitizer.findings import (
    BadUse,
    EncryptedTwice,
    Finding,
    LeftInClear,
    MissingResync,
    NeedlessResync,
    NonceReused,
    NotStarted,
    SecondQueue,
    TornDown,
    WentOnInSoftware,
    WrongRecordNumber,
)
from nicmodel.wire.comment import comments
from tests.unit.offload.tls.records import sealed12
from tests.unit.queues.tls import (
    KEY,
    SALT,
    add_dek,
    destroy_dek,
    destroy_tis,
    payloads,
    post_params,
    post_progress,
    post_send,
    post_static,
    tls_objects,
)
from tests.unit.sanitizer.rig import SecondQueue as OtherQueue
from tests.unit.sanitizer.rig import Sender, Watched, doorbell, record

TEXT = bytes(range(100))


@pytest.fixture
def rig() -> Watched:
    return Watched()


@pytest.fixture
def sender(rig: Watched) -> Sender:
    """Three records of 129 bytes each, the first one sent."""
    made = Sender(rig)
    for number in range(6):
        made.write(bytes([number]) * 100)
    made.packet(0, 129)
    made.ring()
    assert rig.findings == []
    return made


def only(rig: Watched, kind: type[Finding]) -> Finding:
    """The one finding there is; it is one sentence and says where."""
    (found,) = rig.findings
    assert type(found) is kind
    text = found.sentence()
    assert "\n" not in text
    assert ". " not in text
    return found


# a context used on a second queue


def test_second_queue_while_the_first_one_has_work(rig: Watched, sender: Sender) -> None:
    other = OtherQueue(rig)
    waits = sender.packet(129, 258)
    doorbell(rig)
    sender.queue = other
    index = sender.packet(258, 387)
    other.ring()
    found = only(rig, SecondQueue)
    assert isinstance(found, SecondQueue)
    assert (found.sqn, found.wqe, found.tisn) == (8, index, sender.tisn)
    assert (found.other_sqn, found.other_wqe) == (7, waits)
    assert "no order between queues" in found.sentence()


def test_second_queue_although_the_order_is_right(rig: Watched, sender: Sender) -> None:
    """By luck: the WQE that waits in the first queue is for later bytes."""
    waits = sender.send(rig, sender.tisn, 258, 387, 1258)
    doorbell(rig)
    other = OtherQueue(rig)
    index = sender.send(other, sender.tisn, 129, 258, 1129)
    other.ring()
    found = only(rig, SecondQueue)
    assert isinstance(found, SecondQueue)
    assert (found.wqe, found.other_wqe) == (index, waits)


def test_another_queue_when_the_first_one_is_done_is_right(rig: Watched, sender: Sender) -> None:
    """The stack may choose another queue once all before was completed (``ooo_okay``)."""
    sender.queue = OtherQueue(rig)
    sender.packet(129, 258)
    sender.packet(0, 129)
    sender.ring()
    assert rig.findings == []


# a driver that counts what its queue has flushed: ktls_tx.c looks at no completion, so
# ``expected_seq`` and ``rec_seq`` are of the last packet that was posted


def recover(rig: Watched, sender: Sender, *flushed: tuple[int, int]) -> None:
    """The queue fails, flushes packets that are posted behind, and is RDY again."""
    index = rig.post(0x3F)  # no such opcode
    for packet in flushed:
        sender.packet(*packet)
    sender.ring()
    assert [found.wqe for found in rig.findings] == [index]
    rig.sq.modify(QueueState.RST)
    rig.sq.modify(QueueState.RDY)
    rig.posted = 0
    doorbell(rig)
    rig.sink.records.clear()


def test_new_data_after_a_recovery(rig: Watched, sender: Sender) -> None:
    """They go on where the flushed packet ended, so the driver sees no need to resync."""
    recover(rig, sender, (129, 258))
    index = sender.packet(258, 387)
    sender.ring()
    found = only(rig, MissingResync)
    assert isinstance(found, MissingResync)
    assert (found.wqe, found.expected_tcp_sn, found.tcp_sn) == (index, 1129, 1258)


def test_the_same_record_after_a_recovery(rig: Watched, sender: Sender) -> None:
    """Its number was posted and flushed: the driver takes it for known, and posts it no more."""
    sender.packet(129, 387)
    sender.ring()
    recover(rig, sender, (129, 258))
    sender.packet(129, 258)
    sender.ring()
    wrong, reused = rig.findings
    assert isinstance(wrong, WrongRecordNumber)
    assert (wrong.record, wrong.meant, wrong.by) == (0, 1, "earlier packets with these bytes say")
    assert isinstance(reused, NonceReused)
    assert reused.before_record == 1


# a missing resync


def test_missing_resync(rig: Watched, sender: Sender) -> None:
    index = sender.send(rig, sender.tisn, 258, 387, 1000 + 258)
    sender.ring()
    found = only(rig, MissingResync)
    assert isinstance(found, MissingResync)
    assert (found.sqn, found.wqe, found.tisn, found.dek) == (7, index, sender.tisn, sender.dek)
    assert (found.expected_tcp_sn, found.tcp_sn, found.record) == (1129, 1258, 1)


def test_missing_resync_is_told_once_until_parameters_come(rig: Watched, sender: Sender) -> None:
    sender.send(rig, sender.tisn, 258, 387, 1258)
    sender.send(rig, sender.tisn, 129, 258, 1129)
    sender.expected = 0
    sender.packet(387, 516)
    sender.ring()
    only(rig, MissingResync)
    sender.send(rig, sender.tisn, 0, 129, 1000)
    sender.ring()
    # record 0 is number 4 for the context that stands at the wrong place: the nonce is used again
    kinds = [MissingResync, MissingResync, NonceReused]
    assert [type(found) for found in rig.findings] == kinds


def test_missing_resync_of_a_protocol_without_sequence(rig: Watched) -> None:
    """Figure 2 of the paper, out-seq: the number in the stream says it."""
    tisn, dek = tls_objects(rig)
    post_params(rig, tisn, dek, 1)
    post_send(rig, tisn, record(1, TEXT), proto=253)
    post_send(rig, tisn, record(3, TEXT), proto=253)
    rig.ring()
    found = only(rig, WrongRecordNumber)
    assert isinstance(found, WrongRecordNumber)
    assert (found.record, found.meant) == (2, 3)


def test_dump_too_short(rig: Watched, sender: Sender) -> None:
    """A resync into a record without the DUMP of what precedes it."""
    post_progress(rig, sender.tisn)
    sender.send(rig, sender.tisn, 50, 129, 1050)
    sender.ring()
    only(rig, WrongRecordNumber)  # its bytes are read as header and nonce


# a record number that restarts for each message under one key


def test_number_restarts(rig: Watched) -> None:
    """As a published driver did: number and nonce begin at 0 for each message."""
    tisn, dek = tls_objects(rig)
    for message in (b"first", b"other"):
        post_params(rig, tisn, dek, 0)
        index = post_send(rig, tisn, record(0, message), proto=146)
    rig.ring()
    found = only(rig, NonceReused)
    assert isinstance(found, NonceReused)
    assert (found.wqe, found.record, found.before_record) == (index, 0, 0)
    assert found.differs == "plaintext"


def test_where_records_begin_is_known_of_each_packet_in_a_row(rig: Watched) -> None:
    """Two large sends leave as one train; a record begins in the second, at 258."""
    sender = Sender(rig)
    for number in range(4):
        sender.write(bytes([number]) * 100)
    sender.packet(0, 200, mss=100)
    sender.packet(200, 400, mss=100)
    sender.ring()
    assert [traffic.count for traffic in rig.sent] == [4]
    sender.resync(rig, 258, number=0)
    sender.send(rig, sender.tisn, 258, 387, 1258)
    sender.ring()
    found = rig.findings[0]
    assert isinstance(found, WrongRecordNumber)
    assert (found.record, found.meant, found.by) == (0, 2, "earlier packets with these bytes say")


def test_number_restarts_but_the_nonce_does_not(rig: Watched, sender: Sender) -> None:
    sender.resync(rig, 258, number=0)
    sender.send(rig, sender.tisn, 258, 387, 1258)
    sender.ring()
    found = only(rig, WrongRecordNumber)
    assert isinstance(found, WrongRecordNumber)
    assert (found.record, found.meant) == (0, 2)


def test_same_key_installed_twice(rig: Watched, sender: Sender) -> None:
    """Another context, TIS and DEK, the same key: both begin at 0."""
    second = Sender(rig, start=5000)
    second.write(b"quite another thing".ljust(100))
    second.packet(0, 129)
    second.ring()
    found = only(rig, NonceReused)
    assert isinstance(found, NonceReused)
    assert (found.tisn, found.before_tisn) == (second.tisn, sender.tisn)


def test_a_key_that_comes_to_a_context_is_the_one_that_its_nonces_are_of(
    rig: Watched, sender: Sender
) -> None:
    sender.packet(129, 258)
    key = AESGCM.generate_key(128)
    begun = Sender(rig, start=5000, tisn=sender.tisn, dek=add_dek(rig, key))
    other = Sender(rig, start=9000, tisn=tls_objects(rig)[0], dek=add_dek(rig, key))
    for number in range(4):
        begun.write(bytes([number]) * 100)
        other.write(bytes([number] if number < 3 else b"X") * 100)
    begun.packet(0, 258)
    begun.packet(258, 516)
    begun.ring()
    assert rig.findings == []
    other.packet(0, 516)
    other.ring()
    found = only(rig, NonceReused)
    assert (found.tisn, found.record) == (other.tisn, 3)


def test_same_nonce_for_other_associated_data(rig: Watched) -> None:
    tisn, dek = tls_objects(rig)
    post_params(rig, tisn, dek, 0)
    post_send(rig, tisn, record(0, TEXT))
    post_params(rig, tisn, dek, 0)
    post_send(rig, tisn, record(0, TEXT, kind=21))
    rig.ring()
    found = only(rig, NonceReused)
    assert isinstance(found, NonceReused)
    assert "associated" in found.differs


def test_nonce_of_a_record_that_never_ended(rig: Watched, sender: Sender) -> None:
    """The first use was given up in the middle, the second one is another text."""
    long = Sender(rig, start=9000, iv=1 << 40)
    long.write(b"a" * 1000)
    long.packet(0, 600)
    long.ring()
    other = Sender(rig, start=20000, iv=1 << 40)
    other.write(b"a" * 99 + b"b" * 901)
    post_progress(rig, long.tisn)  # gives up the first record
    other.packet(0, 300)
    other.ring()
    found = only(rig, NonceReused)
    assert found.tisn == other.tisn


# a 32-bit expected number compared with a 64-bit one


def test_cut_number(rig: Watched) -> None:
    """The driver keeps 32 bits: a resync sets the lower half only."""
    first = 5 << 32
    sender = Sender(rig, first=first)
    for number in range(3):
        sender.write(bytes([number]) * 100)
    sender.packet(0, 129)
    sender.ring()
    sender.resync(rig, 258, number=2)
    sender.send(rig, sender.tisn, 258, 387, 1258)
    sender.ring()
    found = only(rig, WrongRecordNumber)
    assert isinstance(found, WrongRecordNumber)
    assert (found.record, found.meant) == (2, first + 2)
    assert "lower 32 bits" in found.sentence()


def test_comparison_that_is_never_equal(rig: Watched) -> None:
    """32 bits compared with 64: every record is resynced, though it is the expected one."""
    sender = Sender(rig, first=5 << 32)
    for number in range(3):
        sender.write(bytes([number]) * 100)
    sender.packet(0, 129)
    sender.resync(rig, 129)
    index = sender.packet(129, 258)
    sender.packet(258, 387)
    sender.ring()
    found = only(rig, NeedlessResync)
    assert (found.wqe, found.record) == (index, (5 << 32) + 1)


def test_needless_resync_in_a_record(rig: Watched, sender: Sender) -> None:
    sender.packet(129, 200)
    sender.resync(rig, 200)
    sender.send(rig, sender.tisn, 200, 258, 1200)
    sender.ring()
    found = only(rig, NeedlessResync)
    assert isinstance(found, NeedlessResync)
    assert found.octets == 71


# a WQE without TIS on an offloaded flow


def test_plaintext(rig: Watched, sender: Sender) -> None:
    index = sender.packet(129, 258, tisn=0)
    sender.ring()
    found = only(rig, LeftInClear)
    assert isinstance(found, LeftInClear)
    assert (found.sqn, found.wqe, found.tisn, found.record) == (7, index, sender.tisn, 1)
    assert (found.tcp_sn, found.octets) == (1129, 129)
    assert found.flow == "10.0.0.1:40000 > 10.0.0.2:443"


def test_plaintext_in_the_middle_of_a_record(rig: Watched, sender: Sender) -> None:
    """No record is complete, but the engine goes on behind it: software did not encrypt it."""
    sender.packet(129, 150)
    index = sender.packet(150, 200, tisn=0)
    sender.packet(200, 300)
    sender.ring()
    found = only(rig, LeftInClear)
    assert isinstance(found, LeftInClear)
    assert (found.wqe, found.record, found.tcp_sn, found.octets) == (index, 1, 1150, 50)


def test_plaintext_in_segments(rig: Watched, sender: Sender) -> None:
    index = sender.packet(129, 600, mss=50, tisn=0)
    sender.ring()
    found = only(rig, LeftInClear)
    assert found.wqe == index


def test_plaintext_that_begins_in_a_record(rig: Watched, sender: Sender) -> None:
    """The rest of record 1 cannot be judged; record 2 is told when it is complete."""
    sender.packet(129, 200)
    sender.packet(200, 387, tisn=0)
    sender.ring()
    found = only(rig, LeftInClear)
    assert found.record == 2
    assert rig.sanitizer.accounts.unjudged_octets == 0


def test_no_record_at_all(rig: Watched, sender: Sender) -> None:
    post_send(rig, 0, b"GET / HTTP/1.0\r\n\r\n", seq=1129)
    sender.ring()
    only(rig, LeftInClear)


def test_encrypted_by_software_is_a_fallback(rig: Watched, sender: Sender) -> None:
    post_send(rig, 0, sealed12(KEY, SALT, 1, sender.records[1][1]), seq=1129)
    sender.ring()
    only(rig, WentOnInSoftware)
    post_send(rig, 0, sealed12(KEY, SALT, 2, sender.records[2][1]), seq=1258)
    sender.ring()
    only(rig, WentOnInSoftware)
    assert rig.sanitizer.accounts.software_records == 2
    # and then a record in clear
    post_send(rig, 0, sender.records[3][1], seq=1387)
    sender.ring()
    assert [type(found) for found in rig.findings] == [WentOnInSoftware, LeftInClear]


def test_fallback_behind_a_record_that_was_broken_off(rig: Watched, sender: Sender) -> None:
    """TCP sends something old in between: the record is lost to the judge, the next one is not."""
    first, second = (sealed12(KEY, SALT, n, sender.records[n][1]) for n in (1, 2))
    post_send(rig, 0, first[:60], seq=1129)
    post_send(rig, 0, bytes(20), seq=1010)
    post_send(rig, 0, first[60:], seq=1189)
    sender.ring()
    assert rig.findings == []
    post_send(rig, 0, second, seq=1258)
    sender.ring()
    found = only(rig, WentOnInSoftware)
    assert found.record == 2


def test_each_time_that_a_connection_leaves_the_engine_is_told(
    rig: Watched, sender: Sender
) -> None:
    post_send(rig, 0, sender.records[1][1], seq=1129)
    sender.ring()
    only(rig, LeftInClear)
    sender.packet(0, 129)  # a retransmission by the engine
    sender.ring()
    post_send(rig, 0, sender.records[1][1], seq=1129)
    sender.ring()
    assert [type(found) for found in rig.findings] == [LeftInClear, LeftInClear]


def test_encrypted_under_a_wrong_number(rig: Watched, sender: Sender) -> None:
    post_send(rig, 0, sealed12(KEY, SALT, 7, sender.records[1][1]), seq=1129)
    sender.ring()
    only(rig, LeftInClear)


def test_encrypted_twice(rig: Watched) -> None:
    tisn, dek = tls_objects(rig)
    post_params(rig, tisn, dek, 0)
    sealed = sealed12(KEY, SALT, 0, record(0, TEXT))
    index = post_send(rig, tisn, sealed)
    rig.ring()
    found = only(rig, EncryptedTwice)
    assert found.wqe == index
    assert TEXT in payloads(rig.sent)[0]  # it is in clear indeed


# a context torn down while its data is in the ring


def test_key_destroyed_while_data_wait(rig: Watched, sender: Sender) -> None:
    index = sender.packet(129, 258)
    doorbell(rig)
    destroy_dek(rig, sender.dek)
    found = only(rig, TornDown)
    assert isinstance(found, TornDown)
    assert (found.sqn, found.wqe, found.tisn, found.dek) == (7, index, sender.tisn, sender.dek)
    assert found.destroyed == "DEK"


def test_tis_destroyed_while_data_wait(rig: Watched, sender: Sender) -> None:
    sender.packet(129, 258)
    doorbell(rig)
    destroy_tis(rig, sender.tisn)
    found = only(rig, TornDown)
    assert isinstance(found, TornDown)
    assert found.destroyed == "TIS"


def test_data_for_a_key_that_is_gone(rig: Watched, sender: Sender) -> None:
    destroy_dek(rig, sender.dek)
    index = sender.packet(129, 258)
    sender.ring()
    found = only(rig, BadUse)
    assert isinstance(found, BadUse)
    assert (found.sqn, found.wqe, found.tisn) == (7, index, sender.tisn)
    assert "destroyed" in found.reason


def test_teardown_when_all_is_sent_is_right(rig: Watched, sender: Sender) -> None:
    destroy_dek(rig, sender.dek)
    destroy_tis(rig, sender.tisn)
    assert rig.findings == []


# what is not set up


def test_static_parameters_that_nothing_puts_in_force(rig: Watched, sender: Sender) -> None:
    post_static(rig, sender.tisn, sender.dek, 3)
    sender.packet(129, 258)
    sender.ring()
    only(rig, NotStarted)


@pytest.mark.parametrize("tisn", [0x77, 0])
def test_objects_that_were_never_made(rig: Watched, tisn: int) -> None:
    real, dek = tls_objects(rig)
    if tisn:
        post_params(rig, tisn, dek, 0)
    else:
        post_params(rig, real, 0x99, 0)
    rig.ring()
    found = only(rig, BadUse)
    assert found.tisn == (tisn or real)


def test_stale_objects_are_not_taken_for_others(rig: Watched, sender: Sender) -> None:
    """A DEK with the number of a destroyed one is another key object."""
    destroy_dek(rig, sender.dek)
    again = add_dek(rig, AESGCM.generate_key(128))
    post_params(rig, sender.tisn, again, 77)
    post_send(rig, sender.tisn, record(77, TEXT, iv=1234), seq=50000)
    sender.ring()
    assert rig.findings == []


# what a capture says of the packet


def test_verdict_on_a_packet_is_what_was_found(rig: Watched, sender: Sender) -> None:
    rig.tls.origins = True
    sender.packet(129, 258)
    sender.ring()
    good = rig.sent[-1].origin
    assert good is not None
    assert good.verdict == "encrypted"
    index = sender.packet(258, 387, tisn=0)
    sender.ring()
    plain = rig.sent[-1].origin
    assert plain is not None
    assert comments(plain, 1) == [
        (f"SQ 0x7 WQE {index} TIS {sender.tisn:#x}: not encrypted, found: plaintext", 1)
    ]
    sender.send(rig, sender.tisn, 516, 645, 1516)
    sender.ring()
    bad = rig.sent[-1].origin
    assert bad is not None
    assert bad.verdict == "encrypted, found: sequence"


def test_verdicts_on_a_row_are_each_for_its_packet(rig: Watched, sender: Sender) -> None:
    """Large sends that leave together are all encrypted before the first of them leaves."""
    rig.tls.origins = True
    sender.packet(129, 258, mss=50)
    sender.send(rig, sender.tisn, 516, 645, 1516, mss=50)
    sender.ring()
    verdicts = [traffic.origin.verdict for traffic in rig.sent[-2:] if traffic.origin is not None]
    assert verdicts == ["encrypted", "encrypted, found: sequence"]
