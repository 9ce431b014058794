# SPDX-License-Identifier: GPL-2.0-or-later
"""Expressions: which frames they mean (tshark is asked too), and a sentence for each mistake."""

import socket
from pathlib import Path
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nicmodel.errors import UserError
from nicmodel.wire.match import FIELDS, LONGEST, PROTOCOLS, Seen, compile_match
from nicmodel.wire.pcapng import PcapngWriter
from tests.oracles.tshark import fields, needs_tshark

MACS = bytes.fromhex("020000000002 020000000001")


def ipv4(proto: int, payload: bytes, src: str = "10.77.0.1", dst: str = "10.77.0.2") -> bytes:
    ends = socket.inet_aton(src) + socket.inet_aton(dst)
    return pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 77, 0, 64, proto, 0) + ends + payload


def ipv6(proto: int, payload: bytes) -> bytes:
    ends = (socket.inet_pton(socket.AF_INET6, f"fd00:77::{n}") for n in (1, 2))
    return pack(">IHBB", 6 << 28, len(payload), proto, 64) + b"".join(ends) + payload


def tcp(sport: int, dport: int, flags: int, payload: bytes = b"", options: bytes = b"") -> bytes:
    head = pack(
        ">HHIIBBHHH", sport, dport, 0xFFFFFFF0, 9, 5 + len(options) // 4 << 4, flags, 1, 0, 0
    )
    return head + options + payload


def udp(sport: int, dport: int, payload: bytes) -> bytes:
    return pack(">HHHH", sport, dport, 8 + len(payload), 0) + payload


TAG = pack(">HH", 0x8100, 3 << 13 | 42)
FRAMES = [
    MACS + b"\x08\x00" + ipv4(6, tcp(40000, 5001, 0x18, b"x" * 100)),
    MACS + b"\x08\x00" + ipv4(6, tcp(40000, 5001, 0x02, b"", b"\2\4\5\xb4")),
    MACS + b"\x08\x00" + ipv4(6, tcp(5001, 40000, 0x10)),
    MACS + b"\x08\x00" + ipv4(6, tcp(1, 2, 0x14, b"yy"), "192.0.2.1", "10.77.1.9"),
    MACS + TAG + b"\x08\x00" + ipv4(17, udp(5001, 53, b"z" * 10)),
    MACS + b"\x86\xdd" + ipv6(6, tcp(7, 5001, 0x11, b"w")),
    MACS + b"\x86\xdd" + ipv6(17, udp(9, 9, b"")),
    MACS + b"\x86\xdd" + ipv6(58, b"\x80\0\0\0\0\0\0\0"),
    MACS + b"\x08\x00" + ipv4(1, b"\x08\0\0\0\0\0\0\0"),
    b"\xff" * 6 + MACS[6:] + b"\x08\x06" + pack(">HHBBH20x", 1, 0x800, 6, 4, 1),
    MACS + b"\x88\xb5" + b"q" * 50,
    MACS + b"\x08\x00" + ipv4(146, b"smt!" * 9),
]

EXPRESSIONS = [
    "tcp",
    "udp and vlan",
    "not tcp",
    "!(udp or arp)",
    "tcp.dstport == 5001 and tcp.len > 0",
    "tcp.port == 5001",
    "tcp.port != 5001",
    "tcp.srcport in {1, 40000..40010}",
    "udp.port eq 53 || udp.length ge 9 && ipv6",
    "ip.src == 10.77.0.1",
    "ip.addr == 10.77.0.0/24",
    "ip.addr == 10.77.0.0/16 and not ip.dst == 10.77.0.2",
    "ip.addr != 192.0.2.1",
    "ip.src in {192.0.2.0/24, 1.2.3.4}",
    "ipv6.dst == fd00:77::2 and tcp.flags.fin == 1",
    "ipv6.addr == fd00:77::/64",
    "ipv6.nxt == 17",
    "eth.dst == ff:ff:ff:ff:ff:ff",
    "eth.addr == 02:00:00:00:00:01 and eth.type == 0x88b5",
    "eth.src != 02:00:00:00:00:01",
    "vlan.id == 42 and vlan.priority >= 3",
    "ip.proto == 146",
    "ip.id == 77 and ip.ttl < 65",
    "icmp or icmpv6",
    "frame.number in {2..4} or frame.len <= 60",
    "tcp.flags.syn == 1 or tcp.flags.reset == 1",
    "tcp.flags == 0x18 or tcp.flags.push == 1 and tcp.flags.ack == 0",
    "tcp.seq_raw == 4294967280 and tcp.ack_raw == 9 and tcp.len == 0",
    "udp.length",
    "ipv6.src == fd00:77::1 and tcp.srcport == 7",
    "udp.srcport > 9 and udp.dstport <= 53",
    "eth",
]


