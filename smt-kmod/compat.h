/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What differs between the kernels that this builds for. */
#ifndef SMT_COMPAT_H
#define SMT_COMPAT_H

#include <linux/version.h>
#include <linux/sysctl.h>

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
#define smt_register_sysctl(net, path, table, count) \
	register_net_sysctl_sz(net, path, table, count)
#include <net/gso.h>
#else
/* the table ends with an empty entry there */
#define smt_register_sysctl(net, path, table, count) register_net_sysctl(net, path, table)
#endif

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 10, 0)
#define smt_assign_str(field, source) __assign_str(field)
#else
#define smt_assign_str(field, source) __assign_str(field, source)
#endif

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
#include <linux/unaligned.h>
#else
#include <asm/unaligned.h>
#endif

#endif
