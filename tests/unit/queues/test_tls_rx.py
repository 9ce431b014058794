# SPDX-License-Identifier: GPL-2.0-or-later
"""TLS receive offload, as WQEs and frames. WQEs are built by hand after ``ktls_txrx.c``, records by
``tests.unit.offload.tls.records``."""

import struct
from dataclasses import dataclass, field, replace
from itertools import pairwise
from random import Random
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nicmodel.frame import Checked, Frame, Train
from nicmodel.objects.counters import PortCounters
from nicmodel.objects.flow import Destinations, FlowAction, FlowEntry, MissAction, TableConfig
from nicmodel.objects.queue import QueueState, RqConfig
from nicmodel.objects.tls import Dek
from nicmodel.objects.transport import HashFields, PacketMerge, RxHashFn, Tir, TirDispType
from nicmodel.offload.parse import parse
from nicmodel.queues.events import (
    TlsRxEnded,
    TlsRxForged,
    TlsRxIgnored,
    TlsRxResyncAnswered,
    TlsRxResyncAsked,
)
from nicmodel.queues.lro import Lro
from nicmodel.queues.receiver import Receiver
from nicmodel.queues.rq import Rq
from nicmodel.queues.tls_rx import Received
from nicmodel.trace.events import QueueError
from nicmodel.units import Dekn, Pdn, Rqn, Rqtn, TableId, Tdn, Tirn
from tests.unit.device.packets import ones
from tests.unit.offload.cut import segment
from tests.unit.offload.tls.records import ALERT, plain12, plain13, sealed12, sealed13
from tests.unit.queues.rig import LKEY, RAM, Rig

UMR, SET_PSV, GET_PSV = 0x25, 0x20, 0x21
RAW, DECRYPTED, RESYNC, ERROR = range(4)
START, TRACKING, SEARCHING = range(3)

TIRN, PLAIN_TIRN, PD = 1, 2, 1
KEYS = {size: bytes(range(3, 3 + size)) for size in (16, 32)}
SALT, IV = b"salt", b"salt and iv."
FIRST_SN, FIRST = 0xFFFF_E000, 5
"""Where the stream begins (it wraps soon), and with which record."""
MSS = 1448


@dataclass
class Queue:
    """A receive queue with room for everything: ``tls_offload`` and bytes of each frame."""

    config: RqConfig
    got: list[tuple[int, bytes]] = field(default_factory=list)
    cqes: list[bytes] = field(default_factory=list)

    def receive(
        self, frames: list[memoryview], cqe: bytearray, sums: list[int], strip: bool
    ) -> None:
        assert len(frames) == len(sums)
        for frame in frames:
            self.got.append((cqe[0] >> 3 & 3, bytes(frame)))
            self.cqes.append(bytes(cqe))


@dataclass
class Stream:
    """Clear and sealed bytes of records with random texts; both are of one length."""

    clear: bytes = b""
    sealed: bytes = b""
    starts: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, *sizes: int, size: int = 16, version: int = 2, first: int = FIRST) -> "Stream":
        """Records with texts of so many bytes; the one with number ``first`` is the first."""
        made, random = cls(), Random(1)
        for number, length in enumerate(sizes, first):
            made.starts.append(len(made.clear))
            text = random.randbytes(length)
            if version == 2:
                plain = plain12(text, random.randbytes(8))
                sealed = sealed12(KEYS[size], SALT, number, plain)
                clear = plain[:-16] + sealed[-16:]
            else:
                plain = plain13(text)
                sealed = sealed13(KEYS[size], IV, number, plain)
                clear = plain[:-16] + sealed[-16:]
            made.clear += clear
            made.sealed += sealed
        return made

    def sn(self, record: int) -> int:
        return (FIRST_SN + self.starts[record]) & 0xFFFFFFFF


