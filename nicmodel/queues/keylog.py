# SPDX-License-Identifier: GPL-2.0-or-later
"""Which connection uses which TLS key."""

from collections.abc import Callable
from dataclasses import dataclass, field
from struct import Struct

from nicmodel.objects.store import Objects
from nicmodel.offload.parse import parse
from nicmodel.offload.tls.cipher import RecordCipher
from nicmodel.offload.tls.record import Buffer
from nicmodel.queues.tls_rx import Begun, Received
from nicmodel.queues.tls_watch import TlsListener, Use
from nicmodel.spec.tls import TlsStaticParams, TlsVersion
from nicmodel.units import Dekn
from nicmodel.wire.keyfile import SALT, Flow, FlowKey
from nicmodel.wire.port import Way

TellKey = Callable[[FlowKey], None]

_SEQ = Struct(">HHI")
"""How a TCP header begins, and that of protocols with a TCP-shaped one: ports, sequence number."""


@dataclass(slots=True)
class _Start:
    """A context that begins; its first packet says which connection it is for."""

    params: TlsStaticParams
    key: bytes = field(repr=False)
    octets: int = 0
    """Of records that began before the first packet and that a DUMP has passed."""

    def flow_key(
        self, nic: str, way: Way, header: Buffer, context: int, seq: int | None = None
    ) -> FlowKey | None:
        """The key with the connection that ``header`` is of, whose first record is at ``seq``."""
        headers = parse(header, len(header), sized=False)
        if headers is None or not headers.l4_offset or len(header) < headers.l4_offset + _SEQ.size:
            return None
        params = self.params
        version = TlsVersion(params.tls_version)
        sport, dport, first = _SEQ.unpack_from(header, headers.l4_offset)
        return FlowKey(
            nic,
            way,
            Flow(headers.ip_proto, headers.src_ip, sport, headers.dst_ip, dport),
            version,
            self.key,
            (params.gcm_iv + params.implicit_iv)[: SALT[version]],
            params.initial_record_number,
            (first - self.octets if seq is None else seq) & 0xFFFFFFFF,
            context,
            params.dek_index,
        )


class KeyLog(TlsListener):
    """Tells each key of the NIC named ``nic`` when a connection first uses it.

    Resyncs bring nothing new.
    """

    def __init__(self, nic: str, tell: TellKey, objects: Objects) -> None:
        self._nic = nic
        self._tell = tell
        self._deks = objects.deks
        self._params: dict[int, TlsStaticParams] = {}
        self._starts: dict[int, _Start] = {}
        self._told: dict[int, tuple[Flow, bytes, bytes]] = {}
        self._arriving: dict[int, tuple[_Start, int]] = {}

    def static_params(self, use: Use, params: TlsStaticParams, cipher: RecordCipher) -> None:
        """See ``TlsListener``."""
        self._params[use.tisn] = params

    def progress_params(self, use: Use) -> None:
        """See ``TlsListener``."""
        params = self._params[use.tisn]
        dek = self._deks.find(Dekn(params.dek_index))
        if dek is not None:
            self._starts[use.tisn] = _Start(params, dek.key)

    def dump(self, use: Use, octets: int) -> None:
        """See ``TlsListener``."""
        if start := self._starts.get(use.tisn):
            start.octets += octets

    def send(self, use: Use, header: Buffer, octets: int) -> None:
        """See ``TlsListener``."""
        start = self._starts.pop(use.tisn, None)
        if start is None:
            return
        key = start.flow_key(self._nic, Way.OUT, header, use.tisn)
        if key is not None:
            what = (key.flow, key.key, key.salt)
            if self._told.get(use.tisn) != what:
                self._told[use.tisn] = what
                self._tell(key)

    def tis_destroyed(self, tisn: int) -> None:
        """See ``TlsListener``."""
        for table in (self._params, self._starts, self._told):
            table.pop(tisn, None)

    def begun(self, begun: Begun) -> None:
        """A receive context begins."""
        self._arriving[begun.tirn] = (_Start(begun.params, begun.dek.key), begun.seq)

    def received(self, received: Received) -> None:
        """A frame reached a TIR with TLS: the first one says of which connection."""
        arriving = self._arriving.pop(received.tirn, None)
        if arriving is not None:
            start, seq = arriving
            key = start.flow_key(self._nic, Way.IN, received.frame, received.tirn, seq)
            if key is not None:
                self._tell(key)
