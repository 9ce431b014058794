# SPDX-License-Identifier: GPL-2.0-or-later
"""TLS offload: keys, and the parameters of contexts as WQEs carry them (``mlx5_ifc.h``).

A context belongs to a TIS (transmit) or TIR (receive). Its static parameters come in a UMR, its
progress parameters in a SET_PSV; the ``opmod`` of both says which kind of object is meant.
"""

from enum import IntEnum

from nicmodel.spec.layout import Layout, bits, layout, nested, raw, u16, u32, u64
from nicmodel.units import Dekn, Pdn


class TlsOpmod(IntEnum):
    """``opmod`` of UMR, SET_PSV and GET_PSV (``device.h`` MLX5_OPC_MOD_TLS_*)."""

    TIS = 0x1
    """A context that encrypts."""
    TIR = 0x2
    """A context that decrypts."""


class TlsVersion(IntEnum):
    """``tls_static_params.tls_version`` (``ktls_txrx.c`` for 1.2)."""

    TLS_1_2 = 0x2
    """RFC 5246, with AES-GCM as in RFC 5288."""
    TLS_1_3 = 0x3
    """RFC 8446; *assumption* for the value: no driver uses it."""


class TrackerState(IntEnum):
    """``record_tracker_state`` (``ktls_utils.h`` MLX5E_TLS_PROGRESS_PARAMS_RECORD_TRACKER_*)."""

    START = 0x0
    """The next byte begins a record."""
    TRACKING = 0x1
    """A record header was found, its successors are being followed."""
    SEARCHING = 0x2
    """Looking for a record header."""


class AuthState(IntEnum):
    """``auth_state`` (``ktls_utils.h`` MLX5E_TLS_PROGRESS_PARAMS_AUTH_STATE_*)."""

    NO_OFFLOAD = 0x0
    OFFLOAD = 0x1
    AUTHENTICATION = 0x2


ENCRYPTION_STANDARD_TLS = 0x1
"""``tls_static_params.encryption_standard`` (``ktls_txrx.c``)."""

STATIC_CONST_1, STATIC_CONST_2 = 0x1, 0x2
"""What ``const_1`` and ``const_2`` must hold."""

STATIC_PARAMS_AT = 0x80
"""Offset of the static parameters in their UMR: control, UMR control and key segment precede."""

PROGRESS_PARAMS_AT = 0x10
"""Offset of TIS or TIR number (32 bit) in a SET_PSV; the progress parameters follow it."""


@layout(0x40, ifc="tls_static_params")
class TlsStaticParams(Layout):
    """What a context keeps: key, version, nonce, and the number of its first record."""

    const_2: int = bits(0x0, 31, 30)
    tls_version: int = bits(0x0, 29, 26)
    const_1: int = bits(0x0, 25, 24)
    encryption_standard: int = bits(0x0, 3, 0)
    initial_record_number: int = u64(0x8)
    resync_tcp_sn: int = u32(0x10)
    gcm_iv: bytes = raw(0x14, 4)
    """The salt, as bytes of the nonce."""
    implicit_iv: bytes = raw(0x18, 8)
    """The rest of the nonce for TLS 1.3; 0 for 1.2, whose records carry it."""
    dek_index: Dekn = bits(0x20, 23, 0)


@layout(0xC, ifc="tls_progress_params")
class TlsProgressParams(Layout):
    """Where a context stands in its byte stream."""

    next_record_tcp_sn: int = u32(0x0)
    hw_resync_tcp_sn: int = u32(0x4)
    record_tracker_state: int = bits(0x8, 31, 30)
    auth_state: int = bits(0x8, 29, 28)
    hw_offset_record_number: int = bits(0x8, 23, 0)


class GeneralObject(IntEnum):
    """``obj_type`` (``mlx5_ifc.h`` MLX5_GENERAL_OBJECT_TYPES_*)."""

    ENCRYPTION_KEY = 0xC
    """A data encryption key, DEK."""


class KeySize(IntEnum):
    """``encryption_key_obj.key_size`` (MLX5_GENERAL_OBJECT_TYPE_ENCRYPTION_KEY_KEY_SIZE_*)."""

    BITS_128 = 0x0
    BITS_256 = 0x1


KEY_TYPE_TLS = 0x1
"""``key_type`` of a TLS key, ``key_purpose`` in newer headers."""


@layout(0x10, ifc="general_obj_in_cmd_hdr")
class GeneralObjInCmdHdr(Layout):
    """How each command for a general object begins."""

    obj_type: int = u16(0x6)
    obj_id: int = u32(0x8)
    log_obj_range: int = bits(0xC, 28, 24, of="log_obj_range op_param")


@layout(0x10, ifc="general_obj_out_cmd_hdr")
class GeneralObjOutCmdHdr(Layout):
    """Reply of each command for a general object."""

    obj_id: int = u32(0x8)


@layout(0x60, ifc="encryption_key_obj", prefix=True)
class EncryptionKeyObj(Layout):
    """A key; a 128-bit one lies in the second half of ``key`` (``lib/crypto.c``)."""

    key_size: int = bits(0x8, 11, 8)
    key_type: int = bits(0x8, 3, 0, of="key_type key_purpose")
    pd: Pdn = bits(0xC, 23, 0)
    key: bytes = raw(0x40, 32, of="key")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(key_size={self.key_size}, pd={self.pd})"


@layout(0x70, ifc="create_encryption_key_in", prefix=True)
class CreateGeneralObjectIn(Layout):
    """CREATE_GENERAL_OBJECT of a key; newer drivers send more bytes behind it."""

    general_obj_in_cmd_hdr: GeneralObjInCmdHdr = nested(0x0)
    encryption_key_object: EncryptionKeyObj = nested(0x10)
