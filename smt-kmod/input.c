// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Packets that come in. Whatever is in them may be forged: the clear part of a message decides
 * only where bytes wait until their record is whole.
 */
#include <linux/icmp.h>
#include <linux/slab.h>
#include <net/icmp.h>
#include <net/ip.h>
#include <net/route.h>
#include "smt.h"
#include "trace.h"

#define MAX_INDEX	1024	/* packets of a segment: 64 KiB at the least MTU are fewer */
#define HELD_FACTOR	8	/* memory of a packet per byte of data, at most, */
#define HELD_EXTRA	65536	/* and this much more */

static struct smt_segment *find_segment(struct smt_in *in, u32 start, struct list_head **before)
{
	struct smt_segment *segment;

	*before = &in->segments;
	list_for_each_entry_reverse(segment, &in->segments, node) {
		if (segment->start == start)
			return segment;
		if (segment->start < start) {
			*before = &segment->node;
			return NULL;
		}
	}
	return NULL;
}

static struct smt_segment *get_segment(struct smt_in *in, u32 start)
{
	struct list_head *before;
	struct smt_segment *segment = find_segment(in, start, &before);

	if (segment)
		return segment;
	segment = kzalloc(sizeof(*segment), GFP_ATOMIC);
	if (!segment)
		return NULL;
	segment->start = start;
	__skb_queue_head_init(&segment->packets);
	list_add(&segment->node, before);
	return segment;
}

/* Returns false for a packet that is there already. */
static bool insert_packet(struct smt_segment *segment, struct sk_buff *skb, u32 index)
{
	struct sk_buff *other;

	SMT_PACKET_CB(skb)->index = index;
	skb_queue_reverse_walk(&segment->packets, other) {
		if (SMT_PACKET_CB(other)->index == index)
			return false;
		if (SMT_PACKET_CB(other)->index < index) {
			__skb_queue_after(&segment->packets, other, skb);
			return true;
		}
	}
	__skb_queue_head(&segment->packets, skb);
	return true;
}

/* Read the record header in the first packet. */
static bool learn_cut(struct smt_call *call, struct smt_segment *segment, struct sk_buff *skb)
{
	u32 most = SMT_RECORD_MAX + SMT_LEAD + SMT_TAG, stream;
	struct smt_record_header header;

	if (skb_copy_bits(skb, SMT_HEADER, &header, sizeof(header)))
		return false;
	if (header.type != SMT_RECORD_TYPE || ntohs(header.version) != SMT_RECORD_VERSION)
		return false;
	if (call->ssk->interop)
		most = 65535;
	stream = ntohs(header.length) + 5;
	if (stream > most || !smt_cut_init(&segment->cut, skb->len - SMT_HEADER, stream))
		return false;
	if (segment->start + segment->cut.data > call->in.length)
		return false;
	/* none but the last record of a message may be empty */
	if (!segment->cut.data && call->in.length)
		return false;
	segment->bytes = stream;
	segment->known = true;
	return true;
}

static u32 packet_data(const struct smt_call *call, const struct sk_buff *skb, u32 index)
{
	return smt_packet_length(call->secure ? SMT_OVERHEAD : 0, index, skb->len - SMT_HEADER,
				 true);
}

/* All packets of a record are there; are they what the first one promised? */
static bool is_whole(const struct smt_segment *segment)
{
	return segment->known && segment->count >= segment->cut.packets;
}

static bool is_sound(const struct smt_segment *segment)
{
	u32 most = segment->cut.room + SMT_FRAMING, left = segment->bytes, index = 0;
	const struct sk_buff *skb;

	skb_queue_walk(&segment->packets, skb) {
		u32 bytes = skb->len - SMT_HEADER;

		if (SMT_PACKET_CB(skb)->index != index++ || bytes != min(left, most))
			return false;
		left -= bytes;
	}
	return !left;
}

