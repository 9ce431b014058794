# SPDX-License-Identifier: GPL-2.0-or-later
"""What a TLS record looks like, and the nonce and associated data that it is protected with.

Sources: RFC 5246 (6.2.1), RFC 5288 (3) and ``include/net/tls.h`` for TLS 1.2, RFC 8446 (5.2, 5.3)
for TLS 1.3. A record is a header of 5 bytes, in TLS 1.2 an explicit nonce of 8, then the text and
the tag of 16; ``length`` of the header counts all that follows it.
"""

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


def prefix_length(version: TlsVersion) -> int:
    """Bytes before the text: the header and what the record carries of the nonce."""
    return HEADER + EXPLICIT_NONCE if version is TlsVersion.TLS_1_2 else HEADER


def next_number(number: int) -> int:
    """The record number after ``number``, 64 bit."""
    return number + 1 & _NUMBER_MASK


def make_nonce(version: TlsVersion, iv: bytes, number: int, prefix: Buffer) -> bytes:
    """The 12 bytes of nonce of record ``number``.

    ``iv`` has 12 bytes, of which TLS 1.2 uses the first 4, the salt; the rest is what the record
    carries, which need not be its number (RFC 5288). ``prefix``: as ``prefix_length`` has it.
    """
    if version is TlsVersion.TLS_1_2:
        return iv[:4] + bytes(prefix[HEADER : HEADER + EXPLICIT_NONCE])
    return (int.from_bytes(iv, "big") ^ number).to_bytes(12, "big")


def make_aad(version: TlsVersion, number: int, prefix: Buffer, text: int) -> bytes:
    """Associated data of record ``number`` with ``text`` bytes between nonce and tag."""
    if version is TlsVersion.TLS_1_2:
        return _AAD.pack(number, bytes(prefix[:3]), text)
    return bytes(prefix[:HEADER])
