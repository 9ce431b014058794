# SPDX-License-Identifier: GPL-2.0-or-later
"""The vhost-user messages of the profile, and the device space that GET/SET_CONFIG address.

Numbers and bodies are those of the vhost-user specification; ``qemu-plugin/README.md`` says what
they mean for a PCI device. Everything is little-endian and packed. ``qemu-plugin/protocol.h`` has
the same declarations in C; a test compares them.
"""

import struct
from enum import IntEnum, IntFlag
from typing import Final, Generic, NamedTuple, TypeVar

from nicmodel.transport.seam import Identity

T = TypeVar("T", bound=tuple[int, ...])


class Request(IntEnum):
    """What a front-end may ask."""

    GET_FEATURES = 1
    """Which feature bits the back-end has."""
    SET_FEATURES = 2
    """The feature bits that the front-end takes."""
    SET_OWNER = 3
    """The front-end owns this connection."""
    SET_MEM_TABLE = 5
    """All of guest RAM: replaces every region; the first one attaches the device."""
    SET_VRING_CALL = 13
    """The eventfd that raises MSI-X vector n."""
    GET_PROTOCOL_FEATURES = 15
    """Which protocol features the back-end has."""
    SET_PROTOCOL_FEATURES = 16
    """The protocol features that the front-end takes."""
    GET_CONFIG = 24
    """Read device space: the identity block."""
    SET_CONFIG = 25
    """Write device space: BAR 0 (posted) or the PCI command register."""
    SET_INFLIGHT_FD = 32
    """The BAR shadow: memory that the back-end writes and BAR 0 reads come from."""
    RESET_DEVICE = 34
    """PCI reset or function level reset."""
    GET_MAX_MEM_SLOTS = 36
    """How many memory regions the back-end can map."""
    ADD_MEM_REG = 37
    """One more region of guest RAM."""
    REM_MEM_REG = 38
    """One region of guest RAM less."""


class Flag(IntFlag):
    """Flags of a message header."""

    VERSION = 1
    """Protocol version, two bits; always 1."""
    REPLY = 4
    """This is the back-end's answer."""
    NEED_REPLY = 8
    """The front-end waits for an acknowledgement (REPLY_ACK)."""


class Feature(IntFlag):
    """Feature bits; a PCI device needs none of virtio's."""

    PROTOCOL_FEATURES = 1 << 30
    """GET/SET_PROTOCOL_FEATURES exist."""


class ProtocolFeature(IntFlag):
    """Protocol features of the profile; both sides need all of them."""

    REPLY_ACK = 1 << 3
    """A request with NEED_REPLY is answered when it has been carried out."""
    CONFIG = 1 << 9
    """GET_CONFIG and SET_CONFIG exist."""
    INFLIGHT_SHMFD = 1 << 12
    """SET_INFLIGHT_FD exists."""
    RESET_DEVICE = 1 << 13
    """RESET_DEVICE exists."""
    CONFIGURE_MEM_SLOTS = 1 << 15
    """GET_MAX_MEM_SLOTS, ADD_MEM_REG and REM_MEM_REG exist."""


PROTOCOL_FEATURES: Final = ProtocolFeature(0x0000B208)
"""All of the profile's."""

VRING_INDEX_MASK: Final = 0xFF
"""Vector number in the body of SET_VRING_CALL."""
VRING_NO_FD: Final = 1 << 8
"""SET_VRING_CALL comes without a descriptor: the vector goes silent."""

MAX_TABLE_REGIONS: Final = 8
"""Regions in one SET_MEM_TABLE (specification); further ones follow with ADD_MEM_REG."""
MAX_CONFIG_SIZE: Final = 256
"""Payload of one GET/SET_CONFIG (specification)."""

IDENTITY_OFFSET: Final = 0x0
"""Device space: the identity block, read only."""
COMMAND_OFFSET: Final = 0x1000
"""Device space: the PCI command register, 16 bit, write only; Bus Master Enable is what counts."""
COMMAND_MASTER: Final = 0x4
"""Bus Master Enable in the PCI command register."""
BAR_OFFSET: Final = 0x10000000
"""Device space: BAR 0; 4 GiB of offsets leave room for any BAR that the profile allows."""

