# SPDX-License-Identifier: GPL-2.0-or-later
"""A frame's way in: parse, steer, hash, and hand to receive queues.

The decision for a flow is kept until a table, TIR or RQT changes, so a train, and every later
frame of its flow, is steered once.
"""

from collections.abc import Callable
from dataclasses import dataclass

from nicmodel.frame import Checked, Traffic, Train
from nicmodel.objects.counters import PortCounters
from nicmodel.objects.store import Objects
from nicmodel.objects.transport import RxHashFn, Tir, TirDispType
from nicmodel.offload.checksum import complete, complete_known_good, verify
from nicmodel.offload.parse import (
    IPPROTO_AH,
    IPPROTO_ESP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    Headers,
    parse,
)
from nicmodel.offload.rss import symmetric_input, toeplitz
from nicmodel.offload.steer import flow_key, lookup
from nicmodel.queues.rq import Rq
from nicmodel.spec.cqe import Cqe, CqeOpcode, HdsIpExt, L3HdrType, L4HdrType, RssHashType
from nicmodel.units import Rqn

_MAX_FLOWS = 8192
"""Bound on remembered decisions: a hostile peer may send a new flow with every frame."""

_ACK = 0x10
_BOTH = Checked.L3 | Checked.L4


@dataclass(frozen=True, slots=True)
class Delivery:
    """One receive queue that wants the flow, and the hash that chose it."""

    rqn: Rqn
    hash_result: int
    hash_type: int


class Receiver:
    """Frames in, receive queues out."""

    def __init__(
        self,
        objects: Objects,
        rqs: dict[Rqn, Rq],
        counters: PortCounters,
        timestamp: Callable[[], int],
    ) -> None:
        self._objects = objects
        self._rqs = rqs
        self._counters = counters
        self._timestamp = timestamp
        self._flows: dict[tuple[object, ...], tuple[Delivery, ...]] = {}
        self._version = -1

    def receive(self, traffic: Traffic, longest: int) -> None:
        """Take traffic of one flow from the wire; frames beyond ``longest`` bytes are lost."""
        if traffic.length > longest:
            # of a train the last frame may be short enough
            fitting = [one for one in traffic.frames() if one.length <= longest]
            self._counters.rx_oversize += traffic.count - len(fitting)
            for one in fitting:
                self.receive(one, longest)
            return
        head = traffic.head
        headers = parse(head, traffic.length)
        if headers is None:
            return
        self._counters.rx.count(headers.dst, traffic.count, traffic.octets)
        deliveries = self._steer(headers)
        if not deliveries:
            self._counters.rx_steering_discards += traffic.count
            return
        if isinstance(traffic, Train):
            if traffic.checked & _BOTH == _BOTH and headers.l4_offset:
                sums = _train_sums(traffic, headers)
                self._deliver(deliveries, headers, list(traffic.views()), sums, traffic.checked)
                return
            frames = list(traffic.views())
        else:
            frames = [memoryview(traffic.data)]
        for frame in frames:
            exact = parse(frame[: len(head)], len(frame)) or headers
            checked = traffic.checked
            if checked & _BOTH == _BOTH and exact.l4_offset:
                check_sum = complete_known_good(frame, exact)
            else:
                checked |= verify(frame, exact)
                check_sum = complete(frame, exact)
            self._deliver(deliveries, exact, [frame], [check_sum], checked)

    def _deliver(
        self,
        deliveries: tuple[Delivery, ...],
        headers: Headers,
        frames: list[memoryview],
        sums: list[int],
        checked: Checked,
    ) -> None:
        for delivery in deliveries:
            rq = self._rqs.get(delivery.rqn)
            if rq is None:
                continue
            strip = headers.vlan is not None and not rq.config.vlan_strip_disable
            cqe = self._completion(headers, delivery, checked, strip)
            rq.receive(frames, cqe, sums, strip)

    def _completion(
        self, headers: Headers, delivery: Delivery, checked: Checked, strip: bool
    ) -> bytearray:
        """The CQE that all frames of one call share."""
        time = self._timestamp()
        good = HdsIpExt.L2_OK
        if checked & Checked.L3:
            good |= HdsIpExt.L3_OK
        if checked & Checked.L4:
            good |= HdsIpExt.L4_OK
        cqe = Cqe(
            rss_hash_result=delivery.hash_result,
            rss_hash_type=delivery.hash_type,
            hds_ip_ext=good,
            l4_hdr_type=_l4_type(headers),
            l3_hdr_type=_L3_TYPES[headers.ip_version],
            vlan_stripped=strip,
            vlan_info=headers.vlan or 0 if strip else 0,
            timestamp_h=time >> 32 & 0xFFFFFFFF,
            timestamp_l=time & 0xFFFFFFFF,
            opcode=CqeOpcode.RESP_SEND,
        )
        return bytearray(cqe.encode())

    def _steer(self, headers: Headers) -> tuple[Delivery, ...]:
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
        )
        found = self._flows.get(key)
        if found is None:
            tirns = lookup(objects.steering, flow_key(headers)) or ()
            tirs = (objects.tirs.find(tirn) for tirn in tirns)
            picked = (self._pick(tir, headers) for tir in tirs if tir is not None)
            found = self._flows[key] = tuple(one for one in picked if one is not None)
        return found

    def _pick(self, tir: Tir, headers: Headers) -> Delivery | None:
        """Choose the receive queue of a TIR."""
        if tir.disp_type is TirDispType.DIRECT:
            return Delivery(tir.inline_rqn, 0, 0)
        rqt = self._objects.rqts.find(tir.rqtn)
        if rqt is None or not rqt.rqns:
            return None
        if tir.rx_hash_fn is not RxHashFn.TOEPLITZ:
            return Delivery(rqt.rqns[0], 0, 0)
        data, kind = _hash_input(tir, headers)
        result = toeplitz(tir.toeplitz_key, data) if data else 0
        return Delivery(rqt.rqns[result & len(rqt.rqns) - 1], result, kind if data else 0)


_L3_TYPES = {0: L3HdrType.NONE, 4: L3HdrType.IPV4, 6: L3HdrType.IPV6}


def _l4_type(headers: Headers) -> L4HdrType:
    if not headers.l4_offset:
        return L4HdrType.NONE
    if headers.ip_proto == IPPROTO_UDP:
        return L4HdrType.UDP
    if headers.ip_proto != IPPROTO_TCP:
        return L4HdrType.NONE
    if not headers.tcp_flags & _ACK:
        return L4HdrType.TCP_NO_ACK
    if headers.l3_end > headers.l4_offset + headers.tcp_header:
        return L4HdrType.TCP_ACK_AND_DATA
    return L4HdrType.TCP_ACK_NO_DATA


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
    """``check_sum`` of each frame of a train whose checksums are known to be right."""
    views = train.views()
    first = next(views)
    exact = parse(first[: len(train.head)], len(first)) or headers
    usual = complete_known_good(first, exact)
    if train.count == 1:
        return [usual]
    last = train.rows[-1, : train.last]
    tail = parse(last[: len(train.head)].tobytes(), train.last) or headers
    return [usual] * (train.count - 1) + [complete_known_good(last.data, tail)]
