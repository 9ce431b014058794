# SPDX-License-Identifier: GPL-2.0-or-later
"""One front-end's visit: negotiation, attachment, and the verbs of ``Device`` until it leaves.

Every request is one line of ``RULES``. The dispatcher holds what is common to all: was it
negotiated, is it the right time, are length and descriptors right; handlers see only valid input.
Whatever breaks a rule ends the session with a sentence, and never with an exception.
"""

import contextlib
import mmap
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from nicmodel.errors import ProtocolError
from nicmodel.memory import MAX_REGIONS, GuestMemory, MemoryRegion
from nicmodel.memory.guest import require_sealed
from nicmodel.trace.events import FrontendAttached, FrontendDetached
from nicmodel.trace.tracer import Tracer
from nicmodel.transport.connection import Connection, Message, close_all
from nicmodel.transport.messages import (
    BAR_OFFSET,
    COMMAND_MASTER,
    COMMAND_OFFSET,
    CONFIG,
    HEADER,
    IDENTITY_OFFSET,
    INFLIGHT,
    MAX_CONFIG_SIZE,
    MAX_TABLE_REGIONS,
    NUMBER,
    PROTOCOL_FEATURES,
    REGION,
    SINGLE_REGION,
    TABLE,
    VRING_INDEX_MASK,
    VRING_NO_FD,
    Config,
    Feature,
    Flag,
    Header,
    Number,
    ProtocolFeature,
    Request,
    identity_block,
)
from nicmodel.transport.seam import MAX_VECTORS, Device

MAX_WRITE: Final = 8
"""Bytes that one BAR write of a guest can have."""

_POSTED: Final = struct.Struct("<QIIII")
"""Header and head of a SET_CONFIG: request and flags in one number, size, offset, size, flags."""
_POSTED_HEAD: Final = Request.SET_CONFIG | Flag.VERSION << 32
_EVENTFD: Final = "anon_inode:[eventfd]"


class State(Enum):
    """How far a session has come."""

    NEGOTIATING = auto()
    """The device does not know of the front-end yet."""
    ATTACHED = auto()
    """The device is driven by the front-end."""
    CLOSED = auto()
    """Over; everything is released."""


class AttachedHost:
    """What the device sees of its front-end; see ``seam.Host``."""

    def __init__(self, memory: GuestMemory, bar: memoryview) -> None:
        self.memory = memory
        self.bar = bar
        self.calls: list[int | None] = [None] * MAX_VECTORS

    def interrupt(self, vector: int) -> None:
        """See ``seam.Host``."""
        fd = self.calls[vector] if 0 <= vector < MAX_VECTORS else None
        if fd is not None:
            # Full is as good as raised: the reader takes the count as one interrupt anyway.
            with contextlib.suppress(BlockingIOError):
                os.eventfd_write(fd, 1)

    def set_call(self, vector: int, fd: int | None) -> None:
        """Use ``fd`` for the vector from now on, and own it."""
        old = self.calls[vector]
        self.calls[vector] = fd
        if old is not None:
            os.close(old)

    def close(self) -> None:
        """Close every eventfd."""
        for vector in range(MAX_VECTORS):
            self.set_call(vector, None)


