# SPDX-License-Identifier: GPL-2.0-or-later
"""Who watches the TLS engine hears of packets in a row what he hears of them one by one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from nicmodel.offload.tls.cipher import RecordCipher
from nicmodel.offload.tls.record import TAG, Buffer
from nicmodel.offload.tls.stream import Record
from nicmodel.queues.tls_watch import Use
from nicmodel.spec.tls import TlsStaticParams
from nicmodel.spec.wqe import WqeOpcode
from tests.unit.offload.test_segment import ACK, header
from tests.unit.offload.tls.records import plain12
from tests.unit.queues.rig import eth_segment
from tests.unit.queues.test_large import Large
from tests.unit.queues.tls import destroy_tis, post_params, tls_objects


@dataclass
class Ears:
    """A ``TlsWatch`` that writes down what it hears of packets."""

    heard: list[tuple[object, ...]] = field(default_factory=list)

    def send(self, use: Use, header: Buffer, octets: int) -> None:
        self.heard.append(("send", use, bytes(header), octets))

    def passed(
        self, use: Use, data: Buffer, records: Sequence[Record], unfinished: Record | None
    ) -> None:
        ended = [
            (r.number, r.prefix, r.nonce, r.aad, r.tag, b"".join(r.ciphertext)) for r in records
        ]
        # the end of a tag that began in an earlier packet may be all that there is
        replaced = [bytes(data[max(0, r.end - TAG) : r.end]) for r in records]
        assert all(tag == b"\xee" * len(tag) for tag in replaced)
        begun = unfinished if unfinished is not None and unfinished.nonce else None
        now = None if begun is None else (begun.number, begun.prefix, begun.nonce, begun.aad)
        self.heard.append(("passed", use, ended, now))

    def gave_up(self, use: Use, record: Record) -> None:
        self.heard.append(("gave up", use, record.number))

    def static_params(self, use: Use, params: TlsStaticParams, cipher: RecordCipher) -> None: ...
    def progress_params(self, use: Use) -> None: ...
    def dump(self, use: Use, octets: int) -> None: ...
    def refused(self, use: Use, reason: str) -> None: ...
    def tis_destroyed(self, tisn: int) -> None: ...
    def dek_destroyed(self, dekn: int) -> None: ...


def hear(stream: bytes, cuts: list[int], *, alone: bool, origins: bool) -> tuple[Large, Ears]:
    """Post ``stream`` as large sends that end at ``cuts`` and behind the last record."""
    rig, ears = Large(alone=alone, origins=origins), Ears()
    rig.tls.watches = (ears,)
    tisn, dek = tls_objects(rig)
    post_params(rig, tisn, dek)
    rig.ring()
    for at, end in pairwise([0, *cuts, len(stream)]):
        head = header(4, 6, ident=at, seq=at, flags=ACK, l4=bytes(12)).data
        body = eth_segment(cs=0xC0, mss=100, inline=bytes(head)) + rig.seg(stream[at:end])
        rig.post(WqeOpcode.LSO, body, imm=tisn << 8)
    rig.ring()
    destroy_tis(rig, tisn)
    return rig, ears


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from([0, 1, 20, 150, 400]), min_size=1, max_size=6),
    st.lists(st.integers(1, 700), max_size=5),
    st.integers(0, 40),
    st.booleans(),
)
@example([400], [5], 20, False)
def test_a_watcher_does_not_tell_them_apart(
    texts: list[int], sizes: list[int], missing: int, origins: bool
) -> None:
    """``missing`` bytes of the last record are never sent."""
    records = [plain12(bytes(n), i.to_bytes(8, "big")) for i, n in enumerate(texts)]
    stream = b"".join(records)
    stream = stream[: max(1, len(stream) - missing)]
    cuts = [at for at in (sum(sizes[: n + 1]) for n in range(len(sizes))) if at < len(stream)]
    together, heard = hear(stream, cuts, alone=False, origins=origins)
    alone, expected = hear(stream, cuts, alone=True, origins=origins)
    assert heard.heard == expected.heard
    assert [f.data for t in together.sent for f in t.frames()] == [
        f.data for t in alone.sent for f in t.frames()
    ]
    parts = [[part.origin for t in rig.sent for part in t.split()] for rig in (together, alone)]
    assert parts[0] == parts[1]


def test_they_do_leave_in_a_row() -> None:
    """What is above would hold if they did not."""
    stream = plain12(bytes(300), bytes(8)) + plain12(bytes(300), bytes(8))
    rig, ears = hear(stream, [150, 350], alone=False, origins=False)
    assert [traffic.count for traffic in rig.sent] == [8]
    assert len(ears.heard) == 6
