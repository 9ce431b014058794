/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How a message is cut: arithmetic alone, built in user space too (tests/unit/smt/).
 *
 * message -> segments (one TSO skb each; with keys one TLS record each) -> packets. Behind the
 * header each packet begins with a framing header. With keys the stream of a segment is
 *
 *	record header and explicit nonce (SMT_LEAD) | framing | data | framing | data ... | tag
 *
 * cut every SMT_FRAMING + room bytes; what of the tag does not fit into the last packet spills into
 * one more, which has no framing header. Without keys there is neither lead nor tag.
 */
#ifndef SMT_SEGMENT_H
#define SMT_SEGMENT_H

#define SMT_IP_HEADER	20	/* no options */
#define SMT_HEADER	40	/* of a DATA packet, and what TSO repeats */
#define SMT_FRAMING	20
#define SMT_LEAD	13	/* 17 03 03, length, explicit nonce */
#define SMT_TAG		16
#define SMT_OVERHEAD	(SMT_LEAD + SMT_TAG)
#define SMT_RECORD_MAX	16384	/* plaintext of a TLS record, RFC 5246 6.2.1 */
#define SMT_MTU_MAX	16384	/* used of a greater one: a packet is no more than a record */
#define SMT_INDEX_BITS	16
#define SMT_ID_BITS	48

/**
 * struct smt_geometry - how big things are on one path
 * @room: bytes behind the framing header of a packet
 * @packets: packets in a segment
 * @lead: bytes before the first framing header
 * @overhead: @lead and tag
 */
struct smt_geometry {
	u32 room;
	u32 packets;
	u32 lead;
	u32 overhead;
};

/* Returns false when the path cannot take a packet with any data. */
static inline bool smt_geometry_init(struct smt_geometry *g, u32 mtu, u32 gso_max, bool secure)
{
	u32 most;

	if (mtu < SMT_IP_HEADER + SMT_HEADER + SMT_FRAMING + 2 * SMT_OVERHEAD)
		return false;
	if (mtu > SMT_MTU_MAX)
		mtu = SMT_MTU_MAX;
	g->room = mtu - SMT_IP_HEADER - SMT_HEADER - SMT_FRAMING;
	g->lead = secure ? SMT_LEAD : 0;
	g->overhead = secure ? SMT_OVERHEAD : 0;
	g->packets = 1;
	if (gso_max > SMT_IP_HEADER + SMT_HEADER)
		g->packets = (gso_max - SMT_IP_HEADER - SMT_HEADER) / (g->room + SMT_FRAMING);
	if (secure) {
		/* packets * (room + framing) - overhead is the plaintext of a full one */
		most = (SMT_RECORD_MAX + SMT_OVERHEAD) / (g->room + SMT_FRAMING);
		if (g->packets > most)
			g->packets = most;
	}
	if (!g->packets)
		g->packets = 1;
	return true;
}

/* Data bytes of a segment that is not a message's last. */
static inline u32 smt_segment_data(const struct smt_geometry *g)
{
	return g->packets * g->room - g->overhead;
}

/* Framing headers of a segment with @data bytes. */
static inline u32 smt_segment_framings(const struct smt_geometry *g, u32 data)
{
	u32 count = (g->lead + data + g->room - 1) / g->room;

	return count ? count : 1;
}

/* Packets of a segment with @data bytes: one more than framing headers if the tag spills. */
static inline u32 smt_segment_packets(const struct smt_geometry *g, u32 data)
{
	u32 count = (g->overhead + data + g->room - 1) / g->room;

	return count ? count : 1;
}

/* Bytes behind the headers of a segment with @data bytes. */
static inline u32 smt_segment_stream(const struct smt_geometry *g, u32 data)
{
	return g->overhead + data + SMT_FRAMING * smt_segment_framings(g, data);
}

/* Where packet @index of a segment is in the message, as RESEND and framing headers count. */
static inline u32 smt_packet_offset(u32 room, u32 overhead, u32 start, u32 index)
{
	return index ? start + index * room - overhead : start;
}

/* How many bytes of the message a packet with @bytes behind its header has, counted likewise. */
static inline u32 smt_packet_length(u32 overhead, u32 index, u32 bytes, bool framed)
{
	u32 other = (framed ? SMT_FRAMING : 0) + (index ? 0 : overhead);

	return bytes > other ? bytes - other : 0;
}

/**
 * struct smt_cut - what a receiver learns from the first packet of a record
 * @packets: of the segment
 * @framings: packets with a framing header
 * @room: bytes behind the framing header of a packet that is not the last
 * @data: bytes of the message in it
 */
struct smt_cut {
	u32 packets;
	u32 framings;
	u32 room;
	u32 data;
};

/*
 * @first: bytes behind the header of the first packet; @stream: of all, from the record's length.
 * Returns false when no sender cuts so.
 */
static inline bool smt_cut_init(struct smt_cut *c, u32 first, u32 stream)
{
	u32 last, other;

	if (first < SMT_OVERHEAD + SMT_FRAMING && first != stream)
		return false;
	if (first > stream || first <= SMT_FRAMING)
		return false;
	c->packets = (stream + first - 1) / first;
	c->room = first - SMT_FRAMING;
	last = stream - (c->packets - 1) * first;
	c->framings = c->packets;
	if (c->packets > 1 && last <= SMT_TAG)
		c->framings--;
	else if (last < SMT_FRAMING)
		return false;
	other = SMT_OVERHEAD + SMT_FRAMING * c->framings;
	if (stream < other)
		return false;
	c->data = stream - other;
	return true;
}

/* The record number: what makes a nonce unique under a key. */
static inline u64 smt_record_number(u64 id, u32 index)
{
	return (id >> 1) << SMT_INDEX_BITS | index;
}

/* The part of an id that record numbers have. */
static inline u64 smt_message_number(u64 id)
{
	return (id >> 1) & ((1ULL << SMT_ID_BITS) - 1);
}

#endif
