/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Prints the numbers of protocol.h, one "name value" a line, for the test that
 * compares them with nicmodel/transport/messages.py.
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

#include "protocol.h"

#define VALUE(name) printf("%s %" PRIu64 "\n", #name, (uint64_t)(name))
#define SIZE(type) printf("sizeof.%s %zu\n", #type, sizeof(type))
#define OFFSET(type, field) \
    printf("offsetof.%s.%s %zu\n", #type, #field, offsetof(type, field))

int main(void)
{
    VALUE(REQUEST_GET_FEATURES);
    VALUE(REQUEST_SET_FEATURES);
    VALUE(REQUEST_SET_OWNER);
    VALUE(REQUEST_SET_MEM_TABLE);
    VALUE(REQUEST_SET_VRING_CALL);
    VALUE(REQUEST_GET_PROTOCOL_FEATURES);
    VALUE(REQUEST_SET_PROTOCOL_FEATURES);
    VALUE(REQUEST_GET_CONFIG);
    VALUE(REQUEST_SET_CONFIG);
    VALUE(REQUEST_SET_INFLIGHT_FD);
    VALUE(REQUEST_RESET_DEVICE);
    VALUE(REQUEST_GET_MAX_MEM_SLOTS);
    VALUE(REQUEST_ADD_MEM_REG);
    VALUE(REQUEST_REM_MEM_REG);
    VALUE(FLAG_VERSION);
    VALUE(FLAG_REPLY);
    VALUE(FLAG_NEED_REPLY);
    VALUE(FEATURE_PROTOCOL_FEATURES);
    VALUE(PROTOCOL_FEATURE_REPLY_ACK);
    VALUE(PROTOCOL_FEATURE_CONFIG);
    VALUE(PROTOCOL_FEATURE_INFLIGHT_SHMFD);
    VALUE(PROTOCOL_FEATURE_RESET_DEVICE);
    VALUE(PROTOCOL_FEATURE_CONFIGURE_MEM_SLOTS);
    VALUE(PROTOCOL_FEATURES);
    VALUE(MAX_TABLE_REGIONS);
    VALUE(MAX_CONFIG_SIZE);
    VALUE(MAX_VECTORS);
    VALUE(MAX_VENDOR_CAP);
    VALUE(MIN_BAR_SIZE);
    VALUE(MAX_BAR_SIZE);
    VALUE(MAX_BODY);
    VALUE(IDENTITY_OFFSET);
    VALUE(COMMAND_OFFSET);
    VALUE(BAR_OFFSET);
    VALUE(IDENTITY_MAGIC);
    VALUE(IDENTITY_VERSION);

    SIZE(Header);
    OFFSET(Header, request);
    OFFSET(Header, flags);
    OFFSET(Header, size);

    SIZE(Region);
    OFFSET(Region, guest_addr);
    OFFSET(Region, size);
    OFFSET(Region, user_addr);
    OFFSET(Region, mmap_offset);

    OFFSET(Table, regions);
    OFFSET(Table, padding);
    OFFSET(Table, region);

    SIZE(SingleRegion);
    OFFSET(SingleRegion, padding);
    OFFSET(SingleRegion, region);

    SIZE(Config);
    OFFSET(Config, offset);
    OFFSET(Config, size);
    OFFSET(Config, flags);

    SIZE(Inflight);
    OFFSET(Inflight, mmap_size);
    OFFSET(Inflight, mmap_offset);
    OFFSET(Inflight, queues);
    OFFSET(Inflight, queue_size);

    SIZE(IdentityBlock);
    OFFSET(IdentityBlock, magic);
    OFFSET(IdentityBlock, version);
    OFFSET(IdentityBlock, length);
    OFFSET(IdentityBlock, vendor_id);
    OFFSET(IdentityBlock, device_id);
    OFFSET(IdentityBlock, subsystem_vendor_id);
    OFFSET(IdentityBlock, subsystem_id);
    OFFSET(IdentityBlock, class_revision);
    OFFSET(IdentityBlock, vectors);
    OFFSET(IdentityBlock, bar_size);
    OFFSET(IdentityBlock, clock_offset);
    OFFSET(IdentityBlock, clock_khz);
    OFFSET(IdentityBlock, vendor_cap_size);
    OFFSET(IdentityBlock, reserved0);
    OFFSET(IdentityBlock, reserved1);
    OFFSET(IdentityBlock, reserved2);
    return 0;
}