def header(seq: int, *, flags: int = 0x10, v6: bool = False, tag: bool = False) -> bytes:
    """Ethernet, IP and TCP with a timestamp option; lengths and sums are zero."""
    tcp = struct.pack(">HHIIBBHHH", 443, 5000, seq & 0xFFFFFFFF, 9, 0x80, flags, 500, 0, 0)
    tcp += bytes.fromhex("0101080a0000000100000002")
    vlan = bytes.fromhex("81000007") if tag else b""
    mac = bytes.fromhex("020000000001020000000002") + vlan
    if v6:
        ip = struct.pack(">IHBB", 0x60000000, 0, 6, 64) + bytes(15) + b"\1" + bytes(15) + b"\2"
        return mac + b"\x86\xdd" + ip + tcp
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 0, 7, 0, 64, 6, 0) + b"\x0a\0\0\1\x0a\0\0\2"
    return mac + b"\x08\0" + ip + tcp


def frame(
    seq: int, payload: bytes, *, flags: int = 0x10, v6: bool = False, tag: bool = False
) -> bytes:
    """A frame with right checksums, padded to 60 bytes."""
    head = bytearray(header(seq, flags=flags, v6=v6, tag=tag))
    l3 = 18 if tag else 14
    l4 = l3 + (40 if v6 else 20)
    length = len(head) - l4 + len(payload)
    if v6:
        head[l3 + 4 : l3 + 6] = length.to_bytes(2, "big")
        addresses = bytes(head[l3 + 8 : l3 + 40])
    else:
        head[l3 + 2 : l3 + 4] = (20 + length).to_bytes(2, "big")
        head[l3 + 10 : l3 + 12] = (ones(bytes(head[l3:l4])) ^ 0xFFFF).to_bytes(2, "big")
        addresses = bytes(head[l3 + 12 : l3 + 20])
    pseudo = addresses + struct.pack(">HH", 6, length)
    total = ones(pseudo + head[l4:] + payload) ^ 0xFFFF
    head[l4 + 16 : l4 + 18] = total.to_bytes(2, "big")
    return (bytes(head) + payload).ljust(60, b"\0")


