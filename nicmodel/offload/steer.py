# SPDX-License-Identifier: GPL-2.0-or-later
"""Execute the flow tables: from headers to TIRs.

Within a table the lowest flow index whose masked value matches wins. That silicon does so is
*assumption*, from the order in which ``lib/fs_ttc.c`` and ``en_fs.c`` lay out their groups.
"""

from nicmodel.frame import Headers
from nicmodel.objects.flow import FlowAction, FlowEntry, FlowTable, MissAction, Steering
from nicmodel.offload.parse import IPPROTO_TCP, IPPROTO_UDP
from nicmodel.spec.steering import FteMatchSetLyr24
from nicmodel.units import Tirn

MAX_HOPS = 128
"""Tables that one frame may visit: more than there are levels (``max_ft_level``), so more means a
loop, and the frame is dropped."""

_BITS = FteMatchSetLyr24.SIZE * 8
_SHIFT = {name: _BITS - span.start - span.width for name, span in FteMatchSetLyr24.SPANS.items()}

MATCHABLE = FteMatchSetLyr24(
    smac_47_16=0xFFFFFFFF,
    smac_15_0=0xFFFF,
    ethertype=0xFFFF,
    dmac_47_16=0xFFFFFFFF,
    dmac_15_0=0xFFFF,
    first_prio=7,
    first_cfi=True,
    first_vid=0xFFF,
    ip_protocol=0xFF,
    cvlan_tag=True,
    svlan_tag=True,
    frag=True,
    ip_version=0xF,
    tcp_sport=0xFFFF,
    tcp_dport=0xFFFF,
    udp_sport=0xFFFF,
    udp_dport=0xFFFF,
    src_ipv4_src_ipv6=b"\xff" * 16,
    dst_ipv4_dst_ipv6=b"\xff" * 16,
)
"""The match fields that ``flow_key`` fills, as a mask; criteria outside it must be refused."""

_SMAC = _SHIFT["smac_15_0"]
_ETHERTYPE = _SHIFT["ethertype"]
_DMAC = _SHIFT["dmac_15_0"]
_TCI = _SHIFT["first_vid"]
_CVLAN = 1 << _SHIFT["cvlan_tag"]
_SVLAN = 1 << _SHIFT["svlan_tag"]
_IP_PROTOCOL = _SHIFT["ip_protocol"]
_FRAG = 1 << _SHIFT["frag"]
_IP_VERSION = _SHIFT["ip_version"]
_PORTS = {
    IPPROTO_TCP: (_SHIFT["tcp_sport"], _SHIFT["tcp_dport"]),
    IPPROTO_UDP: (_SHIFT["udp_sport"], _SHIFT["udp_dport"]),
}
_SRC_IP = _SHIFT["src_ipv4_src_ipv6"]
_DST_IP = _SHIFT["dst_ipv4_dst_ipv6"]


def flow_key(headers: Headers) -> int:
    """The frame's match fields as ``fte_match_set_lyr_2_4``, one integer of 512 bits.

    ``ethertype`` is the one behind the VLAN tags; an IPv4 address is the last 4 bytes of its field.
    """
    key = (
        int.from_bytes(headers.src, "big") << _SMAC
        | headers.ethertype << _ETHERTYPE
        | int.from_bytes(headers.dst, "big") << _DMAC
    )
    if headers.vlan is not None:
        key |= headers.vlan << _TCI | (_SVLAN if headers.svlan else _CVLAN)
    if headers.ip_version:
        key |= (
            headers.ip_version << _IP_VERSION
            | headers.ip_proto << _IP_PROTOCOL
            | int.from_bytes(headers.src_ip, "big") << _SRC_IP
            | int.from_bytes(headers.dst_ip, "big") << _DST_IP
        )
        if headers.frag:
            key |= _FRAG
        if headers.l4_offset and (ports := _PORTS.get(headers.ip_proto)):
            key |= headers.sport << ports[0] | headers.dport << ports[1]
    return key


def lookup(steering: Steering, key: int) -> tuple[Tirn, ...] | None:
    """The TIRs that want a frame with ``key``; None if it is dropped."""
    found: list[Tirn] = []
    following = [steering.root] if steering.root is not None else []
    hops = 0
    while following and hops < MAX_HOPS:
        hops += 1
        table = steering.tables.find(following.pop())
        if table is None:
            continue
        entry = _match(table, key)
        if entry is None:
            if table.config.miss_action is MissAction.FORWARD:
                following.append(table.config.miss_id)
        elif entry.action & FlowAction.FWD_DEST and not entry.action & FlowAction.DROP:
            found += entry.destinations.tirs
            following += reversed(entry.destinations.tables)
    return tuple(found) or None


def _match(table: FlowTable, key: int) -> FlowEntry | None:
    """The entry with the lowest index; the groups are in the order of their indices."""
    for group in table.groups:
        entries = group.matches.get(key & group.mask)
        if entries:
            return entries[0]
    return None
