// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * smt_ledger: which keys this machine has used since it was started.
 *
 * A key that comes back would meet record numbers that it has encrypted before, and a window of
 * received messages that has forgotten them. So a key is taken once for each direction. That has to
 * outlive smt.ko: this is a module of its own, which cannot be unloaded.
 */
#include <crypto/blake2s.h>
#include <linux/hashtable.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/random.h>
#include <linux/slab.h>
#include "ledger.h"

#define PRINT_LENGTH 16
#define LEDGER_BITS 12

struct entry {
	struct hlist_node node;
	u8 print[PRINT_LENGTH];
	u8 directions;
};

static unsigned int max_keys = 1 << 20;
module_param(max_keys, uint, 0444);
MODULE_PARM_DESC(max_keys, "Keys that are remembered; further ones are refused");

static DEFINE_MUTEX(ledger_lock);
static DEFINE_HASHTABLE(ledger, LEDGER_BITS);
static unsigned int keys;
/* only this machine can tell which key a print belongs to, and only with the key at hand */
static u8 secret[BLAKE2S_KEY_SIZE];

static struct entry *find(const u8 *print, u32 bucket)
{
	struct entry *entry;

	hash_for_each_possible(ledger, entry, node, bucket) {
		if (!memcmp(entry->print, print, PRINT_LENGTH))
			return entry;
	}
	return NULL;
}

/**
 * smt_ledger_enter() - use a key in a direction, for the first and only time
 * @direction: to encrypt or to decrypt
 * @key: the key
 * @key_len: its bytes
 * @salt: first bytes of each nonce
 * @salt_len: its bytes
 *
 * Return: 0; -EKEYREJECTED if it was used in this direction; -ENOSPC if the ledger is full; -ENOMEM
 */
int smt_ledger_enter(enum smt_direction direction, const u8 *key, size_t key_len,
		     const u8 *salt, size_t salt_len)
{
	struct blake2s_state state;
	u8 print[PRINT_LENGTH];
	struct entry *entry;
	int err = 0;
	u32 bucket;

	blake2s_init_key(&state, PRINT_LENGTH, secret, sizeof(secret));
	blake2s_update(&state, key, key_len);
	blake2s_update(&state, salt, salt_len);
	blake2s_final(&state, print);
	memcpy(&bucket, print, sizeof(bucket));

	mutex_lock(&ledger_lock);
	entry = find(print, bucket);
	if (!entry) {
		err = -ENOSPC;
		if (keys >= max_keys)
			goto out;
		err = -ENOMEM;
		entry = kzalloc(sizeof(*entry), GFP_KERNEL_ACCOUNT);
		if (!entry)
			goto out;
		err = 0;
		memcpy(entry->print, print, PRINT_LENGTH);
		hash_add(ledger, &entry->node, bucket);
		keys++;
	}
	if (entry->directions & BIT(direction))
		err = -EKEYREJECTED;
	entry->directions |= BIT(direction);
out:
	mutex_unlock(&ledger_lock);
	return err;
}
EXPORT_SYMBOL_GPL(smt_ledger_enter);

static int __init ledger_init(void)
{
	get_random_bytes(secret, sizeof(secret));
	return 0;
}

/* there is no module_exit(): what was used must not be forgotten */
module_init(ledger_init);

MODULE_DESCRIPTION("Keys that SMT has used");
MODULE_LICENSE("GPL");
