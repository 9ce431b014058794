// SPDX-License-Identifier: GPL-2.0-or-later
/* Sockets: making and closing, ports, options, poll. Messages: send.c and receive.c. */
#include <linux/module.h>
#include <linux/poll.h>
#include <net/inet_common.h>
#include <net/ip.h>
#include <net/tcp_states.h>
#include "smt.h"

static struct hlist_head *port_bucket(struct smt_net *snet, u16 port)
{
	return &snet->ports[port % SMT_PORT_BUCKETS];
}

/* The socket of a port that takes what is sent to @addr; under RCU or port_lock. */
struct smt_sock *smt_find_socket(struct smt_net *snet, __be32 addr, u16 port)
{
	struct smt_sock *ssk;

	hlist_for_each_entry_rcu(ssk, port_bucket(snet, port), port_node,
				 lockdep_is_held(&snet->port_lock)) {
		__be32 own = READ_ONCE(ssk->inet.inet_rcv_saddr);

		if (ssk->port == port)
			return !addr || !own || own == addr ? ssk : NULL;
	}
	return NULL;
}

/* smt_net.port_lock is held */
static void take_port(struct smt_sock *ssk, u16 port, __be32 addr)
{
	ssk->inet.inet_rcv_saddr = addr;
	ssk->inet.inet_saddr = addr;
	ssk->inet.inet_num = port;
	ssk->inet.inet_sport = htons(port);
	WRITE_ONCE(ssk->port, port);
	hlist_add_head_rcu(&ssk->port_node, port_bucket(ssk->snet, port));
}

static int bind_client(struct smt_sock *ssk, __be32 addr)
{
	struct smt_net *snet = ssk->snet;
	int tries, err = -EADDRINUSE;

	spin_lock_bh(&snet->port_lock);
	if (ssk->port) {
		err = -EINVAL;
		goto out;
	}
	for (tries = 0; tries <= SMT_MAX_SERVER_PORT; tries++) {
		u16 port = snet->next_port++;

		if (snet->next_port <= SMT_MAX_SERVER_PORT)
			snet->next_port = SMT_MAX_SERVER_PORT + 1;
		if (!smt_find_socket(snet, 0, port)) {
			take_port(ssk, port, addr);
			err = 0;
			break;
		}
	}
out:
	spin_unlock_bh(&snet->port_lock);
	return err;
}

/* Give a socket that has no port one of a client. */
int smt_autobind(struct smt_sock *ssk)
{
	int err;

	if (READ_ONCE(ssk->port))
		return 0;
	err = bind_client(ssk, 0);
	/* another thread was faster */
	return err == -EINVAL ? 0 : err;
}

static int smt_bind(struct sock *sk, struct sockaddr *uaddr, int addr_len)
{
	struct sockaddr_in *sin = (struct sockaddr_in *)uaddr;
	struct smt_sock *ssk = smt_sk(sk);
	struct smt_net *snet = ssk->snet;
	struct net *net = sock_net(sk);
	__be32 addr;
	int err = 0;
	u16 port;

	if (addr_len < (int)sizeof(*sin))
		return -EINVAL;
	if (sin->sin_family != AF_INET)
		return -EAFNOSUPPORT;
	addr = sin->sin_addr.s_addr;
	port = ntohs(sin->sin_port);
	if (port > SMT_MAX_SERVER_PORT)
		return -EADDRNOTAVAIL;
	if (addr && inet_addr_type(net, addr) != RTN_LOCAL)
		return -EADDRNOTAVAIL;
	if (!port)
		return bind_client(ssk, addr);
	if (inet_port_requires_bind_service(net, port) &&
	    !ns_capable(net->user_ns, CAP_NET_BIND_SERVICE))
		return -EACCES;

	spin_lock_bh(&snet->port_lock);
	if (ssk->port)
		err = -EINVAL;
	else if (smt_find_socket(snet, 0, port))
		err = -EADDRINUSE;
	else
		take_port(ssk, port, addr);
	spin_unlock_bh(&snet->port_lock);
	return err;
}