/* Take a segment out of a message, with what was counted for it. */
static void discard(struct smt_call *call, struct smt_segment *segment)
{
	struct smt_in *in = &call->in;
	struct sk_buff *skb;

	skb_queue_walk(&segment->packets, skb) {
		smt_in_charge(call, -(int)skb->truesize);
		in->received -= min(in->received,
				    packet_data(call, skb, SMT_PACKET_CB(skb)->index));
	}
}

static void add_record(struct smt_call *call, struct smt_record *record)
{
	struct smt_in *in = &call->in;

	list_add_tail(&record->node, &in->records);
	in->next += record->data;
	in->number++;
	in->stuck = 0;
}

/* Plaintext needs no work: a packet is a record. */
static void take_plain(struct smt_call *call, struct smt_segment *segment)
{
	struct smt_record *record = kzalloc(sizeof(*record), GFP_ATOMIC);
	struct sk_buff *skb;

	list_del(&segment->node);
	skb = __skb_peek(&segment->packets);
	if (!record) {
		smt_count(call->ssk->snet, SMT_C_DROP_NO_MEMORY);
		discard(call, segment);
	} else {
		__skb_unlink(skb, &segment->packets);
		record->start = segment->start;
		record->data = segment->cut.data;
		record->skb = skb;
		add_record(call, record);
	}
	smt_segment_free(segment);
}

static void send_to_work(struct smt_call *call, struct smt_segment *segment)
{
	struct smt_sock *ssk = call->ssk;

	segment->call = call;
	refcount_inc(&call->refs);
	segment->number = call->in.number;
	segment->message_length = call->in.length;
	call->in.busy = true;
	list_move_tail(&segment->node, &ssk->sealed);
	queue_work(smt_workqueue, &ssk->open_work);
}

/* See how far a message has come. It may end the call. */
void smt_in_progress(struct smt_call *call)
{
	struct smt_in *in = &call->in;
	struct smt_segment *segment;

	while (!in->busy) {
		if (in->number && in->next == in->length) {
			smt_call_deliver(call);
			return;
		}
		segment = list_first_entry_or_null(&in->segments, struct smt_segment, node);
		if (!segment || segment->start > in->next)
			return;
		if (segment->start < in->next) {
			smt_count(call->ssk->snet, SMT_C_DROP_RECORD);
			list_del(&segment->node);
			discard(call, segment);
			smt_segment_free(segment);
			continue;
		}
		if (!call->secure) {
			take_plain(call, segment);
			continue;
		}
		if (!is_whole(segment))
			return;
		if (!is_sound(segment)) {
			smt_count(call->ssk->snet, SMT_C_DROP_RECORD);
			list_del(&segment->node);
			discard(call, segment);
			smt_segment_free(segment);
			continue;
		}
		if (in->number >> SMT_INDEX_BITS) {
			smt_count(call->ssk->snet, SMT_C_DROP_RECORD);
			smt_call_fail(call, EPROTO);
			return;
		}
		send_to_work(call, segment);
	}
}

/**
 * smt_opened() - a record was decrypted, or was not
 * @segment: its packets; the caller frees them
 * @record: it, or NULL
 * @reason: the counter of what was wrong
 */
void smt_opened(struct smt_segment *segment, struct smt_record *record, enum smt_counter reason)
{
	struct smt_call *call = segment->call;
	struct smt_net *snet = call->ssk->snet;
	struct sk_buff *skb;

	if (call->state == SMT_DEAD) {
		if (record)
			smt_record_free(record);
		return;
	}
	call->in.busy = false;
	if (record && !smt_claim_session(call->ssk, call->session, call->daddr, call->dport)) {
		/* default keys, which another peer was the first to use */
		smt_count(snet, SMT_C_DROP_NO_KEY);
		smt_record_free(record);
		smt_call_end(call);
		return;
	}
	if (!record) {
		smt_count(snet, reason);
		trace_smt_drop(smt_counter_name(reason));
		discard(call, segment);
	} else {
		smt_count(snet, SMT_C_RX_OPENED);
		trace_smt_record(call->id, record->start, record->data);
		skb_queue_walk(&segment->packets, skb)
			smt_in_charge(call, -(int)skb->truesize);
		smt_in_charge(call, record->truesize);
		add_record(call, record);
	}
	smt_in_progress(call);
}

