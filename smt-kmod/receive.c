// SPDX-License-Identifier: GPL-2.0-or-later
/* recvmsg(): messages, and RPCs that failed. */
#include <linux/in.h>
#include <linux/uio.h>
#include "smt.h"
#include "trace.h"

/* Copy from a decrypted stream what is between the framing headers. */
static int copy_stream(const struct smt_record *record, struct msghdr *msg, u32 bytes)
{
	const u8 *from = record->stream + SMT_LEAD + SMT_FRAMING;
	u32 piece = record->room - SMT_LEAD;

	while (bytes) {
		piece = min(piece, bytes);
		if (copy_to_iter(from, piece, &msg->msg_iter) != piece)
			return -EFAULT;
		from += piece + SMT_FRAMING;
		bytes -= piece;
		piece = record->room;
	}
	return 0;
}

static int copy_message(const struct smt_message *message, struct msghdr *msg, u32 bytes)
{
	struct smt_record *record;
	int err;

	list_for_each_entry(record, &message->records, node) {
		u32 part = min(record->data, bytes);

		if (!bytes)
			break;
		if (record->skb)
			err = skb_copy_datagram_msg(record->skb, SMT_HEADER + SMT_FRAMING, msg,
						    part);
		else
			err = copy_stream(record, msg, part);
		if (err)
			return err;
		bytes -= part;
	}
	return 0;
}

static int copy_out(const struct smt_message *message, struct msghdr *msg, size_t len, int flags)
{
	u32 bytes = min_t(size_t, len, message->length);
	int err;

	if (message->rpc.error &&
	    (!msg->msg_control || msg->msg_controllen < CMSG_SPACE(sizeof(message->rpc))))
		return -message->rpc.error;
	err = copy_message(message, msg, bytes);
	if (err)
		return err;
	if (bytes < message->length)
		msg->msg_flags |= MSG_TRUNC;
	if (msg->msg_name) {
		DECLARE_SOCKADDR(struct sockaddr_in *, sin, msg->msg_name);

		memset(sin, 0, sizeof(*sin));
		sin->sin_family = AF_INET;
		sin->sin_port = htons(message->port);
		sin->sin_addr.s_addr = message->addr;
	}
	put_cmsg(msg, SOL_SMT, SMT_RPC, sizeof(message->rpc), (void *)&message->rpc);
	return flags & MSG_TRUNC ? message->length : bytes;
}

static struct smt_message *first_message(struct smt_sock *ssk)
{
	struct smt_message *message;

	spin_lock_bh(&ssk->lock);
	message = list_first_entry_or_null(&ssk->ready, struct smt_message, node);
	spin_unlock_bh(&ssk->lock);
	return message;
}

static void consume(struct smt_sock *ssk, struct smt_message *message)
{
	spin_lock_bh(&ssk->lock);
	list_del(&message->node);
	ssk->n_ready--;
	spin_unlock_bh(&ssk->lock);
	smt_message_free(ssk, message);
	/* there may be room now for what had to wait */
	smt_grant_more(ssk->snet);
}

int smt_recvmsg(struct sock *sk, struct msghdr *msg, size_t len, int flags, int *addr_len)
{
	long timeout = sock_rcvtimeo(sk, flags & MSG_DONTWAIT);
	struct smt_sock *ssk = smt_sk(sk);
	struct smt_message *message;
	int err;

	if (flags & (MSG_OOB | MSG_ERRQUEUE))
		return -EOPNOTSUPP;
	for (;;) {
		if (mutex_lock_interruptible(&ssk->recv_lock))
			return sock_intr_errno(timeout);
		message = first_message(ssk);
		if (message)
			break;
		mutex_unlock(&ssk->recv_lock);
		if (!timeout)
			return -EAGAIN;
		timeout = wait_event_interruptible_timeout(*sk_sleep(sk),
							   !list_empty_careful(&ssk->ready),
							   timeout);
		if (timeout < 0)
			return sock_intr_errno(sock_rcvtimeo(sk, 0));
	}
	err = copy_out(message, msg, len, flags);
	if (msg->msg_name && err >= 0)
		*addr_len = sizeof(struct sockaddr_in);
	/* what could not be copied stays, but for an RPC that failed with just this error */
	if (!(flags & MSG_PEEK) && (err != -EFAULT || message->rpc.error)) {
		trace_smt_recvmsg(ssk, message);
		consume(ssk, message);
	}
	mutex_unlock(&ssk->recv_lock);
	return err;
}
