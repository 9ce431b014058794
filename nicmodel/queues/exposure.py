# SPDX-License-Identifier: GPL-2.0-or-later
"""What a card keeps to itself and a user may want to see: traffic in clear, and the keys."""

from collections.abc import Callable
from dataclasses import dataclass

from nicmodel.frame import Frame, Origin, RecordPart, Traffic
from nicmodel.objects.store import Objects
from nicmodel.queues.datapath import Datapath
from nicmodel.queues.keylog import KeyLog, TellKey
from nicmodel.queues.tls_rx import Received
from nicmodel.queues.tls_tale import TlsTale
from nicmodel.spec.cqe import TlsOffload
from nicmodel.trace.tracer import Tracer
from nicmodel.wire.keyfile import FlowKey
from nicmodel.wire.port import Way

Handed = Callable[[Way, Traffic], None]
"""Takes what the host gets, with ``Way.IN``."""

_VERDICTS = {
    TlsOffload.RAW: "not decrypted",
    TlsOffload.DECRYPTED: "decrypted",
    TlsOffload.RESYNC: "not decrypted, resync asked for",
    TlsOffload.ERROR: "does not authenticate",
}


@dataclass(slots=True)
class Exposure:
    """Who wants to see what of the NIC named ``nic``.

    ``origins``: what is sent says where it is from, and events say what was done before and behind
    it. ``handed`` see what the host gets, ``keys`` are told of each key that a connection uses.
    What is set before a life of the device begins holds for it; nothing of it costs anything while
    nobody wants it.
    """

    nic: str
    tracer: Tracer
    origins: bool = False
    handed: tuple[Handed, ...] = ()
    keys: tuple[TellKey, ...] = ()

    def begin(self, datapath: Datapath, objects: Objects) -> None:
        """A life of the device begins."""
        datapath.tls_tx.origins = self.origins
        if self.origins:
            tale = TlsTale(self.tracer)
            datapath.tls_tx.listeners += (tale,)
            datapath.completes = tale.completed
        if self.handed:
            datapath.receiver.handed = self._hand
            datapath.tls_rx.watches += (self._received,)
        if self.keys:
            log = KeyLog(self.nic, self._tell, objects)
            datapath.tls_tx.listeners += (log,)
            datapath.tls_rx.watches += (log.received,)
            datapath.tls_rx.begun = log.begun

    def _tell(self, key: FlowKey) -> None:
        for tell in self.keys:
            tell(key)

    def _hand(self, traffic: Traffic) -> None:
        for handed in self.handed:
            handed(Way.IN, traffic)

    def _received(self, received: Received) -> None:
        """A frame reached a TIR with TLS."""
        numbers = [record.number for record in received.records]
        if received.verdict is TlsOffload.DECRYPTED and received.number is not None:
            numbers.append(received.number)
        parts = tuple(RecordPart(number, 0, 1) for number in numbers)
        verdict = _VERDICTS[received.verdict]
        origin = Origin("RQ", None, None, received.tirn, parts, verdict, 0, 1)
        self._hand(Frame(bytes(received.clear), origin=origin))
