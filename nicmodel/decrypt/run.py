# SPDX-License-Identifier: GPL-2.0-or-later
"""From a capture and the keys beside it to the records of each direction that has a key."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from struct import Struct

from nicmodel.decrypt.messages import SmtSegment, read_messages
from nicmodel.decrypt.records import Direction, read_records
from nicmodel.decrypt.stream import Stream
from nicmodel.offload.parse import parse
from nicmodel.offload.smt.packet import find_data
from nicmodel.spec.smt import SmtProtocol
from nicmodel.wire.capture import CLEAR_SUFFIX
from nicmodel.wire.keyfile import Flow, FlowKey
from nicmodel.wire.pcapng_reader import Captured, read

_U32 = Struct(">I")


@dataclass(frozen=True, slots=True)
class _Seen:
    """A TCP segment with payload, as it was captured; or, with ``smt``, a DATA packet of SMT."""

    captured: Captured
    seq: int
    payload: bytes
    smt: SmtSegment | None = None


def decrypt(capture: Path, keys: Iterable[FlowKey]) -> list[Direction]:
    """Read all records of ``capture`` for which there are ``keys``.

    Of a connection that was captured at several places it takes what the port saw whose NIC has the
    key, if that is there. Directions without one frame are left out. Raises UserError.
    """
    by_flow: dict[Flow, list[FlowKey]] = defaultdict(list)
    smt_keys: list[FlowKey] = []
    for key in sorted(keys, key=lambda key: key.time):
        if key.flow.protocol in list(SmtProtocol):
            smt_keys.append(key)
        else:
            by_flow[key.flow].append(key)
    seen: dict[Flow, list[_Seen]] = defaultdict(list)
    for captured in read(capture):
        if captured.interface.endswith(CLEAR_SUFFIX):
            continue
        flow, segment = _segment(captured)
        if flow is None or segment is None:
            continue
        if segment.smt is not None and flow not in by_flow:
            # the ports of an SMT key may be left open, which an entry for this flow closes
            fits = [replace(key, flow=flow) for key in smt_keys if _covers(key.flow, flow)]
            if fits:
                by_flow[flow] = fits
        if flow in by_flow:
            seen[flow].append(segment)
    directions = []
    for flow, segments in seen.items():
        for key, until in _spans(by_flow[flow]):
            chosen = [
                one
                for one in _at_port(segments, key)
                if (key.time <= one.captured.time or len(by_flow[flow]) == 1)
                and (until is None or one.captured.time < until)
            ]
            messages = [one.smt for one in chosen if one.smt is not None]
            if messages:
                directions.append(read_messages(key, messages))
                continue
            stream = Stream(key.seq)
            for one in chosen:
                stream.add(one.captured.number, one.captured.time, one.seq, one.payload)
            if stream.data or stream.gap:
                directions.append(read_records(key, stream))
    return directions


def _covers(key: Flow, flow: Flow) -> bool:
    """Is ``flow`` one of those that a key is for? A port that is 0 is any."""
    ends = (key.protocol, key.src, key.dst) == (flow.protocol, flow.src, flow.dst)
    return ends and key.sport in (0, flow.sport) and key.dport in (0, flow.dport)


def _spans(keys: list[FlowKey]) -> list[tuple[FlowKey, int | None]]:
    """Each key of a flow and when the next one of that NIC and direction takes over.

    Both ends of a connection may have a key for the same packets.
    """
    spans = []
    for number, key in enumerate(keys):
        later = (k.time for k in keys[number + 1 :] if (k.nic, k.way) == (key.nic, key.way))
        spans.append((key, next(later, None)))
    return spans


def _at_port(segments: list[_Seen], key: FlowKey) -> list[_Seen]:
    """What the port of the key's NIC has seen, or all if it was not captured."""
    here = [
        one
        for one in segments
        if one.captured.interface == key.nic and one.captured.way in (key.way, None)
    ]
    return here or segments


def _segment(captured: Captured) -> tuple[Flow | None, _Seen | None]:
    """The flow of a TCP segment or SMT packet, and what it carries; None where there is nothing."""
    data = captured.data
    headers = parse(data, len(data))
    if headers is not None and headers.ip_version == 4 and headers.ip_proto in list(SmtProtocol):
        packet = find_data(data[: headers.l3_end], headers.l3_end)
        if packet is None:
            return None, None
        flow = Flow(headers.ip_proto, headers.src_ip, packet.sport, headers.dst_ip, packet.dport)
        payload = data[packet.start : headers.l3_end]
        smt = SmtSegment(captured.number, captured.time, packet, payload)
        return flow, _Seen(captured, 0, payload, smt)
    if headers is None or not headers.tcp_header or headers.frag:
        return None, None
    flow = Flow(headers.ip_proto, headers.src_ip, headers.sport, headers.dst_ip, headers.dport)
    payload = data[headers.l4_offset + headers.tcp_header : headers.l3_end]
    (seq,) = _U32.unpack_from(data, headers.l4_offset + 4)
    return flow, _Seen(captured, seq, payload) if payload else None
