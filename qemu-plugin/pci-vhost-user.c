/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A PCI device whose inside is another process: the vhost-user front-end that
 * README.md specifies, as a QEMU plug-in.
 *
 * Everything here runs with the big QEMU lock held, in vCPU threads or in the
 * main loop, so it needs no lock of its own and must never wait for long.
 */
#include "memtable.h"

#include <sys/epoll.h>
#include <sys/mman.h>

#define TYPE_PCI_VHOST_USER "pci-vhost-user"
OBJECT_DECLARE_SIMPLE_TYPE(PciVhostUser, PCI_VHOST_USER)

/* Time between two attempts to find a lost back-end again. */
#define RETRY_MS 200
/* No guest waits while QEMU starts, and the back-end may be starting too. */
#define START_MS 10000
#define BAR_INDEX 0
#define MSIX_BAR_INDEX 2

typedef enum State {
    STATE_OFFLINE, /* no connection; the timer tries again */
    STATE_WAITING, /* connected, GET_FEATURES sent; is anybody there? */
    STATE_ONLINE,  /* the back-end is attached */
} State;

struct PciVhostUser {
    PCIDevice parent_obj;

    /* Properties. */
    char *socket;
    uint32_t stall_ms;

    State state;
    Channel channel;
    QEMUTimer *retry;
    char *reported; /* why the last attempt failed, as the user was told */
    IdentityBlock identity;
    uint64_t slots;
    MemTable memory;
    bool master; /* Bus Master Enable as the back-end knows it */

    MemoryRegion bar;
    const uint8_t *shadow; /* what BAR reads come from, while online */

    EventNotifier *calls; /* one for each vector */
    unsigned n_calls;
    int calls_epoll;
};

static void on_readable(void *opaque);

/* ---- losing and finding the back-end ---- */

static void go_offline(PciVhostUser *s)
{
    if (s->state != STATE_OFFLINE) {
        qemu_set_fd_handler(s->channel.fd, NULL, NULL, NULL);
    }
    channel_close(&s->channel);
    if (s->shadow) {
        munmap((void *)s->shadow, s->identity.bar_size);
        s->shadow = NULL;
    }
    s->master = false;
    s->state = STATE_OFFLINE;
    if (s->retry) {
        timer_mod(s->retry, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + RETRY_MS);
    }
}

/* The attached back-end is gone, or as good as; consumes @err. */
static void lose(PciVhostUser *s, Error *err)
{
    warn_report("%s: lost the back-end at %s: %s; QEMU waited %" PRId64
                " ms for it; reads return all ones until it is back",
                TYPE_PCI_VHOST_USER, s->socket, error_get_pretty(err),
                s->channel.waited_us / 1000);
    g_free(s->reported);
    s->reported = g_strdup(error_get_pretty(err));
    error_free(err);
    go_offline(s);
}

/* An attempt to find it again has failed; consumes @err. */
static void fail(PciVhostUser *s, Error *err)
{
    if (g_strcmp0(s->reported, error_get_pretty(err))) {
        warn_report("%s: the back-end at %s cannot be used: %s",
                    TYPE_PCI_VHOST_USER, s->socket, error_get_pretty(err));
        g_free(s->reported);
        s->reported = g_strdup(error_get_pretty(err));
    }
    error_free(err);
    go_offline(s);
}

/* ---- handshake ---- */

static bool send_u64(PciVhostUser *s, enum Request request, uint64_t value,
                     int64_t deadline, Error **errp)
{
    uint64_t body = cpu_to_le64(value);

    return channel_send(&s->channel, request, 0, &body, sizeof(body), NULL, 0,
                        deadline, errp);
}