class Session:
    """Serves one connected front-end for one device, on the caller's event loop.

    The owner calls ``receive`` whenever the connection is readable, until ``state`` is CLOSED.
    """

    def __init__(
        self,
        connection: Connection,
        device: Device,
        tracer: Tracer,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self.state = State.NEGOTIATING
        self._connection = connection
        self._device = device
        self._tracer = tracer
        self._on_close = on_close
        self._identity = device.identity
        self._identity_block = identity_block(device.identity)
        self._features = Feature(0)
        self._protocol_features = ProtocolFeature(0)
        self._memory = GuestMemory()
        self._shadow: mmap.mmap | None = None
        self._host = AttachedHost(self._memory, memoryview(b""))

    def receive(self) -> None:
        """Take and carry out what has come; the device is flushed at the end."""
        connection = self._connection
        try:
            if not connection.fill() or connection.hung_up():
                # A front-end that gave us up has told its guest so: what it sent before must not
                # be done any more, least of all DMA into memory that the guest has reused.
                self.close("it closed the connection")
                return
            while self.state is not State.CLOSED:
                if self.state is State.ATTACHED and not connection.fds_pending:
                    self._take_posted_writes()
                message = connection.next()
                if message is None:
                    break
                self._dispatch(message)
        except ProtocolError as error:
            self.close(str(error))
        if self.state is State.ATTACHED:
            self._device.flush()

    def close(self, reason: str) -> None:
        """End the session: the device is detached, then all that was received is released."""
        if self.state is State.CLOSED:
            return
        attached = self.state is State.ATTACHED
        self.state = State.CLOSED
        self._memory.enabled = False
        if attached:
            self._device.detach()
        self._memory.clear()
        self._host.close()
        self._host.bar.release()
        if self._shadow is not None:
            # As with guest memory: a view that the device still holds keeps the pages.
            with contextlib.suppress(BufferError):
                self._shadow.close()
        self._connection.close()
        self._tracer.emit(FrontendDetached(reason))
        self._on_close()

    def hung_up(self) -> bool:
        """The front-end has gone, though ``receive`` was not called for it yet."""
        return self._connection.hung_up()

    def _take_posted_writes(self) -> None:
        """Deliver the BAR writes that the received bytes begin with; the hot path.

        Anything but a plain posted write within the BAR is left to the dispatcher.
        """
        connection = self._connection
        data, position, end = connection.data, connection.position, len(connection.data)
        bar_end = BAR_OFFSET + self._identity.bar_size
        write = self._device.bar_write
        unpack = _POSTED.unpack_from
        try:
            while end - position > _POSTED.size:
                head, body, offset, size, flags = unpack(data, position)
                start = position + _POSTED.size
                stop = start + size
                if (
                    head != _POSTED_HEAD
                    or body != CONFIG.size + size
                    or not 0 < size <= MAX_WRITE
                    or offset < BAR_OFFSET
                    or offset + size > bar_end
                    or flags
                    or stop > end
                ):
                    break
                position = stop
                write(offset - BAR_OFFSET, data[start:stop])
        finally:
            connection.position = position

    def _dispatch(self, message: Message) -> None:
        """Check a message against its rule, carry it out, answer it."""
        header, body, fds = message.header, message.body, message.fds
        try:
            rule = RULES.get(header.request)
            if rule is None:
                raise ProtocolError(f"request {header.request} is not in the profile")
            name = Request(header.request).name
            need_reply = self._check_flags(name, header.flags)
            if rule.feature is not None and rule.feature not in self._protocol_features:
                raise ProtocolError(f"{name} without having negotiated {rule.feature.name}")
            if self.state not in rule.states:
                raise ProtocolError(f"{name} at the wrong time")
            if not rule.shortest <= len(body) <= rule.longest:
                raise ProtocolError(f"{name} with a body of {len(body)} bytes")
            if len(fds) not in rule.fds:
                raise ProtocolError(f"{name} with {len(fds)} descriptors")
            reply = rule.handler(self, body, fds)
        finally:
            close_all(fds)
        if reply is None and need_reply:
            reply = NUMBER.pack(Number(0))
        if reply is not None:
            flags = Flag.VERSION | Flag.REPLY
            self._connection.send(HEADER.pack(Header(header.request, flags, len(reply))) + reply)

    def _check_flags(self, name: str, flags: int) -> bool:
        """Whether an acknowledgement is asked for."""
        # Compared as numbers: the complement of a Flag forgets the bits that have no name.
        need_reply = flags == Flag.VERSION | Flag.NEED_REPLY
        if flags != Flag.VERSION and not need_reply:
            raise ProtocolError(f"{name} with flags {flags:#x}")
        if need_reply and ProtocolFeature.REPLY_ACK not in self._protocol_features:
            raise ProtocolError(f"{name} without having negotiated REPLY_ACK")
        return need_reply

    # Handlers: the body has a length, and the descriptors a number, that the rule allows. A
    # handler takes a descriptor over by removing it from the list; the rest is closed behind it.

    def _get_features(self, _body: bytes, _fds: list[int]) -> bytes:
        return NUMBER.pack(Number(Feature.PROTOCOL_FEATURES))

    def _set_features(self, body: bytes, _fds: list[int]) -> None:
        value = NUMBER.unpack(body).value
        if value | Feature.PROTOCOL_FEATURES.value != Feature.PROTOCOL_FEATURES.value:
            raise ProtocolError(f"SET_FEATURES {value:#x} takes what was not offered")
        self._features = Feature(value)

    def _set_owner(self, _body: bytes, _fds: list[int]) -> None:
        """Nothing to do: a connection has one owner."""

    def _get_protocol_features(self, _body: bytes, _fds: list[int]) -> bytes:
        return NUMBER.pack(Number(PROTOCOL_FEATURES))

    def _set_protocol_features(self, body: bytes, _fds: list[int]) -> None:
        value = NUMBER.unpack(body).value
        if Feature.PROTOCOL_FEATURES not in self._features:
            raise ProtocolError("SET_PROTOCOL_FEATURES without the feature PROTOCOL_FEATURES")
        if value | PROTOCOL_FEATURES.value != PROTOCOL_FEATURES.value:
            raise ProtocolError(f"SET_PROTOCOL_FEATURES {value:#x} takes what was not offered")
        self._protocol_features = ProtocolFeature(value)

    def _get_max_mem_slots(self, _body: bytes, _fds: list[int]) -> bytes:
        return NUMBER.pack(Number(MAX_REGIONS))

    def _get_config(self, body: bytes, _fds: list[int]) -> bytes:
        config = CONFIG.unpack(body)
        first = config.offset - IDENTITY_OFFSET
        if len(body) != CONFIG.size + config.size or config.flags:
            raise ProtocolError("GET_CONFIG whose size or flags are wrong")
        if first < 0 or first + config.size > len(self._identity_block):
            raise ProtocolError(f"GET_CONFIG of {config.offset:#x}+{config.size} outside identity")
        return CONFIG.pack(config) + self._identity_block[first : first + config.size]

    def _set_config(self, body: bytes, _fds: list[int]) -> None:
        config: Config = CONFIG.unpack(body)
        data = body[CONFIG.size :]
        offset = config.offset - BAR_OFFSET
        if len(data) != config.size or not data or config.flags:
            raise ProtocolError("SET_CONFIG whose size or flags are wrong")
        if offset >= 0 and len(data) <= MAX_WRITE:
            if offset + len(data) > self._identity.bar_size:
                raise ProtocolError(f"SET_CONFIG of BAR offset {offset:#x} beyond the BAR")
            self._device.bar_write(offset, data)
        elif config.offset == COMMAND_OFFSET and len(data) == 2:
            self._set_bus_master(bool(int.from_bytes(data, "little") & COMMAND_MASTER))
        else:
            raise ProtocolError(f"SET_CONFIG of {config.offset:#x}+{len(data)} is not writable")

    def _set_bus_master(self, enabled: bool) -> None:
        self._memory.enabled = enabled
        self._device.bus_master(enabled)

    def _reset_device(self, _body: bytes, _fds: list[int]) -> None:
        self._memory.enabled = False
        self._device.reset()

    def _set_inflight_fd(self, body: bytes, fds: list[int]) -> None:
        inflight = INFLIGHT.unpack(body)
        size = self._identity.bar_size
        if self._shadow is not None:
            raise ProtocolError("SET_INFLIGHT_FD twice")
        if inflight.mmap_size != size or inflight.queues or inflight.queue_size:
            raise ProtocolError(f"SET_INFLIGHT_FD does not describe {size} bytes of BAR shadow")
        require_sealed(fds[0], "the BAR shadow")
        try:
            self._shadow = mmap.mmap(fds[0], size, mmap.MAP_SHARED, offset=inflight.mmap_offset)
        except (OSError, ValueError, OverflowError) as error:
            raise ProtocolError(f"the BAR shadow cannot be mapped: {error}") from error
        self._host.bar = memoryview(self._shadow)

    def _set_vring_call(self, body: bytes, fds: list[int]) -> None:
        value = NUMBER.unpack(body).value
        vector = value & VRING_INDEX_MASK
        if value & ~(VRING_INDEX_MASK | VRING_NO_FD) or bool(value & VRING_NO_FD) == bool(fds):
            raise ProtocolError(f"SET_VRING_CALL {value:#x} with {len(fds)} descriptors")
        if vector >= self._identity.vectors:
            raise ProtocolError(f"SET_VRING_CALL of vector {vector}, which does not exist")
        if fds:
            # Anything else could block us, or be a file that should not get these bytes.
            if os.readlink(f"/proc/self/fd/{fds[0]}") != _EVENTFD:
                raise ProtocolError(f"SET_VRING_CALL of vector {vector} without an eventfd")
            os.set_blocking(fds[0], False)
        self._host.set_call(vector, fds.pop() if fds else None)

    def _set_mem_table(self, body: bytes, fds: list[int]) -> None:
        table = TABLE.unpack(body)
        if table.regions != len(fds) or len(body) != TABLE.size + len(fds) * REGION.size:
            raise ProtocolError(f"SET_MEM_TABLE of {table.regions} regions, {len(fds)} descriptors")
        if self._shadow is None:
            raise ProtocolError("SET_MEM_TABLE before SET_INFLIGHT_FD")
        self._memory.clear()
        for index, fd in enumerate(fds):
            region = REGION.unpack(body, TABLE.size + index * REGION.size)
            self._memory.map(MemoryRegion(region.guest_addr, region.size, region.mmap_offset), fd)
        if self.state is State.NEGOTIATING:
            self.state = State.ATTACHED
            self._tracer.emit(FrontendAttached(len(fds)))
            self._device.attach(self._host)

    def _add_mem_reg(self, body: bytes, fds: list[int]) -> None:
        region = SINGLE_REGION.unpack(body)
        self._memory.map(MemoryRegion(region.guest_addr, region.size, region.mmap_offset), fds[0])

    def _rem_mem_reg(self, body: bytes, _fds: list[int]) -> None:
        region = SINGLE_REGION.unpack(body)
        self._memory.unmap(region.guest_addr, region.size)


_NEGOTIATING: Final = frozenset({State.NEGOTIATING})
_ATTACHED: Final = frozenset({State.ATTACHED})
_ANY: Final = _NEGOTIATING | _ATTACHED
_NO_FD: Final = range(1)
_ONE_FD: Final = range(1, 2)


@dataclass(frozen=True, slots=True)
class Rule:
    """When a request may come, what it must bring, and who carries it out.

    ``shortest`` and ``longest`` bound the body, bytes; ``fds`` are the allowed descriptor counts;
    ``feature`` must have been negotiated.
    """

    handler: Callable[[Session, bytes, list[int]], bytes | None]
    states: frozenset[State]
    shortest: int = 0
    longest: int = 0
    fds: range = _NO_FD
    feature: ProtocolFeature | None = None


# One line a request.
_MEM = ProtocolFeature.CONFIGURE_MEM_SLOTS
_N = NUMBER.size
RULES: Final[dict[int, Rule]] = {
    Request.GET_FEATURES: Rule(Session._get_features, _NEGOTIATING),
    Request.SET_FEATURES: Rule(Session._set_features, _NEGOTIATING, _N, _N),
    Request.SET_OWNER: Rule(Session._set_owner, _NEGOTIATING),
    Request.GET_PROTOCOL_FEATURES: Rule(Session._get_protocol_features, _NEGOTIATING),
    Request.SET_PROTOCOL_FEATURES: Rule(Session._set_protocol_features, _NEGOTIATING, _N, _N),
    Request.GET_MAX_MEM_SLOTS: Rule(Session._get_max_mem_slots, _ANY, feature=_MEM),
    Request.GET_CONFIG: Rule(
        Session._get_config,
        _ANY,
        CONFIG.size,
        CONFIG.size + MAX_CONFIG_SIZE,
        feature=ProtocolFeature.CONFIG,
    ),
    Request.SET_CONFIG: Rule(
        Session._set_config,
        _ATTACHED,
        CONFIG.size,
        CONFIG.size + MAX_CONFIG_SIZE,
        feature=ProtocolFeature.CONFIG,
    ),
    Request.RESET_DEVICE: Rule(
        Session._reset_device, _ATTACHED, feature=ProtocolFeature.RESET_DEVICE
    ),
    Request.SET_INFLIGHT_FD: Rule(
        Session._set_inflight_fd,
        _NEGOTIATING,
        INFLIGHT.size,
        INFLIGHT.size,
        _ONE_FD,
        ProtocolFeature.INFLIGHT_SHMFD,
    ),
    Request.SET_VRING_CALL: Rule(Session._set_vring_call, _ANY, _N, _N, range(2)),
    Request.SET_MEM_TABLE: Rule(
        Session._set_mem_table,
        _ANY,
        TABLE.size,
        TABLE.size + MAX_TABLE_REGIONS * REGION.size,
        range(MAX_TABLE_REGIONS + 1),
    ),
    Request.ADD_MEM_REG: Rule(
        Session._add_mem_reg, _ATTACHED, SINGLE_REGION.size, SINGLE_REGION.size, _ONE_FD, _MEM
    ),
    Request.REM_MEM_REG: Rule(
        Session._rem_mem_reg, _ATTACHED, SINGLE_REGION.size, SINGLE_REGION.size, feature=_MEM
    ),
}
