// SPDX-License-Identifier: GPL-2.0-or-later
/* RPCs: making, finding, delivering, ending. smt_sock.lock is held unless a function says other. */
#include <linux/slab.h>
#include <net/dst.h>
#include "smt.h"
#include "trace.h"

static struct hlist_head *bucket(struct smt_sock *ssk, u64 id)
{
	return &ssk->hash[(id >> 1) % SMT_CALL_BUCKETS];
}

/* A call with one reference, not known to the socket. The lock need not be held. */
struct smt_call *smt_call_new(struct smt_sock *ssk, gfp_t gfp)
{
	struct smt_call *call = kmem_cache_zalloc(smt_call_cache, gfp);

	if (!call)
		return NULL;
	call->message = kzalloc(sizeof(*call->message), gfp);
	if (!call->message) {
		kmem_cache_free(smt_call_cache, call);
		return NULL;
	}
	INIT_LIST_HEAD(&call->message->records);
	refcount_set(&call->refs, 1);
	call->ssk = ssk;
	INIT_LIST_HEAD(&call->node);
	INIT_HLIST_NODE(&call->hash);
	INIT_LIST_HEAD(&call->in.segments);
	INIT_LIST_HEAD(&call->in.records);
	INIT_LIST_HEAD(&call->in.grantable);
	__skb_queue_head_init(&call->out.segments);
	return call;
}

/* The lock need not be held. */
void smt_call_put(struct smt_call *call)
{
	if (!refcount_dec_and_test(&call->refs))
		return;
	smt_out_free(&call->out);
	dst_release(call->dst);
	if (call->peer)
		smt_peer_put(call->ssk->snet, call->peer);
	kfree(call->message);
	kmem_cache_free(smt_call_cache, call);
}

/* The socket takes a reference. */
void smt_call_link(struct smt_call *call)
{
	struct smt_sock *ssk = call->ssk;

	refcount_inc(&call->refs);
	hlist_add_head(&call->hash, bucket(ssk, call->id));
	list_add_tail(&call->node, &ssk->calls);
	trace_smt_begin(call, smt_is_client(call->id));
	if (smt_is_client(call->id))
		ssk->n_clients++;
	else
		ssk->n_servers++;
}

struct smt_call *smt_find_call(struct smt_sock *ssk, u64 id, __be32 addr, u16 port)
{
	struct smt_call *call;

	hlist_for_each_entry(call, bucket(ssk, id), hash) {
		if (call->id == id && call->daddr == addr && call->dport == port)
			return call;
	}
	return NULL;
}

/* The timer looks at the call when this time has passed. */
void smt_call_expect(struct smt_call *call, int milliseconds)
{
	call->deadline = jiffies + msecs_to_jiffies(milliseconds);
}

/* What is here of a message counts as received memory of its socket. */
void smt_in_charge(struct smt_call *call, int truesize)
{
	call->in.held += truesize;
	atomic_add(truesize, &smt_sock(call->ssk)->sk_rmem_alloc);
}

void smt_segment_free(struct smt_segment *segment)
{
	__skb_queue_purge(&segment->packets);
	kfree(segment);
}

void smt_record_free(struct smt_record *record)
{
	kfree_skb(record->skb);
	kfree_sensitive(record->stream);
	kfree(record);
}

static void free_records(struct list_head *records)
{
	struct smt_record *record, *next;

	list_for_each_entry_safe(record, next, records, node) {
		list_del(&record->node);
		smt_record_free(record);
	}
}

/* Throw away all packets that are not in records. */
void smt_in_flush(struct smt_call *call)
{
	struct smt_segment *segment, *next;
	struct sk_buff *skb;

	list_for_each_entry_safe(segment, next, &call->in.segments, node) {
		list_del(&segment->node);
		skb_queue_walk(&segment->packets, skb) {
			smt_in_charge(call, -(int)skb->truesize);
			smt_count(call->ssk->snet, SMT_C_DROP_FLUSHED);
		}
		smt_segment_free(segment);
	}
}

/* The call is over: the socket forgets it. References that others have keep only its memory. */
void smt_call_end(struct smt_call *call)
{
	struct smt_sock *ssk = call->ssk;

	if (call->state == SMT_DEAD)
		return;
	trace_smt_end(call, call->state);
	call->state = SMT_DEAD;
	hlist_del(&call->hash);
	list_del(&call->node);
	if (smt_is_client(call->id))
		ssk->n_clients--;
	else
		ssk->n_servers--;
	smt_grant_remove(call);
	smt_in_flush(call);
	free_records(&call->in.records);
	/* what is left belongs to a segment that is being decrypted */
	smt_in_charge(call, -(int)call->in.held);
	smt_out_free(&call->out);
	smt_call_put(call);
}

