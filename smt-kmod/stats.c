// SPDX-License-Identifier: GPL-2.0-or-later
/* /proc/net/smt: one counter a line, its name and its value. */
#include <linux/ctype.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <net/net_namespace.h>
#include "smt.h"

static const char * const names[] = {
#define SMT_COUNTER(name) #name,
#include "counters.h"
#undef SMT_COUNTER
};

/* For tracepoints; as in /proc/net/smt, but in upper case. */
const char *smt_counter_name(enum smt_counter counter)
{
	return names[counter];
}

static int show(struct seq_file *seq, void *unused)
{
	struct smt_net *snet = smt_net(seq_file_single_net(seq));
	unsigned int i;
	int cpu;

	for (i = 0; i < SMT_N_COUNTERS; i++) {
		const char *c;
		u64 sum = 0;

		for_each_possible_cpu(cpu)
			sum += per_cpu_ptr(snet->counters, cpu)[i];
		for (c = names[i]; *c; c++)
			seq_putc(seq, tolower(*c));
		seq_printf(seq, " %llu\n", sum);
	}
	return 0;
}

int smt_stats_init(struct smt_net *snet)
{
	snet->counters = __alloc_percpu(SMT_N_COUNTERS * sizeof(u64), sizeof(u64));
	if (!snet->counters)
		return -ENOMEM;
	if (!proc_create_net_single("smt", 0444, snet->net->proc_net, show, NULL)) {
		free_percpu(snet->counters);
		return -ENOMEM;
	}
	return 0;
}

void smt_stats_exit(struct smt_net *snet)
{
	remove_proc_entry("smt", snet->net->proc_net);
	free_percpu(snet->counters);
}
