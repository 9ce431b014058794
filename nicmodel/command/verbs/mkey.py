# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory keys (``mr.c``, ``en_main.c`` mlx5e_create_umr_mkey)."""

from array import array

from nicmodel.command.declaration import command
from nicmodel.command.firmware import Firmware
from nicmodel.errors import CommandError
from nicmodel.objects.mkey import MemoryKey, TranslatedKey, mtts
from nicmodel.spec.commands import CreateMkeyIn, CreateMkeyOut, DestroyMkeyIn, Done
from nicmodel.spec.contexts import AccessMode, Mkc
from nicmodel.spec.opcodes import CommandOpcode
from nicmodel.spec.status import CommandStatus
from nicmodel.spec.wqe import MTT_SIZE, XLT_OCTOWORD
from nicmodel.units import GuestAddr, Mkey

MAX_MTTS = 1 << 17
"""Entries of one key: the driver asks for at most MLX5E_MAX_RQ_NUM_MTTS, 131,064 (``en.h``)."""

LOG_PAGE_SIZES = range(12, 32)
"""log2 of the page sizes of a translated key (no ``log_min_mkey_entity_size`` is offered)."""


@command(CommandOpcode.CREATE_MKEY, request=CreateMkeyIn, reply=CreateMkeyOut)
def create_mkey(firmware: Firmware, request: CreateMkeyIn) -> CreateMkeyOut:
    """Create a key over physical addresses, or one with a translation table (MTT)."""
    objects, context = firmware.objects, request.memory_key_mkey_entry
    objects.pds.get(context.pd)
    mode = context.access_mode_4_2 << 2 | context.access_mode_1_0
    if mode == AccessMode.MTT:
        key: MemoryKey | TranslatedKey = _translated(firmware, request)
    elif mode == AccessMode.PA and not context.free:
        key = MemoryKey(
            lkey=Mkey(context.mkey_7_0),
            pd=context.pd,
            everything=context.length64,
            start=GuestAddr(context.start_addr),
            length=context.len,
        )
    else:
        raise CommandError(
            CommandStatus.BAD_PARAM, f"memory keys with access mode {mode} are not supported"
        )
    index = objects.create_mkey(key)
    objects.pds.hold([context.pd])
    return CreateMkeyOut(mkey_index=index)


def _translated(firmware: Firmware, request: CreateMkeyIn) -> TranslatedKey:
    """A key in mode MTT; entries that the command does not bring are 0."""
    context: Mkc = request.memory_key_mkey_entry
    count = context.translations_octword_size * XLT_OCTOWORD // MTT_SIZE
    given = request.translations_octword_actual_size * XLT_OCTOWORD
    if not 0 < count <= MAX_MTTS or context.log_page_size not in LOG_PAGE_SIZES:
        raise CommandError(
            CommandStatus.BAD_PARAM,
            f"{count} translations of pages of 2^{context.log_page_size} bytes are not possible",
        )
    if given > min(count * MTT_SIZE, len(request.klm_pas_mtt)):
        raise CommandError(
            CommandStatus.BAD_INP_LEN,
            f"{given} bytes of translations do not follow, or do not fit into {count} entries",
        )
    firmware.objects.check_translations(count)
    table = array("Q", bytes(count * MTT_SIZE))
    entries = mtts(request.klm_pas_mtt[:given])
    table[: len(entries)] = entries
    return TranslatedKey(
        lkey=Mkey(context.mkey_7_0),
        pd=context.pd,
        start=context.start_addr,
        length=1 << 64 if context.length64 else context.len,
        page_shift=context.log_page_size,
        umr=context.umr_en,
        free=context.free,
        table=table,
    )


@command(CommandOpcode.DESTROY_MKEY, request=DestroyMkeyIn, reply=Done)
def destroy_mkey(firmware: Firmware, request: DestroyMkeyIn) -> Done:
    """Destroy a key; WQEs that still name it fail."""
    key = firmware.objects.destroy_mkey(Mkey(request.mkey_index))
    firmware.objects.pds.release([key.pd])
    return Done()
