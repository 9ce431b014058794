// SPDX-License-Identifier: GPL-2.0-or-later
/* Sessions: which keys a socket has for which peer, and what they may be used for. */
#include <linux/jhash.h>
#include <linux/slab.h>
#include "ledger.h"
#include "smt.h"

/* Both structures that a program passes, behind the cipher's own part. */
struct key_tail {
	__be32 peer_addr;
	__be16 peer_port;
	u8 default_keys;
	u8 pad;
};

union key_info {
	struct tls_crypto_info any;
	struct smt_crypto_info_aes_gcm_128 aes_gcm_128;
	struct smt_crypto_info_aes_gcm_256 aes_gcm_256;
};

static struct hlist_head *session_bucket(struct smt_sock *ssk, __be32 addr, u16 port)
{
	u32 hash = jhash_2words((__force u32)addr, port, 0);

	return &ssk->sessions[hash % SMT_SESSION_BUCKETS];
}

/*
 * The session for a peer: its own, or the default keys that nobody has yet, or (if others have the
 * default keys, or only a socket with SMT_SECURE) none. smt_sock.lock is held.
 */
struct smt_session *smt_find_session(struct smt_sock *ssk, __be32 addr, u16 port)
{
	struct smt_session *session;

	hlist_for_each_entry(session, session_bucket(ssk, addr, port), node) {
		if (session->addr == addr && session->port == port)
			return session;
	}
	return ssk->unclaimed;
}

/* Default keys become one peer's for good. Returns if it is this one. smt_sock.lock is held. */
bool smt_claim_session(struct smt_sock *ssk, struct smt_session *session, __be32 addr, u16 port)
{
	if (session != ssk->unclaimed)
		return session->addr == addr && session->port == port;
	session->addr = addr;
	session->port = port;
	ssk->unclaimed = NULL;
	ssk->default_taken = true;
	hlist_add_head(&session->node, session_bucket(ssk, addr, port));
	return true;
}

static void free_session(struct smt_session *session)
{
	smt_hw_key_put(session->hw);
	if (session->tx.aead)
		crypto_free_aead(session->tx.aead);
	if (session->rx.aead)
		crypto_free_aead(session->rx.aead);
	kvfree_sensitive(session, sizeof(*session));
}

/* The socket is closing: no call uses them any more. */
void smt_free_sessions(struct smt_sock *ssk)
{
	struct smt_session *session;
	struct hlist_node *next;
	int i;

	for (i = 0; i < SMT_SESSION_BUCKETS; i++) {
		hlist_for_each_entry_safe(session, next, &ssk->sessions[i], node) {
			hlist_del(&session->node);
			free_session(session);
		}
	}
	if (ssk->unclaimed)
		free_session(ssk->unclaimed);
	ssk->unclaimed = NULL;
	ssk->n_sessions = 0;
}

static int read_info(union key_info *info, sockptr_t optval, unsigned int optlen,
		     struct smt_key *key, struct key_tail *tail)
{
	if (optlen < sizeof(info->any))
		return -EINVAL;
	if (copy_from_sockptr(&info->any, optval, sizeof(info->any)))
		return -EFAULT;
	if (info->any.version != TLS_1_2_VERSION)
		return -EINVAL;
	switch (info->any.cipher_type) {
	case TLS_CIPHER_AES_GCM_128:
		if (optlen != sizeof(info->aes_gcm_128))
			return -EINVAL;
		break;
	case TLS_CIPHER_AES_GCM_256:
		if (optlen != sizeof(info->aes_gcm_256))
			return -EINVAL;
		break;
	default:
		return -EOPNOTSUPP;
	}
	if (copy_from_sockptr(info, optval, optlen))
		return -EFAULT;
	if (optlen == sizeof(info->aes_gcm_128)) {
		key->size = TLS_CIPHER_AES_GCM_128_KEY_SIZE;
		memcpy(key->secret, info->aes_gcm_128.info.key, key->size);
		memcpy(key->salt, info->aes_gcm_128.info.salt, sizeof(key->salt));
		*tail = (struct key_tail) {
			info->aes_gcm_128.peer_addr, info->aes_gcm_128.peer_port,
			info->aes_gcm_128.default_keys, info->aes_gcm_128.pad,
		};
	} else {
		key->size = TLS_CIPHER_AES_GCM_256_KEY_SIZE;
		memcpy(key->secret, info->aes_gcm_256.info.key, key->size);
		memcpy(key->salt, info->aes_gcm_256.info.salt, sizeof(key->salt));
		*tail = (struct key_tail) {
			info->aes_gcm_256.peer_addr, info->aes_gcm_256.peer_port,
			info->aes_gcm_256.default_keys, info->aes_gcm_256.pad,
		};
	}
	return 0;
}

