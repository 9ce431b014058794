# SPDX-License-Identifier: GPL-2.0-or-later
"""SMT messages that the engine encrypts, as WQEs: which message and record a finding is about."""

import pytest

from nicmodel.sanitizer.findings import Finding, LeftInClear, NonceReused, WrongRecordNumber
from nicmodel.spec.wqe import WqeOpcode
from tests.oracles import smt
from tests.oracles.smt_frames import (
    End,
    data_header,
    framing,
    ip,
    message,
    number_of,
    packets,
    room,
)
from tests.unit.offload.tls.records import plain12
from tests.unit.queues.rig import eth_segment
from tests.unit.queues.tls import KEY, SALT, post_params, tls_objects
from tests.unit.sanitizer.rig import Watched

A = End(KEY, SALT)
B = End(KEY, SALT, variant="B")


@pytest.fixture
def rig() -> Watched:
    return Watched()


class Sender:
    """A driver that sends messages of one packet by one context, with a resync for each."""

    def __init__(self, rig: Watched, end: End) -> None:
        self.rig, self.end = rig, end
        self.tisn, self.dek = tls_objects(rig)

    def message(self, sender_id: int, text: bytes, *, expect: int | None = None) -> None:
        """``expect``: the number that the driver gives to the context; None: the right one."""
        number = number_of(self.end.variant, sender_id, 0)
        post_params(self.rig, self.tisn, self.dek, number if expect is None else expect)
        self.packet(sender_id, number, text)

    def packet(self, sender_id: int, number: int, text: bytes, offset: int = 0) -> None:
        length = offset + len(text)
        head = framing(self.end.variant, offset, len(text), length=length)
        sealed = plain12(head + text, number.to_bytes(8, "big"))
        frame = ip(self.end, data_header(self.end, sender_id, length, offset) + sealed)
        inline = frame[: len(frame) - len(sealed)]
        body = eth_segment(inline=inline) + self.rig.seg(sealed)
        self.rig.post(WqeOpcode.SEND, body, imm=self.tisn << 8)
        self.go()

    def without_tis(self, frame: bytes) -> None:
        """Send a frame as it is."""
        body = eth_segment(inline=frame[:74]) + self.rig.seg(frame[74:])
        self.rig.post(WqeOpcode.SEND, body, imm=0)
        self.go()

    def go(self) -> None:
        self.rig.ring()
        self.rig.consume()
        self.rig.reuse_memory()

    def only(self, kind: type[Finding]) -> Finding:
        (found,) = self.rig.findings
        assert type(found) is kind
        return found


@pytest.mark.parametrize("end", [A, B], ids="AB")
def test_one_message_is_healthy(rig: Watched, end: End) -> None:
    Sender(rig, end).message(6, b"text")
    assert rig.findings == []
    assert rig.sanitizer.ledger.seen == 1


def test_messages_of_variant_a_are_healthy_and_what_left_decrypts(rig: Watched) -> None:
    sender = Sender(rig, A)
    texts = {2: b"one", 4: b"two", 6: b"three"}
    for sender_id, text in texts.items():
        sender.message(sender_id, text)
    assert rig.findings == []
    frames = [bytes(frame.data) for traffic in rig.sent for frame in traffic.frames()]
    ends = (bytes([10, 77, 0, 1]), 0, bytes([10, 77, 0, 2]), 0)
    verdict = smt.judge_frames(enumerate(frames, 1), [smt.Key(ends, KEY, SALT)])
    assert verdict.wrong == []
    assert {sender_id: text for (_, sender_id), text in verdict.messages.items()} == texts


def test_restarted_numbers_of_variant_b_are_a_nonce_for_two_texts(rig: Watched) -> None:
    sender = Sender(rig, B)
    sender.message(2, b"one")
    sender.message(4, b"two")
    found = sender.only(NonceReused)
    assert isinstance(found, NonceReused)
    assert (found.message, found.record, found.before_message) == (4, 0, 2)
    text = found.sentence()
    assert "message 0x4 record 0: nonce" in text
    assert "was used before, for message 0x2 record 0 of TIS 0x1 under the same key" in text


def test_missing_resync_to_another_message(rig: Watched) -> None:
    """The out-seq case of the paper: the context still counts in the first message."""
    sender = Sender(rig, A)
    sender.message(6, b"one")
    sender.packet(8, number_of("A", 8, 0), b"two")
    found = sender.only(WrongRecordNumber)
    assert isinstance(found, WrongRecordNumber)
    assert (found.message, found.record, found.meant) == (8, 3 << 16 | 1, 4 << 16)
    assert (
        "message 0x8 record 0x30001: the context encrypts it as record 0x30001 but the id of "
        in (found.sentence())
    )


