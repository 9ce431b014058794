// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Messages on their way out: cutting them into segments, sending and resending those; control
 * packets. Segments are built (and encrypted) once: what is sent again is the same bytes, since
 * other bytes under the same record number would be the end of the key. Of a segment that a device
 * encrypts it is the plaintext that stays, and each time the whole record is sent.
 */
#include <linux/inetdevice.h>
#include <linux/skbuff.h>
#include <net/ip.h>
#include <net/route.h>
#include "smt.h"
#include "trace.h"

#define HEADROOM	(MAX_HEADER + SMT_IP_HEADER)
#define MAX_LINEAR	1024	/* stream that needs no page; less than what is cut */
#define MAX_RESENT	64	/* packets that one RESEND gets */
#define CONTROL_PRIORITY (SMT_PRIORITIES - 1)

/**
 * smt_route() - find the way to a machine
 * @sk: socket, for its device and mark; NULL when there is none
 * @net: namespace
 * @saddr: source address; 0 is replaced by the route's
 * @daddr: destination
 *
 * Return: the route, or an ERR_PTR()
 */
struct dst_entry *smt_route(struct sock *sk, struct net *net, __be32 *saddr, __be32 daddr)
{
	struct flowi4 fl4;
	struct rtable *rt;

	flowi4_init_output(&fl4, sk ? sk->sk_bound_dev_if : 0, sk ? READ_ONCE(sk->sk_mark) : 0, 0,
			   RT_SCOPE_UNIVERSE, IPPROTO_SMT, 0, daddr, *saddr, 0, 0,
			   sock_net_uid(net, sk));
	rt = ip_route_output_flow(net, &fl4, sk);
	if (IS_ERR(rt))
		return ERR_CAST(rt);
	if (rt->rt_flags & (RTCF_BROADCAST | RTCF_MULTICAST)) {
		ip_rt_put(rt);
		return ERR_PTR(-EINVAL);
	}
	*saddr = fl4.saddr;
	return &rt->dst;
}

/* Send what begins with a transport header. Takes the skb, not the route. */
static void send_ip(struct smt_net *snet, struct sock *sk, struct sk_buff *skb,
		    struct dst_entry *dst, __be32 saddr, __be32 daddr, u8 priority)
{
	struct iphdr *ip;

	skb_reset_transport_header(skb);
	ip = skb_push(skb, sizeof(*ip));
	skb_reset_network_header(skb);
	/* not ip_queue_xmit(): the identification is the index of a packet in its segment */
	*ip = (struct iphdr) {
		.version = 4, .ihl = 5, .tos = priority << 5, .frag_off = htons(IP_DF),
		.ttl = ip4_dst_hoplimit(dst), .protocol = IPPROTO_SMT,
		.saddr = saddr, .daddr = daddr,
	};
	memset(IPCB(skb), 0, sizeof(*IPCB(skb)));
	skb->priority = priority;
	skb->mark = sk ? READ_ONCE(sk->sk_mark) : 0;
	skb_dst_set(skb, dst_clone(dst));
	if (ip_local_out(snet->net, sk, skb) < 0)
		smt_count(snet, SMT_C_TX_ERRORS);
}

/* The call's route, looked up anew if it is stale; NULL if there is none any more. */
static struct dst_entry *call_route(struct smt_call *call)
{
	struct smt_net *snet = call->ssk->snet;
	struct dst_entry *dst;

	if (dst_check(call->dst, 0))
		return call->dst;
	dst = smt_route(smt_sock(call->ssk), snet->net, &call->saddr, call->daddr);
	if (IS_ERR(dst)) {
		smt_count(snet, SMT_C_TX_NO_ROUTE);
		return NULL;
	}
	dst_release(call->dst);
	call->dst = dst;
	return dst;
}

static void fill_common(struct smt_common *common, enum smt_type type, u16 sport, u16 dport, u64 id)
{
	memset(common, 0, sizeof(*common));
	common->sport = htons(sport);
	common->dport = htons(dport);
	common->doff = SMT_DOFF;
	common->type = type;
	common->sender_id = cpu_to_be64(id);
}

static struct sk_buff *control_skb(struct smt_net *snet, const void *packet, size_t size)
{
	struct sk_buff *skb = alloc_skb(HEADROOM + size, GFP_ATOMIC);

	if (!skb) {
		smt_count(snet, SMT_C_TX_NO_MEMORY);
		return NULL;
	}
	skb_reserve(skb, HEADROOM);
	skb_put_data(skb, packet, size);
	return skb;
}