static int smt_sock_init(struct sock *sk)
{
	struct smt_sock *ssk = smt_sk(sk);
	struct smt_net *snet = smt_net(sock_net(sk));
	int i;

	ssk->snet = snet;
	spin_lock_init(&ssk->lock);
	mutex_init(&ssk->recv_lock);
	mutex_init(&ssk->key_lock);
	INIT_LIST_HEAD(&ssk->calls);
	INIT_LIST_HEAD(&ssk->ready);
	INIT_LIST_HEAD(&ssk->sealed);
	INIT_WORK(&ssk->open_work, smt_open_work);
	for (i = 0; i < SMT_CALL_BUCKETS; i++)
		INIT_HLIST_HEAD(&ssk->hash[i]);
	for (i = 0; i < SMT_SESSION_BUCKETS; i++)
		INIT_HLIST_HEAD(&ssk->sessions[i]);
	/*
	 * Microseconds since 1970: a socket that gets the port of one that was closed does not
	 * meet its ids again, as long as there is not more than one RPC a microsecond. (Without
	 * keys that is all that tells old packets from new; with keys see smt_ledger.)
	 */
	ssk->next_id = ktime_get_real_ns() / 1000 << 1;
	ssk->interop = READ_ONCE(snet->limits.interop);
	ssk->offload = READ_ONCE(snet->limits.offload);
	smt_hw_sock_init(ssk);
	/* packets find the socket under RCU */
	sock_set_flag(sk, SOCK_RCU_FREE);

	spin_lock_bh(&snet->port_lock);
	list_add_rcu(&ssk->socket_node, &snet->sockets);
	spin_unlock_bh(&snet->port_lock);
	return 0;
}

static void smt_unhash(struct sock *sk)
{
	struct smt_sock *ssk = smt_sk(sk);

	spin_lock_bh(&ssk->snet->port_lock);
	if (!list_empty(&ssk->socket_node))
		list_del_rcu(&ssk->socket_node);
	if (ssk->port)
		hlist_del_init_rcu(&ssk->port_node);
	spin_unlock_bh(&ssk->snet->port_lock);
}

static void smt_close(struct sock *sk, long timeout)
{
	struct smt_sock *ssk = smt_sk(sk);

	smt_end_calls(ssk);
	cancel_work_sync(&ssk->open_work);
	smt_drop_sealed(ssk);
	smt_hw_sock_close(ssk);
	smt_free_sessions(ssk);
	sk_common_release(sk);
}

static int smt_get_port(struct sock *sk, unsigned short port)
{
	return -EOPNOTSUPP;
}

static int get_int(int *value, sockptr_t optval, unsigned int optlen)
{
	if (optlen != sizeof(*value))
		return -EINVAL;
	return copy_from_sockptr(value, optval, sizeof(*value)) ? -EFAULT : 0;
}

static int set_interop(struct smt_sock *ssk, int value)
{
	int err = 0;

	if (value != 0 && value != 1)
		return -EINVAL;
	mutex_lock(&ssk->key_lock);
	if (ssk->n_sessions || ssk->unclaimed)
		err = -EBUSY;
	else
		ssk->interop = value;
	mutex_unlock(&ssk->key_lock);
	return err;
}

static int set_secure(struct smt_sock *ssk, int value)
{
	if (value != 0 && value != 1)
		return -EINVAL;
	if (!value)
		return READ_ONCE(ssk->secure) ? -EPERM : 0;
	WRITE_ONCE(ssk->secure, true);
	return 0;
}

static int set_offload(struct smt_sock *ssk, int value)
{
	if (value < SMT_OFFLOAD_OFF || value > SMT_OFFLOAD_REQUIRED)
		return -EINVAL;
	WRITE_ONCE(ssk->offload, value);
	return 0;
}

static int set_option(struct smt_sock *ssk, int optname, sockptr_t optval, unsigned int optlen)
{
	struct smt_abort what;
	int err, value;

	switch (optname) {
	case SMT_ABORT:
		if (optlen != sizeof(what))
			return -EINVAL;
		if (copy_from_sockptr(&what, optval, sizeof(what)))
			return -EFAULT;
		return smt_abort(ssk, &what);
	case SMT_INTEROP:
		err = get_int(&value, optval, optlen);
		return err ? err : set_interop(ssk, value);
	case SMT_SECURE:
		err = get_int(&value, optval, optlen);
		return err ? err : set_secure(ssk, value);
	case SMT_OFFLOAD:
		err = get_int(&value, optval, optlen);
		return err ? err : set_offload(ssk, value);
	default:
		return -ENOPROTOOPT;
	}
}