/* Everything up to the identity block; GET_FEATURES has been answered. */
static bool negotiate(PciVhostUser *s, uint64_t features,
                      IdentityBlock *identity, int64_t deadline, Error **errp)
{
    struct __attribute__((packed)) {
        Config config;
        IdentityBlock identity;
    } block = { .config.offset = cpu_to_le32(IDENTITY_OFFSET),
                .config.size = cpu_to_le32(sizeof(IdentityBlock)) };
    uint64_t protocol_features;

    if (!(features & FEATURE_PROTOCOL_FEATURES)) {
        error_setg(errp, "it has no protocol features");
        return false;
    }
    if (!send_u64(s, REQUEST_SET_FEATURES, FEATURE_PROTOCOL_FEATURES, deadline,
                  errp) ||
        !channel_get_u64(&s->channel, REQUEST_GET_PROTOCOL_FEATURES,
                         &protocol_features, deadline, errp)) {
        return false;
    }
    if (~protocol_features & PROTOCOL_FEATURES) {
        error_setg(
            errp, "its protocol features are 0x%" PRIx64 ", without 0x%" PRIx64,
            protocol_features, ~protocol_features & PROTOCOL_FEATURES);
        return false;
    }
    if (!send_u64(s, REQUEST_SET_PROTOCOL_FEATURES, PROTOCOL_FEATURES, deadline,
                  errp) ||
        !channel_send(&s->channel, REQUEST_SET_OWNER, 0, NULL, 0, NULL, 0,
                      deadline, errp) ||
        !channel_get_u64(&s->channel, REQUEST_GET_MAX_MEM_SLOTS, &s->slots,
                         deadline, errp) ||
        !channel_send(&s->channel, REQUEST_GET_CONFIG, 0, &block, sizeof(block),
                      NULL, 0, deadline, errp) ||
        !channel_receive(&s->channel, REQUEST_GET_CONFIG, &block, sizeof(block),
                         deadline, errp)) {
        return false;
    }
    *identity = (IdentityBlock) {
        .magic = le32_to_cpu(block.identity.magic),
        .version = le16_to_cpu(block.identity.version),
        .length = le16_to_cpu(block.identity.length),
        .vendor_id = le16_to_cpu(block.identity.vendor_id),
        .device_id = le16_to_cpu(block.identity.device_id),
        .subsystem_vendor_id = le16_to_cpu(block.identity.subsystem_vendor_id),
        .subsystem_id = le16_to_cpu(block.identity.subsystem_id),
        .class_revision = le32_to_cpu(block.identity.class_revision),
        .vectors = le32_to_cpu(block.identity.vectors),
        .bar_size = le64_to_cpu(block.identity.bar_size),
        .clock_offset = le32_to_cpu(block.identity.clock_offset),
        .clock_khz = le32_to_cpu(block.identity.clock_khz),
        .vendor_cap_size = le32_to_cpu(block.identity.vendor_cap_size),
    };
    if (identity->magic != IDENTITY_MAGIC ||
        identity->version != IDENTITY_VERSION ||
        identity->length != sizeof(IdentityBlock)) {
        error_setg(errp, "its identity block is not of version %d",
                   IDENTITY_VERSION);
        return false;
    }
    if (identity->bar_size < MIN_BAR_SIZE ||
        identity->bar_size > MAX_BAR_SIZE ||
        !is_power_of_2(identity->bar_size) || !identity->vectors ||
        identity->vectors > MAX_VECTORS || identity->vendor_cap_size % 4 ||
        identity->vendor_cap_size > MAX_VENDOR_CAP ||
        (identity->clock_khz &&
         (identity->clock_offset % sizeof(uint64_t) ||
          identity->clock_offset > identity->bar_size - sizeof(uint64_t)))) {
        error_setg(errp, "its identity block makes no sense");
        return false;
    }
    return true;
}

/* Give the back-end memory that it can fill and the guest can read. */
static bool share_shadow(PciVhostUser *s, int64_t deadline, Error **errp)
{
    Inflight body = { .mmap_size = cpu_to_le64(s->identity.bar_size) };
    void *shadow = MAP_FAILED;
    bool shared = false;
    int fd =
        memfd_create("pci-vhost-user-bar", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd >= 0 && ftruncate(fd, s->identity.bar_size) == 0 &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) ==
            0) {
        shadow = mmap(NULL, s->identity.bar_size, PROT_READ, MAP_SHARED, fd, 0);
    }
    if (shadow == MAP_FAILED) {
        error_setg_errno(errp, errno, "cannot make the shadow of its BAR");
    } else {
        s->shadow = shadow;
        shared = channel_do(&s->channel, REQUEST_SET_INFLIGHT_FD, &body,
                            sizeof(body), &fd, 1, deadline, errp);
    }
    if (fd >= 0) {
        close(fd);
    }
    return shared;
}

