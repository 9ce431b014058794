// SPDX-License-Identifier: GPL-2.0-or-later
/* net.smt.*, for each network namespace. */
#include <linux/slab.h>
#include <net/net_namespace.h>
#include "smt.h"

static int one = 1;
static int two = 2;
static int most_calls = SMT_MAX_GRANTED;
static int most_percent = 100;
static int most_message = SMT_MAX_MESSAGE;
static int most_time = 60000;
static int most_gso = 65535;
static int most = INT_MAX;
static int most_resends = 200;

static const struct smt_limits defaults = {
	.unscheduled = 10000,
	.resend_ticks = 15,
	.resend_interval = 10,
	.timeout_resends = 7,
	.ack_ticks = 2,
	.max_incoming = 400000,
	.grant_calls = SMT_MAX_GRANTED,
	.fifo_percent = 5,
	.max_message = SMT_MAX_MESSAGE,
	.max_gso = 65535,
	.max_calls = 65536,
	.max_peers = 65536,
	.tso = 1,
	.interop = 0,
	.offload = SMT_OFFLOAD_ALLOWED,
};

#define ENTRY(field, least, greatest) { \
	.procname = #field, \
	.data = (void *)offsetof(struct smt_limits, field), \
	.maxlen = sizeof(int), \
	.mode = 0644, \
	.proc_handler = proc_dointvec_minmax, \
	.extra1 = least, \
	.extra2 = greatest, \
}

static const struct ctl_table entries[] = {
	/* bytes that a sender may send before the first grant */
	ENTRY(unscheduled, &one, &most_message),
	/* ms of silence until the first RESEND, and the second; after that the pause doubles */
	ENTRY(resend_ticks, &one, &most_time),
	ENTRY(resend_interval, &one, &most_time),
	/* how many may go unanswered: 1.3 s (five, as published, are 0.3 s: a busy machine) */
	ENTRY(timeout_resends, &one, &most_resends),
	/* ms from the end of a response until NEED_ACK */
	ENTRY(ack_ticks, &one, &most_time),
	/* bytes granted to all senders, messages granted at a time, share of the oldest */
	ENTRY(max_incoming, &one, &most),
	ENTRY(grant_calls, &one, &most_calls),
	ENTRY(fifo_percent, SYSCTL_ZERO, &most_percent),
	ENTRY(max_message, &one, &most_message),
	/* bytes of an skb, IP header included */
	ENTRY(max_gso, &one, &most_gso),
	/* RPCs of a socket in which it is the server; machines that we remember */
	ENTRY(max_calls, &one, &most),
	ENTRY(max_peers, &one, &most),
	/* TSO by the device: 0 never, 1 drivers that are known to do it right, 2 always */
	ENTRY(tso, SYSCTL_ZERO, &two),
	/* default of SMT_INTEROP */
	ENTRY(interop, SYSCTL_ZERO, SYSCTL_ONE),
	/* default of SMT_OFFLOAD */
	ENTRY(offload, SYSCTL_ZERO, &two),
};

int smt_sysctl_init(struct smt_net *snet)
{
	struct ctl_table *table;
	unsigned int i;

	snet->limits = defaults;
	table = kcalloc(ARRAY_SIZE(entries) + 1, sizeof(*table), GFP_KERNEL);
	if (!table)
		return -ENOMEM;
	for (i = 0; i < ARRAY_SIZE(entries); i++) {
		table[i] = entries[i];
		table[i].data = (void *)&snet->limits + (size_t)entries[i].data;
	}
	snet->sysctl = smt_register_sysctl(snet->net, "net/smt", table, ARRAY_SIZE(entries));
	if (!snet->sysctl) {
		kfree(table);
		return -ENOMEM;
	}
	snet->sysctl_table = table;
	return 0;
}

void smt_sysctl_exit(struct smt_net *snet)
{
	unregister_net_sysctl_table(snet->sysctl);
	kfree(snet->sysctl_table);
}
