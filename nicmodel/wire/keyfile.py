# SPDX-License-Identifier: GPL-2.0-or-later
"""A file of TLS traffic keys beside a capture, for who wants to read what is encrypted there.

One JSON object a line, one line for each key that a connection got::

    {"nic": "a", "direction": "out", "protocol": 6, "src": "10.77.0.1", "sport": 40000,
     "dst": "10.77.0.2", "dport": 443, "time": 1700000000123456789, "version": "1.2",
     "cipher": "AES-128-GCM", "key": "00112233445566778899aabbccddeeff", "salt": "01020304",
     "record": 0, "seq": 123456789, "context": 3, "dek": 7}

``direction``: does the NIC encrypt (out) or decrypt (in)? Addresses are those of the packets of
that direction. ``time`` (ns since 1970) is when the first of them was seen, ``record`` (64 bit)
the number of the record that begins at TCP sequence number ``seq``. ``salt``: the part of the
nonce that is not in the records, 4 bytes, 12 for TLS 1.3. ``context`` is the TIS (out) or TIR
(in), ``dek`` the key object. From these keys the master secret of a handshake cannot be computed,
so no key log for other tools can be made of them.

A line for SMT has the IP protocol of its variant: 253 is A, 146 is B. Whoever encrypts in software
writes it himself (``smt_keys``), so it may be as short as::

    {"protocol": 253, "src": "10.77.0.1", "dst": "10.77.0.2", "dport": 4000,
     "key": "00112233445566778899aabbccddeeff", "salt": "01020304"}

The ports may be left out, or 0, which is any; ``cipher`` is AES-128-GCM if it is not said.
"""

import json
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self

from nicmodel.entry import Entry
from nicmodel.errors import UserError
from nicmodel.spec.smt import SmtProtocol
from nicmodel.spec.tls import TlsVersion
from nicmodel.trace.tracer import Tracer
from nicmodel.wire.events import CaptureStopped
from nicmodel.wire.port import Way

_VERSIONS = {"1.2": TlsVersion.TLS_1_2, "1.3": TlsVersion.TLS_1_3}
SALT = {TlsVersion.TLS_1_2: 4, TlsVersion.TLS_1_3: 12}
"""Bytes of ``FlowKey.salt``."""

_CIPHERS = {"AES-128-GCM": 16, "AES-256-GCM": 32}
_WAYS = {"out": Way.OUT, "in": Way.IN}
_SMT_DEFAULTS = {
    "nic": "software",
    "direction": "out",
    "sport": 0,
    "dport": 0,
    "version": "1.2",
    "cipher": "AES-128-GCM",
    "record": 0,
    "seq": 0,
    "context": 0,
    "dek": 0,
    "time": 0,
}
_LONGEST = 1 << 16
"""Bytes of a line at most."""


@dataclass(frozen=True, slots=True)
class Flow:
    """Packets of one direction; addresses have 4 or 16 bytes."""

    protocol: int
    src: bytes
    sport: int
    dst: bytes
    dport: int

    def __str__(self) -> str:
        return f"{_end(self.src, self.sport)} > {_end(self.dst, self.dport)}"

    def reversed(self) -> "Flow":
        """Packets of the other direction."""
        return Flow(self.protocol, self.dst, self.dport, self.src, self.sport)


