# SPDX-License-Identifier: GPL-2.0-or-later
"""What the transmit engine tells those who watch it (``TlsWatch``); nobody watches, no cost.

A watcher is told what happens, in the order in which it happens, and can change nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Use:
    """Work on context ``tisn``: the WQE of queue ``sqn`` whose first WQEBB has index ``wqe``.

    ``wqe`` counts as the driver counts, 16 bit without the mask of the ring.
    """

    sqn: int
    wqe: int
    tisn: int


@dataclass(frozen=True, slots=True)
class StaticParams:
    """What static parameters make of a context.

    ``dek``: number of the key object. ``key``: digest of the key, never the key itself; empty if
    there is no such object. ``version``: 0x0303 or 0x0304. ``iv``: the part of the nonce that is
    not in the stream: 4 bytes of salt, or the 12 bytes of TLS 1.3. ``authentic`` says of nonce (12
    bytes), AAD, and ciphertext with its tag whether they are genuine under the key.
    """

    dek: int
    key: bytes
    version: int
    iv: bytes
    initial_record_number: int
    authentic: Callable[[bytes, bytes, bytes], bool]


@dataclass(slots=True)
class Record:
    """A record that a context encrypts, from when its nonce is known.

    ``number`` is the context's record number, 64 bit. ``nonce`` has 12 bytes, of which TLS 1.2 has
    read the last 8 in the stream. ``length`` is that of plaintext, bytes. ``clear`` and ``sealed``
    are what went in and came out so far, without header, explicit nonce and tag: by reference,
    nobody changes them later. ``placeholder`` is what stood in the place of the tag, as far as it
    was seen; ``tag`` is None until the record is complete.
    """

    number: int
    content_type: int
    nonce: bytes
    aad: bytes
    length: int
    clear: list[Buffer] = field(default_factory=list)
    sealed: list[Buffer] = field(default_factory=list)
    placeholder: bytes = b""
    tag: bytes | None = None


class TlsWatch(Protocol):
    """Watches the contexts of one NIC's transmit engine, in one life of the device."""

    def static_params(self, use: Use, params: StaticParams) -> None:
        """A UMR gave the context new static parameters."""

    def progress_params(self, use: Use) -> None:
        """A SET_PSV made the context expect the first byte of its initial record."""

    def dump(self, use: Use, octets: int) -> None:
        """A DUMP with ``octets`` bytes is about to move the context; nothing is sent."""

    def send(self, use: Use, header: Buffer, octets: int) -> None:
        """A SEND or LSO is about to be encrypted.

        ``header``: from Ethernet up to the payload, as posted; ``octets`` of payload follow. What
        reaches the port next is this packet, or the WQE has failed.
        """

    def record_begins(self, use: Use, record: Record) -> None:
        """Header and nonce of a record have passed; from here on the context encrypts."""

    def record_ends(self, use: Use, record: Record) -> None:
        """The last byte of the tag has passed (``tag`` is there), or the record was given up.

        Given up: new parameters, or the end of the context, came first (``tag`` is None).
        """

    def refused(self, use: Use, reason: str) -> None:
        """A WQE cannot use the context: it fails, ``reason`` is that of its error."""

    def tis_destroyed(self, tisn: int) -> None:
        """A TIS with TLS is no more."""

    def dek_destroyed(self, dek: int) -> None:
        """A key object is no more; what was posted before may still want it."""