static int check_tail(const struct key_tail *tail)
{
	if (tail->pad || tail->default_keys > 1)
		return -EINVAL;
	if (tail->default_keys)
		return tail->peer_addr || tail->peer_port ? -EINVAL : 0;
	return tail->peer_addr && tail->peer_port ? 0 : -EINVAL;
}

static bool same_key(const struct smt_key *a, const struct smt_key *b)
{
	return a->aead && a->size == b->size && !memcmp(a->secret, b->secret, a->size) &&
	       !memcmp(a->salt, b->salt, sizeof(a->salt));
}

/* Whether plaintext to a peer is on its way: it would look like a downgrade. */
static bool has_plain_calls(struct smt_sock *ssk, __be32 addr, u16 port)
{
	struct smt_call *call;

	list_for_each_entry(call, &ssk->calls, node) {
		if (!call->secure && (!addr || (call->daddr == addr && call->dport == port)))
			return true;
	}
	return false;
}

static struct smt_session *exact_session(struct smt_sock *ssk, __be32 addr, u16 port)
{
	struct smt_session *session;

	spin_lock_bh(&ssk->lock);
	session = smt_find_session(ssk, addr, port);
	if (addr && session == ssk->unclaimed)
		session = NULL;
	spin_unlock_bh(&ssk->lock);
	return session;
}

static int new_aead(struct smt_key *key)
{
	struct crypto_aead *aead = crypto_alloc_aead("gcm(aes)", 0, 0);
	int err;

	if (IS_ERR(aead))
		return PTR_ERR(aead);
	err = crypto_aead_setkey(aead, key->secret, key->size);
	if (!err)
		err = crypto_aead_setauthsize(aead, SMT_TAG);
	if (err) {
		crypto_free_aead(aead);
		return err;
	}
	key->aead = aead;
	return 0;
}

/* Put a key into its session, made if there is none; smt_sock.key_lock is held. */
static int install(struct smt_sock *ssk, bool tx, struct smt_key *key, const struct key_tail *tail)
{
	u16 port = ntohs(tail->peer_port);
	struct smt_session *session, *made = NULL;
	struct smt_key *place, *other;
	int err;

	session = exact_session(ssk, tail->peer_addr, port);
	if (!session) {
		made = kvzalloc(sizeof(*made), GFP_KERNEL_ACCOUNT);
		if (!made)
			return -ENOMEM;
		made->addr = tail->peer_addr;
		made->port = port;
		made->is_default = tail->default_keys;
		session = made;
	}
	place = tx ? &session->tx : &session->rx;
	other = tx ? &session->rx : &session->tx;
	err = -EEXIST;
	if (place->aead)
		goto fail;
	err = -EKEYREJECTED;
	if (same_key(other, key))
		goto fail;
	err = new_aead(key);
	if (err)
		goto fail;
	spin_lock_bh(&ssk->lock);
	err = tx && has_plain_calls(ssk, tail->peer_addr, port) ? -EBUSY : 0;
	spin_unlock_bh(&ssk->lock);
	if (!err)
		err = smt_ledger_enter(tx ? SMT_SEAL : SMT_OPEN, key->secret, key->size, key->salt,
				       sizeof(key->salt));
	if (err) {
		crypto_free_aead(key->aead);
		goto fail;
	}

	spin_lock_bh(&ssk->lock);
	*place = *key;
	if (other->aead)
		memzero_explicit(session->rx.secret, sizeof(session->rx.secret));
	if (made) {
		if (made->is_default)
			ssk->unclaimed = made;
		else
			hlist_add_head(&made->node, session_bucket(ssk, made->addr, made->port));
		ssk->n_sessions++;
	}
	spin_unlock_bh(&ssk->lock);
	return 0;

fail:
	kvfree(made);
	return err;
}

/* setsockopt(SOL_TLS, TLS_TX or TLS_RX): see <linux/smt.h>. */
int smt_set_key(struct smt_sock *ssk, int direction, sockptr_t optval, unsigned int optlen)
{
	struct smt_key key = {};
	struct key_tail tail;
	union key_info info;
	int err;

	if (direction != TLS_TX && direction != TLS_RX)
		return -ENOPROTOOPT;
	err = read_info(&info, optval, optlen, &key, &tail);
	if (!err)
		err = check_tail(&tail);
	if (!err) {
		mutex_lock(&ssk->key_lock);
		err = install(ssk, direction == TLS_TX, &key, &tail);
		mutex_unlock(&ssk->key_lock);
		smt_count(ssk->snet, err ? SMT_C_KEYS_REJECTED : SMT_C_KEYS_INSTALLED);
	}
	memzero_explicit(&info, sizeof(info));
	memzero_explicit(&key, sizeof(key));
	return err;
}