IDENTITY_MAGIC: Final = 0x55565650
"""``PVVU`` in memory: PCI via vhost-user."""
IDENTITY_VERSION: Final = 1


class Layout(Generic[T]):
    """A packed little-endian structure: a named tuple and the struct format of its fields."""

    def __init__(self, fields: type[T], format: str) -> None:
        self._make = fields
        self._names: tuple[str, ...] = fields._fields  # type: ignore[attr-defined]
        self._format = format
        self._struct = struct.Struct("<" + format)
        self.size = self._struct.size

    def unpack(self, data: bytes, offset: int = 0) -> T:
        """The structure at ``offset``; extra bytes behind it are the caller's."""
        values = self._struct.unpack_from(data, offset)
        return self._make(*values)

    def pack(self, value: T) -> bytes:
        """The bytes of ``value``."""
        return self._struct.pack(*value)

    def offsets(self) -> dict[str, int]:
        """Byte offset of each field by name."""
        return {
            name: struct.calcsize("<" + self._format[:index])
            for index, name in enumerate(self._names)
        }


class Header(NamedTuple):
    """In front of every message; ``size`` is that of the body, bytes."""

    request: int
    flags: int
    size: int


class Region(NamedTuple):
    """One region of guest RAM; ``user_addr`` is the front-end's and means nothing here."""

    guest_addr: int
    size: int
    user_addr: int
    mmap_offset: int


class Table(NamedTuple):
    """Head of SET_MEM_TABLE; that many regions follow, one descriptor each."""

    regions: int
    padding: int


class SingleRegion(NamedTuple):
    """Body of ADD_MEM_REG and REM_MEM_REG."""

    padding: int
    guest_addr: int
    size: int
    user_addr: int
    mmap_offset: int


class Config(NamedTuple):
    """Head of GET_CONFIG and SET_CONFIG; ``size`` bytes of device space follow."""

    offset: int
    size: int
    flags: int


class Inflight(NamedTuple):
    """Body of SET_INFLIGHT_FD; the queue numbers are 0 here."""

    mmap_size: int
    mmap_offset: int
    queues: int
    queue_size: int


class Number(NamedTuple):
    """Body of one number: features, a vector, an acknowledgement (0 is success)."""

    value: int


class IdentityBlock(NamedTuple):
    """What lies at IDENTITY_OFFSET; ``class_revision`` is class code << 8 | revision."""

    magic: int
    version: int
    length: int
    vendor_id: int
    device_id: int
    subsystem_vendor_id: int
    subsystem_id: int
    class_revision: int
    vectors: int
    bar_size: int
    clock_offset: int
    clock_khz: int
    vendor_cap_size: int
    reserved0: int
    reserved1: int
    reserved2: int


HEADER: Final = Layout(Header, "III")
REGION: Final = Layout(Region, "QQQQ")
TABLE: Final = Layout(Table, "II")
SINGLE_REGION: Final = Layout(SingleRegion, "QQQQQ")
CONFIG: Final = Layout(Config, "III")
INFLIGHT: Final = Layout(Inflight, "QQHH")
NUMBER: Final = Layout(Number, "Q")
IDENTITY_BLOCK: Final = Layout(IdentityBlock, "IHHHHHHIIQIIIIQQ")

MAX_BODY: Final = max(CONFIG.size + MAX_CONFIG_SIZE, TABLE.size + MAX_TABLE_REGIONS * REGION.size)
"""No message of the profile has a longer body, bytes."""


def identity_block(identity: Identity) -> bytes:
    """The identity block of a device, as GET_CONFIG returns it."""
    return IDENTITY_BLOCK.pack(
        IdentityBlock(
            magic=IDENTITY_MAGIC,
            version=IDENTITY_VERSION,
            length=IDENTITY_BLOCK.size,
            vendor_id=identity.vendor_id,
            device_id=identity.device_id,
            subsystem_vendor_id=identity.subsystem_vendor_id,
            subsystem_id=identity.subsystem_id,
            class_revision=identity.class_code << 8 | identity.revision,
            vectors=identity.vectors,
            bar_size=identity.bar_size,
            clock_offset=identity.clock_offset,
            clock_khz=identity.clock_khz,
            vendor_cap_size=identity.vendor_cap_size,
            reserved0=0,
            reserved1=0,
            reserved2=0,
        )
    )
