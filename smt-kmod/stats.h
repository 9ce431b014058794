/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SMT_STATS_H
#define SMT_STATS_H

enum smt_counter {
#define SMT_COUNTER(name) SMT_C_##name,
#include "counters.h"
#undef SMT_COUNTER
	SMT_N_COUNTERS
};

#endif