/* Send a control packet for a call; @packet begins with room for the common header. */
void smt_send_control(struct smt_call *call, enum smt_type type, void *packet, size_t size)
{
	struct smt_net *snet = call->ssk->snet;
	struct dst_entry *dst = call_route(call);
	struct smt_common bare;
	struct sk_buff *skb;

	if (!dst)
		return;
	if (!packet) {
		packet = &bare;
		size = sizeof(bare);
	}
	fill_common(packet, type, call->sport, call->dport, call->id);
	skb = control_skb(snet, packet, size);
	if (skb)
		send_ip(snet, smt_sock(call->ssk), skb, dst, call->saddr, call->daddr,
			CONTROL_PRIORITY);
}

/* Send a control packet for an RPC that need not be there. */
void smt_send_to(struct smt_net *snet, __be32 saddr, __be32 daddr, u16 sport, u16 dport, u64 id,
		 enum smt_type type, void *packet, size_t size)
{
	struct smt_common bare;
	struct dst_entry *dst;
	struct sk_buff *skb;

	dst = smt_route(NULL, snet->net, &saddr, daddr);
	if (IS_ERR(dst)) {
		smt_count(snet, SMT_C_TX_NO_ROUTE);
		return;
	}
	if (!packet) {
		packet = &bare;
		size = sizeof(bare);
	}
	fill_common(packet, type, sport, dport, id);
	skb = control_skb(snet, packet, size);
	if (skb)
		send_ip(snet, NULL, skb, dst, saddr, daddr, CONTROL_PRIORITY);
	dst_release(dst);
}

void smt_out_free_segment(struct sk_buff *skb)
{
	smt_hw_record_put(SMT_SEGMENT_CB(skb)->hw);
	kfree_skb(skb);
}

void smt_out_free(struct smt_out *out)
{
	struct sk_buff *skb;

	while ((skb = __skb_dequeue(&out->segments)))
		smt_out_free_segment(skb);
	out->unsent = NULL;
}

/* Memory for a segment; the first of a message waits for SO_SNDBUF, the others follow it. */
static struct sk_buff *new_segment(struct smt_call *call, u32 stream, bool first, bool noblock)
{
	struct sock *sk = smt_sock(call->ssk);
	/* a page for each small message would use up SO_SNDBUF */
	u32 paged = stream > MAX_LINEAR ? stream : 0;
	u32 linear = HEADROOM + SMT_HEADER + stream - paged;
	struct sk_buff *skb;
	int err;

	if (first) {
		skb = sock_alloc_send_pskb(sk, linear, paged, noblock, &err,
					   PAGE_ALLOC_COSTLY_ORDER);
	} else {
		skb = alloc_skb_with_frags(linear, paged, PAGE_ALLOC_COSTLY_ORDER, &err,
					   sk->sk_allocation);
		if (skb)
			skb_set_owner_w(skb, sk);
	}
	if (!skb)
		return ERR_PTR(err);
	skb_reserve(skb, HEADROOM);
	skb_put(skb, SMT_HEADER + stream - paged);
	skb->data_len = paged;
	skb->len += paged;
	return skb;
}

static int put_framing(const struct smt_call *call, struct sk_buff *skb, u32 at, u32 index,
		       u32 bytes)
{
	const struct smt_out *out = &call->out;
	const struct smt_geometry *g = &out->geometry;
	u32 start = SMT_SEGMENT_CB(skb)->start;
	struct smt_framing framing = {
		.offset = htonl(smt_packet_offset(g->room, g->overhead, start, index)),
		.length = htonl(smt_packet_length(g->overhead, index, bytes, true)),
	};

	if (call->secure && !index && !call->ssk->interop)
		framing.message_length = htonl(out->length);
	return skb_store_bits(skb, at, &framing, sizeof(framing));
}

