// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Encryption by a device: <linux/mlx5/smt_offload.h>. Which devices there are, our keys in them,
 * and packets of plaintext on their way. A device that cannot (any more) is never waited for: the
 * record goes to another queue or to software, or the RPC ends, as the socket permits.
 *
 * Locks: devices_lock (sleeps), below it smt_sock.key_lock; keys_lock is the last of all.
 */
#include <linux/mlx5/smt_offload.h>
#include <linux/netdevice.h>
#include <linux/rwsem.h>
#include <linux/slab.h>
#include "smt.h"

struct device_here {
	struct list_head node;			/* devices */
	struct smt_offload_dev *dev;
	struct list_head keys;			/* keys_lock */
};

/* A key in a device. @session is NULL when the device is gone. */
struct smt_hw_key {
	refcount_t refs;
	struct list_head node;			/* device_here.keys */
	struct smt_offload_session *session;	/* changed with keys_lock */
	const struct smt_offload_ops *ops;
	const struct net_device *netdev;	/* to compare with, it may be gone */
};

static DECLARE_RWSEM(devices_lock);
static LIST_HEAD(devices);
static DEFINE_SPINLOCK(keys_lock);

/* keys_lock is held, for which remove() waits */
static void end_session(struct smt_hw_key *key)
{
	if (key->session)
		key->ops->session_del(key->session);
	WRITE_ONCE(key->session, NULL);
	list_del_init(&key->node);
}

/* In any context. */
void smt_hw_key_put(struct smt_hw_key *key)
{
	if (!key || !refcount_dec_and_test(&key->refs))
		return;
	spin_lock_bh(&keys_lock);
	end_session(key);
	spin_unlock_bh(&keys_lock);
	kfree(key);
}

static struct smt_offload_session *add_session(struct smt_offload_dev *dev,
					       const struct smt_key *secret)
{
	union {
		struct tls_crypto_info any;
		struct tls12_crypto_info_aes_gcm_128 aes_gcm_128;
		struct tls12_crypto_info_aes_gcm_256 aes_gcm_256;
	} info = { .any.version = TLS_1_2_VERSION };
	struct smt_offload_session *session;

	if (secret->size == TLS_CIPHER_AES_GCM_128_KEY_SIZE) {
		info.any.cipher_type = TLS_CIPHER_AES_GCM_128;
		memcpy(info.aes_gcm_128.key, secret->secret, secret->size);
		memcpy(info.aes_gcm_128.salt, secret->salt, sizeof(secret->salt));
	} else {
		info.any.cipher_type = TLS_CIPHER_AES_GCM_256;
		memcpy(info.aes_gcm_256.key, secret->secret, secret->size);
		memcpy(info.aes_gcm_256.salt, secret->salt, sizeof(secret->salt));
	}
	session = dev->ops->session_add(dev, &info.any);
	memzero_explicit(&info, sizeof(info));
	return session;
}

/* devices_lock is held */
static struct smt_hw_key *new_key(struct device_here *here, const struct smt_key *secret)
{
	struct smt_hw_key *key = kzalloc(sizeof(*key), GFP_KERNEL);
	struct smt_offload_session *session;

	if (!key)
		return ERR_PTR(-ENOMEM);
	session = add_session(here->dev, secret);
	if (IS_ERR(session)) {
		kfree(key);
		return ERR_CAST(session);
	}
	refcount_set(&key->refs, 1);
	key->session = session;
	key->ops = here->dev->ops;
	key->netdev = here->dev->netdev;
	spin_lock_bh(&keys_lock);
	list_add(&key->node, &here->keys);
	spin_unlock_bh(&keys_lock);
	return key;
}

static bool is_usable(const struct smt_hw_key *key, const struct net_device *netdev)
{
	return READ_ONCE(key->session) && key->netdev == netdev;
}

/* The session's key in a device, with a reference; devices_lock is held. */
static struct smt_hw_key *session_key(struct smt_sock *ssk, struct smt_session *session,
				      struct device_here *here)
{
	struct smt_hw_key *key;

	mutex_lock(&ssk->key_lock);
	key = session->hw;
	if (!key || !is_usable(key, here->dev->netdev)) {
		key = new_key(here, &session->tx);
		if (!IS_ERR(key)) {
			smt_hw_key_put(session->hw);
			session->hw = key;
		}
	}
	if (!IS_ERR(key))
		refcount_inc(&key->refs);
	mutex_unlock(&ssk->key_lock);
	return key;
}

static struct device_here *find_device(const struct net_device *netdev)
{
	struct device_here *here;

	list_for_each_entry(here, &devices, node) {
		if (here->dev->netdev == netdev)
			return here;
	}
	return NULL;
}

/* Whether packets of a route are, at its device, still as we have made them. */
static bool is_direct(const struct dst_entry *dst)
{
	return !dst_xfrm(dst) && !dst->lwtstate;
}

