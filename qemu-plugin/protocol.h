/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The vhost-user messages of the profile in README.md, and the device space
 * that GET_CONFIG and SET_CONFIG address. Everything is little-endian.
 *
 * nicmodel/transport/messages.py declares the same; constants.c prints this
 * header's numbers for the test that compares them.
 */
#ifndef PCI_VHOST_USER_PROTOCOL_H
#define PCI_VHOST_USER_PROTOCOL_H

#include <stdint.h>

enum Request {
    REQUEST_GET_FEATURES = 1,
    REQUEST_SET_FEATURES = 2,
    REQUEST_SET_OWNER = 3,
    REQUEST_SET_MEM_TABLE = 5,
    REQUEST_SET_VRING_CALL = 13,
    REQUEST_GET_PROTOCOL_FEATURES = 15,
    REQUEST_SET_PROTOCOL_FEATURES = 16,
    REQUEST_GET_CONFIG = 24,
    REQUEST_SET_CONFIG = 25,
    REQUEST_SET_INFLIGHT_FD = 32,
    REQUEST_RESET_DEVICE = 34,
    REQUEST_GET_MAX_MEM_SLOTS = 36,
    REQUEST_ADD_MEM_REG = 37,
    REQUEST_REM_MEM_REG = 38,
};

enum {
    FLAG_VERSION = 1,
    FLAG_REPLY = 4,
    FLAG_NEED_REPLY = 8,
};

#define FEATURE_PROTOCOL_FEATURES (UINT64_C(1) << 30)

#define PROTOCOL_FEATURE_REPLY_ACK (UINT64_C(1) << 3)
#define PROTOCOL_FEATURE_CONFIG (UINT64_C(1) << 9)
#define PROTOCOL_FEATURE_INFLIGHT_SHMFD (UINT64_C(1) << 12)
#define PROTOCOL_FEATURE_RESET_DEVICE (UINT64_C(1) << 13)
#define PROTOCOL_FEATURE_CONFIGURE_MEM_SLOTS (UINT64_C(1) << 15)
#define PROTOCOL_FEATURES                                              \
    (PROTOCOL_FEATURE_REPLY_ACK | PROTOCOL_FEATURE_CONFIG |            \
     PROTOCOL_FEATURE_INFLIGHT_SHMFD | PROTOCOL_FEATURE_RESET_DEVICE | \
     PROTOCOL_FEATURE_CONFIGURE_MEM_SLOTS)

enum {
    MAX_TABLE_REGIONS = 8,
    MAX_CONFIG_SIZE = 256,
    MAX_VECTORS = 256,
    MAX_VENDOR_CAP = 64,
    MIN_BAR_SIZE = 4096,
    MAX_BAR_SIZE = 64 << 20,
};

/* Device space. */
enum {
    IDENTITY_OFFSET = 0x0,
    COMMAND_OFFSET = 0x1000,
    BAR_OFFSET = 0x10000000,
};

#define IDENTITY_MAGIC UINT32_C(0x55565650)
#define IDENTITY_VERSION 1

typedef struct __attribute__((packed)) Header {
    uint32_t request;
    uint32_t flags;
    uint32_t size;
} Header;

typedef struct __attribute__((packed)) Region {
    uint64_t guest_addr;
    uint64_t size;
    uint64_t user_addr;
    uint64_t mmap_offset;
} Region;

typedef struct __attribute__((packed)) Table {
    uint32_t regions;
    uint32_t padding;
    Region region[MAX_TABLE_REGIONS];
} Table;

typedef struct __attribute__((packed)) SingleRegion {
    uint64_t padding;
    Region region;
} SingleRegion;

typedef struct __attribute__((packed)) Config {
    uint32_t offset;
    uint32_t size;
    uint32_t flags;
} Config;

typedef struct __attribute__((packed)) Inflight {
    uint64_t mmap_size;
    uint64_t mmap_offset;
    uint16_t queues;
    uint16_t queue_size;
} Inflight;

typedef struct __attribute__((packed)) IdentityBlock {
    uint32_t magic;
    uint16_t version;
    uint16_t length;
    uint16_t vendor_id;
    uint16_t device_id;
    uint16_t subsystem_vendor_id;
    uint16_t subsystem_id;
    uint32_t class_revision;
    uint32_t vectors;
    uint64_t bar_size;
    uint32_t clock_offset;
    uint32_t clock_khz;
    uint32_t vendor_cap_size;
    uint32_t reserved0;
    uint64_t reserved1;
    uint64_t reserved2;
} IdentityBlock;

/* No message of the profile has a longer body. */
#define MAX_BODY (sizeof(Config) + MAX_CONFIG_SIZE)

#endif
