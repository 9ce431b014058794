/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest RAM as the back-end has it: a table of file regions that follows the
 * machine's memory map.
 */
#ifndef PCI_VHOST_USER_MEMTABLE_H
#define PCI_VHOST_USER_MEMTABLE_H

#include "channel.h"

typedef struct MemTable {
    MemoryListener listener;
    GArray *sections; /* of Section: the RAM that can be shared */
    GArray *sent;     /* of Section: what the back-end has, merged */
    bool changed;     /* sections changed since the last commit */
    void (*on_change)(void *opaque);
    void *opaque;
} MemTable;

/* Follow system memory; @on_change is called when the table has changed. */
void memtable_init(MemTable *table, void (*on_change)(void *opaque),
                   void *opaque);

void memtable_exit(MemTable *table);

/* No guest RAM can be shared with the back-end. */
bool memtable_is_empty(const MemTable *table);

/* Send the whole table to a new back-end, which can hold @slots regions. */
bool memtable_send(MemTable *table, Channel *channel, uint64_t slots,
                   int64_t deadline, Error **errp);

/* Send what has changed since. */
bool memtable_update(MemTable *table, Channel *channel, uint64_t slots,
                     int64_t deadline, Error **errp);

#endif