static int choose(struct smt_sock *ssk, struct smt_session *session, const struct dst_entry *dst,
		  struct smt_hw_path *path)
{
	/* looked into only if it is one of ours */
	const struct net_device *netdev = READ_ONCE(dst->dev);
	struct device_here *here;
	struct smt_hw_key *key;
	int queue = -ENODEV;

	down_read(&devices_lock);
	here = find_device(netdev);
	if (!here || !is_direct(dst))
		goto out;
	queue = -EOPNOTSUPP;
	/* what software cuts would have to be encrypted before */
	if (!(netdev->features & NETIF_F_TSO) || smt_gso_type(ssk->snet, netdev) != SKB_GSO_TCPV4)
		goto out;
	key = session_key(ssk, session, here);
	queue = PTR_ERR_OR_ZERO(key);
	if (queue)
		goto out;
	queue = key->ops->queue_get(key->session, raw_smp_processor_id());
	if (queue < 0) {
		smt_hw_key_put(key);
	} else {
		path->key = key;
		path->queue = queue;
		queue = 0;
	}
out:
	up_read(&devices_lock);
	return queue;
}

static enum smt_counter fallback(int err)
{
	switch (err) {
	case -ENODEV:
		return SMT_C_FALLBACK_NO_DEVICE;
	case -EOPNOTSUPP:
		return SMT_C_FALLBACK_OFF;
	case -ENETDOWN:
		return SMT_C_FALLBACK_DOWN;
	case -ENOSPC:
		return SMT_C_FALLBACK_CONTEXTS;
	default:
		return SMT_C_FALLBACK_ERROR;
	}
}

/**
 * smt_hw_choose() - say who encrypts a message
 * @ssk: whose; no lock of it is held, sleeps
 * @session: its key
 * @dst: its route
 * @path: key (with a reference) and queue of the device; key NULL: software encrypts
 *
 * Return: 0, or why the device cannot, if nobody else may
 */
int smt_hw_choose(struct smt_sock *ssk, struct smt_session *session,
		  const struct dst_entry *dst, struct smt_hw_path *path)
{
	int policy = READ_ONCE(ssk->offload), err;

	path->key = NULL;
	if (policy == SMT_OFFLOAD_OFF)
		return 0;
	err = choose(ssk, session, dst, path);
	if (!err)
		return 0;
	if (policy == SMT_OFFLOAD_REQUIRED) {
		smt_count(ssk->snet, SMT_C_FALLBACK_FORBIDDEN);
		return err;
	}
	smt_count(ssk->snet, fallback(err));
	return 0;
}

/* A record of a segment, which holds it; NULL without memory. */
struct smt_hw_record *smt_hw_record_new(const struct smt_hw_path *path, u64 number,
					const struct smt_hw_place *place)
{
	struct smt_hw_record *record = kzalloc(sizeof(*record), GFP_KERNEL);

	if (!record)
		return NULL;
	refcount_set(&record->refs, 1);
	refcount_inc(&path->key->refs);
	record->path = *path;
	record->number = number;
	record->place = *place;
	return record;
}

/* In any context. */
void smt_hw_record_put(struct smt_hw_record *record)
{
	if (!record || !refcount_dec_and_test(&record->refs))
		return;
	smt_hw_key_put(record->path.key);
	kfree(record);
}

/* Whether packets of a record can go out by a route. */
bool smt_hw_is_usable(const struct smt_hw_record *record, const struct dst_entry *dst)
{
	return is_usable(record->path.key, dst->dev) && is_direct(dst);
}

/*
 * The device does not send a record: see to it where one can sleep. In any context, with any lock;
 * somebody holds the socket.
 */
void smt_hw_refuse(struct smt_hw_record *record, struct sock *sk)
{
	struct smt_sock *ssk = smt_sk(sk);

	if (test_and_set_bit(0, &record->refused))
		return;
	refcount_inc(&record->refs);
	llist_add(&record->node, &ssk->refused);
	sock_hold(sk);
	if (!queue_work(smt_workqueue, &ssk->refused_work))
		sock_put(sk);
}

static void refused_work(struct work_struct *work)
{
	struct smt_sock *ssk = container_of(work, struct smt_sock, refused_work);
	struct llist_node *all = llist_reverse_order(llist_del_all(&ssk->refused));
	struct smt_hw_record *record, *next;

	llist_for_each_entry_safe(record, next, all, node) {
		/* if there was no memory it may be tried, and refused, again */
		clear_bit(0, &record->refused);
		smt_out_refused(ssk, record);
		smt_hw_record_put(record);
		cond_resched();
	}
	sock_put(smt_sock(ssk));
}

/* packets */

static void free_packet(struct sk_buff *skb)
{
	smt_hw_record_put(skb_shinfo(skb)->destructor_arg);
	sock_put(skb->sk);
}