/* What a DATA packet says. */
struct packet {
	__be32 saddr, daddr;
	u16 sport;
	u64 id;		/* of the receiver */
	u32 length;	/* of the message */
	u32 incoming;
	u32 start;	/* of the segment */
	u32 index;	/* in it */
	bool sealed;	/* a record begins here */
	u16 cutoff_version;
};

static bool read_packet(struct sk_buff *skb, struct packet *packet)
{
	const struct smt_data *data = (const struct smt_data *)skb->data;
	const struct iphdr *ip = ip_hdr(skb);
	u8 first[3] = {};

	packet->saddr = ip->saddr;
	packet->daddr = ip->daddr;
	packet->sport = ntohs(data->common.sport);
	packet->id = be64_to_cpu(data->common.sender_id) ^ 1;
	packet->length = ntohl(data->message_length);
	packet->incoming = ntohl(data->incoming);
	packet->start = ntohs(data->common.start_high) << 16 | ntohs(data->common.start_low);
	packet->index = ntohs(ip->id) + data->index;
	packet->cutoff_version = ntohs(data->cutoff_version);
	if (skb->len - SMT_HEADER >= sizeof(first))
		skb_copy_bits(skb, SMT_HEADER, first, sizeof(first));
	packet->sealed = first[0] == SMT_RECORD_TYPE &&
			 get_unaligned_be16(first + 1) == SMT_RECORD_VERSION;
	return data->common.doff == SMT_DOFF && packet->length <= SMT_MAX_MESSAGE &&
	       (packet->start < packet->length || !packet->start) && packet->index < MAX_INDEX &&
	       packet->sport && skb->len > SMT_HEADER;
}

/* Whether a message may begin; returns SMT_N_COUNTERS, or the counter of why not. */
static enum smt_counter may_begin(struct smt_sock *ssk)
{
	struct sock *sk = smt_sock(ssk);

	if (atomic_read(&sk->sk_rmem_alloc) > READ_ONCE(sk->sk_rcvbuf))
		return SMT_C_DROP_RCVBUF;
	return SMT_N_COUNTERS;
}

/* Whether the packet is as encrypted as it has to be. */
static enum smt_counter check_keys(struct smt_sock *ssk, const struct packet *packet,
				   const struct smt_session *session)
{
	if (!session) {
		if (ssk->secure || ssk->default_taken)
			return packet->sealed ? SMT_C_DROP_NO_KEY : SMT_C_DROP_PLAINTEXT;
		return packet->sealed ? SMT_C_DROP_NO_KEY : SMT_N_COUNTERS;
	}
	if (!session->rx.aead)
		return packet->sealed ? SMT_C_DROP_NO_KEY : SMT_C_DROP_PLAINTEXT;
	if (!packet->index && !packet->sealed)
		return SMT_C_DROP_PLAINTEXT;
	return SMT_N_COUNTERS;
}

/* A request begins. Returns NULL and the counter of why not. */
static struct smt_call *new_request(struct smt_sock *ssk, const struct packet *packet,
				    struct smt_session *session, enum smt_counter *reason)
{
	struct smt_net *snet = ssk->snet;
	struct smt_call *call;