static void hand_over(struct smt_call *call, int error)
{
	struct smt_message *message = call->message;
	struct smt_sock *ssk = call->ssk;

	call->message = NULL;
	message->addr = call->daddr;
	message->port = call->dport;
	message->rpc.id = call->id;
	message->rpc.cookie = call->cookie;
	message->rpc.error = error;
	message->rpc.flags = smt_is_client(call->id) ? SMT_RPC_RESPONSE : SMT_RPC_REQUEST;
	if (call->secure && !error)
		message->rpc.flags |= SMT_RPC_SECURE;
	trace_smt_deliver(call, error ? -error : (int)message->length);
	list_add_tail(&message->node, &ssk->ready);
	ssk->n_ready++;
	smt_sock(ssk)->sk_data_ready(smt_sock(ssk));
}

/* A client's program learns why it gets no response; a server's never saw the request whole. */
void smt_call_fail(struct smt_call *call, int error)
{
	if (smt_is_client(call->id))
		hand_over(call, error);
	smt_call_end(call);
}

static bool may_deliver(struct smt_call *call)
{
	struct smt_session *session = call->session;
	struct smt_net *snet = call->ssk->snet;

	if (!session || smt_is_client(call->id))
		return true;
	/* a request of ours may have gone out since this one began */
	if (session->role == SMT_ROLE_CLIENT) {
		smt_count(snet, SMT_C_DROP_ROLE);
		return false;
	}
	/* of all records now: what did not come whole may come again */
	if (!smt_window_take(&session->window, smt_message_number(call->id))) {
		smt_count(snet, SMT_C_DROP_REPLAY);
		return false;
	}
	session->role = SMT_ROLE_SERVER;
	return true;
}

/* The message is whole: to the program with it. */
void smt_call_deliver(struct smt_call *call)
{
	struct smt_message *message = call->message;
	struct smt_net *snet = call->ssk->snet;

	smt_in_flush(call);
	if (!may_deliver(call)) {
		smt_call_end(call);
		return;
	}
	smt_count(snet, SMT_C_RX_MESSAGES);
	smt_count_more(snet, SMT_C_RX_BYTES, call->in.length);
	message->length = call->in.length;
	message->held = call->in.held;
	call->in.held = 0;
	list_splice_init(&call->in.records, &message->records);
	smt_grant_remove(call);
	if (smt_is_client(call->id)) {
		smt_peer_ack(call);
		hand_over(call, 0);
		smt_call_end(call);
	} else {
		call->state = SMT_SERVING;
		hand_over(call, 0);
	}
}

/* Free what recvmsg() has taken, or would have. The lock need not be held. */
void smt_message_free(struct smt_sock *ssk, struct smt_message *message)
{
	free_records(&message->records);
	atomic_sub(message->held, &smt_sock(ssk)->sk_rmem_alloc);
	kfree(message);
}

/* setsockopt(SMT_ABORT). The lock is not held. */
int smt_abort(struct smt_sock *ssk, const struct smt_abort *what)
{
	struct smt_call *call, *next;
	int err = -ENOENT;

	if (what->flags || what->error < 0 || what->error > MAX_ERRNO)
		return -EINVAL;
	if (what->error && !smt_is_client(what->id))
		return -EINVAL;
	spin_lock_bh(&ssk->lock);
	list_for_each_entry_safe(call, next, &ssk->calls, node) {
		bool wanted = what->id ? call->id == what->id :
			      smt_is_client(call->id) && call->cookie == what->cookie;

		if (!wanted)
			continue;
		err = 0;
		smt_count(ssk->snet, SMT_C_CALL_ABORTS);
		if (what->error)
			smt_call_fail(call, what->error);
		else
			smt_call_end(call);
	}
	spin_unlock_bh(&ssk->lock);
	return err;
}

/* The socket is closing. The lock is not held. */
void smt_end_calls(struct smt_sock *ssk)
{
	struct smt_message *message, *next_message;
	struct smt_call *call, *next;
	LIST_HEAD(ready);

	spin_lock_bh(&ssk->lock);
	ssk->dead = true;
	list_for_each_entry_safe(call, next, &ssk->calls, node) {
		smt_count(ssk->snet, SMT_C_CALL_ABORTS);
		smt_call_end(call);
	}
	list_splice_init(&ssk->ready, &ready);
	ssk->n_ready = 0;
	spin_unlock_bh(&ssk->lock);
	list_for_each_entry_safe(message, next_message, &ready, node)
		smt_message_free(ssk, message);
}
