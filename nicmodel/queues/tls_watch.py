# SPDX-License-Identifier: GPL-2.0-or-later
"""What the transmit engine tells those who watch it; if nobody watches, it costs nothing.

A watcher is told what happens, in the order in which it happens, and can change nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from nicmodel.offload.tls.cipher import RecordCipher
from nicmodel.offload.tls.record import Buffer
from nicmodel.offload.tls.stream import Record
from nicmodel.spec.tls import TlsStaticParams


@dataclass(frozen=True, slots=True)
class Use:
    """Work on context ``tisn``: the WQE of queue ``sqn`` whose first WQEBB has index ``wqe``.

    ``wqe`` counts as the driver counts, 16 bit without the mask of the ring.
    """

    sqn: int
    wqe: int
    tisn: int


class TlsListener(Protocol):
    """Hears which contexts of one NIC's transmit engine are used for which packets."""

    def static_params(self, use: Use, params: TlsStaticParams, cipher: RecordCipher) -> None:
        """A UMR gave the context new static parameters; ``cipher`` has a digest of the key."""

    def progress_params(self, use: Use) -> None:
        """A SET_PSV made the context expect the first byte of its initial record."""

    def dump(self, use: Use, octets: int) -> None:
        """``octets`` bytes of a DUMP are about to move the context; they are not sent."""

    def send(self, use: Use, header: Buffer, octets: int) -> None:
        """A SEND or LSO is about to be encrypted: ``octets`` of payload behind ``header``.

        ``header``: from Ethernet up to the payload, as posted.
        """

    def tis_destroyed(self, tisn: int) -> None:
        """A TIS with TLS is no more."""


class TlsWatch(TlsListener, Protocol):
    """Watches all that the transmit engine of one NIC does.

    A packet is told in three steps: ``send`` before its data have passed, ``passed`` after it, and
    then it goes to the port (or its WQE has failed). Of a DUMP the last step is missing. The data
    of packets in a row are encrypted together, before the first of them is told.
    """

    def passed(
        self, use: Use, data: Buffer, records: Sequence[Record], unfinished: Record | None
    ) -> None:
        """The data of the SEND, LSO or DUMP ``use`` have passed the context.

        ``data``: what went in, of all packets of the row, to be read at once. ``records`` ended in
        this one; they keep their ciphertext by reference, as does ``unfinished``, what there is of
        the record in progress behind it (all of it if it ends in the row; it may be missing or have
        no nonce before header and nonce are complete).
        """

    def gave_up(self, use: Use, record: Record) -> None:
        """New progress parameters came, or the context's end, before this record was complete."""

    def refused(self, use: Use, reason: str) -> None:
        """A WQE cannot use the context: it fails, ``reason`` is that of its error."""

    def dek_destroyed(self, dekn: int) -> None:
        """A key object is no more; what was posted before may still want it."""