	*reason = SMT_C_DROP_NO_SERVER;
	if (!smt_server_port(ssk->port))
		return NULL;
	/* only this one shows whether it is as encrypted as it has to be */
	*reason = SMT_C_DROP_NOT_BEGUN;
	if (packet->start || packet->index)
		return NULL;
	*reason = SMT_C_DROP_MAX_CALLS;
	if (ssk->n_servers >= READ_ONCE(snet->limits.max_calls))
		return NULL;
	if (session) {
		*reason = SMT_C_DROP_ROLE;
		if (session->role == SMT_ROLE_CLIENT)
			return NULL;
		*reason = SMT_C_DROP_REPLAY;
		if (smt_window_seen(&session->window, smt_message_number(packet->id)))
			return NULL;
	}
	*reason = may_begin(ssk);
	if (*reason != SMT_N_COUNTERS)
		return NULL;
	*reason = SMT_C_DROP_NO_MEMORY;
	call = smt_call_new(ssk, GFP_ATOMIC);
	if (!call)
		return NULL;
	call->state = SMT_ASKED;
	call->id = packet->id;
	call->saddr = packet->daddr;
	call->daddr = packet->saddr;
	call->sport = ssk->port;
	call->dport = packet->sport;
	call->session = session;
	call->secure = session;
	*reason = SMT_C_DROP_MAX_PEERS;
	call->peer = smt_peer_get(snet, packet->saddr);
	if (!call->peer)
		goto fail;
	*reason = SMT_C_DROP_NO_ROUTE;
	call->dst = smt_route(smt_sock(ssk), snet->net, &call->saddr, call->daddr);
	if (IS_ERR(call->dst)) {
		call->dst = NULL;
		goto fail;
	}
	smt_call_link(call);
	smt_call_put(call);	/* the socket has its own reference */
	return call;
fail:
	smt_call_put(call);
	return NULL;
}

static void begin(struct smt_call *call, const struct packet *packet)
{
	struct smt_in *in = &call->in;

	in->started = true;
	in->length = packet->length;
	in->incoming = min(packet->incoming, packet->length);
	smt_grant_add(call, in->incoming);
	if (call->state == SMT_ASKING) {
		/* whoever answers has the whole request */
		call->state = SMT_ANSWERED;
		smt_out_free(&call->out);
	}
	smt_timer_start(call->ssk->snet);
}

/* Where a plaintext packet is in the message: its framing header says it. */
static bool read_framing(struct smt_call *call, struct sk_buff *skb, struct packet *packet)
{
	struct smt_framing framing;
	u32 data;

	if (skb->len < SMT_HEADER + SMT_FRAMING ||
	    skb_copy_bits(skb, SMT_HEADER, &framing, sizeof(framing)))
		return false;
	data = skb->len - SMT_HEADER - SMT_FRAMING;
	packet->start = ntohl(framing.offset);
	packet->index = 0;
	if (packet->start > packet->length || data > packet->length - packet->start)
		return false;
	return data || !packet->length;
}

/* Put a packet where it belongs. Returns the counter of why not, or SMT_N_COUNTERS and has it. */
static enum smt_counter keep(struct smt_call *call, struct sk_buff *skb, struct packet *packet)
{
	struct smt_in *in = &call->in;
	struct smt_segment *segment;

	if (!call->secure && !read_framing(call, skb, packet))
		return SMT_C_DROP_FRAMING;
	if (packet->start < in->next || (in->busy && packet->start == in->next))
		return SMT_C_DROP_DUPLICATE;
	if (in->held + skb->truesize > HELD_FACTOR * in->length + HELD_EXTRA)
		return SMT_C_DROP_EXCESS;
	segment = get_segment(in, packet->start);
	if (!segment)
		return SMT_C_DROP_NO_MEMORY;
	if (!insert_packet(segment, skb, packet->index)) {
		in->refused = true;
		return SMT_C_DROP_DUPLICATE;
	}
	if (!call->secure) {
		segment->cut.data = skb->len - SMT_HEADER - SMT_FRAMING;
	} else if (!packet->index && !learn_cut(call, segment, skb)) {
		__skb_unlink(skb, &segment->packets);
		if (skb_queue_empty(&segment->packets)) {
			list_del(&segment->node);
			smt_segment_free(segment);
		}
		return SMT_C_DROP_RECORD;
	}
	/* the route was for an ICMP error; neither it nor its device must be held back by us */
	skb_dst_drop(skb);
	segment->count++;
	in->accepted = true;
	in->received += packet_data(call, skb, packet->index);
	smt_in_charge(call, skb->truesize);
	return SMT_N_COUNTERS;
}