class TlsRig(Rig):
    """A TIR with TLS and its receive queue; the send queue is the driver's ``async_icosq``."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue(self.rq.config)
        rqs = cast("dict[Rqn, Rq]", {Rqn(9): self.queue})
        self.lro = Lro()
        self.receiver = Receiver(
            self.objects, rqs, PortCounters(), lambda: 0, self.lro, self.tls_rx
        )
        self.objects.pds.create(lambda pdn: pdn)
        self.deks = {size: self.create_dek(key) for size, key in KEYS.items()}
        for tls_en in (True, False):
            self.create_tir(tls_en=tls_en)
        self.steer()

    def create_dek(self, key: bytes, pd: int = PD) -> Dekn:
        return self.objects.deks.create(lambda dekn: Dek(dekn, Pdn(pd), key)).dekn

    def create_tir(self, *, tls_en: bool, merge: PacketMerge | None = None) -> Tirn:
        none = (Rqtn(0), RxHashFn.NONE, False, b"", HashFields(), 0)
        return self.objects.tirs.create(
            lambda tirn: Tir(tirn, TirDispType.DIRECT, Rqn(9), *none, tls_en, Tdn(1), merge)
        ).tirn

    def steer(self, tirn: int = TIRN) -> None:
        """Everything goes to this TIR."""
        steering = self.objects.steering
        table = steering.create_table(TableConfig(0, 0, MissAction.DEFAULT, TableId(0)))
        group = steering.create_group(table.table_id, 0, 0, 0)
        to = Destinations((Tirn(tirn),))
        entry = FlowEntry(0, group.group_id, 0, FlowAction.FWD_DEST, 0, to)
        steering.set_entry(table.table_id, entry, modify=False)
        steering.set_root(table.table_id)

    def post_tls(self, opcode: int, body: bytes, *, imm: int = 0, opmod: int = 2) -> None:
        """Post a WQE as the driver does, and ring."""
        index = self.post(opcode, body)
        at = 0x8000 + index % 64 * 64
        self.memory.write(at, bytes([opmod]))
        self.memory.write(at + 12, struct.pack(">I", imm))
        self.ring()
        self.consume()

    def static(
        self,
        *,
        tirn: int = TIRN,
        size: int = 16,
        version: int = 2,
        number: int = FIRST,
        resync: int = 0,
        dek: int | None = None,
    ) -> None:
        """UMR with static parameters, as mlx5e_ktls_build_static_params."""
        iv = SALT + bytes(8) if version == 2 else IV
        umr = struct.pack(">B5xH40x", 0x80, 4)
        params = struct.pack(
            ">IIQI12sI28x",
            2 << 30 | version << 26 | 1 << 24 | 1,
            0,
            number,
            resync,
            iv,
            self.deks[size] if dek is None else dek,
        )
        self.post_tls(UMR, umr + bytes(64) + params, imm=tirn << 8)

    def progress(self, *, tirn: int = TIRN, sn: int = FIRST_SN, state: int = START) -> None:
        """SET_PSV, as mlx5e_ktls_build_progress_params."""
        self.post_tls(SET_PSV, struct.pack(">IIII", tirn, sn, 0, state << 30))

    def get(self, *, tirn: int = TIRN, num: int = 0x10, lkey: int = LKEY, va: int = 0) -> bytes:
        """GET_PSV, as resync_post_get_progress_params; the 64 bytes that it writes."""
        va = va or self.place(b"\xaa" * 72)
        self.post_tls(GET_PSV, struct.pack(">19xBIQ4I", num, lkey, va, tirn, 0, 0, 0))
        return self.memory.read(va, 72) if va + 72 <= RAM else b""

    def asked(self) -> tuple[int, int, int]:
        """Tracker and authentication state, and where the header is, as the driver reads them."""
        data = self.get()
        assert data[64:] == b"\xaa" * 8
        tirn, _, where, state = struct.unpack_from(">IIII", data)
        assert tirn == TIRN
        return state >> 30, state >> 28 & 3, where

    def begin(self, *, size: int = 16, version: int = 2) -> None:
        """As mlx5e_ktls_add_rx."""
        self.static(size=size, version=version)
        self.progress()

    def give(self, stream: Stream, start: int, stop: int, *, v6: bool = False) -> int:
        """Bytes of the stream as one frame; its verdict, and the payload is looked at."""
        made = frame(FIRST_SN + start, stream.sealed[start:stop], v6=v6)
        self.receiver.receive(Frame(made), looped=False)
        verdict, got = self.queue.got[-1]
        want = stream.clear if verdict == DECRYPTED else stream.sealed
        size = (54 if v6 else 34) + 32
        assert got[:size] == made[:size]
        assert got[size : size + stop - start] == want[start:stop]
        assert got[size + stop - start :] == made[size + stop - start :]
        return verdict

    def run(self, stream: Stream, start: int, stop: int) -> list[int]:
        """The verdicts of segments of MSS bytes."""
        cuts = [*range(start, stop, MSS), stop]
        return [self.give(stream, *cut) for cut in pairwise(cuts)]

    def error(self) -> int:
        """Syndrome of the last CQE, which is an error."""
        cqe = self.cqes()[-1]
        assert cqe[63] >> 4 == 0xD
        return cqe[0x37]


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("size", [16, 32])
def test_records_are_decrypted_in_place(size: int, version: int, v6: bool) -> None:
    rig = TlsRig()
    rig.begin(size=size, version=version)
    stream = Stream.of(16384, 1, 0 if version == 2 else 1, 700, 5000, size=size, version=version)
    at = 0
    for length in (1448, 1, 4, 2, 1448, 9, 1448, 600, 1448) * 20:
        stop = min(at + length, len(stream.sealed))
        if stop > at:
            assert rig.give(stream, at, stop, v6=v6) == DECRYPTED
        at = stop
    assert at == len(stream.sealed)


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 400), min_size=1, max_size=8),
    st.lists(st.integers(1, 300), min_size=1, max_size=30),
)
def test_any_segmentation_is_decrypted(sizes: list[int], cuts: list[int]) -> None:
    rig, stream, at, turn = TlsRig(), Stream.of(*sizes), 0, 0
    rig.begin()
    while at < len(stream.sealed):
        stop = min(at + cuts[turn % len(cuts)], len(stream.sealed))
        assert rig.give(stream, at, stop) == DECRYPTED
        at, turn = stop, turn + 1


def test_several_records_and_an_alert_in_one_frame() -> None:
    rig, stream = TlsRig(), Stream.of(100, 0, 200)
    plain = plain12(b"\2\x14", b"explicit", ALERT)
    sealed = sealed12(KEYS[16], SALT, FIRST + 3, plain)
    stream.clear += plain[:-16] + sealed[-16:]
    stream.sealed += sealed
    rig.begin()
    assert rig.give(stream, 0, len(stream.sealed)) == DECRYPTED


def as_train(stream: Stream, start: int, stop: int) -> Train:
    made = segment(
        header(FIRST_SN + start), [memoryview(stream.sealed)[start:stop]], MSS, l3=True, l4=True
    )
    assert isinstance(made, Train)
    return made


def test_a_train_is_decrypted_and_stays_as_it_is() -> None:
    rig, stream = TlsRig(), Stream.of(16384, 16384, 16384, 1)
    rig.begin()
    train = as_train(stream, 0, len(stream.sealed))
    before = train.rows.tobytes()
    rig.receiver.receive(train, looped=False)
    assert train.rows.tobytes() == before
    assert [verdict for verdict, _ in rig.queue.got] == [DECRYPTED] * train.count
    assert b"".join(got[66:] for _, got in rig.queue.got).startswith(stream.clear)
    for (_, got), sent in zip(rig.queue.got, train.frames(), strict=True):
        assert got[:66] == sent.data[:66]


def test_a_train_after_a_hole_has_frames_of_both_kinds() -> None:
    rig, stream = TlsRig(), Stream.of(3000, 3000, 3000)
    rig.begin()
    assert rig.give(stream, 0, 100) == DECRYPTED
    rig.receiver.receive(as_train(stream, 1448, len(stream.sealed)), looped=False)
    verdicts = [verdict for verdict, _ in rig.queue.got[1:]]
    # record 1 begins in the second frame of the train
    assert verdicts == [RAW, RAW, *[DECRYPTED] * (len(verdicts) - 2)]
    for number, (verdict, got) in enumerate(rig.queue.got[1:]):
        at = 1448 + number * MSS
        want = stream.clear if verdict == DECRYPTED else stream.sealed
        assert got[66:].rstrip(b"\0") == want[at : at + MSS].rstrip(b"\0")


def test_one_frame_of_a_train_asks() -> None:
    rig, stream = TlsRig(), Stream.of(*[16384] * 4)
    rig.begin()
    rig.receiver.receive(as_train(stream, 1448, len(stream.sealed)), looped=False)
    verdicts = [verdict for verdict, _ in rig.queue.got]
    at = verdicts.index(RESYNC)
    assert verdicts == [*[RAW] * at, RESYNC, *[RAW] * (len(verdicts) - at - 1)]
    assert len(verdicts) > at + 1 > 1


def test_one_train_is_for_two_receivers() -> None:
    """The other one has no TLS, and gets what was on the wire."""
    rig, stream = TlsRig(), Stream.of(3000)
    rig.begin()
    steering = rig.objects.steering
    table = steering.create_table(TableConfig(0, 0, MissAction.DEFAULT, TableId(0)))
    group = steering.create_group(table.table_id, 0, 0, 0)
    to = Destinations((Tirn(TIRN), Tirn(PLAIN_TIRN)))
    steering.set_entry(
        table.table_id, FlowEntry(0, group.group_id, 0, FlowAction.FWD_DEST, 0, to), modify=False
    )
    steering.set_root(table.table_id)
    rig.receiver.receive(as_train(stream, 0, 2896), looped=False)
    assert [verdict for verdict, _ in rig.queue.got] == [DECRYPTED, DECRYPTED, RAW, RAW]
    assert b"".join(got[66:] for _, got in rig.queue.got[2:]) == stream.sealed[:2896]


def test_a_tagged_frame_is_decrypted() -> None:
    rig, stream = TlsRig(), Stream.of(1000)
    rig.begin()
    made = frame(FIRST_SN, stream.sealed, tag=True)
    rig.receiver.receive(Frame(made), looped=False)
    assert rig.queue.got == [(DECRYPTED, made[:70] + stream.clear)]


def test_nothing_happens_before_the_progress_parameters() -> None:
    rig, stream = TlsRig(), Stream.of(1000)
    assert rig.give(stream, 0, 500) == RAW
    rig.static()
    assert rig.give(stream, 0, 500) == RAW
    rig.progress()
    assert rig.give(stream, 0, 500) == DECRYPTED


def test_other_frames_pass_and_disturb_nothing() -> None:
    """No payload, SYN, a wrong checksum, a fragment, and UDP: as on the wire, not marked."""
    rig, stream = TlsRig(), Stream.of(1000)
    rig.begin()
    wrong = bytearray(frame(FIRST_SN, stream.sealed[:100]))
    wrong[-1] ^= 1
    fragment = bytearray(frame(FIRST_SN, stream.sealed[:100]))
    fragment[20] |= 0x20
    fragment[24:26] = bytes(2)
    fragment[24:26] = (ones(bytes(fragment[14:34])) ^ 0xFFFF).to_bytes(2, "big")
    others = [
        frame(FIRST_SN, b""),
        frame(FIRST_SN, stream.sealed[:100], flags=0x12),
        bytes(wrong),
        bytes(fragment),
    ]
    for data in others:
        rig.receiver.receive(Frame(data), looped=False)
        assert rig.queue.got[-1] == (RAW, data)
    udp = Frame(frame(FIRST_SN, stream.sealed[:100]))
    udp.headers = parse(udp.data, len(udp.data))
    assert udp.headers is not None
    for what, other in (("ip_proto", 17), ("frag", True), ("l4_offset", 0)):
        headers = replace(udp.headers, **{what: other})  # type: ignore[arg-type]
        assert rig.tls_rx.receive(Tirn(TIRN), headers, [memoryview(udp.data)])[1] == [RAW]
    assert rig.give(stream, 0, 1000) == DECRYPTED


def test_duplicates_and_overlaps_are_raw_and_disturb_nothing() -> None:
    rig, stream = TlsRig(), Stream.of(5000, 5000)
    rig.begin()
    assert rig.give(stream, 0, 2000) == DECRYPTED
    assert rig.give(stream, 0, 1000) == RAW
    assert rig.give(stream, 500, 2000) == RAW
    assert rig.give(stream, 1500, 2500) == RAW
    assert rig.run(stream, 2500, len(stream.sealed)) == [DECRYPTED] * 6


def test_a_hole_in_a_record_costs_its_rest() -> None:
    """The figure of ``tls-offload.rst``: 3 has the next record's head, and 4 goes on with it."""
    rig, stream = TlsRig(), Stream.of(3000, 3000, 3000)
    rig.begin()
    assert rig.give(stream, 0, 1448) == DECRYPTED
    assert rig.give(stream, 2896, 4344) == RAW
    assert rig.give(stream, 4344, 5792) == DECRYPTED
    assert rig.give(stream, 1448, 2896) == RAW
    assert rig.run(stream, 5792, len(stream.sealed)) == [DECRYPTED] * 3