static bool send_master(PciVhostUser *s, bool master, int64_t deadline,
                        Error **errp)
{
    struct __attribute__((packed)) {
        Config config;
        uint16_t command;
    } body = {
        .config.offset = cpu_to_le32(COMMAND_OFFSET),
        .config.size = cpu_to_le32(sizeof(body.command)),
        .command = cpu_to_le16(master ? PCI_COMMAND_MASTER : 0),
    };

    if (!channel_do(&s->channel, REQUEST_SET_CONFIG, &body, sizeof(body), NULL,
                    0, deadline, errp)) {
        return false;
    }
    s->master = master;
    return true;
}

static bool guest_is_master(PciVhostUser *s)
{
    return pci_get_word(PCI_DEVICE(s)->config + PCI_COMMAND) &
           PCI_COMMAND_MASTER;
}

/* Everything behind the identity block; the back-end is attached then. */
static bool attach(PciVhostUser *s, int64_t deadline, Error **errp)
{
    for (unsigned i = 0; i < s->n_calls; i++) {
        int fd = event_notifier_get_fd(&s->calls[i]);
        uint64_t vector = cpu_to_le64(i);

        if (!channel_send(&s->channel, REQUEST_SET_VRING_CALL, 0, &vector,
                          sizeof(vector), &fd, 1, deadline, errp)) {
            return false;
        }
    }
    if (!share_shadow(s, deadline, errp) ||
        !memtable_send(&s->memory, &s->channel, s->slots, deadline, errp)) {
        return false;
    }
    s->master = false;
    if (guest_is_master(s) && !send_master(s, true, deadline, errp)) {
        return false;
    }
    s->state = STATE_ONLINE;
    qemu_set_fd_handler(s->channel.fd, on_readable, NULL, s);
    return true;
}

/* Connected, and the back-end has answered: it will answer the rest in time. */
static bool reattach(PciVhostUser *s, Error **errp)
{
    int64_t deadline = channel_deadline(s->stall_ms);
    IdentityBlock identity;
    uint64_t features;

    if (!channel_receive(&s->channel, REQUEST_GET_FEATURES, &features,
                         sizeof(features), deadline, errp) ||
        !negotiate(s, le64_to_cpu(features), &identity, deadline, errp)) {
        return false;
    }
    if (memcmp(&identity, &s->identity, sizeof(identity))) {
        error_setg(errp, "it is another device than the one that was lost");
        return false;
    }
    return attach(s, deadline, errp);
}

static void on_readable(void *opaque)
{
    PciVhostUser *s = opaque;
    Error *err = NULL;

    if (s->state == STATE_ONLINE) {
        if (!channel_is_quiet(&s->channel, &err)) {
            lose(s, err);
        }
    } else if (s->state == STATE_WAITING) {
        if (!reattach(s, &err)) {
            fail(s, err);
            return;
        }
        info_report("%s: the back-end at %s is back", TYPE_PCI_VHOST_USER,
                    s->socket);
        g_clear_pointer(&s->reported, g_free);
    }
}

/*
 * A stopped back-end still accepts connections, or its kernel does. So nothing
 * waits for an answer to the first request; the main loop tells when it comes.
 */
static void on_retry(void *opaque)
{
    PciVhostUser *s = opaque;
    Error *err = NULL;

    if (!channel_open(&s->channel, s->socket, NULL)) {
        go_offline(s); /* nobody there, which was said when he left */
    } else if (!channel_send(&s->channel, REQUEST_GET_FEATURES, 0, NULL, 0,
                             NULL, 0, channel_deadline(0), &err)) {
        fail(s, err);
    } else {
        s->state = STATE_WAITING;
        qemu_set_fd_handler(s->channel.fd, on_readable, NULL, s);
    }
}