@dataclass(frozen=True, slots=True)
class FlowKey:
    """One line; what the fields mean stands above."""

    nic: str
    way: Way
    flow: Flow
    version: TlsVersion
    key: bytes = field(repr=False)
    salt: bytes
    record: int
    seq: int
    context: int
    dek: int
    time: int = 0

    def line(self) -> str:
        """The line, with its end."""
        flow = self.flow
        values = {
            "nic": self.nic,
            "direction": _word(_WAYS, self.way),
            "protocol": flow.protocol,
            "src": str(ip_address(flow.src)),
            "sport": flow.sport,
            "dst": str(ip_address(flow.dst)),
            "dport": flow.dport,
            "time": self.time,
            "version": _word(_VERSIONS, self.version),
            "cipher": _word(_CIPHERS, len(self.key)),
            "key": self.key.hex(),
            "salt": self.salt.hex(),
            "record": self.record,
            "seq": self.seq,
            "context": self.context,
            "dek": self.dek,
        }
        return json.dumps(values) + "\n"

    @classmethod
    def of_line(cls, line: str, place: str) -> Self:
        """Read a line; ``place`` names it to the user. Raises UserError."""
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{place} is not JSON: {error}") from error
        if not isinstance(values, dict):
            raise UserError(f"{place} is no JSON object")
        if values.get("protocol") in list(SmtProtocol):
            values = _SMT_DEFAULTS | values
        entry = Entry(place, values)
        version = _VERSIONS[entry.known("version", _VERSIONS)]
        key_size = _CIPHERS[entry.known("cipher", _CIPHERS)]
        flow = Flow(
            _whole(entry, "protocol", 8),
            _address(entry, "src"),
            _whole(entry, "sport", 16),
            _address(entry, "dst"),
            _whole(entry, "dport", 16),
        )
        return cls(
            entry.text("nic"),
            _WAYS[entry.known("direction", _WAYS)],
            flow,
            version,
            _hex(entry, "key", key_size),
            _hex(entry, "salt", SALT[version]),
            _whole(entry, "record", 64),
            _whole(entry, "seq", 32),
            _whole(entry, "context", 24),
            _whole(entry, "dek", 32),
            _whole(entry, "time", 64),
        )


class KeyFile:
    """A new file of keys that only its owner can read; what was there before is gone.

    ``clock`` gives ns since 1970. When the file cannot be written it stops with one event. Raises
    UserError when it cannot be created.
    """

    def __init__(self, path: Path, clock: Callable[[], int], tracer: Tracer) -> None:
        self._path = path
        self._clock = clock
        self._tracer = tracer
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            if stat.S_ISREG(os.fstat(fd).st_mode):
                os.fchmod(fd, 0o600)  # it may have been there
        except OSError as error:
            raise UserError(f"cannot create key file {path}: {error.strerror}") from error
        self._file = os.fdopen(fd, "w", buffering=1)

    def add(self, key: FlowKey) -> None:
        """Add a line, with the time; it is in the file when this returns."""
        if self._file.closed:
            return
        try:
            self._file.write(replace(key, time=self._clock()).line())
        except OSError as error:
            self.close()
            self._tracer.emit(CaptureStopped(str(self._path), error.strerror or str(error)))

    def close(self) -> None:
        """Close it."""
        with suppress(OSError):  # a line that did not fit
            self._file.close()


def read_keys(path: Path) -> list[FlowKey]:
    """Read all lines of a key file. Raises UserError that names file and line."""
    try:
        text = path.read_text()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no key file: it is not text") from error
    return [
        FlowKey.of_line(line, f"{path}, line {number}")
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip()
    ]


def _end(address: bytes, port: int) -> str:
    text = str(ip_address(address))
    return f"[{text}]:{port}" if len(address) == 16 else f"{text}:{port}"


def _word(words: dict[str, Any], meaning: object) -> str:
    return next(word for word, value in words.items() if value == meaning)


def _whole(entry: Entry, key: str, size: int) -> int:
    """A number of ``size`` bits."""
    if key not in entry.values:
        raise UserError(f"{entry.place}: {key} is missing")
    value = entry.whole(key, 0)
    if not 0 <= value < 1 << size:
        raise entry.fault(key, f"{value} does not fit into {size} bits")
    return value


def _hex(entry: Entry, key: str, size: int) -> bytes:
    """``size`` bytes."""
    try:
        value = bytes.fromhex(entry.text(key))
    except ValueError:
        value = b""
    if len(value) != size:
        raise entry.fault(key, f"write {size} bytes in hexadecimal")
    return value


def _address(entry: Entry, key: str) -> bytes:
    try:
        return ip_address(entry.text(key)).packed
    except ValueError as error:
        raise entry.fault(key, str(error)) from error