def lose_a_header(rig: TlsRig, stream: Stream) -> list[int]:
    """Segment with the header of record 1 is lost; the verdicts of what follows, up to 4."""
    hole = stream.starts[1] // MSS * MSS
    assert set(rig.run(stream, 0, hole)) == {DECRYPTED}
    return rig.run(stream, hole + MSS, stream.starts[4])


def test_a_lost_header_is_asked_for_and_answered() -> None:
    rig, stream = TlsRig(), Stream.of(*[16384] * 7)
    rig.begin()
    assert rig.asked() == (START, 0, 0)
    verdicts = lose_a_header(rig, stream)
    assert verdicts.count(RESYNC) == 1
    assert verdicts.count(RAW) == len(verdicts) - 1
    state, auth, where = rig.asked()
    assert (state, auth) == (TRACKING, 0)
    record = stream.starts.index(where - FIRST_SN & 0xFFFFFFFF)
    assert record == 3
    assert rig.events_of(TlsRxResyncAsked) == [TlsRxResyncAsked(TIRN, stream.sn(3))]
    # the frame that was marked has that header: the kernel logs the headers of this one only
    marked = verdicts.index(RESYNC)
    begin = stream.starts[1] // MSS * MSS + MSS * (marked + 1)
    assert begin <= stream.starts[record] < begin + MSS
    # record 4 is under way when the answer comes
    at = stream.starts[4] + 1000
    assert rig.give(stream, stream.starts[4], at) == RAW
    rig.static(number=FIRST + 3, resync=where)
    assert rig.events_of(TlsRxResyncAnswered) == [TlsRxResyncAnswered(TIRN, where, FIRST + 3, True)]
    assert rig.asked()[:2] == (TRACKING, 1)
    verdicts = rig.run(stream, at, len(stream.sealed))
    # the frame with the head of record 5 has the rest of record 4 too
    first = (stream.starts[5] - at) // MSS + 1
    assert verdicts == [RAW] * first + [DECRYPTED] * (len(verdicts) - first)