/* ---- memory, bus mastering, reset ---- */

static void on_memory_change(void *opaque)
{
    PciVhostUser *s = opaque;
    Error *err = NULL;

    if (s->state == STATE_ONLINE &&
        !memtable_update(&s->memory, &s->channel, s->slots,
                         channel_deadline(s->stall_ms), &err)) {
        lose(s, err);
    }
}

static void config_write(PCIDevice *dev, uint32_t addr, uint32_t value, int len)
{
    PciVhostUser *s = PCI_VHOST_USER(dev);
    Error *err = NULL;

    pci_default_write_config(dev, addr, value, len);
    pcie_cap_flr_write_config(dev, addr, value, len);
    if (s->state == STATE_ONLINE && s->master != guest_is_master(s) &&
        !send_master(s, !s->master, channel_deadline(s->stall_ms), &err)) {
        lose(s, err);
    }
}

static void drop_interrupts(PciVhostUser *s)
{
    struct epoll_event events[64];

    while (epoll_wait(s->calls_epoll, events, ARRAY_SIZE(events), 0) > 0) {
        continue;
    }
}

static void reset(DeviceState *dev)
{
    PciVhostUser *s = PCI_VHOST_USER(dev);
    Error *err = NULL;

    if (s->state == STATE_ONLINE) {
        s->master = false;
        if (!channel_do(&s->channel, REQUEST_RESET_DEVICE, NULL, 0, NULL, 0,
                        channel_deadline(s->stall_ms), &err)) {
            lose(s, err);
        }
    }
    drop_interrupts(s);
}

/* ---- interrupts ---- */

/*
 * The eventfds are never read: edge-triggered epoll tells of each write, and
 * one system call tells of all vectors.
 */
static void on_interrupts(void *opaque)
{
    PciVhostUser *s = opaque;
    struct epoll_event events[64];
    int n = epoll_wait(s->calls_epoll, events, ARRAY_SIZE(events), 0);

    for (int i = 0; i < n; i++) {
        msix_notify(PCI_DEVICE(s), events[i].data.u32);
    }
}

static bool make_calls(PciVhostUser *s, Error **errp)
{
    s->calls_epoll = epoll_create1(EPOLL_CLOEXEC);
    if (s->calls_epoll < 0) {
        error_setg_errno(errp, errno, "cannot create an epoll descriptor");
        return false;
    }
    s->calls = g_new0(EventNotifier, s->identity.vectors);
    for (; s->n_calls < s->identity.vectors; s->n_calls++) {
        EventNotifier *call = &s->calls[s->n_calls];
        struct epoll_event event = { .events = EPOLLIN | EPOLLET,
                                     .data.u32 = s->n_calls };

        if (event_notifier_init(call, false) < 0 ||
            epoll_ctl(s->calls_epoll, EPOLL_CTL_ADD,
                      event_notifier_get_fd(call), &event) < 0) {
            error_setg_errno(errp, errno, "cannot create %u eventfds",
                             s->identity.vectors);
            return false;
        }
    }
    qemu_set_fd_handler(s->calls_epoll, on_interrupts, NULL, s);
    return true;
}

/* ---- BAR 0 ---- */

/* Put the bytes of the clock that the access covers in place. */
static void read_clock(PciVhostUser *s, hwaddr addr, uint8_t *bytes,
                       unsigned size)
{
    struct timespec now;
    uint8_t clock[sizeof(uint64_t)];
    uint64_t ns;

    if (!s->identity.clock_khz || addr + size <= s->identity.clock_offset ||
        addr >= s->identity.clock_offset + sizeof(clock)) {
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &now);
    ns = (uint64_t)now.tv_sec * NANOSECONDS_PER_SECOND + now.tv_nsec;
    stq_be_p(clock, muldiv64(ns, s->identity.clock_khz, 1000000));
    for (unsigned i = 0; i < size; i++) {
        hwaddr at = addr + i - s->identity.clock_offset;

        if (at < sizeof(clock)) {
            bytes[i] = clock[at];
        }
    }
}

