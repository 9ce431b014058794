# SPDX-License-Identifier: GPL-2.0-or-later
"""What is shown of what the host receives, and of the keys of receive contexts."""

from types import SimpleNamespace
from typing import cast

from nicmodel.frame import Frame, Traffic
from nicmodel.queues.datapath import Datapath
from nicmodel.queues.exposure import Exposure
from nicmodel.spec.tls import TlsVersion
from nicmodel.wire.comment import comments
from nicmodel.wire.keyfile import Flow, FlowKey
from nicmodel.wire.port import Way
from tests.unit.queues.test_tls_rx import (
    FIRST,
    FIRST_SN,
    KEYS,
    PLAIN_TIRN,
    SALT,
    Stream,
    TlsRig,
    as_train,
    frame,
)


def shown(rig: TlsRig) -> tuple[list[Traffic], list[FlowKey]]:
    """What is handed to the host, and the keys, of a life that begins."""
    handed: list[Traffic] = []
    keys: list[FlowKey] = []

    def hand(way: Way, traffic: Traffic) -> None:
        assert way is Way.IN
        handed.append(traffic)

    begin(rig, Exposure("b", rig.tracer, origins=True, handed=(hand,), keys=(keys.append,)))
    return handed, keys


def begin(rig: TlsRig, exposure: Exposure) -> None:
    parts = SimpleNamespace(tls_tx=rig.tls, tls_rx=rig.tls_rx, receiver=rig.receiver)
    exposure.begin(cast(Datapath, parts), rig.objects)


def words(traffic: Traffic) -> str:
    assert traffic.origin is not None
    ((text, _),) = comments(traffic.origin, 1)
    return text


def test_what_is_decrypted_is_shown_as_the_host_gets_it() -> None:
    rig, stream = TlsRig(), Stream.of(1000, 1000)
    handed, _ = shown(rig)
    rig.begin()
    size = len(stream.clear) // 2
    rig.give(stream, 0, size)
    rig.give(stream, size, size + 500)
    rig.give(stream, 0, size)
    assert [bytes(one.data) for one in handed if isinstance(one, Frame)] == [
        data for _, data in rig.queue.got
    ]
    assert [words(one) for one in handed] == [
        f"TIR 0x1, record {FIRST}: decrypted",
        f"TIR 0x1, record {FIRST + 1}: decrypted",
        "TIR 0x1: not decrypted",
    ]


def test_forged_record_is_named() -> None:
    rig, stream = TlsRig(), Stream.of(200)
    handed, _ = shown(rig)
    rig.begin()
    wrong = bytearray(stream.sealed)
    wrong[50] ^= 1
    rig.receiver.receive(Frame(frame(FIRST_SN, bytes(wrong))), looped=False)
    assert [words(one) for one in handed] == [f"TIR 0x1, record {FIRST}: does not authenticate"]


def test_plain_traffic_is_shown_once_and_as_it_came() -> None:
    rig, stream = TlsRig(), Stream.of(3000)
    rig.steer(PLAIN_TIRN)
    handed, keys = shown(rig)
    long = as_train(stream, 0, 2896)
    rig.receiver.receive(long, looped=False)
    assert handed == [long]
    assert keys == []


def test_key_of_a_receive_context_comes_with_its_first_frame() -> None:
    rig, stream = TlsRig(), Stream.of(1000, 1000, size=32)
    _, keys = shown(rig)
    rig.begin(size=32)
    assert keys == []
    rig.give(stream, 0, 500)
    rig.give(stream, 500, 900)
    flow, version = Flow(6, b"\x0a\0\0\1", 443, b"\x0a\0\0\2", 5000), TlsVersion.TLS_1_2
    dek = rig.deks[32]
    key = FlowKey("b", Way.IN, flow, version, KEYS[32], SALT, FIRST, FIRST_SN, 1, dek)
    assert keys == [key]
    assert KEYS[32].hex() not in repr(keys)


def test_nothing_is_told_where_nobody_asked() -> None:
    rig = TlsRig()
    begin(rig, Exposure("b", rig.tracer))
    assert (rig.tls.origins, rig.tls.listeners, rig.tls_rx.watches) == (False, (), ())
    assert rig.receiver.handed is None
    assert rig.tls_rx.begun is None
