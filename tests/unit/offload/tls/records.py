# SPDX-License-Identifier: GPL-2.0-or-later
"""TLS records made and opened without the code under test, by RFC 5288 and RFC 8446 alone."""

import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

APPLICATION_DATA, ALERT, HANDSHAKE = 23, 21, 22


def plain12(text: bytes, explicit: bytes, kind: int = APPLICATION_DATA) -> bytes:
    """A TLS 1.2 record as the kernel leaves it to the card: a placeholder where the tag goes."""
    header = struct.pack(">BHH", kind, 0x0303, 8 + len(text) + 16)
    return header + explicit + text + b"\xee" * 16


def plain13(text: bytes, kind: int = APPLICATION_DATA) -> bytes:
    """The same for TLS 1.3, whose text ends with the content type."""
    inner = text + bytes((kind,))
    return struct.pack(">BHH", APPLICATION_DATA, 0x0303, len(inner) + 16) + inner + b"\xee" * 16


def sealed12(key: bytes, salt: bytes, number: int, plain: bytes) -> bytes:
    """What must leave the card for ``plain``, one record of ``plain12``."""
    text = plain[13:-16]
    aad = struct.pack(">Q", number) + plain[:3] + struct.pack(">H", len(text))
    return plain[:13] + AESGCM(key).encrypt(salt + plain[5:13], text, aad)


def sealed13(key: bytes, iv: bytes, number: int, plain: bytes) -> bytes:
    """The same for a record of ``plain13``."""
    nonce = bytes(a ^ b for a, b in zip(iv, number.to_bytes(12, "big"), strict=True))
    return plain[:5] + AESGCM(key).encrypt(nonce, plain[5:-16], plain[:5])


def opened12(key: bytes, salt: bytes, first: int, stream: bytes) -> list[bytes]:
    """The texts of all records of a TLS 1.2 stream; raises InvalidTag for one that is not right."""
    texts: list[bytes] = []
    while stream:
        (length,) = struct.unpack_from(">H", stream, 3)
        aad = struct.pack(">Q", first + len(texts)) + stream[:3] + struct.pack(">H", length - 24)
        body = stream[13 : 5 + length]
        texts.append(AESGCM(key).decrypt(salt + stream[5:13], body, aad))
        stream = stream[5 + length :]
    return texts
