# SPDX-License-Identifier: GPL-2.0-or-later
"""What a TLS record looks like, and the nonce and associated data that it is protected with.

Sources: RFC 5246 (6.2.1), RFC 5288 (3) and ``include/net/tls.h`` for TLS 1.2, RFC 8446 (5.2, 5.3)
for TLS 1.3. A record is a header of 5 bytes, in TLS 1.2 an explicit nonce of 8, then the text and
the tag of 16; ``length`` of the header counts all that follows it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct

from nicmodel.spec.tls import TlsVersion

Buffer = bytes | bytearray | memoryview

HEADER = 5
"""Bytes of type, version and length."""

TAG = 16
"""Bytes of the tag."""

EXPLICIT_NONCE = 8
"""Bytes of the nonce that a TLS 1.2 record carries behind its header."""

MAX_PLAINTEXT = 1 << 14
"""Most bytes that a record may protect (RFC 8446, 5.1)."""

CONTENT_TYPES = range(20, 24)
"""Content types: change_cipher_spec, alert, handshake, application_data."""

_HEADER = Struct(">BHH")
_AAD = Struct(">Q3sH")
_NUMBER_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class RecordHeader:
    """The first 5 bytes. ``version`` is 0x0303 for TLS 1.2 and 1.3; ``length`` is unchecked."""

    type: int
    version: int
    length: int

    @classmethod
    def parse(cls, data: Buffer, at: int = 0) -> "RecordHeader":
        """Read the header at ``at``; ``HEADER`` bytes must be there."""
        return cls(*_HEADER.unpack_from(data, at))


def next_number(number: int) -> int:
    """The record number after ``number``, 64 bit."""
    return number + 1 & _NUMBER_MASK


@dataclass(frozen=True, slots=True)
class RecordFormat:
    """What differs between versions of TLS.

    ``prefix``: bytes before the text, the header and what the record carries of the nonce.
    ``nonce``: the 12 bytes of nonce, of the context's 12 bytes of IV, the record's number and its
    prefix. ``aad``: the associated data, of number, prefix and the number of bytes of text.
    """

    prefix: int
    nonce: Callable[[bytes, int, bytes], bytes]
    aad: Callable[[int, bytes, int], bytes]


def _nonce12(iv: bytes, number: int, prefix: bytes) -> bytes:
    """The salt, and what the record carries, which need not be its number (RFC 5288)."""
    return iv[:4] + prefix[HEADER:]


def _aad12(number: int, prefix: bytes, text: int) -> bytes:
    return _AAD.pack(number, prefix[:3], text)


def _nonce13(iv: bytes, number: int, prefix: bytes) -> bytes:
    return (int.from_bytes(iv, "big") ^ number).to_bytes(12, "big")


def _aad13(number: int, prefix: bytes, text: int) -> bytes:
    return prefix


FORMATS = {
    TlsVersion.TLS_1_2: RecordFormat(HEADER + EXPLICIT_NONCE, _nonce12, _aad12),
    TlsVersion.TLS_1_3: RecordFormat(HEADER, _nonce13, _aad13),
}
"""By version."""


def prefix_length(version: TlsVersion) -> int:
    """Bytes before the text."""
    return FORMATS[version].prefix
