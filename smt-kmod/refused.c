// SPDX-License-Identifier: GPL-2.0-or-later
/* Records that a device did not send after all: another way for them, or the end of their RPC. */
#include <net/dst.h>
#include "smt.h"

/* The segment of a record, with references to it, its call and route; else NULL. */
static struct sk_buff *find_segment(struct smt_sock *ssk, const struct smt_hw_record *record,
				    struct smt_call **found, struct dst_entry **dst)
{
	const struct smt_hw_place *place = &record->place;
	struct sk_buff *skb, *segment = NULL;
	struct smt_call *call;

	spin_lock_bh(&ssk->lock);
	call = smt_find_call(ssk, place->id, place->addr, place->port);
	if (call) {
		skb_queue_walk(&call->out.segments, skb) {
			if (SMT_SEGMENT_CB(skb)->hw == record) {
				segment = skb_get(skb);
				refcount_inc(&call->refs);
				*found = call;
				*dst = dst_clone(call->dst);
				break;
			}
		}
	}
	spin_unlock_bh(&ssk->lock);
	return segment;
}

/* A copy that is encrypted here: the device may still be reading the plaintext. */
static struct sk_buff *seal_copy(struct smt_call *call, const struct sk_buff *segment, u64 number)
{
	struct smt_net *snet = call->ssk->snet;
	struct sk_buff *skb = skb_copy(segment, GFP_KERNEL);
	int err;

	if (!skb)
		return ERR_PTR(-ENOMEM);
	SMT_SEGMENT_CB(skb)->hw = NULL;
	err = smt_seal(&call->session->tx, number, skb, skb->len - SMT_HEADER);
	if (err) {
		smt_count(snet, SMT_C_TX_SEAL_ERRORS);
		kfree_skb(skb);
		return ERR_PTR(err);
	}
	skb_set_owner_w(skb, smt_sock(call->ssk));
	smt_count(snet, SMT_C_TX_SEALED);
	smt_count(snet, SMT_C_FALLBACK_RECORDS);
	return skb;
}

/*
 * Find another queue or device for a record, else software. Returns what takes the place of
 * @segment (itself, if @made is another record), or an ERR_PTR().
 */
static struct sk_buff *other_way(struct smt_call *call, struct sk_buff *segment,
				 const struct dst_entry *dst, const struct smt_hw_record *record,
				 struct smt_hw_record **made)
{
	struct smt_sock *ssk = call->ssk;
	struct sk_buff *skb = segment;
	struct smt_hw_path path;
	int err;

	*made = NULL;
	err = smt_hw_choose(ssk, call->session, dst, &path);
	if (err)
		return ERR_PTR(err);
	if (path.key && (path.key != record->path.key || path.queue != record->path.queue)) {
		*made = smt_hw_record_new(&path, record->number, &record->place);
		if (*made)
			smt_count(ssk->snet, SMT_C_TX_HW_MOVED);
		else
			skb = ERR_PTR(-ENOMEM);
	} else if (path.key && READ_ONCE(ssk->offload) == SMT_OFFLOAD_REQUIRED) {
		/* that was the way which failed */
		smt_count(ssk->snet, SMT_C_FALLBACK_FORBIDDEN);
		skb = ERR_PTR(-EIO);
	} else {
		skb = seal_copy(call, segment, record->number);
	}
	smt_hw_key_put(path.key);
	return skb;
}

/* Put @skb in the place of @segment and send it, if that was sent; smt_sock.lock is held. */
static void go_on(struct smt_call *call, struct sk_buff *segment, struct sk_buff *skb,
		  struct smt_hw_record *made)
{
	struct smt_segment_cb *cb = SMT_SEGMENT_CB(skb);
	struct smt_out *out = &call->out;

	if (skb == segment) {
		smt_hw_record_put(cb->hw);
		cb->hw = made;
	} else {
		__skb_queue_after(&out->segments, segment, skb);
		if (out->unsent == segment)
			out->unsent = skb;
		__skb_unlink(segment, &out->segments);
		smt_out_free_segment(segment);
	}
	if (cb->start < out->sent || !out->length)
		smt_out_send(call, skb);
}

/**
 * smt_out_refused() - go on with a record that its device did not send
 * @ssk: the socket; its lock is not held, sleeps
 * @record: the record, perhaps of an RPC that is over
 */
void smt_out_refused(struct smt_sock *ssk, struct smt_hw_record *record)
{
	struct smt_hw_record *made;
	struct sk_buff *segment, *skb;
	struct smt_call *call;
	struct dst_entry *dst;
	int err;

	segment = find_segment(ssk, record, &call, &dst);
	if (!segment)
		return;
	skb = other_way(call, segment, dst, record, &made);
	dst_release(dst);
	err = PTR_ERR_OR_ZERO(skb);

	spin_lock_bh(&ssk->lock);
	if (call->state == SMT_DEAD) {
		if (!err && skb != segment)
			kfree_skb(skb);
		smt_hw_record_put(made);
	} else if (!err) {
		go_on(call, segment, skb, made);
	} else if (err != -ENOMEM && (call->state == SMT_ASKING || call->state == SMT_REPLIED)) {
		/* without memory it is tried again when the peer asks for it */
		smt_call_fail(call, -err);
	}
	spin_unlock_bh(&ssk->lock);
	kfree_skb(segment);
	smt_call_put(call);
}