/* The record in a packet of ours, else NULL. */
static struct smt_hw_record *record_in(const struct sk_buff *skb)
{
	return skb->destructor == free_packet ? skb_shinfo(skb)->destructor_arg : NULL;
}

/* A copy of a segment becomes a packet that a device encrypts. */
void smt_hw_own(struct sk_buff *skb, struct smt_hw_record *record, struct sock *sk)
{
	refcount_inc(&record->refs);
	sock_hold(sk);
	skb->sk = sk;
	skb->destructor = free_packet;
	skb_shinfo(skb)->destructor_arg = record;
	skb->decrypted = 1;
}

static int describe(const struct sk_buff *skb, struct smt_offload_tx *tx)
{
	const struct smt_hw_record *record = record_in(skb);

	if (!record)
		return -ENOENT;
	/* who asks is waited for by detach(), after which the session goes */
	tx->session = READ_ONCE(record->path.key->session);
	tx->record = record->number;
	tx->records = 1;
	tx->header = SMT_HEADER;
	tx->queue = record->path.queue;
	return tx->session ? 0 : -ENOENT;
}

static void dropped(const struct sk_buff *skb, enum smt_offload_drop why)
{
	static const enum smt_counter counters[] = {
		[SMT_OFFLOAD_DROP_UNKNOWN] = SMT_C_HW_DROP_UNKNOWN,
		[SMT_OFFLOAD_DROP_MALFORMED] = SMT_C_HW_DROP_MALFORMED,
		[SMT_OFFLOAD_DROP_CONTEXT] = SMT_C_HW_DROP_CONTEXT,
	};
	struct smt_hw_record *record = record_in(skb);

	if (!record)
		return;
	smt_count(smt_sk(skb->sk)->snet, counters[why]);
	smt_hw_refuse(record, skb->sk);
}

static const struct smt_offload_transport transport = {
	.describe = describe,
	.dropped = dropped,
};

/* The stack asks for each packet that is about to leave: plaintext must go to its device, whole. */
static struct sk_buff *validate(struct sock *sk, struct net_device *dev, struct sk_buff *skb)
{
	struct smt_hw_record *record;

	if (!skb->decrypted)
		return skb;
	record = record_in(skb);
	if (record) {
		if (is_usable(record->path.key, dev) &&
		    !(skb_is_gso(skb) && netif_needs_gso(skb, netif_skb_features(skb))))
			return skb;
		smt_count(smt_sk(sk)->snet, SMT_C_HW_DROP_STACK);
		smt_hw_refuse(record, sk);
	}
	kfree_skb(skb);
	return NULL;
}

void smt_hw_sock_init(struct smt_sock *ssk)
{
	init_llist_head(&ssk->refused);
	INIT_WORK(&ssk->refused_work, refused_work);
	smt_sock(ssk)->sk_validate_xmit_skb = validate;
}

/* Its calls are over: what is refused from now on finds none. */
void smt_hw_sock_close(struct smt_sock *ssk)
{
	flush_work(&ssk->refused_work);
}

/* devices */

static int probe(struct auxiliary_device *adev, const struct auxiliary_device_id *id)
{
	struct smt_offload_dev *dev = to_smt_offload_dev(adev);
	struct device_here *here;
	int err;

	if (dev->version != SMT_OFFLOAD_VERSION)
		return -EINVAL;
	here = kzalloc(sizeof(*here), GFP_KERNEL);
	if (!here)
		return -ENOMEM;
	here->dev = dev;
	INIT_LIST_HEAD(&here->keys);
	err = dev->ops->attach(dev, &transport);
	if (err) {
		kfree(here);
		return err;
	}
	auxiliary_set_drvdata(adev, here);
	down_write(&devices_lock);
	list_add(&here->node, &devices);
	up_write(&devices_lock);
	return 0;
}

static void remove(struct auxiliary_device *adev)
{
	struct device_here *here = auxiliary_get_drvdata(adev);
	struct smt_hw_key *key, *next;

	/* no new keys and contexts */
	down_write(&devices_lock);
	list_del(&here->node);
	up_write(&devices_lock);
	/* no packets */
	here->dev->ops->detach(here->dev);
	spin_lock_bh(&keys_lock);
	list_for_each_entry_safe(key, next, &here->keys, node)
		end_session(key);
	spin_unlock_bh(&keys_lock);
	kfree(here);
}

/* not for MODULE_DEVICE_TABLE(): a NIC is no reason to load a protocol that nobody uses */
static const struct auxiliary_device_id ids[] = { { .name = SMT_OFFLOAD_NAME }, {} };

static struct auxiliary_driver driver = {
	.name = "smt",
	.probe = probe,
	.remove = remove,
	.id_table = ids,
};

int smt_hw_init(void)
{
	return auxiliary_driver_register(&driver);
}

void smt_hw_exit(void)
{
	auxiliary_driver_unregister(&driver);
}
