// SPDX-License-Identifier: GPL-2.0-or-later
/* A kernel whose devices do not encrypt (no CONFIG_TLS_DEVICE, CONFIG_AUXILIARY_BUS). */
#include "smt.h"

int smt_hw_init(void)
{
	return 0;
}

void smt_hw_exit(void)
{
}

void smt_hw_sock_init(struct smt_sock *ssk)
{
}

void smt_hw_sock_close(struct smt_sock *ssk)
{
}

int smt_hw_choose(struct smt_sock *ssk, struct smt_session *session,
		  const struct dst_entry *dst, struct smt_hw_path *path)
{
	int policy = READ_ONCE(ssk->offload);

	path->key = NULL;
	if (policy == SMT_OFFLOAD_REQUIRED) {
		smt_count(ssk->snet, SMT_C_FALLBACK_FORBIDDEN);
		return -ENODEV;
	}
	if (policy == SMT_OFFLOAD_ALLOWED)
		smt_count(ssk->snet, SMT_C_FALLBACK_NO_DEVICE);
	return 0;
}

void smt_hw_key_put(struct smt_hw_key *key)
{
}

/* so there are no records */
struct smt_hw_record *smt_hw_record_new(const struct smt_hw_path *path, u64 number,
					const struct smt_hw_place *place)
{
	return NULL;
}

void smt_hw_record_put(struct smt_hw_record *record)
{
}

bool smt_hw_is_usable(const struct smt_hw_record *record, const struct dst_entry *dst)
{
	return false;
}

void smt_hw_refuse(struct smt_hw_record *record, struct sock *sk)
{
}

void smt_hw_own(struct sk_buff *skb, struct smt_hw_record *record, struct sock *sk)
{
}