@pytest.mark.parametrize("wrong", ["sequence", "number", "late"])
def test_wrong_answers(wrong: str) -> None:
    rig, stream = TlsRig(), Stream.of(*[16384] * 7)
    rig.begin()
    lose_a_header(rig, stream)
    where = rig.asked()[2]
    if wrong == "sequence":
        rig.static(number=FIRST + 3, resync=where + 1)
        assert set(rig.run(stream, stream.starts[4], len(stream.sealed))) == {RAW}
        assert rig.asked() == (TRACKING, 0, where)
    elif wrong == "number":
        # what the card was told is what it uses: the next record is found to be forged, and
        # the stream is searched anew
        rig.static(number=FIRST + 4, resync=where)
        verdicts = rig.run(stream, stream.starts[4], len(stream.sealed))
        assert verdicts.count(ERROR) == 1
        assert verdicts[verdicts.index(ERROR) + 1 :].count(RESYNC) == 1
        assert rig.events_of(TlsRxForged) == [TlsRxForged(TIRN, FIRST + 5)]
    else:
        rig.give(stream, stream.starts[4], stream.starts[4] + 500)
        rig.static(number=FIRST + 3, resync=where)
        rig.static(number=FIRST + 9, resync=where)
        verdicts = rig.run(stream, stream.starts[4] + 500, len(stream.sealed))
        assert ERROR not in verdicts
        assert verdicts[-1] == DECRYPTED