static void tell_cutoffs(struct smt_call *call)
{
	static const u32 cutoffs[SMT_PRIORITIES] = {
		[7] = 200, [6] = 2800, [5] = 15000, [4] = SMT_MAX_MESSAGE,
	};
	struct smt_cutoffs packet = { .version = htons(SMT_CUTOFF_VERSION) };
	int i;

	if (!smt_peer_untold(call->ssk->snet, call->peer))
		return;
	for (i = 0; i < SMT_PRIORITIES; i++)
		packet.unscheduled[i] = htonl(cutoffs[i]);
	smt_send_control(call, SMT_CUTOFFS, &packet, sizeof(packet));
	smt_count(call->ssk->snet, SMT_C_TX_CUTOFFS);
}

/* The peer is alive. */
static void heard(struct smt_call *call)
{
	struct smt_limits *limits = &call->ssk->snet->limits;

	call->resends = 0;
	WRITE_ONCE(call->peer->heard, jiffies);
	if (call->state != SMT_REPLIED)
		smt_call_expect(call, READ_ONCE(limits->resend_ticks));
}

/* smt_sock.lock is held. Returns SMT_N_COUNTERS if the packet was kept. */
static enum smt_counter data_in(struct smt_sock *ssk, struct sk_buff *skb)
{
	struct smt_session *session;
	enum smt_counter reason;
	struct packet packet;
	struct smt_call *call;

	smt_count(ssk->snet, SMT_C_RX_DATA);
	if (!pskb_may_pull(skb, SMT_HEADER))
		return SMT_C_DROP_SHORT;
	if (((const struct smt_data *)skb->data)->retransmit)
		smt_count(ssk->snet, SMT_C_RX_RESENT);
	if (!read_packet(skb, &packet))
		return SMT_C_DROP_HEADER;
	call = smt_find_call(ssk, packet.id, packet.saddr, packet.sport);
	if (!call && smt_is_client(packet.id))
		return SMT_C_DROP_UNKNOWN_CALL;
	session = call && call->secure ? call->session :
		  smt_find_session(ssk, packet.saddr, packet.sport);
	reason = check_keys(ssk, &packet, session);
	if (reason != SMT_N_COUNTERS)
		return reason;
	if (call && session && !call->secure)
		return SMT_C_DROP_PLAINTEXT;
	if (!call) {
		call = new_request(ssk, &packet, session, &reason);
		if (!call)
			return reason;
	}
	if (call->state != SMT_ASKING && call->state != SMT_ANSWERED && call->state != SMT_ASKED)
		return SMT_C_DROP_STATE;
	heard(call);
	if (packet.cutoff_version != SMT_CUTOFF_VERSION)
		tell_cutoffs(call);
	if (!call->in.started) {
		reason = may_begin(ssk);
		if (reason != SMT_N_COUNTERS)
			return reason;
		begin(call, &packet);
	}
	if (packet.length != call->in.length)
		return SMT_C_DROP_LENGTH;
	reason = keep(call, skb, &packet);
	if (reason == SMT_N_COUNTERS) {
		smt_grant_update(call);
		smt_in_progress(call);
	}
	return reason;
}

static void grant_in(struct smt_call *call, const void *header)
{
	const struct smt_grant *grant = header;
	u32 offset = ntohl(grant->offset);

	if (call->state != SMT_ASKING && call->state != SMT_REPLIED)
		return;
	heard(call);
	call->out.priority = min_t(u8, grant->priority, SMT_PRIORITIES - 1);
	if (offset <= call->out.granted)
		return;
	call->out.granted = min(offset, call->out.length);
	smt_out_push(call);
	if (call->state == SMT_REPLIED)
		smt_call_expect(call, READ_ONCE(call->ssk->snet->limits.ack_ticks));
}

static void busy(struct smt_call *call)
{
	smt_send_control(call, SMT_BUSY, NULL, 0);
	smt_count(call->ssk->snet, SMT_C_TX_BUSY);
}

