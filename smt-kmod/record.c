// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Records: encryption in place, decryption into memory of our own (the packets may be seen by
 * others), and the checks of what only the peer can have said. Sleeps; no lock is held.
 */
#include <crypto/aead.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include "smt.h"

#define AAD_SIZE	13
#define NONCE_SIZE	12

/* TLS 1.2, RFC 5246 6.2.3.3 and RFC 5288 3. */
struct operation {
	u8 aad[AAD_SIZE];
	u8 nonce[NONCE_SIZE];
	/* additional data, then at most the fragments and the head of an skb */
	struct scatterlist sg[MAX_SKB_FRAGS + 3];
};

static struct operation *new_operation(const struct smt_key *key, u64 number, u32 plaintext)
{
	struct operation *op = kmalloc(sizeof(*op), GFP_KERNEL);

	if (!op)
		return NULL;
	memcpy(op->nonce, key->salt, sizeof(key->salt));
	put_unaligned_be64(number, op->nonce + sizeof(key->salt));
	put_unaligned_be64(number, op->aad);
	op->aad[8] = SMT_RECORD_TYPE;
	put_unaligned_be16(SMT_RECORD_VERSION, op->aad + 9);
	put_unaligned_be16(plaintext, op->aad + 11);
	sg_init_table(op->sg, ARRAY_SIZE(op->sg));
	sg_set_buf(op->sg, op->aad, AAD_SIZE);
	return op;
}

static int run(const struct smt_key *key, struct operation *op, u32 size, bool seal)
{
	struct aead_request *request = aead_request_alloc(key->aead, GFP_KERNEL);
	DECLARE_CRYPTO_WAIT(wait);
	int err;

	if (!request)
		return -ENOMEM;
	aead_request_set_callback(request, CRYPTO_TFM_REQ_MAY_BACKLOG | CRYPTO_TFM_REQ_MAY_SLEEP,
				  crypto_req_done, &wait);
	aead_request_set_ad(request, AAD_SIZE);
	aead_request_set_crypt(request, op->sg, op->sg, size, op->nonce);
	err = crypto_wait_req(seal ? crypto_aead_encrypt(request) : crypto_aead_decrypt(request),
			      &wait);
	aead_request_free(request);
	return err;
}

/**
 * smt_seal() - encrypt a segment in place
 * @key: of the session
 * @number: record number
 * @skb: the segment, its stream behind SMT_HEADER bytes, with room for the tag
 * @stream: bytes of the stream
 */
int smt_seal(const struct smt_key *key, u64 number, struct sk_buff *skb, u32 stream)
{
	u32 plaintext = stream - SMT_LEAD - SMT_TAG;
	struct operation *op = new_operation(key, number, plaintext);
	int err;

	if (!op)
		return -ENOMEM;
	err = skb_to_sgvec(skb, op->sg + 1, SMT_HEADER + SMT_LEAD, stream - SMT_LEAD);
	if (err > 0)
		err = run(key, op, plaintext, true);
	kfree(op);
	return err;
}

/* Put the packets of a segment together. */
static u8 *join(struct smt_segment *segment)
{
	u8 *stream = kmalloc(segment->bytes, GFP_KERNEL | __GFP_NOWARN);
	struct sk_buff *skb;
	u32 at = 0;

	if (!stream)
		return NULL;
	skb_queue_walk(&segment->packets, skb) {
		u32 bytes = skb->len - SMT_HEADER;

		if (skb_copy_bits(skb, SMT_HEADER, stream + at, bytes)) {
			kfree(stream);
			return NULL;
		}
		at += bytes;
	}
	return stream;
}

static int decrypt(const struct smt_call *call, const struct smt_segment *segment, u8 *stream)
{
	const struct smt_key *key = &call->session->rx;
	u32 size = segment->bytes - SMT_LEAD;
	struct operation *op;
	int err;

	op = new_operation(key, smt_record_number(call->id, segment->number), size - SMT_TAG);
	if (!op)
		return -ENOMEM;
	sg_set_buf(op->sg + 1, stream + SMT_LEAD, size);
	sg_mark_end(op->sg + 1);
	err = run(key, op, size, false);
	kfree(op);
	return err;
}

/*
 * The clear headers said how the stream was cut and where it belongs; the framing headers, which
 * are authentic by now, must say the same.
 */
