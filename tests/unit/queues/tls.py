# SPDX-License-Identifier: GPL-2.0-or-later
"""What a driver with kTLS posts (``ktls_tx.c``, ``ktls_txrx.c``), written down by hand."""

import struct
from itertools import pairwise
from typing import Any

import numpy as np

from nicmodel.frame import Traffic
from nicmodel.objects.tls import Dek
from nicmodel.objects.transport import Tis
from nicmodel.spec.wqe import WqeOpcode
from nicmodel.units import Dekn, Pdn, Tdn, Tisn
from tests.unit.queues.rig import Rig, eth_segment

KEY = bytes(range(16))
SALT = b"salt"
L3, L4 = 0x40, 0x80
FENCE = 0x20
TLS12, TLS13 = 2, 3
PD = Pdn(1)


def tls_objects(rig: Rig, key: bytes = KEY, *, pd: Pdn = PD, tls: bool = True) -> tuple[int, int]:
    """A TIS and a key; their numbers."""
    tis = rig.objects.tises.create(lambda tisn: Tis(tisn, 0, tls, Tdn(1), pd))
    return tis.tisn, add_dek(rig, key, pd=pd)


def add_dek(rig: Rig, key: bytes, *, pd: Pdn = PD) -> int:
    """Another key; its number."""
    return rig.objects.deks.create(lambda dekn: Dek(dekn, pd, key)).dekn


def destroy_tis(rig: Rig, tisn: int) -> None:
    rig.objects.tises.remove(Tisn(tisn))
    rig.tls.tis_destroyed(Tisn(tisn))


def destroy_dek(rig: Rig, dek: int) -> None:
    rig.objects.deks.remove(Dekn(dek))
    rig.tls.dek_destroyed(Dekn(dek))


def static_params(
    dek: int, number: int, *, version: int = TLS12, salt: bytes = SALT, implicit: bytes = bytes(8)
) -> bytes:
    """``mlx5e_set_tls_static_params_wqe`` behind its control segment."""
    umr = struct.pack(">B3xHH", 0x80, 0, 4).ljust(0x30, b"\0")
    first = 2 << 30 | version << 26 | 1 << 24 | 1
    params = struct.pack(">I4xQI4s8sI", first, number, 0, salt, implicit, dek)
    return umr + bytes(0x40) + params.ljust(0x40, b"\0")


def post_static(rig: Rig, tisn: int, dek: int, number: int = 0, *, ce: int = 0, **more: Any) -> int:
    body = static_params(dek, number, **more)
    return rig.post(WqeOpcode.UMR, body, ce=ce, opmod=1, imm=tisn << 8, fence=FENCE)


def progress_params(tisn: int) -> bytes:
    """``mlx5e_set_tls_progress_params_wqe`` behind its control segment."""
    return struct.pack(">IIII", tisn, 0, 0, 0)


def post_progress(rig: Rig, tisn: int, *, ce: int = 0) -> int:
    return rig.post(WqeOpcode.SET_PSV, progress_params(tisn), ce=ce, opmod=1, fence=FENCE)


def post_params(rig: Rig, tisn: int, dek: int, number: int = 0, **more: Any) -> None:
    """``mlx5e_ktls_tx_post_param_wqes``: static, progress, a fence."""
    post_static(rig, tisn, dek, number, **more)
    post_progress(rig, tisn)
    rig.post(WqeOpcode.NOP, ce=0, fence=FENCE)


def post_dump(rig: Rig, tisn: int, data: bytes, *, ce: int = 0) -> int:
    return rig.post(WqeOpcode.DUMP, rig.seg(data), ce=ce, imm=tisn << 8)


def headers(payload: int, seq: int = 1000, *, proto: int = 6) -> bytes:
    """Ethernet, IPv4 and TCP, or a header of another protocol that is shaped like TCP's."""
    ether = bytes.fromhex("0200000001020200000001010800")
    ip = struct.pack(
        ">BBHHHBBH4s4s",
        0x45,
        0,
        40 + payload,
        7,
        0x4000,
        64,
        proto,
        0,
        b"\x0a\0\0\1",
        b"\x0a\0\0\2",
    )
    return ether + ip + struct.pack(">HHIIBBHHH", 40000, 443, seq, 1, 0x50, 0x10, 500, 0, 0)


def post_send(
    rig: Rig,
    tisn: int,
    data: bytes,
    *,
    seq: int = 1000,
    ce: int = 0,
    proto: int = 6,
    split: tuple[int, ...] = (),
) -> int:
    """A SEND with the headers inline and ``data`` in segments that end at ``split``."""
    inline = headers(len(data), seq, proto=proto)
    body = eth_segment(cs=L3 | L4, inline=inline) + segments(rig, data, split)
    return rig.post(WqeOpcode.SEND, body, ce=ce, imm=tisn << 8)


def post_lso(
    rig: Rig,
    tisn: int,
    data: bytes,
    mss: int,
    *,
    seq: int = 1000,
    ce: int = 0,
    proto: int = 6,
    split: tuple[int, ...] = (),
) -> int:
    inline = headers(len(data), seq, proto=proto)
    body = eth_segment(cs=L3 | L4, mss=mss, inline=inline) + segments(rig, data, split)
    return rig.post(WqeOpcode.LSO, body, ce=ce, imm=tisn << 8)


def segments(rig: Rig, data: bytes, split: tuple[int, ...]) -> bytes:
    edges = [0, *sorted({at for at in split if 0 < at < len(data)}), len(data)]
    pieces = [data[a:b] for a, b in pairwise(edges)]
    return b"".join(rig.seg(piece) for piece in pieces if piece)


def payloads(sent: list[Traffic]) -> list[bytes]:
    """What lies behind the 54 header bytes of each frame, by the IP total length."""
    out = []
    for traffic in sent:
        for frame in traffic.frames():
            (total,) = struct.unpack_from(">H", frame.data, 16)
            out.append(bytes(frame.data[54 : 14 + total]))
    return out


def checksum_is_right(frame: bytes) -> bool:
    """Does the TCP segment sum to 0 with its pseudo header?"""
    (total,) = struct.unpack_from(">H", frame, 16)
    segment = bytes(frame[34 : 14 + total])
    pseudo = bytes(frame[26:34]) + struct.pack(">HH", 6, len(segment))
    words = np.frombuffer((pseudo + segment).ljust((len(pseudo + segment) + 1) & ~1, b"\0"), ">u2")
    return int(words.sum(dtype=np.uint64)) % 65535 == 0
