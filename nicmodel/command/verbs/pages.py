# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages of host memory that the device asks for (``pagealloc.c``). The model never touches them."""

from enum import IntEnum

from nicmodel.command.declaration import command
from nicmodel.command.firmware import Firmware, HcaState
from nicmodel.command.verbs.hca import own_function
from nicmodel.errors import CommandError
from nicmodel.spec.commands import (
    ManagePagesIn,
    ManagePagesOut,
    QueryPagesIn,
    QueryPagesOut,
)
from nicmodel.spec.opcodes import CommandOpcode
from nicmodel.spec.status import CommandStatus
from nicmodel.units import PAGE_SIZE, GuestAddr

MAX_PAGES = 1 << 18
"""Most pages that the device keeps account of."""


class PagesWanted(IntEnum):
    """``op_mod`` of QUERY_PAGES."""

    BOOT = 1
    """Before anything else."""
    INIT = 2
    """Before INIT_HCA."""
    REGULAR = 3
    """While running."""


class ManagePages(IntEnum):
    """``op_mod`` of MANAGE_PAGES."""

    CANT_GIVE = 0
    """The driver has no memory."""
    GIVE = 1
    """Pages for the device."""
    TAKE = 2
    """Pages back to the driver."""


@command(
    CommandOpcode.QUERY_PAGES, request=QueryPagesIn, reply=QueryPagesOut, requires=HcaState.ENABLED
)
def query_pages(firmware: Firmware, request: QueryPagesIn) -> QueryPagesOut:
    """Ask for the profile's boot or init pages, as far as they have not been given."""
    own_function(request.embedded_cpu_function, request.function_id)
    profile = firmware.profile
    wanted = {
        PagesWanted.BOOT: profile.boot_pages,
        PagesWanted.INIT: profile.boot_pages + profile.init_pages,
        PagesWanted.REGULAR: 0,
    }
    try:
        total = wanted[PagesWanted(request.op_mod)]
    except ValueError:
        raise CommandError(
            CommandStatus.BAD_PARAM, f"QUERY_PAGES has no op_mod {request.op_mod}"
        ) from None
    return QueryPagesOut(num_pages=max(0, total - len(firmware.pages)))


@command(
    CommandOpcode.MANAGE_PAGES,
    request=ManagePagesIn,
    reply=ManagePagesOut,
    requires=HcaState.ENABLED,
)
def manage_pages(firmware: Firmware, request: ManagePagesIn) -> ManagePagesOut:
    """Keep account of pages given; hand back any of them, as many as asked for."""
    own_function(request.embedded_cpu_function, request.function_id)
    count = request.input_num_entries
    if request.op_mod == ManagePages.TAKE:
        taken = list(firmware.pages)[:count]
        for page in taken:
            del firmware.pages[page]
        return ManagePagesOut(output_num_entries=len(taken), pas=tuple(taken))
    if request.op_mod == ManagePages.CANT_GIVE:
        return ManagePagesOut()
    if request.op_mod != ManagePages.GIVE:
        raise CommandError(CommandStatus.BAD_PARAM, f"MANAGE_PAGES has no op_mod {request.op_mod}")
    if count > len(request.pas):
        raise CommandError(
            CommandStatus.BAD_INP_LEN, f"{count} pages are announced, {len(request.pas)} follow"
        )
    pages = {GuestAddr(page): None for page in request.pas[:count]}
    if len(pages) != count or pages.keys() & firmware.pages.keys():
        raise CommandError(CommandStatus.BAD_PARAM, "a page is given twice")
    if any(page % PAGE_SIZE for page in pages):
        raise CommandError(CommandStatus.BAD_PARAM, "a page is not aligned")
    if len(firmware.pages) + count > MAX_PAGES:
        raise CommandError(CommandStatus.LIM, f"no more than {MAX_PAGES} pages")
    firmware.pages |= pages
    return ManagePagesOut()
