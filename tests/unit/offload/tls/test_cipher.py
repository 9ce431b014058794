# SPDX-License-Identifier: GPL-2.0-or-later
"""The cipher against published vectors; nonces and associated data against the RFCs."""

import pytest

from nicmodel.offload.tls.cipher import RecordCipher, key_digest
from nicmodel.offload.tls.record import FORMATS, RecordHeader, next_number
from nicmodel.offload.tls.stream import EncryptStream
from nicmodel.spec.tls import TlsVersion

TEXT = bytes.fromhex(
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
)
AAD = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
NONCE = bytes.fromhex("cafebabefacedbaddecaf888")
VECTORS = {
    # McGrew, Viega: The Galois/Counter Mode of Operation, test cases 4 and 16
    "feffe9928665731c6d6a8f9467308308": (
        "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
        "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091",
        "5bc94fbc3221a5db94fae95ae7121a47",
    ),
    "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308": (
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
        "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
        "76fc6ece0f4e1768cddf8853bb2d551b",
    ),
}


@pytest.mark.parametrize("key", VECTORS)
def test_gcm_vectors_at_once_and_in_pieces(key: str) -> None:
    text, tag = (bytes.fromhex(part) for part in VECTORS[key])
    cipher = RecordCipher(TlsVersion.TLS_1_2, bytes.fromhex(key), bytes(12))
    out = bytearray(len(TEXT) + 16)
    cipher.aead.encrypt_into(NONCE, TEXT, AAD, out)
    assert out == text + tag
    encryptor = cipher.encryptor(NONCE, AAD)
    assert encryptor.update(TEXT[:17]) + encryptor.update(TEXT[17:]) == text
    encryptor.finalize()
    assert encryptor.tag == tag
    decryptor = cipher.decryptor(NONCE, AAD)
    assert decryptor.update(text) == TEXT
    decryptor.finalize_with_tag(tag)


def test_a_record_of_a_published_tls13_session() -> None:
    """RFC 8448, 3: the client's application data, 50 bytes 00..31, and its alert after it."""
    key = bytes.fromhex("17422dda596ed5d9acd890e3c63f5051")
    iv = bytes.fromhex("5b78923dee08579033e523d9")
    cipher = RecordCipher(TlsVersion.TLS_1_3, key, iv)
    data = bytes.fromhex("1703030043") + bytes(range(50)) + b"\x17" + bytes(16)
    alert = bytes.fromhex("1703030013") + b"\x01\x00" + b"\x15" + bytes(16)
    out = bytearray(len(data + alert))
    EncryptStream(cipher, 0).run(data + alert, out)
    assert out.hex() == (
        "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a"
        "20441e2b62974e1f5a6292a2977014bd1e3deae63aeebb21694915e4"
        "1703030013c9872760655666b74d7ff1153efd6db6d0b0e3"
    )


def test_nonce_and_associated_data() -> None:
    iv = bytes.fromhex("a0a1a2a3b0b1b2b3b4b5b6b7")
    prefix = bytes.fromhex("17030300301122334455667788")
    tls12, tls13 = FORMATS[TlsVersion.TLS_1_2], FORMATS[TlsVersion.TLS_1_3]
    assert tls12.nonce(iv, 9, prefix) == iv[:4] + prefix[5:]
    # RFC 8446, 5.3: the number is XORed into the right end
    assert tls13.nonce(iv, 0x109, prefix[:5]) == iv[:10] + bytes((0xB7, 0xBE))
    assert tls12.aad(9, prefix, 24).hex() == "00000000000000091703030018"
    assert tls13.aad(9, prefix[:5], 24).hex() == "1703030030"
    assert RecordHeader.parse(b"x" + prefix, 1) == RecordHeader(23, 0x0303, 0x30)
    assert next_number((1 << 64) - 1) == 0


def test_digests_differ_as_keys_do() -> None:
    assert key_digest(bytes(16)) != key_digest(bytes(32))
    assert key_digest(bytes(16)) == RecordCipher(TlsVersion.TLS_1_2, bytes(16), bytes(12)).digest
    assert bytes(16) not in key_digest(bytes(16))
