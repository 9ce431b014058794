/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Encryption by a device: offload.c, or without_offload.c where the kernel has no such devices. */
#ifndef SMT_HW_H
#define SMT_HW_H

#include <linux/llist.h>
#include <linux/skbuff.h>
#include <net/dst.h>

struct smt_hw_key;
struct smt_session;
struct smt_sock;

/* Who encrypts a message: a key in a device, and the queue of its context. */
struct smt_hw_path {
	struct smt_hw_key *key;			/* NULL: software */
	u16 queue;
};

/* The RPC that a record is of, as smt_find_call() finds it. */
struct smt_hw_place {
	u64 id;
	__be32 addr;
	u16 port;
};

/* What a device encrypts: shared by a segment and all copies of it that were sent. */
struct smt_hw_record {
	refcount_t refs;
	struct smt_hw_path path;		/* with a reference */
	u64 number;
	struct smt_hw_place place;		/* not a reference: packets outlive RPCs */
	unsigned long refused;			/* bit 0: is in smt_sock.refused */
	struct llist_node node;
};

int smt_hw_init(void);
void smt_hw_exit(void);
void smt_hw_sock_init(struct smt_sock *ssk);
void smt_hw_sock_close(struct smt_sock *ssk);
int smt_hw_choose(struct smt_sock *ssk, struct smt_session *session,
		  const struct dst_entry *dst, struct smt_hw_path *path);
void smt_hw_key_put(struct smt_hw_key *key);
struct smt_hw_record *smt_hw_record_new(const struct smt_hw_path *path, u64 number,
					const struct smt_hw_place *place);
void smt_hw_record_put(struct smt_hw_record *record);
bool smt_hw_is_usable(const struct smt_hw_record *record, const struct dst_entry *dst);
void smt_hw_refuse(struct smt_hw_record *record, struct sock *sk);
void smt_hw_own(struct sk_buff *skb, struct smt_hw_record *record, struct sock *sk);

#endif