/* Write the stream of a segment: record header, framing headers, the program's data. */
static int fill_segment(struct smt_call *call, struct sk_buff *skb, struct msghdr *msg, u32 stream)
{
	const struct smt_geometry *g = &call->out.geometry;
	const struct smt_segment_cb *cb = SMT_SEGMENT_CB(skb);
	u32 left = cb->data, at = 0, index = 0, tail = g->overhead - g->lead;
	u64 number = smt_record_number(call->id, call->out.segments.qlen);
	struct smt_record_header header = {
		.type = SMT_RECORD_TYPE, .version = htons(SMT_RECORD_VERSION),
		.length = htons(stream - 5), .nonce = cpu_to_be64(number),
	};

	if (call->secure) {
		if (skb_store_bits(skb, SMT_HEADER, &header, sizeof(header)))
			return -EFAULT;
		at = SMT_LEAD;
	}
	do {
		u32 packet = index * (g->room + SMT_FRAMING);
		u32 piece = min(left, packet + g->room + SMT_FRAMING - at - SMT_FRAMING);
		u32 bytes = min(stream - packet, g->room + SMT_FRAMING);

		if (put_framing(call, skb, SMT_HEADER + at, index, bytes))
			return -EFAULT;
		at += SMT_FRAMING;
		if (skb_copy_datagram_from_iter(skb, SMT_HEADER + at, &msg->msg_iter, piece))
			return -EFAULT;
		at += piece;
		left -= piece;
		index++;
	} while (left);
	return at + tail == stream ? 0 : -EINVAL;
}

static void fill_header(struct smt_call *call, struct sk_buff *skb)
{
	struct smt_data *data = (struct smt_data *)skb->data;
	u32 start = SMT_SEGMENT_CB(skb)->start;

	memset(data, 0, sizeof(*data));
	fill_common(&data->common, SMT_DATA, call->sport, call->dport, call->id);
	data->common.start_high = htons(start >> 16);
	data->common.start_low = htons(start);
	data->message_length = htonl(call->out.length);
}

/* Prepare the record for a device, which writes the tag. */
static int leave_to_device(struct smt_call *call, struct sk_buff *skb, u64 number,
			   const struct smt_hw_path *path)
{
	const struct smt_hw_place place = { call->id, call->daddr, call->dport };
	static const u8 tag[SMT_TAG];

	if (skb_store_bits(skb, skb->len - SMT_TAG, tag, SMT_TAG))
		return -EFAULT;
	SMT_SEGMENT_CB(skb)->hw = smt_hw_record_new(path, number, &place);
	return SMT_SEGMENT_CB(skb)->hw ? 0 : -ENOMEM;
}

static int encrypt(struct smt_call *call, struct sk_buff *skb, const struct smt_hw_path *path)
{
	u64 number = smt_record_number(call->id, call->out.segments.qlen);
	int err;

	if (!call->secure)
		return 0;
	if (path->key)
		return leave_to_device(call, skb, number, path);
	err = smt_seal(&call->session->tx, number, skb, skb->len - SMT_HEADER);
	smt_count(call->ssk->snet, err ? SMT_C_TX_SEAL_ERRORS : SMT_C_TX_SEALED);
	return err;
}

static int build_segment(struct smt_call *call, struct msghdr *msg, u32 start, u32 data,
			 const struct smt_hw_path *path)
{
	struct smt_out *out = &call->out;
	u32 stream = smt_segment_stream(&out->geometry, data);
	struct sk_buff *skb;
	int err;

	if (out->segments.qlen >> SMT_INDEX_BITS)
		return -EMSGSIZE;
	skb = new_segment(call, stream, !start, msg->msg_flags & MSG_DONTWAIT);
	if (IS_ERR(skb))
		return PTR_ERR(skb);
	SMT_SEGMENT_CB(skb)->start = start;
	SMT_SEGMENT_CB(skb)->data = data;
	SMT_SEGMENT_CB(skb)->packets = smt_segment_packets(&out->geometry, data);
	SMT_SEGMENT_CB(skb)->hw = NULL;
	SMT_SEGMENT_CB(skb)->resent = jiffies - 1;
	err = fill_segment(call, skb, msg, stream);
	if (!err)
		err = encrypt(call, skb, path);
	if (err) {
		kfree_skb(skb);
		return err;
	}
	fill_header(call, skb);
	__skb_queue_tail(&out->segments, skb);
	return 0;
}

/* Whoever answers the peer meanwhile may replace the route. */
static int choose_path(struct smt_call *call, struct smt_hw_path *path)
{
	struct smt_sock *ssk = call->ssk;
	struct dst_entry *dst;
	int err;

	spin_lock_bh(&ssk->lock);
	dst = dst_clone(call->dst);
	spin_unlock_bh(&ssk->lock);
	err = smt_hw_choose(ssk, call->session, dst, path);
	dst_release(dst);
	return err;
}

/**
 * smt_out_build() - make the segments of a message
 * @call: with its route, addresses, id and session; no lock is held
 * @msg: where the data is, and MSG_DONTWAIT
 * @length: bytes of the message
 *
 * Return: 0, or an errno of sendmsg(), and nothing is left
 */
