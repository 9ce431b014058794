# SPDX-License-Identifier: GPL-2.0-or-later
"""AES-GCM with the key and nonce of one TLS context."""

from hashlib import sha256

from cryptography.hazmat.primitives.ciphers import (
    AEADDecryptionContext,
    AEADEncryptionContext,
    Cipher,
    algorithms,
    modes,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from nicmodel.spec.tls import TlsVersion


def key_digest(key: bytes) -> bytes:
    """16 bytes that stand for ``key`` wherever keys are compared or named; not invertible."""
    return sha256(b"nicmodel key" + key).digest()[:16]


class RecordCipher:
    """How the records of one context are protected.

    ``key`` has 16 or 32 bytes, ``iv`` 12: ``gcm_iv`` and ``implicit_iv`` of the static parameters.
    ``aead`` does whole records; ``encryptor`` and ``decryptor`` take a record's text piece by piece
    and cost three times as much to begin. The key is not kept in a form that can be printed.
    """

    __slots__ = ("_aes", "aead", "digest", "iv", "version")

    def __init__(self, version: TlsVersion, key: bytes, iv: bytes) -> None:
        self.version = version
        self.iv = iv
        self.digest = key_digest(key)
        self.aead = AESGCM(key)
        self._aes = algorithms.AES(key)

    def encryptor(self, nonce: bytes, aad: bytes) -> AEADEncryptionContext:
        """A context that encrypts one record."""
        context = Cipher(self._aes, modes.GCM(nonce)).encryptor()
        context.authenticate_additional_data(aad)
        return context

    def decryptor(self, nonce: bytes, aad: bytes) -> AEADDecryptionContext:
        """A context that decrypts one record; end it with ``finalize_with_tag``."""
        context = Cipher(self._aes, modes.GCM(nonce)).decryptor()
        context.authenticate_additional_data(aad)
        return context