def test_a_forged_record_is_marked_where_its_tag_is() -> None:
    rig, stream = TlsRig(), Stream.of(3000, 3000, 3000)
    stream.sealed = stream.sealed[:100] + bytes([stream.sealed[100] ^ 1]) + stream.sealed[101:]
    rig.begin()
    for start in (0, MSS):  # these cannot be known to be wrong
        rig.receiver.receive(
            Frame(frame(FIRST_SN + start, stream.sealed[start : start + MSS])), looped=False
        )
    assert [verdict for verdict, _ in rig.queue.got] == [DECRYPTED, DECRYPTED]
    assert rig.give(stream, 2 * MSS, 3 * MSS) == ERROR
    assert rig.events_of(TlsRxForged) == [TlsRxForged(TIRN, FIRST)]
    assert rig.asked()[0] == SEARCHING
    assert rig.give(stream, 3 * MSS, 4 * MSS) == RAW
    assert rig.give(stream, 4 * MSS, 5 * MSS) == RESYNC


@pytest.mark.parametrize("at", [1, 7, 20, -20, -3])
def test_a_frame_with_a_forged_record_is_as_on_the_wire(at: int) -> None:
    """Wherever the bit is wrong: version, nonce, text or tag."""
    rig, stream = TlsRig(), Stream.of(100, 100)
    sealed = bytearray(stream.sealed)
    sealed[stream.starts[1] + at if at > 0 else at] ^= 0x01
    stream.sealed = bytes(sealed)
    rig.begin()
    assert rig.give(stream, 0, len(sealed)) == (RAW if at == 1 else ERROR)