int smt_out_build(struct smt_call *call, struct msghdr *msg, u32 length)
{
	struct smt_net *snet = call->ssk->snet;
	u32 gso_max = min_t(u32, READ_ONCE(call->dst->dev->gso_max_size),
			    READ_ONCE(snet->limits.max_gso));
	struct smt_out *out = &call->out;
	u32 start = 0, data, most, unscheduled = READ_ONCE(snet->limits.unscheduled);
	struct smt_hw_path path = {};
	struct sk_buff *skb;
	int err;

	trace_smt_sendmsg(call, length);
	if (!smt_geometry_init(&out->geometry, dst_mtu(call->dst), gso_max, call->secure))
		return -EMSGSIZE;
	if (call->secure) {
		err = choose_path(call, &path);
		if (err)
			return err;
	}
	most = smt_segment_data(&out->geometry);
	out->length = length;
	out->unscheduled = 0;
	do {
		data = min(length - start, most);
		err = build_segment(call, msg, start, data, &path);
		if (err)
			goto fail;
		if (start < unscheduled)
			out->unscheduled = start + data;
		start += data;
	} while (start < length);
	skb_queue_walk(&out->segments, skb)
		((struct smt_data *)skb->data)->incoming = htonl(out->unscheduled);
	if (path.key)
		smt_count(snet, SMT_C_TX_HW_MESSAGES);
fail:
	if (err)
		smt_out_free(out);
	smt_hw_key_put(path.key);
	return err;
}

static u8 data_priority(const struct smt_call *call, u32 start)
{
	if (start < call->out.unscheduled)
		return smt_peer_priority(call->ssk->snet, call->peer, call->out.length);
	return call->out.priority;
}

static void set_gso(struct smt_call *call, struct sk_buff *skb, const struct dst_entry *dst,
		    u32 packets)
{
	struct skb_shared_info *shared = skb_shinfo(skb);

	shared->gso_size = call->out.geometry.room + SMT_FRAMING;
	shared->gso_segs = packets;
	shared->gso_type = smt_gso_type(call->ssk->snet, dst->dev);
	/* TSO of the stack takes nothing else; no device inserts a checksum for this protocol */
	skb->ip_summed = CHECKSUM_PARTIAL;
	skb->csum_start = skb_headroom(skb);
	skb->csum_offset = offsetof(struct smt_common, check);
}

/* Make of a copy of a segment what a device encrypts. */
static void own_by_device(struct smt_call *call, struct sk_buff *skb, struct smt_hw_record *record,
			  bool again)
{
	struct smt_net *snet = call->ssk->snet;

	((struct smt_data *)skb->data)->retransmit = again;
	smt_hw_own(skb, record, smt_sock(call->ssk));
	smt_count(snet, again ? SMT_C_TX_HW_RESENT : SMT_C_TX_HW_SEGMENTS);
	if (!again)
		smt_count_more(snet, SMT_C_TX_HW_BYTES, skb->len - SMT_HEADER);
}

/*
 * Send a whole segment: for the first time (or for the first time anew), or @again since it was
 * asked for, as a device does that encrypts it.
 */
static void send_segment(struct smt_call *call, struct sk_buff *segment, u8 priority, bool again)
{
	const struct smt_segment_cb *cb = SMT_SEGMENT_CB(segment);
	struct smt_net *snet = call->ssk->snet;
	struct dst_entry *dst = call_route(call);
	struct sk_buff *skb;

	if (!dst)
		return;
	if (cb->hw && !smt_hw_is_usable(cb->hw, dst)) {
		smt_count(snet, SMT_C_HW_GONE);
		smt_hw_refuse(cb->hw, smt_sock(call->ssk));
		return;
	}
	/* the header is copied, the stream shared */
	skb = __pskb_copy(segment, HEADROOM, GFP_ATOMIC);
	if (!skb) {
		smt_count(snet, SMT_C_TX_NO_MEMORY);
		return;
	}
	((struct smt_data *)skb->data)->cutoff_version =
		htons(READ_ONCE(call->peer->cutoff_version));
	if (cb->packets > 1)
		set_gso(call, skb, dst, cb->packets);
	if (cb->hw)
		own_by_device(call, skb, cb->hw, again);
	if (again) {
		smt_count_more(snet, SMT_C_TX_RESENT, cb->packets);
	} else {
		smt_count(snet, SMT_C_TX_SEGMENTS);
		smt_count_more(snet, SMT_C_TX_PACKETS, cb->packets);
	}
	trace_smt_segment(call->id, cb->start, 0, cb->packets, skb->len - SMT_HEADER, again,
			  cb->hw);
	send_ip(snet, smt_sock(call->ssk), skb, dst, call->saddr, call->daddr, priority);
}