static enum smt_counter check_framing(const struct smt_call *call,
				      const struct smt_segment *segment, const u8 *stream)
{
	const struct smt_cut *cut = &segment->cut;
	bool interop = call->ssk->interop;
	u32 index, at = SMT_LEAD;

	for (index = 0; index < cut->framings; index++) {
		struct smt_framing framing;
		u32 packet = index * (cut->room + SMT_FRAMING);
		u32 bytes = min(segment->bytes - packet, cut->room + SMT_FRAMING);
		u32 offset = smt_packet_offset(cut->room, SMT_OVERHEAD, segment->start, index);

		memcpy(&framing, stream + at, sizeof(framing));
		if (ntohl(framing.offset) != offset && !(interop && index))
			return SMT_C_DROP_FRAMING;
		if (!interop && ntohl(framing.length) !=
				smt_packet_length(SMT_OVERHEAD, index, bytes, true))
			return SMT_C_DROP_FRAMING;
		if (!interop && !index &&
		    (framing.ack_id || ntohl(framing.message_length) != segment->message_length))
			return SMT_C_DROP_TRUNCATED;
		at = packet + cut->room + SMT_FRAMING;
	}
	return SMT_N_COUNTERS;
}

/* Acknowledgements ride in framing headers of peers that run the published code. */
static void take_acks(const struct smt_call *call, const struct smt_record *record, u32 framings)
{
	u32 index, at = SMT_LEAD;

	for (index = 0; index < framings; index++) {
		struct smt_framing framing;

		memcpy(&framing, record->stream + at, sizeof(framing));
		if (framing.ack_id)
			smt_acked(call->ssk->snet, call->daddr, call->saddr,
				  be64_to_cpu(framing.ack_id), ntohs(framing.ack.client_port),
				  ntohs(framing.ack.server_port));
		at = (index + 1) * (record->room + SMT_FRAMING);
	}
}

/* Returns SMT_N_COUNTERS and the record, or the counter of what is wrong. */
static enum smt_counter open_segment(struct smt_segment *segment, struct smt_record **opened)
{
	struct smt_call *call = segment->call;
	struct smt_record *record = kzalloc(sizeof(*record), GFP_KERNEL);
	enum smt_counter reason = SMT_C_DROP_NO_MEMORY;
	int err;

	if (!record)
		return reason;
	record->stream = join(segment);
	if (!record->stream)
		goto fail;
	err = decrypt(call, segment, record->stream);
	if (err) {
		reason = err == -ENOMEM ? SMT_C_DROP_NO_MEMORY : SMT_C_DROP_AUTH;
		goto fail;
	}
	reason = check_framing(call, segment, record->stream);
	if (reason != SMT_N_COUNTERS)
		goto fail;
	record->start = segment->start;
	record->data = segment->cut.data;
	record->room = segment->cut.room;
	record->truesize = sizeof(*record) + ksize(record->stream);
	*opened = record;
	return reason;
fail:
	smt_record_free(record);
	return reason;
}

static struct smt_segment *next_sealed(struct smt_sock *ssk)
{
	struct smt_segment *segment;

	spin_lock_bh(&ssk->lock);
	segment = list_first_entry_or_null(&ssk->sealed, struct smt_segment, node);
	if (segment)
		list_del(&segment->node);
	spin_unlock_bh(&ssk->lock);
	return segment;
}

/* Decrypt what is whole, in the order of arrival. */
void smt_open_work(struct work_struct *work)
{
	struct smt_sock *ssk = container_of(work, struct smt_sock, open_work);
	struct smt_segment *segment;

	while ((segment = next_sealed(ssk))) {
		struct smt_call *call = segment->call;
		struct smt_record *record = NULL;
		enum smt_counter reason = open_segment(segment, &record);

		if (record && ssk->interop)
			take_acks(call, record, segment->cut.framings);
		spin_lock_bh(&ssk->lock);
		smt_opened(segment, record, reason);
		spin_unlock_bh(&ssk->lock);
		smt_segment_free(segment);
		smt_call_put(call);
		cond_resched();
	}
}

/* The socket is closing: what would have been decrypted belongs to calls that are over. */
void smt_drop_sealed(struct smt_sock *ssk)
{
	struct smt_segment *segment;

	while ((segment = next_sealed(ssk))) {
		struct smt_call *call = segment->call;

		smt_segment_free(segment);
		smt_call_put(call);
	}
}
