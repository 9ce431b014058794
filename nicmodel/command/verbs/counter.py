# SPDX-License-Identifier: GPL-2.0-or-later
"""Queue counter sets (``en_main.c`` mlx5e_create_q_counters)."""

from nicmodel.command.declaration import command
from nicmodel.command.firmware import Firmware
from nicmodel.spec.commands import (
    AllocQCounterIn,
    AllocQCounterOut,
    DeallocQCounterIn,
    Done,
    QueryQCounterIn,
    QueryQCounterOut,
)
from nicmodel.spec.opcodes import CommandOpcode


@command(CommandOpcode.ALLOC_Q_COUNTER, request=AllocQCounterIn, reply=AllocQCounterOut)
def alloc_q_counter(firmware: Firmware, request: AllocQCounterIn) -> AllocQCounterOut:
    """Allocate a set of queue counters, all zero."""
    number = firmware.objects.counter_sets.create(lambda number: number)
    firmware.counters_seen[number] = firmware.queues.out_of_buffer(number)
    return AllocQCounterOut(counter_set_id=number)


@command(CommandOpcode.DEALLOC_Q_COUNTER, request=DeallocQCounterIn, reply=Done)
def dealloc_q_counter(firmware: Firmware, request: DeallocQCounterIn) -> Done:
    """Free a set of queue counters."""
    firmware.objects.counter_sets.remove(request.counter_set_id)
    firmware.counters_seen.pop(request.counter_set_id, None)
    return Done()


@command(CommandOpcode.QUERY_Q_COUNTER, request=QueryQCounterIn, reply=QueryQCounterOut)
def query_q_counter(firmware: Firmware, request: QueryQCounterIn) -> QueryQCounterOut:
    """Report frames dropped for want of a receive WQE; all RDMA counters are zero."""
    number = firmware.objects.counter_sets.get(request.counter_set_id)
    total = firmware.queues.out_of_buffer(number)
    since = total - firmware.counters_seen[number]
    if request.clear:
        firmware.counters_seen[number] = total
    return QueryQCounterOut(out_of_buffer=since & 0xFFFFFFFF)
