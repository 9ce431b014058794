/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * TLS records inside the messages of a transport, encrypted by the device.
 *
 * A device that can do this appears as a device SMT_OFFLOAD_NAME on the
 * auxiliary bus, and a transport is a driver on that bus: neither module needs
 * the other one to load, and the bus says when a device comes and goes.
 *
 * The transport puts plaintext records behind a header that TSO replicates,
 * with room for explicit nonce and tag, as kTLS lays them out. It marks such a
 * packet as skb->decrypted and gives its socket a sk_validate_xmit_skb(), as
 * kTLS does, so that the stack drops a packet which lost its socket. The
 * device asks the transport what is in it, and drops what it cannot encrypt.
 */

#ifndef MLX5_SMT_OFFLOAD_H
#define MLX5_SMT_OFFLOAD_H

#include <linux/auxiliary_bus.h>
#include <linux/netdevice.h>
#include <linux/skbuff.h>
#include <net/tls.h>

#define SMT_OFFLOAD_NAME "mlx5_core.smt"

/* of everything below; probe() must refuse any other */
#define SMT_OFFLOAD_VERSION 1

/* A key in a device. Only the device's driver knows what is in it. */
struct smt_offload_session;

/**
 * struct smt_offload_tx - what a packet of plaintext records needs
 * @session: whose key encrypts it
 * @record: number of its first record
 * @records: how many whole records it has, at least 1
 * @header: bytes from the transport header to the first record; with TSO equal
 *	to the header's data offset
 * @queue: what smt_offload_ops.queue_get() returned for its message
 */
struct smt_offload_tx {
	struct smt_offload_session *session;
	u64 record;
	u16 records;
	u16 header;
	u16 queue;
};

/**
 * enum smt_offload_drop - why a device did not send a packet of plaintext
 * @SMT_OFFLOAD_DROP_UNKNOWN: the transport could not say what is in it
 * @SMT_OFFLOAD_DROP_MALFORMED: what the transport said does not fit the packet
 * @SMT_OFFLOAD_DROP_CONTEXT: the session has no context on the queue that the
 *	packet came to
 */
enum smt_offload_drop {
	SMT_OFFLOAD_DROP_UNKNOWN,
	SMT_OFFLOAD_DROP_MALFORMED,
	SMT_OFFLOAD_DROP_CONTEXT,
};

/**
 * struct smt_offload_transport - what a device asks the transport
 * @describe: say what is in a packet with skb->decrypted. Called for each of
 *	them when its queue is chosen and when it is sent, with bottom halves
 *	disabled. May return -ENOENT for a packet of another owner or a session
 *	that is gone; the packet is dropped then.
 * @dropped: the device is about to free a packet that it did not send. The
 *	transport can count it and send the data again by software. Same context.
 */
struct smt_offload_transport {
	int (*describe)(const struct sk_buff *skb, struct smt_offload_tx *tx);
	void (*dropped)(const struct sk_buff *skb, enum smt_offload_drop why);
};

struct smt_offload_dev;

/**
 * struct smt_offload_ops - what a transport asks a device
 * @attach: begin to use a device; from probe() of the auxiliary driver. May
 *	sleep. -EBUSY if it has a transport.
 * @detach: end it; from remove(). May sleep. Afterwards the device does not
 *	call the transport any more, drops plaintext, and has no packet with a
 *	context of the transport in its rings: all sessions can be deleted, and
 *	must be before remove() returns.
 * @session_add: give the device a key. @info is TLS 1.2 with AES-GCM; its
 *	rec_seq and iv do not matter. May sleep. -EOPNOTSUPP: not this cipher,
 *	or offload is switched off (ethtool -K tls-hw-tx-offload); else what the
 *	firmware said.
 * @session_del: give the key and all contexts back. Any context. Not before
 *	each packet that describe() names this session for has been freed,
 *	unless after detach().
 * @queue_get: choose a queue for a message, near @hint (any number, as that of
 *	a processor), and see to it that the session has a context there. May
 *	sleep. Returns the queue, or -EOPNOTSUPP: offload is switched off;
 *	-ENETDOWN: the interface is down; -ENOSPC: there are as many contexts as
 *	are allowed; else what the firmware said. The message must go by
 *	software then.
 *
 * A context belongs to one session and one queue, and all messages of that
 * session on that queue use it. Nothing needs to be done between two of them:
 * the device brings the context into step when a packet does not continue
 * what was sent before.
 */
struct smt_offload_ops {
	int (*attach)(struct smt_offload_dev *dev,
		      const struct smt_offload_transport *transport);
	void (*detach)(struct smt_offload_dev *dev);
	struct smt_offload_session *
	(*session_add)(struct smt_offload_dev *dev,
		       const struct tls_crypto_info *info);
	void (*session_del)(struct smt_offload_session *session);
	int (*queue_get)(struct smt_offload_session *session, unsigned int hint);
};

/**
 * struct smt_offload_dev - a device that encrypts messages
 * @adev: its place on the auxiliary bus
 * @version: SMT_OFFLOAD_VERSION of who made it
 * @netdev: whose packets it encrypts; lives longer than this
 * @ops: what it can be asked
 */
struct smt_offload_dev {
	struct auxiliary_device adev;
	u32 version;
	struct net_device *netdev;
	const struct smt_offload_ops *ops;
};

static inline struct smt_offload_dev *
to_smt_offload_dev(struct auxiliary_device *adev)
{
	return container_of(adev, struct smt_offload_dev, adev);
}

#endif /* MLX5_SMT_OFFLOAD_H */