static void resend_in(struct smt_call *call, const void *header)
{
	const struct smt_resend *resend = header;
	u32 offset = ntohl(resend->offset), length = ntohl(resend->length);
	u8 priority = min_t(u8, resend->priority, SMT_PRIORITIES - 1);
	u32 sent = call->out.sent;

	trace_smt_asked_again(call->id, offset, length);
	heard(call);
	if ((call->state != SMT_ASKING && call->state != SMT_REPLIED) || !length) {
		busy(call);
		return;
	}
	offset = min(offset, call->out.length);
	length = min(length, call->out.length - offset);
	/* what was sent goes again; what was not, though it was granted, goes now */
	if (!call->out.length)
		length = 1;
	if (!smt_out_resend(call, offset, length, priority) && offset + length <= sent)
		busy(call);
	if (offset + length > call->out.granted) {
		call->out.granted = min(offset + length, call->out.length);
		smt_out_push(call);
	}
	if (call->state == SMT_REPLIED)
		smt_call_expect(call, READ_ONCE(call->ssk->snet->limits.resend_interval));
}

#define MAX_RESTARTS	10

static void unknown_in(struct smt_call *call)
{
	struct smt_net *snet = call->ssk->snet;

	switch (call->state) {
	case SMT_ASKING:
		if (call->restarts++ < MAX_RESTARTS) {
			heard(call);
			smt_count(snet, SMT_C_TX_RESTARTS);
			smt_out_start(call);
			break;
		}
		smt_count(snet, SMT_C_CALL_FORGOTTEN);
		smt_call_fail(call, ETIMEDOUT);
		break;
	case SMT_ANSWERED:
		/* it may be an old one, from before the request came there */
		if (call->in.busy || call->restarts++ < MAX_RESTARTS)
			break;
		smt_count(snet, SMT_C_CALL_FORGOTTEN);
		smt_call_fail(call, ECONNRESET);
		break;
	default:
		smt_count(snet, SMT_C_CALL_FORGOTTEN);
		smt_call_end(call);
	}
}

/* smt_sock.lock of another socket may be held by nobody here. */
void smt_acked(struct smt_net *snet, __be32 addr, __be32 local, u64 client_id, u16 client_port,
	       u16 server_port)
{
	struct smt_call *call;
	struct smt_sock *ssk;

	rcu_read_lock();
	ssk = smt_find_socket(snet, local, server_port);
	if (ssk) {
		spin_lock_bh(&ssk->lock);
		call = smt_find_call(ssk, client_id | 1, addr, client_port);
		if (call)
			WRITE_ONCE(call->peer->heard, jiffies);
		if (call && call->state == SMT_REPLIED)
			smt_call_end(call);
		spin_unlock_bh(&ssk->lock);
	}
	rcu_read_unlock();
}

static void ack_in(struct smt_net *snet, struct sk_buff *skb)
{
	const struct smt_ack *ack = (const struct smt_ack *)skb->data;
	const struct iphdr *ip = ip_hdr(skb);
	u16 count = min_t(u16, ntohs(ack->count), SMT_ACKS), i;

	smt_count(snet, SMT_C_RX_ACK);
	for (i = 0; i < count; i++)
		smt_acked(snet, ip->saddr, ip->daddr, be64_to_cpu(ack->entries[i].client_id),
			  ntohs(ack->entries[i].client_port), ntohs(ack->entries[i].server_port));
}

/* The RPC that a server asks about is not here, so its response was received. */
static void ack_unknown(struct smt_sock *ssk, const struct iphdr *ip, u16 sport, u64 id)
{
	struct smt_ack_entry entry = {
		.client_id = cpu_to_be64(id),
		.client_port = htons(ssk->port),
		.server_port = htons(sport),
	};

	smt_peer_ack_now(ssk->snet, ip->daddr, ip->saddr, &entry);
}