@pytest.mark.parametrize("v6", [False, True])
def test_what_is_behind_the_datagram_is_no_part_of_the_stream(v6: bool) -> None:
    rig, stream = TlsRig(), Stream.of(500, 500)
    rig.begin()
    padding = bytes(range(1, 20))
    made = frame(FIRST_SN, stream.sealed[:200], v6=v6) + padding
    rig.receiver.receive(Frame(made), looped=False)
    verdict, got = rig.queue.got[-1]
    assert verdict == DECRYPTED
    assert got[-len(padding) - 200 :] == stream.clear[:200] + padding
    assert rig.give(stream, 200, 700, v6=v6) == DECRYPTED


@pytest.mark.parametrize("another", [False, True])
def test_a_destroyed_key_is_not_used(another: bool) -> None:
    """Nor is another key that has got its number."""
    rig, stream = TlsRig(), Stream.of(500, 500)
    rig.begin()
    if another:
        rig.objects.deks.replace(rig.deks[16], Dek(rig.deks[16], Pdn(PD), KEYS[32]))
    else:
        rig.objects.deks.remove(rig.deks[16])
    assert rig.give(stream, 0, 500) == RAW


def test_the_end_of_a_tir_is_the_end_of_its_context() -> None:
    rig, stream = TlsRig(), Stream.of(500, 500)
    rig.begin()
    assert rig.give(stream, 0, 200) == DECRYPTED
    rig.tls_rx.tir_destroyed(Tirn(TIRN))
    assert rig.events_of(TlsRxEnded) == [TlsRxEnded(TIRN, 1, 266, 0, 0)]
    assert rig.give(stream, 200, 500) == RAW
    assert len(rig.tls_rx) == 0
    assert rig.asked() == (START, 0, 0)


@pytest.mark.parametrize("other", [{"size": 32}, {"version": 3}], ids=["key", "version"])
def test_new_parameters_begin_a_new_stream(other: dict[str, int]) -> None:
    rig = TlsRig()
    rig.begin()
    assert rig.give(Stream.of(500), 0, 300) == DECRYPTED
    rig.begin(**other)
    assert rig.give(Stream.of(500, **other), 0, 300) == DECRYPTED


def test_what_is_decrypted_is_not_merged() -> None:
    rig, stream = TlsRig(), Stream.of(3000)
    merge = PacketMerge(ipv4=True, ipv6=True, max_ip_payload=65280)
    tirn = rig.create_tir(tls_en=True, merge=merge)
    rig.static(tirn=tirn)
    rig.progress(tirn=tirn)
    rig.steer(tirn)
    rig.receiver.receive(as_train(stream, 0, 2896), looped=False)
    assert not rig.lro
    assert [verdict for verdict, _ in rig.queue.got] == [DECRYPTED, DECRYPTED]


def test_who_watches_is_told() -> None:
    rig, stream, told = TlsRig(), Stream.of(1000, 1000), list[Received]()
    rig.begin()
    rig.tls_rx.watches = (told.append,)
    rig.give(stream, 0, 1200)
    rig.give(stream, 1200, 1300)
    rig.give(stream, 0, 1200)
    assert [one.verdict for one in told] == [DECRYPTED, DECRYPTED, RAW]
    assert [[record.number for record in one.records] for one in told] == [[FIRST], [], []]
    assert [one.number for one in told] == [FIRST + 1] * 3
    assert bytes(told[0].clear)[66:] == stream.clear[:1200]
    assert bytes(told[0].frame)[66:] == stream.sealed[:1200]


# What a guest may write


def test_parameters_for_a_tir_that_is_gone_change_nothing() -> None:
    """The driver may destroy a TIR while an answer for it is in the ring."""
    rig = TlsRig()
    rig.static(tirn=77)
    rig.progress(tirn=77)
    assert rig.events_of(TlsRxIgnored) == [TlsRxIgnored(77)] * 2
    assert rig.sq.state is QueueState.RDY
    assert len(rig.tls_rx) == 0


