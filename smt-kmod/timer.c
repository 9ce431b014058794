// SPDX-License-Identifier: GPL-2.0-or-later
/* Silence: asking again, and giving up. smt_sock.lock is held unless a function says other. */
#include "smt.h"
#include "trace.h"

#define MAX_GAPS	8	/* RESENDs for a message at a time */
#define FLUSH_AFTER	2	/* resends without progress until packets are thrown away */
#define MAX_BACKOFF	6	/* doublings of net.smt.resend_interval */
#define STUCK_AFTER	40	/* until the message is given up */

static void send_resend(struct smt_call *call, u32 offset, u32 length)
{
	struct smt_resend packet = {
		.offset = htonl(offset), .length = htonl(length), .priority = SMT_PRIORITIES - 1,
	};

	trace_smt_ask_again(call->id, offset, length);
	smt_send_control(call, SMT_RESEND, &packet, sizeof(packet));
	smt_count(call->ssk->snet, SMT_C_TX_RESEND);
}

/* What is missing, in order. */
struct gaps {
	unsigned int count;
	struct { u32 start, end; } list[MAX_GAPS];
};

static void add_gap(struct gaps *gaps, u32 start, u32 end)
{
	if (start >= end || gaps->count == MAX_GAPS)
		return;
	gaps->list[gaps->count].start = start;
	gaps->list[gaps->count].end = end;
	gaps->count++;
}

/* Adds what a segment lacks; returns where it ends, as far as one can tell. */
static u32 segment_gaps(const struct smt_call *call, const struct smt_segment *segment,
			struct gaps *gaps)
{
	u32 overhead = call->secure ? SMT_OVERHEAD : 0, next = 0, room = 0;
	const struct sk_buff *skb;

	skb_queue_walk(&segment->packets, skb)
		room = max(room, skb->len - SMT_HEADER - SMT_FRAMING);
	if (segment->known)
		room = segment->cut.room;
	skb_queue_walk(&segment->packets, skb) {
		u32 index = SMT_PACKET_CB(skb)->index;

		if (index > next)
			add_gap(gaps, smt_packet_offset(room, overhead, segment->start, next),
				smt_packet_offset(room, overhead, segment->start, index));
		next = index + 1;
	}
	if (!segment->known)
		return smt_packet_offset(room, overhead, segment->start, next);
	if (next < segment->cut.packets)
		add_gap(gaps, smt_packet_offset(room, overhead, segment->start, next),
			segment->start + segment->cut.data);
	return segment->start + segment->cut.data;
}

static void find_gaps(const struct smt_call *call, struct gaps *gaps)
{
	const struct smt_segment *segment;
	u32 at = call->in.next;

	gaps->count = 0;
	list_for_each_entry(segment, &call->in.segments, node) {
		u32 end;

		add_gap(gaps, at, segment->start);
		if (!call->secure)
			end = segment->start + segment->cut.data;
		else
			end = segment_gaps(call, segment, gaps);
		at = max(at, end);
	}
	add_gap(gaps, at, min(call->in.granted, call->in.length));
}

/* Ask for what was granted and is not here. Returns false if that has gone on for too long. */
static bool ask_missing(struct smt_call *call)
{
	struct smt_in *in = &call->in;
	struct gaps gaps;
	unsigned int i;

	/* the next record is here: it is the turn of its decryption, not of the peer */
	if (in->busy)
		return true;
	if (++in->stuck > STUCK_AFTER)
		return false;
	/* something false may sit in the place of what is missing, and keep it out */
	if (in->stuck >= FLUSH_AFTER && in->refused && !in->accepted) {
		smt_in_flush(call);
		in->received = in->next;
		smt_grant_update(call);
	}
	in->refused = false;
	in->accepted = false;
	find_gaps(call, &gaps);
	if (in->granted > in->incoming) {
		struct smt_grant packet = {
			.offset = htonl(in->granted), .priority = in->priority,
		};

		/* the last one may have been lost, and no data would ever come that shows it */
		smt_send_control(call, SMT_GRANT, &packet, sizeof(packet));
		smt_count(call->ssk->snet, SMT_C_TX_GRANT);
	}
	for (i = 0; i < gaps.count; i++)
		send_resend(call, gaps.list[i].start, gaps.list[i].end - gaps.list[i].start);
	if (!gaps.count && !in->length)
		send_resend(call, 0, 100);
	return true;
}