static int smt_setsockopt(struct sock *sk, int level, int optname, sockptr_t optval,
			  unsigned int optlen)
{
	if (level == SOL_SMT)
		return set_option(smt_sk(sk), optname, optval, optlen);
	if (level == SOL_TLS)
		return smt_set_key(smt_sk(sk), optname, optval, optlen);
	return ip_setsockopt(sk, level, optname, optval, optlen);
}

static int smt_getsockopt(struct sock *sk, int level, int optname, char __user *optval,
			  int __user *optlen)
{
	struct smt_sock *ssk = smt_sk(sk);
	struct smt_info info = {};
	int len, size, value;
	void *from = &value;

	if (level == SOL_TLS)
		return -ENOPROTOOPT;
	if (level != SOL_SMT)
		return ip_getsockopt(sk, level, optname, optval, optlen);
	if (get_user(len, optlen))
		return -EFAULT;
	size = sizeof(value);
	switch (optname) {
	case SMT_INTEROP:
		value = ssk->interop;
		break;
	case SMT_SECURE:
		value = READ_ONCE(ssk->secure);
		break;
	case SMT_OFFLOAD:
		value = READ_ONCE(ssk->offload);
		break;
	case SMT_INFO:
		spin_lock_bh(&ssk->lock);
		info.client_rpcs = ssk->n_clients;
		info.server_rpcs = ssk->n_servers;
		info.ready = ssk->n_ready;
		info.sessions = ssk->n_sessions;
		spin_unlock_bh(&ssk->lock);
		from = &info;
		size = sizeof(info);
		break;
	default:
		return -ENOPROTOOPT;
	}
	if (len < size)
		return -EINVAL;
	if (put_user(size, optlen) || copy_to_user(optval, from, size))
		return -EFAULT;
	return 0;
}

static __poll_t smt_poll(struct file *file, struct socket *sock, poll_table *wait)
{
	struct sock *sk = sock->sk;
	__poll_t mask = 0;

	sock_poll_wait(file, sock, wait);
	if (!list_empty_careful(&smt_sk(sk)->ready))
		mask |= EPOLLIN | EPOLLRDNORM;
	if (sock_writeable(sk))
		return mask | EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND;
	sk_set_bit(SOCKWQ_ASYNC_NOSPACE, sk);
	set_bit(SOCK_NOSPACE, &sock->flags);
	/* it may have become so just now, before the bit was set */
	smp_mb__after_atomic();
	if (sock_writeable(sk))
		mask |= EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND;
	return mask;
}

struct proto smt_proto = {
	.name = "SMT",
	.owner = THIS_MODULE,
	.close = smt_close,
	.init = smt_sock_init,
	.bind = smt_bind,
	.unhash = smt_unhash,
	.get_port = smt_get_port,
	.setsockopt = smt_setsockopt,
	.getsockopt = smt_getsockopt,
	.sendmsg = smt_sendmsg,
	.recvmsg = smt_recvmsg,
	.obj_size = sizeof(struct smt_sock),
};

static int smt_ops_sendmsg(struct socket *sock, struct msghdr *msg, size_t len)
{
	/* not inet_sendmsg(): that takes a port before the arguments were looked at */
	return smt_sendmsg(sock->sk, msg, len);
}

const struct proto_ops smt_ops = {
	.family = PF_INET,
	.owner = THIS_MODULE,
	.release = inet_release,
	.bind = inet_bind,
	.connect = sock_no_connect,
	.socketpair = sock_no_socketpair,
	.accept = sock_no_accept,
	.getname = inet_getname,
	.poll = smt_poll,
	.ioctl = inet_ioctl,
	.listen = sock_no_listen,
	.shutdown = sock_no_shutdown,
	.setsockopt = sock_common_setsockopt,
	.getsockopt = sock_common_getsockopt,
	.sendmsg = smt_ops_sendmsg,
	.recvmsg = sock_common_recvmsg,
	.mmap = sock_no_mmap,
};
