# SPDX-License-Identifier: GPL-2.0-or-later
"""UAR pages, protection domains, transport domains: numbers that other objects name."""

from nicmodel.command.declaration import command
from nicmodel.command.firmware import Firmware
from nicmodel.spec.commands import (
    AllocPdIn,
    AllocPdOut,
    AllocTransportDomainIn,
    AllocTransportDomainOut,
    AllocUarIn,
    AllocUarOut,
    DeallocPdIn,
    DeallocTransportDomainIn,
    DeallocUarIn,
    Done,
)
from nicmodel.spec.opcodes import CommandOpcode


@command(CommandOpcode.ALLOC_UAR, request=AllocUarIn, reply=AllocUarOut)
def alloc_uar(firmware: Firmware, request: AllocUarIn) -> AllocUarOut:
    """Allocate a page of doorbells at BAR 0 offset index * 4096."""
    return AllocUarOut(uar=firmware.objects.uars.create(lambda uar: uar))


@command(CommandOpcode.DEALLOC_UAR, request=DeallocUarIn, reply=Done)
def dealloc_uar(firmware: Firmware, request: DeallocUarIn) -> Done:
    """Free a page of doorbells that no queue uses."""
    firmware.objects.uars.remove(request.uar)
    return Done()


@command(CommandOpcode.ALLOC_PD, request=AllocPdIn, reply=AllocPdOut)
def alloc_pd(firmware: Firmware, request: AllocPdIn) -> AllocPdOut:
    """Allocate a protection domain."""
    return AllocPdOut(pd=firmware.objects.pds.create(lambda pd: pd))


@command(CommandOpcode.DEALLOC_PD, request=DeallocPdIn, reply=Done)
def dealloc_pd(firmware: Firmware, request: DeallocPdIn) -> Done:
    """Free a protection domain that no memory key or queue uses."""
    firmware.objects.pds.remove(request.pd)
    return Done()


@command(
    CommandOpcode.ALLOC_TRANSPORT_DOMAIN,
    request=AllocTransportDomainIn,
    reply=AllocTransportDomainOut,
)
def alloc_transport_domain(
    firmware: Firmware, request: AllocTransportDomainIn
) -> AllocTransportDomainOut:
    """Allocate a transport domain."""
    return AllocTransportDomainOut(transport_domain=firmware.objects.tds.create(lambda td: td))


@command(CommandOpcode.DEALLOC_TRANSPORT_DOMAIN, request=DeallocTransportDomainIn, reply=Done)
def dealloc_transport_domain(firmware: Firmware, request: DeallocTransportDomainIn) -> Done:
    """Free a transport domain that no TIS or TIR uses."""
    firmware.objects.tds.remove(request.transport_domain)
    return Done()
