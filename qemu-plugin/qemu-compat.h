/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Everything in which QEMU 7.2 (Debian 12) and 10.0 (Debian 13) differ for us.
 */
#ifndef PCI_VHOST_USER_QEMU_COMPAT_H
#define PCI_VHOST_USER_QEMU_COMPAT_H

#include "qemu/osdep.h"

#include "exec/address-spaces.h"
#include "exec/cpu-common.h"
#include "exec/memory.h"
#include "exec/ramblock.h"
#include "hw/pci/msix.h"
#include "hw/pci/pcie.h"
#include "hw/qdev-properties.h"
#include "migration/vmstate.h"
#include "qapi/error.h"
#include "qemu/bswap.h"
#include "qemu/error-report.h"
#include "qemu/event_notifier.h"
#include "qemu/host-utils.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qemu/qemu-plugin.h"
#include "qemu/timer.h"

#if QEMU_VERSION_MAJOR >= 8
#include "hw/pci/pci_device.h"
#else
#include "hw/pci/pci.h"
#endif

/* Property arrays became const, and lost their terminator, in 10.0. */
#if QEMU_VERSION_MAJOR >= 10
#define COMPAT_PROPERTIES const Property
#define COMPAT_END_OF_PROPERTIES
#else
#define COMPAT_PROPERTIES Property
#define COMPAT_END_OF_PROPERTIES DEFINE_PROP_END_OF_LIST(),
#endif

/* Renamed in 9.2, when all devices had become Resettable. */
#if QEMU_VERSION_MAJOR < 10
static inline void device_class_set_legacy_reset(DeviceClass *class,
                                                 void (*reset)(DeviceState *))
{
    class->reset = reset;
}
#endif

/* A RAM block may begin anywhere in its file since 8.1. */
static inline uint64_t compat_ram_fd_offset(const RAMBlock *block)
{
#if QEMU_VERSION_MAJOR >= 9
    return block->fd_offset;
#else
    (void)block;
    return 0;
#endif
}

#endif