static bool waits_for_grant(const struct smt_call *call)
{
	return (call->state == SMT_ASKED || call->state == SMT_ANSWERED) && call->in.started &&
	       call->in.received >= call->in.granted && call->in.granted < call->in.length;
}

static void give_up(struct smt_call *call, enum smt_counter counter)
{
	smt_count(call->ssk->snet, counter);
	smt_call_fail(call, ETIMEDOUT);
}

/* How long a call waits for an answer to its next question. */
static int patience(const struct smt_call *call)
{
	/* a peer or a path that is slow gets no faster by more packets */
	return READ_ONCE(call->ssk->snet->limits.resend_interval) <<
	       min_t(u8, call->resends, MAX_BACKOFF);
}

/* Whether a call has asked often enough: the sooner the less its peer says to others. */
static bool is_hopeless(struct smt_call *call)
{
	struct smt_limits *limits = &call->ssk->snet->limits;
	int most = READ_ONCE(limits->timeout_resends);
	int silence = READ_ONCE(limits->resend_interval) << min(most, MAX_BACKOFF);

	if (call->in.busy || call->resends < most)
		return false;
	return call->resends >= 2 * most ||
	       time_after(jiffies, call->peer->heard + msecs_to_jiffies(silence));
}

static void look(struct smt_call *call)
{
	struct smt_net *snet = call->ssk->snet;

	if (call->state == SMT_SERVING || call->state == SMT_REPLYING || waits_for_grant(call)) {
		smt_call_expect(call, READ_ONCE(snet->limits.resend_ticks));
		return;
	}
	if (is_hopeless(call)) {
		give_up(call, SMT_C_CALL_TIMEOUTS);
		return;
	}
	/* the deadline stays, so it is asked about at the next tick */
	if (!smt_peer_may_ask(snet, call->peer))
		return;
	smt_call_expect(call, patience(call));
	call->resends++;
	switch (call->state) {
	case SMT_ASKING:
		send_resend(call, 0, 100);
		break;
	case SMT_ANSWERED:
	case SMT_ASKED:
		if (!ask_missing(call))
			give_up(call, SMT_C_CALL_STUCK);
		break;
	case SMT_REPLIED:
		if (call->out.unsent)
			break;
		smt_send_control(call, SMT_NEED_ACK, NULL, 0);
		smt_count(snet, SMT_C_TX_NEED_ACK);
		break;
	default:
		break;
	}
}

static bool look_at_socket(struct smt_sock *ssk)
{
	struct smt_call *call, *next;
	bool any;

	spin_lock_bh(&ssk->lock);
	list_for_each_entry_safe(call, next, &ssk->calls, node) {
		if (time_after_eq(jiffies, call->deadline))
			look(call);
	}
	any = !list_empty(&ssk->calls);
	spin_unlock_bh(&ssk->lock);
	return any;
}

/* No lock is held. */
void smt_timer_work(struct work_struct *work)
{
	struct smt_net *snet = container_of(to_delayed_work(work), struct smt_net, timer);
	struct smt_sock *ssk;
	bool any = false;

	rcu_read_lock();
	list_for_each_entry_rcu(ssk, &snet->sockets, socket_node) {
		if (!list_empty_careful(&ssk->calls))
			any |= look_at_socket(ssk);
	}
	rcu_read_unlock();
	smt_grant_more(snet);
	smt_peers_tick(snet);
	if (any)
		smt_timer_start(snet);
}

/* There is something to wait for. Any lock may be held. */
void smt_timer_start(struct smt_net *snet)
{
	queue_delayed_work(smt_workqueue, &snet->timer, 1);
}
