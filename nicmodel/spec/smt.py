# SPDX-License-Identifier: GPL-2.0-or-later
"""SMT packets: TLS records in the messages of a transport whose header lies over TCP's.

Offsets count from the first byte behind the IP header. There are two published formats, told apart
by IP protocol: variant A (the paper's, "Designing Transport-Level Encryption for Datacenter
Networks", IEEE S&P 2026; what ``smt-kmod`` speaks) and variant B. They are layouts like those of
the device, so ``layout.as_construct`` makes them members of a ``construct`` message.
"""

from enum import IntEnum

from nicmodel.spec.layout import Layout, ints, layout, nested, tail, u8, u16, u32, u64


class SmtProtocol(IntEnum):
    """IP protocol, which is the variant."""

    A = 253
    """RFC 3692, for experiments."""
    B = 146


class SmtType(IntEnum):
    """Packet type, the same in both variants."""

    DATA = 0x10
    """A part of a message."""
    GRANT = 0x11
    """The receiver permits more of a message."""
    RESEND = 0x12
    """The receiver lacks a part, or asks whether the sender lives (length 0)."""
    UNKNOWN = 0x13
    """The other end does not know the RPC."""
    BUSY = 0x14
    """It lives, and has nothing to send now."""
    CUTOFFS = 0x15
    """Which priority unscheduled data get, by length of message."""
    FREEZE = 0x16
    """For debugging."""
    NEED_ACK = 0x17
    """The server wants to forget an RPC."""
    ACK = 0x18
    """The client has the responses."""


@layout(28)
class SmtCommonA(Layout):
    """What every packet of variant A begins with."""

    sport: int = u16(0)
    dport: int = u16(2)
    doff: int = u8(12)
    """High nibble: header length in dwords, as TCP has it. Meant only in DATA."""
    type: int = u8(13)
    offset_high: int = u16(14)
    """DATA: bits 31-16 of the TSO offset, where the segment begins in the message."""
    checksum: int = u16(16)
    offset_low: int = u16(18)
    """DATA: bits 15-0 of it."""
    sender_id: int = u64(20)
    """RPC id as its sender has it: even from the client, odd from the server."""


@layout(40)
class SmtDataA(Layout):
    """DATA of variant A; the bytes of the record follow."""

    common: SmtCommonA = nested(0)
    message_length: int = u32(28)
    incoming: int = u32(32)
    """Bytes that are sent without waiting for grants."""
    cutoff_version: int = u16(36)
    retransmit: int = u8(38)
    index: int = u8(39)
    """Place of the packet in its segment, less the identification of IPv4."""


@layout(20)
class SmtFramingA(Layout):
    """Begins each packet of a segment, within the encryption; not one that has only tag bytes.

    In the first of a record ``smt-kmod`` has the length of the message in place of both ports if
    there is no acknowledgement, so that it is authenticated.
    """

    offset: int = u32(0)
    segment_length: int = u32(4)
    client_id: int = u64(8)
    """An RPC that is acknowledged, 0 for none."""
    client_port: int = u16(16)
    server_port: int = u16(18)


@layout(33)
class SmtGrantA(Layout):
    """GRANT."""

    common: SmtCommonA = nested(0)
    offset: int = u32(28)
    """Bytes of the message that may be sent in all; never lowered."""
    priority: int = u8(32)


@layout(37)
class SmtResendA(Layout):
    """RESEND."""

    common: SmtCommonA = nested(0)
    offset: int = u32(28)
    length: int = u32(32)
    priority: int = u8(36)


@layout(62)
class SmtCutoffsA(Layout):
    """CUTOFFS."""

    common: SmtCommonA = nested(0)
    unscheduled: tuple[int, ...] = ints(28, 32, 8)
    version: int = u16(60)


@layout(12)
class SmtAckEntryA(Layout):
    """One RPC of an ACK."""

    client_id: int = u64(0)
    client_port: int = u16(8)
    server_port: int = u16(10)


@layout(30)
class SmtAckA(Layout):
    """ACK; all five entries are there, the first ``num_acks`` are meant."""

    common: SmtCommonA = nested(0)
    num_acks: int = u16(28)
    entries: tuple[SmtAckEntryA, ...] = tail(30)


@layout(28)
class SmtCommonB(Layout):
    """What every packet of variant B begins with."""

    sport: int = u16(0)
    dport: int = u16(2)
    type: int = u8(11)
    doff: int = u8(12)
    flags: int = u8(13)
    """Always 0x06."""
    checksum: int = u16(16)
    urgent: int = u16(18)
    """Always 0xB97D."""
    sender_id: int = u64(20)


@layout(52)
class SmtDataB(Layout):
    """DATA of variant B; the bytes of the record follow."""

    common: SmtCommonB = nested(0)
    message_length: int = u32(28)
    incoming: int = u32(32)
    client_id: int = u64(36)
    """An RPC that is acknowledged, 0 for none."""
    server_port: int = u16(44)
    cutoff_version: int = u16(46)
    retransmit: int = u8(48)
    """Bit 0: sent again; bit 1: bits 7-4 are the place of the packet in its segment."""
    offset_high: int = u8(49)
    offset_low: int = u16(50)


@layout(4)
class SmtFramingB(Layout):
    """Begins each packet of a segment, within the encryption."""

    offset: int = u32(0)