/* Bytes are what the device writes and the guest sees; order is theirs. */
static uint64_t bar_read(void *opaque, hwaddr addr, unsigned size)
{
    PciVhostUser *s = opaque;
    uint8_t bytes[sizeof(uint64_t)];

    if (s->state != STATE_ONLINE) {
        return UINT64_MAX;
    }
    stn_he_p(bytes, size, ldn_he_p(s->shadow + addr, size));
    read_clock(s, addr, bytes, size);
    return ldn_le_p(bytes, size);
}

static void bar_write(void *opaque, hwaddr addr, uint64_t value, unsigned size)
{
    PciVhostUser *s = opaque;
    struct __attribute__((packed)) {
        Config config;
        uint8_t data[sizeof(uint64_t)];
    } body = {
        .config.offset = cpu_to_le32(BAR_OFFSET + addr),
        .config.size = cpu_to_le32(size),
    };
    Error *err = NULL;

    if (s->state != STATE_ONLINE) {
        return;
    }
    stn_le_p(body.data, size, value);
    if (!channel_send(&s->channel, REQUEST_SET_CONFIG, 0, &body,
                      sizeof(body.config) + size, NULL, 0,
                      channel_deadline(s->stall_ms), &err)) {
        lose(s, err);
    }
}

static const MemoryRegionOps bar_ops = {
    .read = bar_read,
    .write = bar_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
    .impl = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
};

/* ---- life ---- */

static bool connect_first(PciVhostUser *s, Error **errp)
{
    int64_t deadline =
        channel_deadline(DEVICE(s)->hotplugged ? s->stall_ms : START_MS);
    uint64_t features;

    return channel_open(&s->channel, s->socket, errp) &&
           channel_get_u64(&s->channel, REQUEST_GET_FEATURES, &features,
                           deadline, errp) &&
           negotiate(s, features, &s->identity, deadline, errp) &&
           make_calls(s, errp) && attach(s, deadline, errp);
}

static bool add_to_bus(PciVhostUser *s, Error **errp)
{
    PCIDevice *dev = PCI_DEVICE(s);
    uint8_t *config = dev->config;

    pci_config_set_vendor_id(config, s->identity.vendor_id);
    pci_config_set_device_id(config, s->identity.device_id);
    pci_config_set_revision(config, s->identity.class_revision & 0xff);
    pci_config_set_prog_interface(config, s->identity.class_revision >> 8);
    pci_config_set_class(config, s->identity.class_revision >> 16);
    pci_set_word(config + PCI_SUBSYSTEM_VENDOR_ID,
                 s->identity.subsystem_vendor_id);
    pci_set_word(config + PCI_SUBSYSTEM_ID, s->identity.subsystem_id);

    memory_region_init_io(&s->bar, OBJECT(s), &bar_ops, s, TYPE_PCI_VHOST_USER,
                          s->identity.bar_size);
    pci_register_bar(dev, BAR_INDEX,
                     PCI_BASE_ADDRESS_SPACE_MEMORY |
                         PCI_BASE_ADDRESS_MEM_PREFETCH |
                         PCI_BASE_ADDRESS_MEM_TYPE_64,
                     &s->bar);
    if (pci_bus_is_express(pci_get_bus(dev))) {
        if (pcie_endpoint_cap_init(dev, 0) < 0) {
            error_setg(errp, "cannot add the PCI Express capability");
            return false;
        }
        pcie_cap_flr_init(dev);
    }
    if (s->identity.vendor_cap_size) {
        unsigned size = s->identity.vendor_cap_size;
        int at = pci_add_capability(dev, PCI_CAP_ID_VNDR, 0, size, errp);

        if (at < 0) {
            return false;
        }
        pci_set_byte(dev->config + at + PCI_CAP_FLAGS, size);
        memset(dev->wmask + at + sizeof(uint32_t), 0xff,
               size - sizeof(uint32_t));
    }
    if (msix_init_exclusive_bar(dev, s->identity.vectors, MSIX_BAR_INDEX,
                                errp) < 0) {
        return false;
    }
    for (unsigned i = 0; i < s->identity.vectors; i++) {
        msix_vector_use(dev, i); /* an unused one is never notified */
    }
    return true;
}

