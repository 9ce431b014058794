# SPDX-License-Identifier: GPL-2.0-or-later
"""Events that complete the story of an encrypted packet: resync before, completion behind it."""

from nicmodel.offload.tls.cipher import RecordCipher
from nicmodel.offload.tls.record import Buffer
from nicmodel.queues.events import TlsTxBegun, TlsTxCompleted
from nicmodel.queues.tls_watch import TlsListener, Use
from nicmodel.spec.tls import TlsStaticParams
from nicmodel.trace.tracer import Tracer


class TlsTale(TlsListener):
    """Tells ``tracer``; of completions only those that a packet of a context waits for."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._numbers: dict[int, int] = {}
        self._waiting: set[int] = set()

    def static_params(self, use: Use, params: TlsStaticParams, cipher: RecordCipher) -> None:
        """See ``TlsListener``."""
        self._numbers[use.tisn] = params.initial_record_number

    def progress_params(self, use: Use) -> None:
        """See ``TlsListener``."""
        self._tracer.emit(TlsTxBegun(use.sqn, use.wqe, use.tisn, self._numbers[use.tisn]))

    def dump(self, use: Use, octets: int) -> None:
        """See ``TlsListener``."""

    def send(self, use: Use, header: Buffer, octets: int) -> None:
        """See ``TlsListener``."""
        self._waiting.add(use.sqn)

    def tis_destroyed(self, tisn: int) -> None:
        """See ``TlsListener``."""
        self._numbers.pop(tisn, None)

    def completed(self, sqn: int, wqe: int) -> None:
        """A send queue has completed a WQE, and all before it."""
        if sqn in self._waiting:
            self._waiting.remove(sqn)
            self._tracer.emit(TlsTxCompleted(sqn, wqe))