def chosen(text: str) -> list[int]:
    test = compile_match(text)
    return [number for number, data in enumerate(FRAMES, 1) if test(Seen(data, number))]


@needs_tshark
def test_tshark_means_the_same_frames(tmp_path: Path) -> None:
    path = tmp_path / "frames.pcapng"
    writer = PcapngWriter(path)
    interface = writer.add_interface("x")
    for data in FRAMES:
        writer.packet(interface, 0, data)
    writer.close()
    for text in EXPRESSIONS:
        theirs = [int(number) for (number,) in fields(path, "frame.number", only=text)]
        assert chosen(text) == theirs, text


def test_every_name_is_compared_with_tshark() -> None:
    text = " ".join(EXPRESSIONS)
    assert [name for name in (*FIELDS, *PROTOCOLS) if name not in text] == []
    assert all(chosen(name) for name in (*FIELDS, *PROTOCOLS))


MISTAKES = {
    "": "a field or protocol like tcp.dstport or arp is missing at the end",
    "tcp and": "a field or protocol like tcp.dstport or arp is missing at the end",
    "tcp.dport == 1": "expression: tcp.dport is unknown; did you mean tcp.port?",
    "tcp udp": "what is 'udp' for? join tests with 'and' or 'or'",
    "(tcp": "')' is missing at the end",
    "(tcp udp)": "')' is missing instead of 'udp'",
    "tcp)": "what is ')' for?",
    "tcp.port == x": "tcp.port is compared with a number, not with 'x'",
    "tcp.port ==": "tcp.port is compared with a number, not with nothing",
    "tcp.port == -1": "'-' means nothing in an expression",
    "ip.src == 10.0.0.256": "ip.src is compared with a IPv4 address, not with '10.0.0.256'",
    "ip.src == 10.0.0.0/33": "ip.src is compared with a IPv4 address, not with '10.0.0.0/33'",
    "ip.src == fd00::1": "ip.src is compared with a IPv4 address, not with 'fd00::1'",
    "ip.src < 10.0.0.1": "ip.src has no order; compare it with == or !=",
    "eth.src == 1": "eth.src is compared with a MAC address, not with '1'",
    "tcp.port in 5": "'{' is missing instead of '5'",
    "tcp.port in {5": "'}' is missing at the end",
    "tcp.port in {}": "tcp.port is compared with a number, not with '}'",
    "tcp == 1": "what is '==' for?",
    "== 1": "a field or protocol like tcp.dstport or arp is missing instead of '=='",
    "__import__('os')": '"\'" means nothing in an expression',
    "!" * 500 + "tcp": "an expression is nested at most 20 deep",
    "tcp or " * 500 + "tcp": f"an expression has at most {LONGEST} characters",
}


@pytest.mark.parametrize(("text", "sentence"), MISTAKES.items(), ids=range(len(MISTAKES)))
def test_mistakes(text: str, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        compile_match(text)
    assert str(caught.value).startswith(sentence)


words = st.sampled_from(
    [*FIELDS, *PROTOCOLS, "and", "or", "not", "(", ")", "==", "<", "in", "{", "}", ",", "1", "1..2"]
)


@given(st.lists(words, max_size=12), st.binary(max_size=80))
def test_any_text_is_a_predicate_or_a_sentence(text: list[str], data: bytes) -> None:
    try:
        test = compile_match(" ".join(text))
    except UserError:
        return
    test(Seen(data, 1))
    for frame in FRAMES:
        test(Seen(frame, 1))
        test(Seen(frame[: len(data)], 1))