static void unrealize(PCIDevice *dev)
{
    PciVhostUser *s = PCI_VHOST_USER(dev);

    g_clear_pointer(&s->retry, timer_free);
    go_offline(s);
    memtable_exit(&s->memory);
    if (msix_present(dev)) {
        msix_uninit_exclusive_bar(dev);
    }
    if (pci_is_express(dev)) {
        pcie_cap_exit(dev);
    }
    if (s->calls_epoll >= 0) {
        qemu_set_fd_handler(s->calls_epoll, NULL, NULL, NULL);
        close(s->calls_epoll);
        s->calls_epoll = -1;
    }
    while (s->n_calls) {
        event_notifier_cleanup(&s->calls[--s->n_calls]);
    }
    g_clear_pointer(&s->calls, g_free);
    g_clear_pointer(&s->reported, g_free);
}

static void realize(PCIDevice *dev, Error **errp)
{
    PciVhostUser *s = PCI_VHOST_USER(dev);
    Error *err = NULL;

    s->channel.fd = -1;
    s->calls_epoll = -1;
    if (!s->socket) {
        error_setg(errp, "%s needs socket=PATH", TYPE_PCI_VHOST_USER);
        return;
    }
    if (pci_device_iommu_address_space(dev) != &address_space_memory) {
        error_setg(errp, "%s does not work behind an IOMMU of the guest",
                   TYPE_PCI_VHOST_USER);
        return;
    }
    memtable_init(&s->memory, on_memory_change, s);
    if (memtable_is_empty(&s->memory)) {
        error_setg(&err, "guest memory is not shared: use -object "
                         "memory-backend-memfd,id=ram,size=SIZE,share=on "
                         "-machine memory-backend=ram");
    } else if (!connect_first(s, &err)) {
        error_prepend(&err, "the back-end at %s: ", s->socket);
        error_append_hint(&err, "Start the back-end first: it must listen on "
                                "that socket, and serves one QEMU at a "
                                "time.\n");
    } else if (add_to_bus(s, &err)) {
        s->retry = timer_new_ms(QEMU_CLOCK_REALTIME, on_retry, s);
        return;
    }
    unrealize(dev);
    error_propagate(errp, err);
}

static COMPAT_PROPERTIES properties[] = {
    DEFINE_PROP_STRING("socket", PciVhostUser, socket),
    DEFINE_PROP_UINT32("stall-ms", PciVhostUser, stall_ms, 1000),
    COMPAT_END_OF_PROPERTIES
};

/* The state of the device is in another process, which cannot move it. */
static const VMStateDescription vmstate = {
    .name = TYPE_PCI_VHOST_USER,
    .unmigratable = 1,
};

static void class_init(ObjectClass *class, void *data)
{
    DeviceClass *device = DEVICE_CLASS(class);
    PCIDeviceClass *pci = PCI_DEVICE_CLASS(class);

    (void)data;
    device->desc = "PCI device implemented by a vhost-user back-end";
    device->vmsd = &vmstate;
    device_class_set_props(device, properties);
    device_class_set_legacy_reset(device, reset);
    set_bit(DEVICE_CATEGORY_NETWORK, device->categories);
    pci->realize = realize;
    pci->exit = unrealize;
    pci->config_write = config_write;
}

static const TypeInfo type = {
    .name = TYPE_PCI_VHOST_USER,
    .parent = TYPE_PCI_DEVICE,
    .instance_size = sizeof(PciVhostUser),
    .class_init = class_init,
    .interfaces = (InterfaceInfo[]) { { INTERFACE_PCIE_DEVICE }, {} },
};

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id,
                                           const qemu_info_t *info, int argc,
                                           char **argv)
{
    (void)id, (void)info, (void)argc, (void)argv;
    type_register_static(&type);
    return 0;
}
