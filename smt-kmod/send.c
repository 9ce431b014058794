// SPDX-License-Identifier: GPL-2.0-or-later
/* sendmsg(): requests and responses. */
#include <linux/in.h>
#include <net/dst.h>
#include "smt.h"

static int read_peer(const struct msghdr *msg, __be32 *addr, u16 *port)
{
	const struct sockaddr_in *sin = msg->msg_name;

	if (!sin)
		return -EDESTADDRREQ;
	if (msg->msg_namelen < sizeof(*sin))
		return -EINVAL;
	if (sin->sin_family != AF_INET)
		return -EAFNOSUPPORT;
	*addr = sin->sin_addr.s_addr;
	*port = ntohs(sin->sin_port);
	if (!*port || !*addr || ipv4_is_multicast(*addr) || ipv4_is_lbcast(*addr))
		return -EINVAL;
	return 0;
}

static int read_control(struct msghdr *msg, struct smt_rpc *rpc)
{
	struct cmsghdr *cmsg;

	for_each_cmsghdr(cmsg, msg) {
		if (!CMSG_OK(msg, cmsg) || cmsg->cmsg_level != SOL_SMT ||
		    cmsg->cmsg_type != SMT_RPC || cmsg->cmsg_len != CMSG_LEN(sizeof(*rpc)))
			return -EINVAL;
		memcpy(rpc, CMSG_DATA(cmsg), sizeof(*rpc));
		if (rpc->flags || rpc->error)
			return -EINVAL;
	}
	return 0;
}

/* Whether the session may encrypt what a client says; smt_sock.lock is held. */
static int request_session(struct smt_sock *ssk, struct smt_call *call)
{
	struct smt_session *session = smt_find_session(ssk, call->daddr, call->dport);

	if (!session) {
		if (ssk->default_taken)
			return -EKEYREJECTED;
		return ssk->secure ? -ENOKEY : 0;
	}
	if (!session->tx.aead)
		return -ENOKEY;
	if (session->role == SMT_ROLE_SERVER)
		return -EKEYREJECTED;
	session->role = SMT_ROLE_CLIENT;
	smt_claim_session(ssk, session, call->daddr, call->dport);
	call->session = session;
	call->secure = true;
	return 0;
}

/* Keys that came while plaintext was being copied. */
static bool downgraded(struct smt_sock *ssk, struct smt_call *call)
{
	return !call->secure &&
	       (ssk->secure || smt_find_session(ssk, call->daddr, call->dport));
}

static int request(struct smt_sock *ssk, struct msghdr *msg, size_t len, __be32 addr, u16 port,
		   u64 cookie)
{
	struct smt_net *snet = ssk->snet;
	struct smt_call *call;
	int err;

	err = smt_autobind(ssk);
	if (err)
		return err;
	call = smt_call_new(ssk, GFP_KERNEL);
	if (!call)
		return -ENOMEM;
	call->state = SMT_ASKING;
	call->cookie = cookie;
	call->daddr = addr;
	call->dport = port;
	call->sport = ssk->port;
	call->saddr = ssk->inet.inet_rcv_saddr;
	call->dst = smt_route(smt_sock(ssk), snet->net, &call->saddr, addr);
	if (IS_ERR(call->dst)) {
		err = PTR_ERR(call->dst);
		call->dst = NULL;
		goto out;
	}
	err = -ENOBUFS;
	call->peer = smt_peer_get(snet, addr);
	if (!call->peer)
		goto out;

	spin_lock_bh(&ssk->lock);
	err = request_session(ssk, call);
	call->id = ssk->next_id;
	ssk->next_id += 2;
	spin_unlock_bh(&ssk->lock);
	if (err)
		goto out;

	err = smt_out_build(call, msg, len);
	if (err)
		goto out;

	spin_lock_bh(&ssk->lock);
	if (downgraded(ssk, call)) {
		err = -ENOKEY;
	} else {
		smt_call_link(call);
		smt_out_start(call);
		smt_call_expect(call, READ_ONCE(snet->limits.resend_ticks));
	}
	spin_unlock_bh(&ssk->lock);
	if (!err)
		smt_timer_start(snet);
out:
	smt_call_put(call);
	return err;
}

/* Find the request and keep others from answering it, too. */
static struct smt_call *take_request(struct smt_sock *ssk, u64 id, __be32 addr, u16 port)
{
	struct smt_call *call;

	spin_lock_bh(&ssk->lock);
	call = smt_is_client(id) ? NULL : smt_find_call(ssk, id, addr, port);
	if (!call || call->state != SMT_SERVING) {
		call = ERR_PTR(-ENOENT);
	} else if (call->secure && !call->session->tx.aead) {
		call = ERR_PTR(-ENOKEY);
	} else if (downgraded(ssk, call)) {
		call = ERR_PTR(-ENOKEY);
	} else {
		call->state = SMT_REPLYING;
		refcount_inc(&call->refs);
	}
	spin_unlock_bh(&ssk->lock);
	return call;
}

static int response(struct smt_sock *ssk, struct msghdr *msg, size_t len, __be32 addr, u16 port,
		    u64 id)
{
	struct smt_call *call = take_request(ssk, id, addr, port);
	int err;

	if (IS_ERR(call))
		return PTR_ERR(call);
	err = smt_out_build(call, msg, len);

	spin_lock_bh(&ssk->lock);
	if (call->state == SMT_DEAD) {
		/* the client has gone while this was copied: nobody misses it */
		err = 0;
	} else if (err) {
		/* nothing was sent, so another try may use the same record numbers */
		call->state = SMT_SERVING;
	} else {
		call->state = SMT_REPLIED;
		call->resends = 0;
		smt_out_start(call);
		smt_call_expect(call, READ_ONCE(ssk->snet->limits.ack_ticks));
	}
	spin_unlock_bh(&ssk->lock);
	smt_timer_start(ssk->snet);
	smt_call_put(call);
	return err;
}

int smt_sendmsg(struct sock *sk, struct msghdr *msg, size_t len)
{
	struct smt_sock *ssk = smt_sk(sk);
	struct smt_rpc rpc = {};
	__be32 addr;
	u16 port;
	int err;

	if (msg->msg_flags & MSG_OOB)
		return -EOPNOTSUPP;
	err = read_peer(msg, &addr, &port);
	if (err)
		return err;
	err = read_control(msg, &rpc);
	if (err)
		return err;
	if (len > READ_ONCE(ssk->snet->limits.max_message))
		return -EMSGSIZE;
	if (rpc.id)
		err = response(ssk, msg, len, addr, port, rpc.id);
	else
		err = request(ssk, msg, len, addr, port, rpc.cookie);
	if (err)
		return err;
	smt_count(ssk->snet, SMT_C_TX_MESSAGES);
	smt_count_more(ssk->snet, SMT_C_TX_BYTES, len);
	return len;
}
