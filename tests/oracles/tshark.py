# SPDX-License-Identifier: GPL-2.0-or-later
"""Ask tshark, which shares no code with the model, about a capture.

The functions raise CaptureUnreadable when tshark cannot read the file, so that a capture that is
not there is not taken for a clean one.
"""

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

_NO_GUESSING = [
    *("-d", "tcp.port==1-65535,data"),
    *("-d", "udp.port==1-65535,data"),
]
"""Payload is payload: tshark would guess its protocol by port number, and call plain test data a
malformed something."""

_CHECK_SUMS = [
    word for protocol in ("ip", "tcp", "udp") for word in ("-o", f"{protocol}.check_checksum:TRUE")
]
"""Off by default; ICMP, ICMPv6 and IGMP are always checked."""

_SUMS = {
    "ip": "ip.checksum.status",
    "tcp": "tcp.checksum.status",
    "udp": "udp.checksum.status",
    "icmp": "icmp.checksum.status",
    "icmpv6": "icmpv6.checksum.status",
    "igmp": "igmp.checksum.status",
}
_BAD = ("0", "4")
"""tshark's words for a checksum that is wrong or may not be 0 (1: right, 2: not checked, 3: not
there)."""

_NONE = "frame.number == 0"
_WRONG_SUM = " || ".join(f"{status} in {{{', '.join(_BAD)}}}" for status in _SUMS.values())
_MALFORMED = (
    "_ws.malformed || _ws.short || _ws.expert.group == malformed"
    " || (_ws.expert.group == protocol && _ws.expert.severity == error)"
)
"""Display filters."""

needs_tshark = pytest.mark.skipif(
    shutil.which("tshark") is None,
    reason="tshark is missing: apt-get install --no-install-recommends tshark",
)


class CaptureUnreadable(Exception):
    """tshark could not read the file to its end."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """One flow by protocol and both ends, with frames and bytes each way."""

    protocol: str
    ends: tuple[str, str]
    frames: tuple[int, int]
    octets: tuple[int, int]


def fields(pcap: Path, *names: str, only: str = "") -> list[tuple[str, ...]]:
    """Return the given fields of each frame that the display filter ``only`` lets pass.

    A field that is not there is empty; of one that is there several times, the values are joined
    with a comma.
    """
    columns = [word for name in names for word in ("-e", name)]
    chosen = ["-Y", only] if only else []
    text = _run(pcap, *chosen, "-T", "fields", "-E", "separator=/t", *columns)
    return [tuple(line.split("\t")) for line in text.splitlines()]


def dissected(
    pcap: Path, port: int, protocol: str, only: str, *names: str
) -> list[tuple[str, ...]]:
    """``fields`` where TCP port ``port`` carries ``protocol`` ("http", "tls").

    TLS is decrypted if the capture has the secrets.
    """
    columns = [word for name in names for word in ("-e", name)]
    # a response whose length is not told would be one only at the end of its connection
    known = ("-d", f"tcp.port=={port},{protocol}", "-o", "http.desegment_body:FALSE")
    wanted = ("-Y", only, "-T", "fields", "-E", "separator=/t", *columns)
    text = _run(pcap, *wanted, known=known)
    return [tuple(line.split("\t")) for line in text.splitlines()]


def frames(pcap: Path, only: str = "") -> int:
    """Return how many frames the display filter lets pass."""
    return len(fields(pcap, "frame.number", only=only))


def faults(pcap: Path, exempt: str = _NONE, unsummed: str = _NONE) -> list[str]:
    """Return what ``malformed`` and ``bad_checksums`` say of a capture, in one reading if nothing.

    Frames that the display filter ``unsummed`` lets pass do not have their checksums judged, those
    of ``exempt`` are not judged at all.
    """
    if not frames(pcap, f"!({exempt}) && ({_MALFORMED} || (!({unsummed}) && ({_WRONG_SUM})))"):
        return []
    return malformed(pcap, exempt) + bad_checksums(pcap, f"({exempt}) || ({unsummed})")


def malformed(pcap: Path, exempt: str = _NONE) -> list[str]:
    """Return one sentence for each frame that no dissector could make sense of.

    That is a header or option that ends outside its frame, or a length that contradicts another.
    Frames that the display filter ``exempt`` lets pass are not judged.
    """
    found = fields(
        pcap,
        "frame.number",
        "frame.protocols",
        "_ws.expert.message",
        only=f"!({exempt}) && ({_MALFORMED})",
    )
    return [f"frame {number} ({protocols}): {why}" for number, protocols, why in found]


def bad_checksums(pcap: Path, exempt: str = _NONE) -> list[str]:
    """Return one sentence for each frame with a wrong checksum, naming the protocol.

    Fragments have their L4 checksum checked where tshark has put them together. Frames that the
    display filter ``exempt`` lets pass are not judged.
    """
    found = fields(pcap, "frame.number", *_SUMS.values(), only=f"!({exempt}) && ({_WRONG_SUM})")
    return [
        f"frame {number}: bad {protocol} checksum"
        for number, *states in found
        for protocol, state in zip(_SUMS, states, strict=True)
        if not set(_BAD).isdisjoint(state.split(","))
    ]


def conversations(pcap: Path, protocol: str = "tcp") -> list[Conversation]:
    """Return the flows of ``tcp`` or ``udp``, in order of their first frame.

    ``frames`` and ``octets`` (whole frames) are from the end that spoke first, then from the other.
    """
    found: dict[str, tuple[tuple[str, str], list[int], list[int]]] = {}
    columns = (
        *(f"{protocol}.stream", "frame.len", "ip.src", "ipv6.src", "ip.dst", "ipv6.dst"),
        *(f"{protocol}.srcport", f"{protocol}.dstport"),
    )
    for stream, length, src, src6, dst, dst6, sport, dport in fields(
        pcap, *columns, only=f"{protocol} && !icmp && !icmpv6"
    ):
        here, there = _end(src or src6, sport), _end(dst or dst6, dport)
        ends, count, octets = found.setdefault(stream, ((here, there), [0, 0], [0, 0]))
        way = 0 if here == ends[0] else 1
        count[way] += 1
        octets[way] += int(length)
    return [
        Conversation(protocol, ends, (count[0], count[1]), (octets[0], octets[1]))
        for ends, count, octets in found.values()
    ]


def _end(address: str, port: str) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _run(pcap: Path, *arguments: str, known: Sequence[str] = _NO_GUESSING) -> str:
    done = subprocess.run(
        ["tshark", "-n", "-r", str(pcap), *known, *_CHECK_SUMS, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        words = [
            line
            for line in done.stderr.splitlines()
            if line and not line.startswith("Running as user")
        ]
        raise CaptureUnreadable(f"{pcap}: {words[-1] if words else 'tshark failed'}")
    return done.stdout
