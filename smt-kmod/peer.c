// SPDX-License-Identifier: GPL-2.0-or-later
/* Other machines: their cutoffs, and acknowledgments to be sent to them together. */
#include <linux/jhash.h>
#include <linux/slab.h>
#include "smt.h"

#define QUESTIONS	4	/* RESEND and NEED_ACK that a machine gets in a jiffy, at most */
#define IDLE_TIME	(60 * HZ)	/* until a machine that nothing is done with is forgotten */

static struct hlist_head *bucket(struct smt_net *snet, __be32 addr)
{
	return &snet->peers[jhash_1word((__force u32)addr, 0) % SMT_PEER_BUCKETS];
}

static struct smt_peer *find(struct smt_net *snet, __be32 addr)
{
	struct smt_peer *peer;

	hlist_for_each_entry(peer, bucket(snet, addr), node) {
		if (peer->addr == addr)
			return peer;
	}
	return NULL;
}

static struct smt_peer *add(struct smt_net *snet, __be32 addr)
{
	struct smt_peer *peer = kzalloc(sizeof(*peer), GFP_ATOMIC);

	if (!peer)
		return NULL;
	peer->addr = addr;
	peer->told = jiffies - HZ;
	peer->heard = jiffies;
	/* 0 is in the future for the first minutes */
	peer->asked = jiffies;
	/* until it says otherwise */
	peer->cutoffs[6] = U32_MAX;
	hlist_add_head(&peer->node, bucket(snet, addr));
	snet->n_peers++;
	return peer;
}

/* Returns NULL without memory, or beyond net.smt.max_peers. */
struct smt_peer *smt_peer_get(struct smt_net *snet, __be32 addr)
{
	struct smt_peer *peer;

	spin_lock_bh(&snet->peer_lock);
	peer = find(snet, addr);
	if (!peer && snet->n_peers < READ_ONCE(snet->limits.max_peers))
		peer = add(snet, addr);
	if (peer)
		peer->users++;
	spin_unlock_bh(&snet->peer_lock);
	return peer;
}

void smt_peer_put(struct smt_net *snet, struct smt_peer *peer)
{
	spin_lock_bh(&snet->peer_lock);
	peer->users--;
	peer->used = jiffies;
	spin_unlock_bh(&snet->peer_lock);
}

/* The priority at which unscheduled data of a message goes out. */
u8 smt_peer_priority(struct smt_net *snet, struct smt_peer *peer, u32 length)
{
	int priority;

	spin_lock_bh(&snet->peer_lock);
	for (priority = SMT_PRIORITIES - 1; priority > 0; priority--) {
		if (peer->cutoffs[priority] >= length)
			break;
	}
	spin_unlock_bh(&snet->peer_lock);
	return priority;
}

void smt_peer_cutoffs(struct smt_net *snet, __be32 addr, const struct smt_cutoffs *from)
{
	struct smt_peer *peer;
	int i;

	spin_lock_bh(&snet->peer_lock);
	peer = find(snet, addr);
	if (peer) {
		for (i = 0; i < SMT_PRIORITIES; i++)
			peer->cutoffs[i] = ntohl(from->unscheduled[i]);
		peer->cutoff_version = ntohs(from->version);
	}
	spin_unlock_bh(&snet->peer_lock);
}

/* Whether it is to be told our cutoffs now: not again for each packet that crosses ours. */
bool smt_peer_untold(struct smt_net *snet, struct smt_peer *peer)
{
	bool now;

	spin_lock_bh(&snet->peer_lock);
	now = time_after_eq(jiffies, peer->told + 1 + HZ / 100);
	if (now)
		peer->told = jiffies;
	spin_unlock_bh(&snet->peer_lock);
	return now;
}

/*
 * Whether a machine can be asked about one more RPC now. Where it is slow, all RPCs run out of
 * patience together, and a question for each would keep it from answering any.
 */
bool smt_peer_may_ask(struct smt_net *snet, struct smt_peer *peer)
{
	bool may;

	spin_lock_bh(&snet->peer_lock);
	if (time_after(jiffies, peer->asked)) {
		peer->asked = jiffies;
		peer->questions = 0;
	}
	may = peer->questions < QUESTIONS;
	if (may)
		peer->questions++;
	spin_unlock_bh(&snet->peer_lock);
	return may;
}

