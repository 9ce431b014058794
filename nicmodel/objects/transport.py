# SPDX-License-Identifier: GPL-2.0-or-later
"""Transport objects: what stands between steering and queues."""

from dataclasses import dataclass

from nicmodel.spec.contexts import RxHashFn, TirDispType
from nicmodel.units import Pdn, Rqn, Rqtn, Tdn, Tirn, Tisn

__all__ = [
    "SELF_LB_UNICAST",
    "HashFields",
    "PacketMerge",
    "Rqt",
    "RxHashFn",
    "Tir",
    "TirDispType",
    "Tis",
]

SELF_LB_UNICAST = 1
"""Bit of ``self_lb_block`` with which a TIR takes unicast that its own vport sent. The name says
the contrary: ``en_selftest.c`` sets it to receive its own frame."""


@dataclass(frozen=True, slots=True)
class Tis:
    """``tisc``: send queues belong to it. ``prio`` is traffic class << 1."""

    tisn: Tisn
    prio: int
    tls_en: bool
    transport_domain: Tdn
    pd: Pdn


@dataclass(frozen=True, slots=True)
class HashFields:
    """``rx_hash_field_select``: which header fields enter the hash.

    ``ipv6``: l3_prot_type, false = IPv4; ``udp``: l4_prot_type, false = TCP.
    """

    ipv6: bool = False
    udp: bool = False
    src_ip: bool = False
    dst_ip: bool = False
    l4_sport: bool = False
    l4_dport: bool = False
    spi: bool = False

    def __bool__(self) -> bool:
        return self.src_ip or self.dst_ip or self.l4_sport or self.l4_dport or self.spi


@dataclass(frozen=True, slots=True)
class PacketMerge:
    """What a TIR merges (LRO): TCP over which IP, into at most ``max_ip_payload`` bytes behind the
    IP header.
    """

    ipv4: bool
    ipv6: bool
    max_ip_payload: int


@dataclass(frozen=True, slots=True)
class Tir:
    """``tirc``. ``inline_rqn`` means something for DIRECT, ``rqtn`` for INDIRECT; ``merge`` is
    None without LRO.
    """

    tirn: Tirn
    disp_type: TirDispType
    inline_rqn: Rqn
    rqtn: Rqtn
    rx_hash_fn: RxHashFn
    symmetric: bool
    toeplitz_key: bytes
    outer_fields: HashFields
    self_lb_block: int
    tls_en: bool
    transport_domain: Tdn
    merge: PacketMerge | None = None


@dataclass(frozen=True, slots=True)
class Rqt:
    """``rqtc``: ``rqns`` has the actual size, a power of two; ``max_size`` bounds later ones."""

    rqtn: Rqtn
    max_size: int
    rqns: tuple[Rqn, ...]
