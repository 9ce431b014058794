# SPDX-License-Identifier: GPL-2.0-or-later
"""A frame's way in: parse, steer, hash, and hand to receive queues.

The decision for a flow is kept until a table, TIR or RQT changes, so a train, and every later
frame of its flow, is steered once.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import groupby
from struct import Struct

from nicmodel.frame import CHECKED, Checked, Frame, Frames, Headers, Traffic, Train
from nicmodel.objects.counters import PortCounters
from nicmodel.objects.store import Objects
from nicmodel.objects.transport import (
    SELF_LB_UNICAST,
    PacketMerge,
    RxHashFn,
    Tir,
    TirDispType,
)
from nicmodel.offload.checksum import complete, complete_known_good, shortened, verify
from nicmodel.offload.parse import (
    IPPROTO_AH,
    IPPROTO_ESP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    parse,
)
from nicmodel.offload.rss import symmetric_input, toeplitz
from nicmodel.offload.steer import flow_key, lookup
from nicmodel.queues.lro import Lro
from nicmodel.queues.rq import Rq
from nicmodel.queues.tls_rx import TlsRx
from nicmodel.spec.cqe import Cqe, CqeOpcode, HdsIpExt, L3HdrType, L4HdrType, RssHashType
from nicmodel.units import Rqn, Tirn

_MAX_FLOWS = 8192
"""Bound on remembered decisions: a hostile peer may send a new flow with every frame."""

_ACK = 0x10


@dataclass(frozen=True, slots=True)
class Delivery:
    """One receive queue that wants the flow; ``cqe`` has the hash that chose it."""

    rqn: Rqn
    cqe: bytes
    merge: PacketMerge | None = None
    tls: Tirn | None = None
    """The TIR, if it is one with TLS."""

    @classmethod
    def to(cls, rqn: Rqn, hash_result: int = 0, hash_type: int = 0) -> "Delivery":
        """Prepare the completion that all frames of the flow begin with."""
        cqe = Cqe(rss_hash_result=hash_result, rss_hash_type=hash_type, opcode=CqeOpcode.RESP_SEND)
        return cls(rqn, cqe.encode())


class Receiver:
    """Frames in, receive queues out."""

    def __init__(
        self,
        objects: Objects,
        rqs: dict[Rqn, Rq],
        counters: PortCounters,
        timestamp: Callable[[], int],
        lro: Lro,
        tls: TlsRx,
    ) -> None:
        self._objects = objects
        self._rqs = rqs
        self._counters = counters
        self._timestamp = timestamp
        self._flows: dict[tuple[object, ...], tuple[Delivery, ...]] = {}
        self._version = -1
        self._lro = lro
        self._tls = tls
        self.handed: Callable[[Traffic], None] | None = None
        """Sees what the host gets, but for frames that reach a TIR with TLS (``TlsRx.watches``)."""

    def receive(self, traffic: Traffic, *, looped: bool) -> None:
        """Take traffic of one flow; ``looped``: the vport sent it itself."""
        if isinstance(traffic, Frame):
            headers = traffic.headers
            if headers is None:
                headers = traffic.headers = parse(traffic.data, traffic.length)
        else:
            headers = traffic.headers or parse(traffic.head, traffic.length)
        if headers is None:
            return
        deliveries = self._steer(headers, looped=looped)
        if not deliveries:
            self._counters.rx_steering_discards += traffic.count
            return
        if self.handed is not None and deliveries[0].tls is None:
            self.handed(traffic)
        if isinstance(traffic, Frame):
            self._one(deliveries, headers, memoryview(traffic.data), traffic.checked)
            return
        if traffic.checked == Checked.BOTH and headers.l4_offset:
            sums = _train_sums(traffic, headers)
            self._deliver(deliveries, headers, traffic, sums, Checked.BOTH)
            return
        for frame in traffic:
            self._one(deliveries, parse(frame, len(frame)) or headers, frame, traffic.checked)

    def _one(
        self,
        deliveries: tuple[Delivery, ...],
        headers: Headers,
        frame: memoryview,
        checked: Checked,
    ) -> None:
        if checked == Checked.BOTH and headers.l4_offset:
            check_sum = complete_known_good(frame, headers)
        else:
            checked = verify(frame, headers)
            check_sum = complete(frame, headers)
        self._deliver(deliveries, headers, [frame], [check_sum], checked)

    def _deliver(
        self,
        deliveries: tuple[Delivery, ...],
        headers: Headers,
        frames: Frames,
        sums: list[int],
        checked: Checked,
    ) -> None:
        good = _GOOD[checked]
        vlan = None if headers.svlan else headers.vlan  # an S-tag stays in the frame
        types = _L3_TYPES[headers.ip_version] | _l4_type(headers)
        for delivery in deliveries:
            rq = self._rqs.get(delivery.rqn)
            if rq is None:
                continue
            cqe = bytearray(delivery.cqe)
            strip = vlan is not None and not rq.config.vlan_strip_disable
            if strip:
                _FOUND.pack_into(cqe, _FOUND_AT, good, types | _VLAN_STRIPPED, vlan)
            else:
                _FOUND.pack_into(cqe, _FOUND_AT, good, types, 0)
            _TIME.pack_into(cqe, _TIME_AT, self._timestamp() & _TIME_MASK)
            merge = delivery.merge
            if merge is not None and self._lro.take(
                rq, merge, headers, frames, cqe, sums, strip=strip, good=checked == Checked.BOTH
            ):
                continue
            if delivery.tls is not None and checked == Checked.BOTH:
                self._decrypt(delivery.tls, rq, headers, frames, cqe, sums, strip)
                continue
            rq.receive(frames, cqe, sums, strip)

    def _decrypt(
        self,
        tirn: Tirn,
        rq: Rq,
        headers: Headers,
        frames: Frames,
        cqe: bytearray,
        sums: list[int],
        strip: bool,
    ) -> None:
        """Deliver by way of a TIR with TLS; frames with a wrong checksum do not come here.

        ``check_sum`` stays that of the wire: the driver does not look at it in a frame that is
        marked (``en_rx.c`` mlx5e_handle_csum).
        """
        frames, verdicts = self._tls.receive(tirn, headers, list(frames))
        at = 0
        for verdict, group in groupby(verdicts):
            stop = at + len(list(group))
            cqe[_TLS_AT] = verdict << _TLS_SHIFT
            rq.receive(frames[at:stop], cqe, sums[at:stop], strip)
            at = stop

    def _steer(self, headers: Headers, *, looped: bool) -> tuple[Delivery, ...]:
        objects = self._objects
        if self._version != objects.receive_version or len(self._flows) >= _MAX_FLOWS:
            self._flows.clear()
            self._version = objects.receive_version
        key = (
            headers.dst,
            headers.src,
            headers.ethertype,
            headers.vlan,
            headers.svlan,
            headers.ip_version,
            headers.ip_proto,
            headers.frag,
            headers.src_ip,
            headers.dst_ip,
            headers.l4_offset,
            headers.sport,
            headers.dport,
            looped,
        )
        found = self._flows.get(key)
        if found is None:
            tirns = lookup(objects.steering, flow_key(headers)) or ()
            tirs = (objects.tirs.find(tirn) for tirn in tirns)
            picked = (
                # what is decrypted is not merged, whatever the TIR says
                replace(one, tls=tir.tirn) if tir.tls_en else replace(one, merge=tir.merge)
                for tir in tirs
                if tir is not None
                and (not looped or tir.self_lb_block & SELF_LB_UNICAST)
                and (one := self._pick(tir, headers)) is not None
            )
            found = self._flows[key] = tuple(picked)
        return found

    def _pick(self, tir: Tir, headers: Headers) -> Delivery | None:
        """Choose the receive queue of a TIR."""
        if tir.disp_type is TirDispType.DIRECT:
            return Delivery.to(tir.inline_rqn)
        rqt = self._objects.rqts.find(tir.rqtn)
        if rqt is None or not rqt.rqns:
            return None
        if tir.rx_hash_fn is not RxHashFn.TOEPLITZ:
            return Delivery.to(rqt.rqns[0])
        data, kind = _hash_input(tir, headers)
        result = toeplitz(tir.toeplitz_key, data) if data else 0
        rqn = rqt.rqns[result & len(rqt.rqns) - 1]
        return Delivery.to(rqn, result, kind if data else 0)


# The part of the CQE that depends on the frame, beside what ``Rq`` fills in (``spec.cqe.Cqe``).
_FOUND = Struct(">BBH")
"""hds_ip_ext, l4_l3_hdr_type, vlan_info."""
_FOUND_AT = 0x1C
_TLS_AT, _TLS_SHIFT = 0x00, 3
"""Where ``tls_offload`` is."""
_U16 = Struct(">H")
_TIME = Struct(">Q")
_TIME_AT = 0x30
_TIME_MASK = (1 << 64) - 1
_VLAN_STRIPPED = 1

_GOOD = tuple(
    int(
        HdsIpExt.L2_OK
        | (HdsIpExt.L3_OK if Checked.L3 in checked else 0)
        | (HdsIpExt.L4_OK if Checked.L4 in checked else 0)
    )
    for checked in CHECKED
)
"""``hds_ip_ext`` by what is known to be right."""

_L3_TYPES = {0: L3HdrType.NONE << 2, 4: L3HdrType.IPV4 << 2, 6: L3HdrType.IPV6 << 2}
_UDP = L4HdrType.UDP << 4
_TCP_NO_ACK = L4HdrType.TCP_NO_ACK << 4
_TCP_DATA = L4HdrType.TCP_ACK_AND_DATA << 4
_TCP_NO_DATA = L4HdrType.TCP_ACK_NO_DATA << 4


def _l4_type(headers: Headers) -> int:
    """``l4_hdr_type`` at its place in ``l4_l3_hdr_type``."""
    if not headers.l4_offset:
        return 0
    if headers.ip_proto == IPPROTO_UDP:
        return _UDP
    if headers.ip_proto != IPPROTO_TCP:
        return 0
    if not headers.tcp_flags & _ACK:
        return _TCP_NO_ACK
    if headers.l3_end > headers.l4_offset + headers.tcp_header:
        return _TCP_DATA
    return _TCP_NO_DATA


def _hash_input(tir: Tir, headers: Headers) -> tuple[bytes, int]:
    """What the TIR's selector takes from the headers, and the hash type of the CQE."""
    fields = tir.outer_fields
    if not headers.ip_version or not fields:
        return b"", 0
    source = headers.src_ip if fields.src_ip else b""
    destination = headers.dst_ip if fields.dst_ip else b""
    kind = RssHashType.IPV4 if headers.ip_version == 4 else RssHashType.IPV6
    ports = b""
    if headers.l4_offset and not headers.frag:
        proto = headers.ip_proto
        if proto in (IPPROTO_TCP, IPPROTO_UDP):
            sport = headers.sport.to_bytes(2, "big") if fields.l4_sport else b""
            dport = headers.dport.to_bytes(2, "big") if fields.l4_dport else b""
            ports = symmetric_input(sport, dport) if tir.symmetric else sport + dport
            if ports:
                kind |= RssHashType.TCP if proto == IPPROTO_TCP else RssHashType.UDP
        elif proto in (IPPROTO_ESP, IPPROTO_AH) and fields.spi:
            ports = headers.spi.to_bytes(4, "big")
            kind |= RssHashType.IPSEC_SPI
    if tir.symmetric:
        return symmetric_input(source, destination) + ports, kind
    return source + destination + ports, kind


def _train_sums(train: Train, headers: Headers) -> list[int]:
    """``check_sum`` of each frame of a train whose checksums are known to be right.

    Only the length of a frame makes a difference, and over IPv6 not even that: it stands in the
    header once and in the pseudo header once.
    """
    sums = [complete_known_good(train.head, headers)] * train.count
    if headers.ip_version == 4:
        at = headers.l3_offset
        for number in train.ends:
            if number:
                (length,) = _U16.unpack_from(train.rows[number], at + 2)
                sums[number] = shortened(sums[0], headers.l3_end - at - length)
    return sums