def test_resync_to_a_number_of_32_bits(rig: Watched) -> None:
    """A driver that keeps 32 bits of what it expects is wrong from message 131072 on."""
    sender = Sender(rig, A)
    sender_id = 1 << 18
    number = number_of("A", sender_id, 0)
    sender.message(sender_id, b"text", expect=number & 0xFFFFFFFF)
    found = sender.only(WrongRecordNumber)
    assert "of which only the lower 32 bits were used" in found.sentence()


def test_wrong_index_within_a_message(rig: Watched) -> None:
    sender = Sender(rig, A)
    sender.message(6, bytes(room("A") - 29))
    sender.packet(6, number_of("A", 6, 2), b"rest", room("A") - 29)
    found = sender.only(WrongRecordNumber)
    assert isinstance(found, WrongRecordNumber)
    assert found.meant == 3 << 16 | 2
    assert "message 0x6 record 1: the context encrypts it" in found.sentence()
    assert "its explicit nonce says that" in found.sentence()


def test_retransmission_is_healthy(rig: Watched) -> None:
    sender = Sender(rig, A)
    for sender_id in (6, 8, 6):
        sender.message(sender_id, bytes([sender_id]))
    assert rig.findings == []
    assert rig.sanitizer.ledger.repeated == 1


# WQEs without TIS


@pytest.mark.parametrize("end", [A, B], ids="AB")
def test_plaintext_of_a_session_with_context(rig: Watched, end: End) -> None:
    sender = Sender(rig, end)
    sender.message(6, b"one")
    number = number_of(end.variant, 8, 0)
    clear = plain12(framing(end.variant, 0, 3, length=3) + b"two", number.to_bytes(8, "big"))
    for sender_id in (8, 10):
        sender.without_tis(ip(end, data_header(end, sender_id, 3, 0) + clear))
    found = sender.only(LeftInClear)
    assert isinstance(found, LeftInClear)
    assert (found.tisn, found.dek, found.message, found.record) == (1, sender.dek, 8, number)
    assert found.octets == len(clear)
    assert "message 0x8" in found.sentence()
    assert "of the offloaded session 10.77.0.1:40000 > 10.77.0.2:4000 left" in found.sentence()
    # told again when the engine was used in between
    sender.message(12, b"three")
    sender.without_tis(ip(end, data_header(end, 14, 3, 0) + clear))
    assert [type(one) for one in rig.findings].count(LeftInClear) == 2


def test_plaintext_in_many_packets(rig: Watched) -> None:
    sender = Sender(rig, A)
    sender.message(6, b"one")
    text = framing("A", 0, 4000, length=4000) + bytes(4000)
    clear = plain12(text, number_of("A", 8, 0).to_bytes(8, "big"))
    for frame in packets(A, 8, 0, clear, 4000):
        assert rig.findings == []
        sender.without_tis(frame)
    found = sender.only(LeftInClear)
    assert isinstance(found, LeftInClear)
    assert (found.message, found.octets) == (8, len(clear))


def test_no_record_at_all_in_a_message(rig: Watched) -> None:
    sender = Sender(rig, A)
    sender.message(6, b"one")
    sender.without_tis(ip(A, data_header(A, 8, 4, 0) + framing("A", 0, 4) + b"text"))
    assert sender.only(LeftInClear).record is None


def test_software_may_encrypt_a_message(rig: Watched) -> None:
    """Whole records are judged, packets that are sent again alone are counted."""
    sender = Sender(rig, A)
    sender.message(6, b"one")
    frames = message(A, 8, bytes(5000))
    for frame in frames:
        sender.without_tis(frame)
    assert rig.findings == []
    accounts = rig.sanitizer.accounts
    assert (accounts.software_records, accounts.unjudged_octets) == (1, 0)
    sender.without_tis(frames[1])
    assert rig.findings == []
    assert accounts.unjudged_octets == 1440
    for frame in (frames[0], frames[2]):
        sender.without_tis(frame)
    assert rig.findings == []
    assert accounts.unjudged_octets == 3 * 1440


def test_another_session_and_one_whose_key_is_gone_are_not_judged(rig: Watched) -> None:
    sender = Sender(rig, A)
    sender.message(6, b"one")
    clear = framing("A", 0, 4) + b"text"
    other = End(KEY, SALT, sport=40001)
    sender.without_tis(ip(other, data_header(other, 8, 4, 0) + clear))
    rig.sanitizer.dek_destroyed(sender.dek)
    sender.without_tis(ip(A, data_header(A, 8, 4, 0) + clear))
    assert rig.findings == []
