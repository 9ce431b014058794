# SPDX-License-Identifier: GPL-2.0-or-later
"""General objects: encryption keys for TLS (``lib/crypto.c`` mlx5_create_encryption_key)."""

from nicmodel.command.declaration import command
from nicmodel.command.firmware import Firmware
from nicmodel.errors import CommandError
from nicmodel.objects.tls import Dek
from nicmodel.spec.opcodes import CommandOpcode
from nicmodel.spec.status import CommandStatus
from nicmodel.spec.tls import (
    KEY_TYPE_TLS,
    CreateGeneralObjectIn,
    GeneralObject,
    GeneralObjInCmdHdr,
    GeneralObjOutCmdHdr,
    KeySize,
)
from nicmodel.units import Dekn


def _check(firmware: Firmware, header: GeneralObjInCmdHdr) -> None:
    """Is the object of a kind that the device offers? CommandError BAD_PARAM if not."""
    offered = firmware.profile.general.general_obj_types
    if header.obj_type != GeneralObject.ENCRYPTION_KEY or not offered >> header.obj_type & 1:
        raise CommandError(
            CommandStatus.BAD_PARAM, f"general objects of type {header.obj_type:#x} are not offered"
        )


@command(
    CommandOpcode.CREATE_GENERAL_OBJECT,
    request=CreateGeneralObjectIn,
    reply=GeneralObjOutCmdHdr,
)
def create_general_object(
    firmware: Firmware, request: CreateGeneralObjectIn
) -> GeneralObjOutCmdHdr:
    """Create an encryption key for TLS, of 128 or 256 bits."""
    objects, header = firmware.objects, request.general_obj_in_cmd_hdr
    wanted = request.encryption_key_object
    _check(firmware, header)
    if header.log_obj_range:
        raise CommandError(CommandStatus.BAD_PARAM, "ranges of keys are not supported")
    if wanted.key_type != KEY_TYPE_TLS:
        raise CommandError(
            CommandStatus.BAD_PARAM, f"keys of type {wanted.key_type} are not supported"
        )
    if wanted.key_size not in (KeySize.BITS_128, KeySize.BITS_256):
        raise CommandError(
            CommandStatus.BAD_PARAM, f"keys of size {wanted.key_size} are not supported"
        )
    objects.pds.get(wanted.pd)
    key = wanted.key if wanted.key_size == KeySize.BITS_256 else wanted.key[16:]
    dek = objects.deks.create(lambda dekn: Dek(dekn, wanted.pd, key))
    objects.pds.hold([dek.pd])
    return GeneralObjOutCmdHdr(obj_id=dek.dekn)


@command(
    CommandOpcode.DESTROY_GENERAL_OBJECT,
    request=GeneralObjInCmdHdr,
    reply=GeneralObjOutCmdHdr,
)
def destroy_general_object(firmware: Firmware, request: GeneralObjInCmdHdr) -> GeneralObjOutCmdHdr:
    """Destroy an encryption key, also one that contexts still name."""
    _check(firmware, request)
    dek = firmware.objects.deks.remove(Dekn(request.obj_id))
    firmware.objects.pds.release([dek.pd])
    firmware.queues.dek_destroyed(dek.dekn)
    return GeneralObjOutCmdHdr(obj_id=dek.dekn)
