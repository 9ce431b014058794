/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "memtable.h"

#include <fcntl.h>

/* Guest addresses [addr, addr + size) are bytes from @offset on of @fd. */
typedef struct Section {
    uint64_t addr;
    uint64_t size;
    uint64_t host; /* where QEMU has it: a name for the back-end, no more */
    uint64_t offset;
    int fd;
} Section;

/*
 * Can the back-end work on this RAM? It must be a shared mapping of a file that
 * nobody can cut under the back-end, which would kill it.
 */
static bool section_from(const MemoryRegionSection *from, Section *section)
{
    MemoryRegion *mr = from->mr;
    uint64_t offset = from->offset_within_region;
    int fd, seals;

    if (!memory_region_is_ram(mr) || memory_region_is_rom(mr) ||
        memory_region_is_ram_device(mr) || from->readonly ||
        !qemu_ram_is_shared(mr->ram_block)) {
        return false;
    }
    fd = memory_region_get_fd(mr);
    seals = fd < 0 ? -1 : fcntl(fd, F_GET_SEALS);
    if (seals < 0 || !(seals & F_SEAL_SHRINK)) {
        return false;
    }
    *section = (Section) {
        .addr = from->offset_within_address_space,
        .size = int128_get64(from->size),
        .host = (uintptr_t)memory_region_get_ram_ptr(mr) + offset,
        .offset = compat_ram_fd_offset(mr->ram_block) + offset,
        .fd = fd,
    };
    return true;
}

static void memtable_add(MemoryListener *listener, MemoryRegionSection *from)
{
    MemTable *table = container_of(listener, MemTable, listener);
    Section section;

    if (section_from(from, &section)) {
        g_array_append_val(table->sections, section);
        table->changed = true;
    }
}

static void memtable_del(MemoryListener *listener, MemoryRegionSection *from)
{
    MemTable *table = container_of(listener, MemTable, listener);

    for (guint i = 0; i < table->sections->len; i++) {
        Section *section = &g_array_index(table->sections, Section, i);

        if (section->addr == from->offset_within_address_space) {
            g_array_remove_index_fast(table->sections, i);
            table->changed = true;
            return;
        }
    }
}

/* Memory maps are committed all the time, and mostly RAM has not changed. */
static void memtable_commit(MemoryListener *listener)
{
    MemTable *table = container_of(listener, MemTable, listener);

    if (table->changed) {
        table->changed = false;
        table->on_change(table->opaque);
    }
}

void memtable_init(MemTable *table, void (*on_change)(void *opaque),
                   void *opaque)
{
    *table = (MemTable){
        .listener = {
            .name = "pci-vhost-user",
            .region_add = memtable_add,
            .region_del = memtable_del,
            .commit = memtable_commit,
        },
        .sections = g_array_new(false, false, sizeof(Section)),
        .sent = g_array_new(false, false, sizeof(Section)),
        .on_change = on_change,
        .opaque = opaque,
    };
    memory_listener_register(&table->listener, &address_space_memory);
}

void memtable_exit(MemTable *table)
{
    if (table->sections) {
        memory_listener_unregister(&table->listener);
        g_array_free(table->sections, true);
        g_array_free(table->sent, true);
        table->sections = NULL;
    }
}

bool memtable_is_empty(const MemTable *table)
{
    return table->sections->len == 0;
}

static gint section_order(gconstpointer a, gconstpointer b)
{
    const Section *left = a, *right = b;

    return left->addr < right->addr ? -1 : left->addr > right->addr;
}

/* The sections by address, those that continue each other made one. */
static GArray *merged(const MemTable *table)
{
    GArray *all = g_array_new(false, false, sizeof(Section));
    Section *last = NULL;

    g_array_sort(table->sections, section_order);
    for (guint i = 0; i < table->sections->len; i++) {
        Section *section = &g_array_index(table->sections, Section, i);

        if (last && last->fd == section->fd &&
            last->addr + last->size == section->addr &&
            last->offset + last->size == section->offset) {
            last->size += section->size;
        } else {
            g_array_append_val(all, *section);
            last = &g_array_index(all, Section, all->len - 1);
        }
    }
    return all;
}

static bool contains(const GArray *sections, const Section *wanted)
{
    for (guint i = 0; i < sections->len; i++) {
        const Section *section = &g_array_index(sections, Section, i);

        if (section->addr == wanted->addr && section->size == wanted->size &&
            section->host == wanted->host &&
            section->offset == wanted->offset && section->fd == wanted->fd) {
            return true;
        }
    }
    return false;
}

static Region region_from(const Section *section)
{
    return (Region) {
        .guest_addr = cpu_to_le64(section->addr),
        .size = cpu_to_le64(section->size),
        .user_addr = cpu_to_le64(section->host),
        .mmap_offset = cpu_to_le64(section->offset),
    };
}

static bool send_one(Channel *channel, enum Request request,
                     const Section *section, int64_t deadline, Error **errp)
{
    SingleRegion body = { .region = region_from(section) };

    return channel_do(channel, request, &body, sizeof(body), &section->fd,
                      request == REQUEST_ADD_MEM_REG, deadline, errp);
}

/* Make the back-end go from table->sent to @next, and own @next. */
static bool send_difference(MemTable *table, GArray *next, Channel *channel,
                            uint64_t slots, int64_t deadline, Error **errp)
{
    g_autoptr(GArray) sent = table->sent;

    table->sent = next;
    if (next->len > slots) {
        error_setg(errp, "guest memory has %u regions, it can map %" PRIu64,
                   next->len, slots);
        return false;
    }
    for (guint i = 0; i < sent->len; i++) {
        Section *section = &g_array_index(sent, Section, i);

        if (!contains(next, section) &&
            !send_one(channel, REQUEST_REM_MEM_REG, section, deadline, errp)) {
            return false;
        }
    }
    for (guint i = 0; i < next->len; i++) {
        Section *section = &g_array_index(next, Section, i);

        if (!contains(sent, section) &&
            !send_one(channel, REQUEST_ADD_MEM_REG, section, deadline, errp)) {
            return false;
        }
    }
    return true;
}

bool memtable_send(MemTable *table, Channel *channel, uint64_t slots,
                   int64_t deadline, Error **errp)
{
    GArray *all = merged(table);
    guint n = MIN(all->len, MAX_TABLE_REGIONS);
    Table body = { .regions = cpu_to_le32(n) };
    int fds[MAX_TABLE_REGIONS];

    g_array_set_size(table->sent, 0);
    for (guint i = 0; i < n; i++) {
        Section *section = &g_array_index(all, Section, i);

        body.region[i] = region_from(section);
        fds[i] = section->fd;
        g_array_append_val(table->sent, *section);
    }
    if (!channel_do(channel, REQUEST_SET_MEM_TABLE, &body,
                    offsetof(Table, region) + n * sizeof(Region), fds, n,
                    deadline, errp)) {
        g_array_free(all, true);
        return false;
    }
    return send_difference(table, all, channel, slots, deadline, errp);
}

bool memtable_update(MemTable *table, Channel *channel, uint64_t slots,
                     int64_t deadline, Error **errp)
{
    return send_difference(table, merged(table), channel, slots, deadline,
                           errp);
}