/* The same, at the priority that its place in the message has. */
void smt_out_send(struct smt_call *call, struct sk_buff *segment)
{
	send_segment(call, segment, data_priority(call, SMT_SEGMENT_CB(segment)->start), false);
}

/* Send whatever may go now: a segment goes whole once its first byte may. */
void smt_out_push(struct smt_call *call)
{
	struct smt_out *out = &call->out;

	while (out->unsent) {
		struct sk_buff *skb = out->unsent;
		const struct smt_segment_cb *cb = SMT_SEGMENT_CB(skb);

		if (cb->start && cb->start >= out->granted)
			break;
		smt_out_send(call, skb);
		out->sent = cb->start + cb->data;
		out->unsent = skb_queue_is_last(&out->segments, skb) ? NULL : skb->next;
	}
}

/* Begin to send, for the first time or from the start again. */
void smt_out_start(struct smt_call *call)
{
	struct smt_out *out = &call->out;

	out->unsent = skb_peek(&out->segments);
	out->granted = out->unscheduled;
	out->sent = 0;
	trace_smt_send(call, out->length);
	smt_out_push(call);
}

/* Send a segment again by its device, once for all the gaps that were reported together. */
static void resend_segment(struct smt_call *call, struct sk_buff *segment, u8 priority)
{
	struct smt_segment_cb *cb = SMT_SEGMENT_CB(segment);

	if (time_after_eq(cb->resent, jiffies))
		return;
	cb->resent = jiffies;
	send_segment(call, segment, priority, true);
}

/* Send one packet of a segment again. */
static void resend_packet(struct smt_call *call, const struct sk_buff *segment, u32 index,
			  u32 at, u32 bytes, u8 priority)
{
	struct smt_net *snet = call->ssk->snet;
	struct dst_entry *dst = call_route(call);
	struct smt_data *data;
	struct sk_buff *skb;

	if (!dst)
		return;
	skb = alloc_skb(HEADROOM + SMT_HEADER + bytes, GFP_ATOMIC);
	if (!skb) {
		smt_count(snet, SMT_C_TX_NO_MEMORY);
		return;
	}
	skb_reserve(skb, HEADROOM);
	data = skb_put_data(skb, segment->data, SMT_HEADER);
	data->cutoff_version = htons(READ_ONCE(call->peer->cutoff_version));
	data->retransmit = 1;
	data->index = index;
	if (skb_copy_bits(segment, SMT_HEADER + at, skb_put(skb, bytes), bytes)) {
		kfree_skb(skb);
		return;
	}
	smt_count(snet, SMT_C_TX_RESENT);
	trace_smt_segment(call->id, SMT_SEGMENT_CB(segment)->start, index, 1, bytes, true, false);
	send_ip(snet, smt_sock(call->ssk), skb, dst, call->saddr, call->daddr, priority);
}

/**
 * smt_out_resend() - send again what was sent of a part of the message
 * @call: the call
 * @offset: first byte asked for
 * @length: bytes asked for
 * @priority: of the packets
 *
 * Return: whether there was anything to send
 */
bool smt_out_resend(struct smt_call *call, u32 offset, u32 length, u8 priority)
{
	const struct smt_geometry *g = &call->out.geometry;
	u32 most = g->room + SMT_FRAMING, resent = 0;
	struct sk_buff *skb;

	skb_queue_walk(&call->out.segments, skb) {
		const struct smt_segment_cb *cb = SMT_SEGMENT_CB(skb);
		u32 stream = skb->len - SMT_HEADER, index;

		if (skb == call->out.unsent || resent == MAX_RESENT)
			break;
		if (cb->start && cb->start >= offset + length)
			break;
		for (index = 0; index < cb->packets && resent < MAX_RESENT; index++) {
			u32 at = index * most, bytes = min(stream - at, most);
			bool framed = index < smt_segment_framings(g, cb->data);
			u32 first = smt_packet_offset(g->room, g->overhead, cb->start, index);
			u32 size = smt_packet_length(g->overhead, index, bytes, framed);

			/* a packet may have nothing of the message, only of the tag */
			if (first >= offset + length || first + max(size, 1U) <= offset)
				continue;
			if (cb->hw) {
				resend_segment(call, skb, priority);
				resent += cb->packets;
				break;
			}
			resend_packet(call, skb, index, at, bytes, priority);
			resent++;
		}
	}
	return resent;
}
