/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SMT_LEDGER_H
#define SMT_LEDGER_H

#include <linux/types.h>

enum smt_direction { SMT_SEAL, SMT_OPEN };

int smt_ledger_enter(enum smt_direction direction, const u8 *key, size_t key_len,
		     const u8 *salt, size_t salt_len);

#endif