static void no_call(struct smt_sock *ssk, struct sk_buff *skb, u8 type, u64 id)
{
	const struct smt_common *common = (const struct smt_common *)skb->data;
	const struct iphdr *ip = ip_hdr(skb);
	u16 sport = ntohs(common->sport);

	if (type == SMT_NEED_ACK && smt_is_client(id)) {
		ack_unknown(ssk, ip, sport, id);
	} else if (type == SMT_RESEND && !smt_is_client(id) &&
		   may_begin(ssk) != SMT_N_COUNTERS) {
		/* there was no room for the request: not now, but it need not give up */
		smt_send_to(ssk->snet, ip->daddr, ip->saddr, ssk->port, sport, id, SMT_BUSY,
			    NULL, 0);
		smt_count(ssk->snet, SMT_C_TX_BUSY);
	} else if (type == SMT_RESEND) {
		smt_send_to(ssk->snet, ip->daddr, ip->saddr, ssk->port, sport, id, SMT_UNKNOWN,
			    NULL, 0);
		smt_count(ssk->snet, SMT_C_TX_UNKNOWN);
	} else {
		smt_count(ssk->snet, SMT_C_DROP_UNKNOWN_CALL);
	}
}

/* smt_sock.lock is held; the packet is as long as its type. */
static void control_in(struct smt_sock *ssk, struct sk_buff *skb, u8 type)
{
	const struct smt_common *common = (const struct smt_common *)skb->data;
	u64 id = be64_to_cpu(common->sender_id) ^ 1;
	struct smt_call *call;

	call = smt_find_call(ssk, id, ip_hdr(skb)->saddr, ntohs(common->sport));
	if (!call) {
		no_call(ssk, skb, type, id);
		return;
	}
	switch (type) {
	case SMT_GRANT:
		grant_in(call, common);
		break;
	case SMT_RESEND:
		resend_in(call, common);
		break;
	case SMT_UNKNOWN:
		unknown_in(call);
		break;
	case SMT_BUSY:
		heard(call);
		break;
	default:
		/* NEED_ACK: the response is not whole yet, the timer asks for the rest */
		WRITE_ONCE(call->peer->heard, jiffies);
		break;
	}
}

static const struct {
	u8 size;
	enum smt_counter counter;
} types[] = {
	[SMT_DATA] = { sizeof(struct smt_data), SMT_C_RX_DATA },
	[SMT_GRANT] = { sizeof(struct smt_grant), SMT_C_RX_GRANT },
	[SMT_RESEND] = { sizeof(struct smt_resend), SMT_C_RX_RESEND },
	[SMT_UNKNOWN] = { sizeof(struct smt_common), SMT_C_RX_UNKNOWN },
	[SMT_BUSY] = { sizeof(struct smt_common), SMT_C_RX_BUSY },
	[SMT_CUTOFFS] = { sizeof(struct smt_cutoffs), SMT_C_RX_CUTOFFS },
	[SMT_FREEZE] = { sizeof(struct smt_common), SMT_C_RX_FREEZE },
	[SMT_NEED_ACK] = { sizeof(struct smt_common), SMT_C_RX_NEED_ACK },
	[SMT_ACK] = { sizeof(struct smt_ack), SMT_C_RX_ACK },
};

/* Returns the counter of why a packet that concerns one socket was dropped. */
static enum smt_counter to_socket(struct smt_net *snet, struct sk_buff *skb, u8 type)
{
	enum smt_counter reason = SMT_N_COUNTERS;
	u16 port = ntohs(((const struct smt_common *)skb->data)->dport);
	struct smt_sock *ssk;

