// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Grants: which senders may go on, and how far.
 *
 * Most of what may come is given to the messages that have fewest bytes to come, a small share to
 * the oldest, so that it is not starved.
 */
#include "smt.h"
#include "trace.h"

#define STEP		8192	/* bytes that are worth a packet, unless they are the last */
#define OLDEST_STEP	10000

/* A GRANT to be sent when the lock is released. */
struct grant {
	__be32 saddr, daddr;
	u16 sport, dport;
	u64 id;
	u32 offset;
	u8 priority;
};

struct grants {
	unsigned int count;
	struct grant list[SMT_MAX_GRANTED + 1];
};

static u32 to_come(const struct smt_call *call)
{
	return call->in.length - min(call->in.length, call->in.counted);
}

/* grant_lock is held, here and below, unless said otherwise */
static void recount(struct smt_net *snet, struct smt_call *call)
{
	u32 awaited = call->in.granted - min(call->in.granted, call->in.counted);

	snet->incoming += awaited - call->in.awaited;
	call->in.awaited = awaited;
}

static void grant(struct smt_net *snet, struct smt_call *call, u32 offset, u8 priority,
		  struct grants *grants)
{
	struct grant *grant = &grants->list[grants->count++];

	trace_smt_grant(call->id, call->in.granted, offset - call->in.granted);
	call->in.granted = offset;
	call->in.priority = priority;
	recount(snet, call);
	*grant = (struct grant) {
		.saddr = call->saddr, .daddr = call->daddr,
		.sport = call->sport, .dport = call->dport,
		.id = call->id, .offset = offset, .priority = priority,
	};
	if (offset == call->in.length)
		list_del_init(&call->in.grantable);
}

static bool has_room(struct smt_call *call)
{
	struct sock *sk = smt_sock(call->ssk);

	return atomic_read(&sk->sk_rmem_alloc) <= READ_ONCE(sk->sk_rcvbuf);
}

static void grant_oldest(struct smt_net *snet, struct grants *grants)
{
	struct smt_call *call, *oldest = NULL;

	if (snet->fifo_credit < OLDEST_STEP)
		return;
	list_for_each_entry(call, &snet->grantable, in.grantable) {
		if (!oldest || call->in.birth < oldest->in.birth)
			oldest = call;
	}
	/* it holds what it was granted before: let it come first */
	if (!oldest || oldest->in.awaited >= OLDEST_STEP || !has_room(oldest))
		return;
	snet->fifo_credit = 0;
	grant(snet, oldest, min(oldest->in.length, oldest->in.granted + OLDEST_STEP), 0, grants);
}

/* Give out what there is to give. */
static void choose(struct smt_net *snet, struct grants *grants)
{
	u32 most = READ_ONCE(snet->limits.max_incoming), window, credit = 0;
	int places = READ_ONCE(snet->limits.grant_calls), count = 0, rank = 0;
	struct smt_call *call, *next;

	list_for_each_entry(call, &snet->grantable, in.grantable) {
		if (++count == places)
			break;
	}
	if (!count)
		return;
	window = most / count;
	list_for_each_entry_safe(call, next, &snet->grantable, in.grantable) {
		u32 free = most - min(most, snet->incoming), offset;

		if (rank == count)
			break;
		offset = min(call->in.length, call->in.counted + window);
		/* the first always goes on, or full buffers would wait for their own ends */
		if (rank && !has_room(call))
			offset = 0;
		if (offset > call->in.granted + free)
			offset = call->in.granted + free;
		if (offset > call->in.granted &&
		    (offset == call->in.length || offset - call->in.granted >= STEP)) {
			int level = min(count, SMT_UNSCHEDULED_LOWEST) - 1 - rank;

			credit += offset - call->in.granted;
			grant(snet, call, offset, max(level, 0), grants);
		}
		rank++;
	}
	snet->fifo_credit += credit * READ_ONCE(snet->limits.fifo_percent) / 100;
	grant_oldest(snet, grants);
}

/* No lock of ours but smt_sock.lock is held. */
static void send(struct smt_net *snet, const struct grants *grants)
{
	unsigned int i;

	for (i = 0; i < grants->count; i++) {
		const struct grant *grant = &grants->list[i];
		struct smt_grant packet = {
			.offset = htonl(grant->offset), .priority = grant->priority,
		};

		smt_send_to(snet, grant->saddr, grant->daddr, grant->sport, grant->dport,
			    grant->id, SMT_GRANT, &packet, sizeof(packet));
		smt_count(snet, SMT_C_TX_GRANT);
	}
}

/* Move a message to its place: the list is sorted by bytes to come. */
static void place(struct smt_net *snet, struct smt_call *call)
{
	struct list_head *before = call->in.grantable.prev;

	while (before != &snet->grantable &&
	       to_come(list_entry(before, struct smt_call, in.grantable)) > to_come(call))
		before = before->prev;
	if (before != call->in.grantable.prev)
		list_move(&call->in.grantable, before);
}

/* A message has begun whose sender may send @granted bytes. grant_lock is not held. */
void smt_grant_add(struct smt_call *call, u32 granted)
{
	struct smt_net *snet = call->ssk->snet;

	spin_lock_bh(&snet->grant_lock);
	call->in.granted = granted;
	if (granted < call->in.length) {
		call->in.birth = ++snet->births;
		list_add_tail(&call->in.grantable, &snet->grantable);
		place(snet, call);
	}
	spin_unlock_bh(&snet->grant_lock);
}

/* More of a message is here. grant_lock is not held. */
void smt_grant_update(struct smt_call *call)
{
	struct smt_net *snet = call->ssk->snet;
	struct grants grants = {};

	/* no grants were ever needed for it */
	if (!call->in.birth && list_empty(&call->in.grantable))
		return;
	spin_lock_bh(&snet->grant_lock);
	call->in.counted = call->in.received;
	recount(snet, call);
	if (!list_empty(&call->in.grantable))
		place(snet, call);
	choose(snet, &grants);
	spin_unlock_bh(&snet->grant_lock);
	send(snet, &grants);
}

/* A message is whole, or will never be. grant_lock is not held. */
void smt_grant_remove(struct smt_call *call)
{
	struct smt_net *snet = call->ssk->snet;

	spin_lock_bh(&snet->grant_lock);
	list_del_init(&call->in.grantable);
	snet->incoming -= call->in.awaited;
	call->in.awaited = 0;
	call->in.granted = 0;
	call->in.birth = 0;
	spin_unlock_bh(&snet->grant_lock);
	smt_grant_more(snet);
}

/* Something has become free. grant_lock is not held. */
void smt_grant_more(struct smt_net *snet)
{
	struct grants grants = {};

	if (list_empty_careful(&snet->grantable))
		return;
	spin_lock_bh(&snet->grant_lock);
	choose(snet, &grants);
	spin_unlock_bh(&snet->grant_lock);
	send(snet, &grants);
}
