# SPDX-License-Identifier: GPL-2.0-or-later
"""Which frames a rule means: a small part of Wireshark's display filters.

    tcp.dstport == 5001 and tcp.len > 0
    not arp and ip.addr == 10.0.0.0/8 and frame.len in {60..100, 1514}

Names and meaning are Wireshark's (wireshark-filter(4)): a field that a frame does not have makes
its comparison false, and one that it has twice (``tcp.port``) makes it true if either does;
``!=`` is true if the field is there and no value of it is equal. Values are decimal or 0x numbers,
MAC, IPv4 and IPv6 addresses, and address/prefix. ``frame.number`` counts the frames of the
direction since the rules were set, from 1; ``tcp.seq_raw`` is the number as it is on the wire.

The text is compiled to closures; nothing of it is evaluated by Python.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network

from nicmodel.entry import check_known
from nicmodel.errors import UserError
from nicmodel.frame import HEAD, Headers
from nicmodel.offload.parse import (
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_TCP,
    IPPROTO_UDP,
    parse,
)

LONGEST = 1000
"""Characters of an expression."""

DEEPEST = 20
"""Parentheses and negations inside of each other."""

_ARP = 0x0806


class Seen:
    """A frame as rules see it: ``data`` from the destination MAC, the ``number``-th of its way."""

    def __init__(self, data: bytes | bytearray | memoryview, number: int) -> None:
        self.data = data
        self.number = number

    @cached_property
    def headers(self) -> Headers | None:
        """Its headers, if it has any."""
        return parse(self.data[:HEAD], len(self.data))

    def word(self, offset: int, length: int) -> int:
        """A number in network byte order."""
        return int.from_bytes(self.data[offset : offset + length], "big")


Predicate = Callable[[Seen], bool]


class Kind(Enum):
    """What a field is compared with."""

    NUMBER = "number"
    MAC = "MAC address"
    IPV4 = "IPv4 address"
    IPV6 = "IPv6 address"


Get = Callable[[Seen, Headers], Iterable[int]]


@dataclass(frozen=True, slots=True)
class _Field:
    """``get`` gives the values that a frame has, none if the field is not there."""

    kind: Kind
    get: Get


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _ip(version: int, get: Callable[[Headers], Iterable[bytes]]) -> Get:
    def values(_seen: Seen, headers: Headers) -> Iterable[int]:
        return map(_number, get(headers)) if headers.ip_version == version else ()

    return values


def _l3(version: int, offset: int, length: int) -> Get:
    def values(seen: Seen, headers: Headers) -> Iterable[int]:
        if headers.ip_version != version:
            return ()
        return (seen.word(headers.l3_offset + offset, length),)

    return values


def _proto(version: int) -> Get:
    return lambda _seen, headers: (headers.ip_proto,) if headers.ip_version == version else ()


def _l4(proto: int, get: Get) -> Get:
    def values(seen: Seen, headers: Headers) -> Iterable[int]:
        return get(seen, headers) if headers.l4_offset and headers.ip_proto == proto else ()

    return values


def _tcp_word(offset: int, length: int) -> Get:
    return _l4(IPPROTO_TCP, lambda seen, h: (seen.word(h.l4_offset + offset, length),))


def _flag(mask: int) -> Get:
    return _l4(IPPROTO_TCP, lambda _, h: (int(bool(h.tcp_flags & mask)),))


def _vlan(shift: int, mask: int) -> Get:
    return lambda _, h: () if h.vlan is None else (h.vlan >> shift & mask,)


def _ports(proto: int, name: str) -> dict[str, _Field]:
    return {
        f"{name}.srcport": _Field(Kind.NUMBER, _l4(proto, lambda _, h: (h.sport,))),
        f"{name}.dstport": _Field(Kind.NUMBER, _l4(proto, lambda _, h: (h.dport,))),
        f"{name}.port": _Field(Kind.NUMBER, _l4(proto, lambda _, h: (h.sport, h.dport))),
    }


def _addresses(version: int, name: str, kind: Kind) -> dict[str, _Field]:
    return {
        f"{name}.src": _Field(kind, _ip(version, lambda h: (h.src_ip,))),
        f"{name}.dst": _Field(kind, _ip(version, lambda h: (h.dst_ip,))),
        f"{name}.addr": _Field(kind, _ip(version, lambda h: (h.src_ip, h.dst_ip))),
    }


FIELDS: dict[str, _Field] = {
    "frame.number": _Field(Kind.NUMBER, lambda seen, _: (seen.number,)),
    "frame.len": _Field(Kind.NUMBER, lambda seen, _: (len(seen.data),)),
    "eth.src": _Field(Kind.MAC, lambda _, h: (_number(h.src),)),
    "eth.dst": _Field(Kind.MAC, lambda _, h: (_number(h.dst),)),
    "eth.addr": _Field(Kind.MAC, lambda _, h: (_number(h.src), _number(h.dst))),
    "eth.type": _Field(Kind.NUMBER, lambda seen, _: (seen.word(12, 2),)),
    "vlan.id": _Field(Kind.NUMBER, _vlan(0, 0xFFF)),
    "vlan.priority": _Field(Kind.NUMBER, _vlan(13, 7)),
    **_addresses(4, "ip", Kind.IPV4),
    "ip.proto": _Field(Kind.NUMBER, _proto(4)),
    "ip.id": _Field(Kind.NUMBER, _l3(4, 4, 2)),
    "ip.ttl": _Field(Kind.NUMBER, _l3(4, 8, 1)),
    **_addresses(6, "ipv6", Kind.IPV6),
    "ipv6.nxt": _Field(Kind.NUMBER, _proto(6)),
    **_ports(IPPROTO_TCP, "tcp"),
    "tcp.seq_raw": _Field(Kind.NUMBER, _tcp_word(4, 4)),
    "tcp.ack_raw": _Field(Kind.NUMBER, _tcp_word(8, 4)),
    "tcp.len": _Field(
        Kind.NUMBER, _l4(IPPROTO_TCP, lambda _, h: (h.l3_end - h.l4_offset - h.tcp_header,))
    ),
    "tcp.flags": _Field(Kind.NUMBER, _l4(IPPROTO_TCP, lambda _, h: (h.tcp_flags,))),
    "tcp.flags.fin": _Field(Kind.NUMBER, _flag(0x01)),
    "tcp.flags.syn": _Field(Kind.NUMBER, _flag(0x02)),
    "tcp.flags.reset": _Field(Kind.NUMBER, _flag(0x04)),
    "tcp.flags.push": _Field(Kind.NUMBER, _flag(0x08)),
    "tcp.flags.ack": _Field(Kind.NUMBER, _flag(0x10)),
    **_ports(IPPROTO_UDP, "udp"),
    "udp.length": _Field(
        Kind.NUMBER, _l4(IPPROTO_UDP, lambda seen, h: (seen.word(h.l4_offset + 4, 2),))
    ),
}
"""Fields that can be compared."""

PROTOCOLS: dict[str, Callable[[Headers], bool]] = {
    "eth": lambda _: True,
    "vlan": lambda h: h.vlan is not None,
    "arp": lambda h: h.ethertype == _ARP,
    "ip": lambda h: h.ip_version == 4,
    "ipv6": lambda h: h.ip_version == 6,
    "icmp": lambda h: bool(h.ip_version == 4 and h.ip_proto == IPPROTO_ICMP),
    "icmpv6": lambda h: bool(h.ip_version == 6 and h.ip_proto == IPPROTO_ICMPV6),
    "tcp": lambda h: bool(h.l4_offset and h.ip_proto == IPPROTO_TCP),
    "udp": lambda h: bool(h.l4_offset and h.ip_proto == IPPROTO_UDP),
}
"""Protocols that a frame has or has not."""

_TOKEN = re.compile(r"\s*(?:(&&|\|\||[=!<>]=|[<>()!{},])|([A-Za-z0-9_.:/]+)|(\S))")
_RELATIONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_MOST = 1 << 128


def compile_match(text: str) -> Predicate:
    """The predicate that ``text`` describes. Raises UserError of one sentence."""
    if len(text) > LONGEST:
        raise UserError(f"an expression has at most {LONGEST} characters")
    return _Parser(text).whole()


class _Parser:
    """Recursive descent over tokens: or, and, not, test."""

    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        for sign, word, other in _TOKEN.findall(text):
            if other:
                raise UserError(f"{other!r} means nothing in an expression")
            self._tokens.append(sign or _RELATIONS.get(word, word))
        self._at = 0
        self._depth = 0

    def whole(self) -> Predicate:
        test = self._any()
        if self._next():
            raise UserError(f"what is {self._next()!r} for? join tests with 'and' or 'or'")
        return test

    def _next(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self, *wanted: str) -> bool:
        if self._next() in wanted:
            self._at += 1
            return True
        return False

    def _any(self) -> Predicate:
        tests = [self._all()]
        while self._take("or", "||"):
            tests.append(self._all())
        return tests[0] if len(tests) == 1 else lambda seen: any(test(seen) for test in tests)

    def _all(self) -> Predicate:
        tests = [self._not()]
        while self._take("and", "&&"):
            tests.append(self._not())
        return tests[0] if len(tests) == 1 else lambda seen: all(test(seen) for test in tests)

    def _not(self) -> Predicate:
        if self._take("not", "!"):
            with_out = self._nested(self._not)
            return lambda seen: not with_out(seen)
        if self._take("("):
            inner = self._nested(self._any)
            self._expect(")")
            return inner
        return self._test()

    def _nested(self, part: Callable[[], Predicate]) -> Predicate:
        self._depth += 1
        if self._depth > DEEPEST:
            raise UserError(f"an expression is nested at most {DEEPEST} deep")
        inner = part()
        self._depth -= 1
        return inner

    def _expect(self, sign: str) -> None:
        if not self._take(sign):
            found = f"instead of {self._next()!r}" if self._next() else "at the end"
            raise UserError(f"{sign!r} is missing {found}")

    def _test(self) -> Predicate:
        name = self._next()
        if not name or not name[0].isalpha():
            found = f"instead of {name!r}" if name else "at the end"
            raise UserError(f"a field or protocol like tcp.dstport or arp is missing {found}")
        check_known("expression", name, (*PROTOCOLS, *FIELDS))
        self._at += 1
        has = PROTOCOLS.get(name)
        if has is not None:
            return _there(has)
        field = FIELDS[name]
        if self._take("in"):
            return _compare(field, self._set(name, field.kind))
        for sign in ("==", "!=", "<", "<=", ">", ">="):
            if self._take(sign):
                return self._relation(name, field, sign)
        return _compare(field, [(0, _MOST)])

    def _relation(self, name: str, field: _Field, sign: str) -> Predicate:
        low, high = self._value(name, field.kind)
        if sign == "==":
            return _compare(field, [(low, high)])
        if sign == "!=":
            same, there = _compare(field, [(low, high)]), _compare(field, [(0, _MOST)])
            return lambda seen: there(seen) and not same(seen)
        if field.kind is not Kind.NUMBER:
            raise UserError(f"{name} has no order; compare it with == or !=")
        spans = {"<": (0, low - 1), "<=": (0, low), ">": (low + 1, _MOST), ">=": (low, _MOST)}
        return _compare(field, [spans[sign]])

    def _set(self, name: str, kind: Kind) -> list[tuple[int, int]]:
        self._expect("{")
        spans = [self._value(name, kind, spans=True)]
        while self._take(","):
            spans.append(self._value(name, kind, spans=True))
        self._expect("}")
        return spans

    def _value(self, name: str, kind: Kind, *, spans: bool = False) -> tuple[int, int]:
        """First and last number that a value stands for."""
        text = self._next()
        self._at += 1
        try:
            if spans and kind is Kind.NUMBER and ".." in text:
                first, _, last = text.partition("..")
                return int(first, 0), int(last, 0)
            return _VALUES[kind](text)
        except (ValueError, AddressValueError):
            shown = repr(text) if text else "nothing"
            raise UserError(f"{name} is compared with a {kind.value}, not with {shown}") from None


def _one(number: int) -> tuple[int, int]:
    return number, number


def _mac(text: str) -> tuple[int, int]:
    if not re.fullmatch(r"([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}", text):
        raise ValueError
    return _one(int(text.replace(":", ""), 16))


def _net(net: IPv4Network | IPv6Network) -> tuple[int, int]:
    return int(net.network_address), int(net.broadcast_address)


_VALUES: dict[Kind, Callable[[str], tuple[int, int]]] = {
    Kind.NUMBER: lambda text: _one(int(text, 0)),
    Kind.MAC: _mac,
    Kind.IPV4: lambda text: (
        _net(IPv4Network(text, strict=False)) if "/" in text else _one(int(IPv4Address(text)))
    ),
    Kind.IPV6: lambda text: (
        _net(IPv6Network(text, strict=False)) if "/" in text else _one(int(IPv6Address(text)))
    ),
}


def _there(has: Callable[[Headers], bool]) -> Predicate:
    return lambda seen: seen.headers is not None and has(seen.headers)


def _compare(field: _Field, spans: list[tuple[int, int]]) -> Predicate:
    get = field.get

    def test(seen: Seen) -> bool:
        headers = seen.headers
        if headers is None:
            return False
        return any(low <= value <= high for value in get(seen, headers) for low, high in spans)

    return test