	rcu_read_lock();
	ssk = smt_find_socket(snet, ip_hdr(skb)->daddr, port);
	if (!ssk) {
		rcu_read_unlock();
		if (type != SMT_UNKNOWN && type != SMT_BUSY)
			icmp_send(skb, ICMP_DEST_UNREACH, ICMP_PORT_UNREACH, 0);
		return SMT_C_DROP_NO_PORT;
	}
	spin_lock_bh(&ssk->lock);
	if (ssk->dead) {
		reason = SMT_C_DROP_NO_PORT;
	} else if (type == SMT_DATA) {
		reason = data_in(ssk, skb);
	} else {
		smt_count(snet, types[type].counter);
		control_in(ssk, skb, type);
	}
	spin_unlock_bh(&ssk->lock);
	rcu_read_unlock();
	if (type != SMT_DATA && reason == SMT_N_COUNTERS)
		consume_skb(skb);
	return reason;
}

int smt_rcv(struct sk_buff *skb)
{
	struct smt_net *snet = smt_net(dev_net(skb->dev));
	enum smt_counter reason = SMT_C_DROP_NOT_HOST;
	u8 type;

	if (skb->pkt_type != PACKET_HOST)
		goto drop;
	skb = skb_share_check(skb, GFP_ATOMIC);
	if (!skb) {
		smt_count(snet, SMT_C_DROP_NO_MEMORY);
		return 0;
	}
	reason = SMT_C_DROP_SHORT;
	if (!pskb_may_pull(skb, sizeof(struct smt_common)))
		goto drop;
	type = ((const struct smt_common *)skb->data)->type;
	reason = SMT_C_DROP_TYPE;
	if (type < SMT_DATA || type >= ARRAY_SIZE(types) || skb_is_gso(skb))
		goto drop;
	reason = SMT_C_DROP_SHORT;
	if (!pskb_may_pull(skb, types[type].size))
		goto drop;

	switch (type) {
	case SMT_CUTOFFS:
		smt_count(snet, SMT_C_RX_CUTOFFS);
		smt_peer_cutoffs(snet, ip_hdr(skb)->saddr,
				 (const struct smt_cutoffs *)skb->data);
		break;
	case SMT_ACK:
		ack_in(snet, skb);
		break;
	case SMT_FREEZE:
		/* asks for a dump of a trace, which there is none of */
		smt_count(snet, SMT_C_RX_FREEZE);
		break;
	default:
		reason = to_socket(snet, skb, type);
		if (reason == SMT_N_COUNTERS)
			return 0;
		goto drop;
	}
	consume_skb(skb);
	return 0;
drop:
	smt_count(snet, reason);
	trace_smt_drop(smt_counter_name(reason));
	kfree_skb(skb);
	return 0;
}

/* An ICMP message about a packet of ours, which skb->data points to. */
int smt_err(struct sk_buff *skb, u32 info)
{
	const struct iphdr *ip = (const struct iphdr *)skb->data;
	const __be16 *ports = (const __be16 *)(skb->data + ip->ihl * 4);
	struct net *net = dev_net(skb->dev);
	struct smt_net *snet = smt_net(net);
	u8 type = icmp_hdr(skb)->type, code = icmp_hdr(skb)->code;
	struct smt_call *call, *next;
	struct smt_sock *ssk;
	int error;

	if (type != ICMP_DEST_UNREACH || code > NR_ICMP_UNREACH)
		return 0;
	if (code == ICMP_FRAG_NEEDED) {
		ipv4_update_pmtu(skb, net, info, 0, IPPROTO_SMT);
		return 0;
	}
	if (!icmp_err_convert[code].fatal && code != ICMP_PORT_UNREACH)
		return 0;
	error = code == ICMP_PORT_UNREACH ? ENOTCONN : icmp_err_convert[code].errno;
	rcu_read_lock();
	ssk = smt_find_socket(snet, ip->saddr, ntohs(ports[0]));
	if (ssk) {
		spin_lock_bh(&ssk->lock);
		list_for_each_entry_safe(call, next, &ssk->calls, node) {
			if (call->daddr != ip->daddr || call->dport != ntohs(ports[1]))
				continue;
			smt_count(snet, SMT_C_CALL_ICMP);
			smt_call_fail(call, error);
		}
		spin_unlock_bh(&ssk->lock);
	}
	rcu_read_unlock();
	return 0;
}