@pytest.mark.parametrize(
    "wqe",
    ["no TLS", "no key", "foreign key", "version", "early", "state", "many", "none", "short"],
)
def test_bad_parameters_are_an_error(wqe: str) -> None:
    rig = TlsRig()
    foreign = rig.create_dek(KEYS[16], pd=9)
    if wqe == "no TLS":
        rig.static(tirn=PLAIN_TIRN)
    elif wqe == "no key":
        rig.static(dek=99)
    elif wqe == "foreign key":
        rig.static(dek=foreign)
    elif wqe == "version":
        rig.static(version=5)
    elif wqe == "early":
        rig.progress()
    elif wqe == "state":
        rig.static()
        rig.progress(state=TRACKING)
    elif wqe in ("many", "none"):
        rig.get(num=0x20 if wqe == "many" else 0)
    else:
        rig.post_tls(GET_PSV, bytes(16))
    assert rig.error() in (2, 4)
    assert rig.sq.state is QueueState.ERR
    assert len(rig.events_of(QueueError)) == 1


@pytest.mark.parametrize(("lkey", "va"), [(0x999, 0x8000), (LKEY, RAM - 32), (LKEY, 1 << 60)])
def test_progress_parameters_are_written_to_what_the_key_permits(lkey: int, va: int) -> None:
    rig = TlsRig()
    rig.begin()
    before = rig.memory.read(RAM - 64, 64)
    rig.get(lkey=lkey, va=va)
    assert rig.error() == 4
    assert rig.memory.read(RAM - 64, 64) == before


@pytest.mark.parametrize("opmod", [0, 1, 3, 255])
@pytest.mark.parametrize("opcode", [SET_PSV, GET_PSV, UMR])
def test_another_opmod_is_not_for_this_engine(opcode: int, opmod: int) -> None:
    rig = TlsRig()
    rig.post_tls(opcode, bytes(176), opmod=opmod)
    assert rig.sq.state is QueueState.ERR
    assert len(rig.tls_rx) == 0


@settings(max_examples=100)
@given(st.integers(0, 1 << 32), st.data())
def test_any_wqe_gets_an_answer(seed: int, data: st.DataObject) -> None:
    random = Random(seed)
    rig = TlsRig()
    rig.begin()
    for _ in range(5):
        opcode = random.choice([UMR, SET_PSV, GET_PSV])
        body = bytearray(random.randbytes(random.choice([0, 16, 48, 112, 176])))
        if opcode == UMR and len(body) == 176 and random.random() < 0.8:
            body[:48] = struct.pack(">B5xH40x", 0x80, 4)
            body[112:116] = b"\x89\0\0\1"
        rig.post_tls(opcode, bytes(body), imm=random.choice([TIRN << 8, random.getrandbits(32)]))
        if rig.sq.state is QueueState.ERR:
            rig.sq.modify(QueueState.RST)
            rig.sq.modify(QueueState.RDY)
            rig.posted = 0
    stream = Stream.of(100)
    rig.receiver.receive(Frame(frame(FIRST_SN, stream.sealed)), looped=False)
    assert len(rig.queue.got) == 1


@settings(max_examples=100)
@given(st.integers(0, 1 << 32))
def test_any_frame_is_delivered_once(seed: int) -> None:
    """Holes, repetitions, lies and rubbish: each frame arrives, changed in its payload at most."""
    random, rig = Random(seed), TlsRig()
    rig.begin()
    stream = Stream.of(*[random.randrange(0, 3000) for _ in range(8)])
    sealed = bytearray(stream.sealed)
    for _ in range(random.randrange(4)):
        sealed[random.randrange(len(sealed))] ^= 1 << random.randrange(8)
    at = 0
    for number in range(60):
        stop = min(at + random.randrange(1, 2000), len(sealed))
        made = frame(FIRST_SN + at, bytes(sealed[at:stop]))
        checked = random.choice([Checked.BOTH, Checked.NONE])
        rig.receiver.receive(Frame(made, checked), looped=False)
        assert len(rig.queue.got) == number + 1
        verdict, got = rig.queue.got[-1]
        assert got[:66] == made[:66]
        assert verdict == DECRYPTED or got == made
        at = random.choice([stop, stop, stop, at, max(0, at - 700), stop + 900, stop + 30000])
        if at >= len(sealed):
            at = 0
        if random.random() < 0.2:
            rig.static(number=random.getrandbits(64), resync=rig.asked()[2])