static void send_acks(struct smt_net *snet, __be32 saddr, __be32 daddr, struct smt_ack *packet,
		      int count)
{
	const struct smt_ack_entry *first = &packet->entries[0];

	packet->count = htons(count);
	smt_send_to(snet, saddr, daddr, ntohs(first->client_port), ntohs(first->server_port),
		    be64_to_cpu(first->client_id), SMT_ACK, packet, sizeof(*packet));
	smt_count(snet, SMT_C_TX_ACK);
}

/* Take what a peer is owed; peer_lock is held. */
static int take_acks(struct smt_peer *peer, struct smt_ack *packet)
{
	int count = peer->n_acks;

	memset(packet, 0, sizeof(*packet));
	memcpy(packet->entries, peer->acks, count * sizeof(peer->acks[0]));
	peer->n_acks = 0;
	return count;
}

/* Add an acknowledgment. Returns how many are to be sent; peer_lock is held. */
static int add_ack(struct smt_peer *peer, const struct smt_ack_entry *entry, __be32 saddr,
		   bool now, struct smt_ack *packet, __be32 *from)
{
	int count = 0;

	*from = peer->ack_saddr;
	/* the server knows a client by its address */
	if (peer->n_acks && peer->ack_saddr != saddr)
		count = take_acks(peer, packet);
	peer->acks[peer->n_acks++] = *entry;
	peer->ack_saddr = saddr;
	if (!count && (now || peer->n_acks == SMT_ACKS)) {
		*from = saddr;
		count = take_acks(peer, packet);
	}
	return count;
}

/* A server asks for an acknowledgment: it gets all that it is owed. */
void smt_peer_ack_now(struct smt_net *snet, __be32 saddr, __be32 daddr,
		      const struct smt_ack_entry *entry)
{
	struct smt_ack packet = { .entries[0] = *entry };
	struct smt_peer *peer;
	__be32 from = saddr;
	int count = 1;

	spin_lock_bh(&snet->peer_lock);
	peer = find(snet, daddr);
	if (peer)
		count = add_ack(peer, entry, saddr, true, &packet, &from);
	spin_unlock_bh(&snet->peer_lock);
	if (count)
		send_acks(snet, from, daddr, &packet, count);
}

/* A client has its response: tell the server, together with others. */
void smt_peer_ack(struct smt_call *call)
{
	struct smt_net *snet = call->ssk->snet;
	struct smt_ack_entry entry = {
		.client_id = cpu_to_be64(call->id),
		.client_port = htons(call->sport),
		.server_port = htons(call->dport),
	};
	struct smt_ack packet;
	__be32 from;
	int count;

	spin_lock_bh(&snet->peer_lock);
	count = add_ack(call->peer, &entry, call->saddr, false, &packet, &from);
	spin_unlock_bh(&snet->peer_lock);
	if (count)
		send_acks(snet, from, call->daddr, &packet, count);
	smt_timer_start(snet);
}

/* Send acknowledgments that have waited, forget who is idle. */
void smt_peers_tick(struct smt_net *snet)
{
	struct smt_peer *peer;
	struct hlist_node *next;
	int i;

	for (i = 0; i < SMT_PEER_BUCKETS; i++) {
		struct smt_ack packet;
		__be32 saddr, daddr;
		int count;

		if (hlist_empty(&snet->peers[i]))
			continue;
again:
		count = 0;
		spin_lock_bh(&snet->peer_lock);
		hlist_for_each_entry_safe(peer, next, &snet->peers[i], node) {
			if (peer->n_acks) {
				count = take_acks(peer, &packet);
				saddr = peer->ack_saddr;
				daddr = peer->addr;
				break;
			}
			if (!peer->users && time_after(jiffies, peer->used + IDLE_TIME)) {
				hlist_del(&peer->node);
				snet->n_peers--;
				kfree(peer);
			}
		}
		spin_unlock_bh(&snet->peer_lock);
		if (count) {
			send_acks(snet, saddr, daddr, &packet, count);
			goto again;
		}
	}
}

void smt_peers_free(struct smt_net *snet)
{
	struct smt_peer *peer;
	struct hlist_node *next;
	int i;

	for (i = 0; i < SMT_PEER_BUCKETS; i++) {
		hlist_for_each_entry_safe(peer, next, &snet->peers[i], node) {
			hlist_del(&peer->node);
			kfree(peer);
		}
	}
}
