/* SPDX-License-Identifier: GPL-2.0-or-later WITH Linux-syscall-note */
/*
 * SMT: secure message transport, the interface for programs.
 *
 * A socket carries remote procedure calls (RPCs): one request message from a client to a server and
 * one response message back, each of 0 to SMT_MAX_MESSAGE bytes, in any order, without connections.
 *
 *	fd = socket(AF_INET, SOCK_DGRAM, IPPROTO_SMT);
 *
 * bind(2): a port from 1 to SMT_MAX_SERVER_PORT makes the socket a server, at one local address or
 * at INADDR_ANY. A socket that is not bound gets a port above with its first request (or with
 * bind() to port 0) and takes no requests.
 *	EADDRINUSE	the port is taken in this network namespace
 *	EADDRNOTAVAIL	the address is not local, or the port is above SMT_MAX_SERVER_PORT
 *	EACCES		the port is below net.ipv4.ip_unprivileged_port_start, and no
 *			CAP_NET_BIND_SERVICE
 *	EINVAL		the socket has a port already; the address is short
 *	EAFNOSUPPORT	the address is not AF_INET
 * connect(2), listen(2), accept(2), shutdown(2): EOPNOTSUPP.
 *
 * sendmsg(2) takes a whole message. msg_name is the peer, always. Without a control message, or
 * with an SMT_RPC whose id is 0, it is a request; cookie comes back with the response. With the id
 * of a request that was received (and the address that it came from) it is the response. flags and
 * error must be 0. It returns when the message is copied (and encrypted), not when it is delivered;
 * it waits, unless MSG_DONTWAIT, while messages of more than SO_SNDBUF bytes are unacknowledged.
 *	EDESTADDRREQ	no address
 *	EINVAL		address too short, port 0, a broadcast or multicast address; a control
 *			message other than SMT_RPC, or of wrong size, or with flags or error not 0
 *	EAFNOSUPPORT	address not AF_INET
 *	EMSGSIZE	longer than net.smt.max_message (at most SMT_MAX_MESSAGE)
 *	ENOENT		no request with this id and address waits for a response: it was answered
 *			before, or aborted, or its client is gone
 *	EAGAIN		MSG_DONTWAIT and no room (also: SO_SNDTIMEO is over)
 *	ENOKEY		there are keys for this peer but no TLS_TX, or SMT_SECURE and no key
 *	ENODEV and others: see SMT_OFFLOAD_REQUIRED
 *	EKEYREJECTED	the key must not encrypt this: a default key that another peer has, or a
 *			request under a key that has encrypted responses
 *	EOPNOTSUPP	MSG_OOB
 *	EFAULT, EINTR, ENOMEM, ENOBUFS, EADDRNOTAVAIL, ENETUNREACH, EHOSTUNREACH: as everywhere
 *
 * recvmsg(2) returns one message, the peer in msg_name, and an SMT_RPC control message: the id that
 * names the RPC on this socket, flags that say what it is; cookie is the request's (0 in a request
 * that was received). What does not fit into the buffer is lost and MSG_TRUNC set in msg_flags;
 * with MSG_TRUNC in the flags the whole length is returned. MSG_PEEK and MSG_DONTWAIT as for UDP.
 * An RPC of this socket that failed is reported in the same way: length 0, error not 0. When the
 * caller gave no room for the control message, recvmsg() fails with that error instead. After
 * EFAULT the message is still there.
 *	errors of an RPC: ETIMEDOUT (the peer does not answer), ENOTCONN (no such port there),
 *	ECONNRESET (the peer has forgotten the RPC in the middle of its response),
 *	EHOSTUNREACH, ENETUNREACH, EPROTO and others that an ICMP message means; what SMT_ABORT says
 *	EAGAIN		MSG_DONTWAIT and nothing there (also: SO_RCVTIMEO is over)
 *	EOPNOTSUPP	MSG_OOB, MSG_ERRQUEUE
 *
 * poll(2): EPOLLIN when recvmsg() would return, EPOLLOUT when sendmsg() would not wait.
 * SO_RCVBUF: above it new messages are not taken in (their senders try again), and only the message
 * nearest to its end is granted more.
 * close(2) ends all RPCs of the socket; peers learn it by ICMP (port unreachable) or UNKNOWN.
 */
#ifndef _UAPI_LINUX_SMT_H
#define _UAPI_LINUX_SMT_H

#include <linux/tls.h>
#include <linux/types.h>

#define IPPROTO_SMT		253	/* RFC 3692: for experiments */
#define SOL_SMT			253

#define SMT_MAX_MESSAGE		1000000	/* bytes */
#define SMT_MAX_SERVER_PORT	32767	/* clients have the ports above */

/* Control message, cmsg_level SOL_SMT. */
#define SMT_RPC			1

/**
 * struct smt_rpc - which RPC a message belongs to
 * @id: even in the client, odd in the server; 0 in a new request
 * @cookie: the client's own, back with its response
 * @flags: SMT_RPC_*, set by recvmsg() alone
 * @error: errno of an RPC that failed, or 0; set by recvmsg() alone
 */
struct smt_rpc {
	__u64 id;
	__u64 cookie;
	__u32 flags;
	__s32 error;
};

#define SMT_RPC_REQUEST		0x1	/* the message is a request */
#define SMT_RPC_RESPONSE	0x2	/* it is a response, or the error in place of one */
#define SMT_RPC_SECURE		0x4	/* it was encrypted and is authentic */

/*
 * Options, level SOL_SMT. A wrong length is EINVAL, an unknown option ENOPROTOOPT.
 *
 * SMT_ABORT (set): struct smt_abort. ENOENT when there is no such RPC.
 * SMT_INTEROP (set, get): int. 1: neither send nor demand the authenticated message length (below),
 *	and take records of up to 64 KiB, for peers that run the published code. Default
 *	net.smt.interop. EBUSY once the socket has keys.
 * SMT_SECURE (set, get): int. 1: this socket sends and takes no plaintext at all. Once 1 it stays:
 *	EPERM. Without it plaintext is refused only from, and to, peers that there are keys for.
 * SMT_INFO (get): struct smt_info.
 * SMT_OFFLOAD (set, get): int, who encrypts the messages that are sent from now on; default
 *	net.smt.offload. What is on the wire is the same. /proc/net/smt counts who did, and why no
 *	device did.
 *	SMT_OFFLOAD_OFF		software
 *	SMT_OFFLOAD_ALLOWED	the device of the route if it can, else software
 *	SMT_OFFLOAD_REQUIRED	the device, or else sendmsg() of a message that is encrypted fails:
 *		ENODEV		no device that can do this on the route
 *		EOPNOTSUPP	it is switched off (ethtool -K tls-hw-tx-offload, tso), or does not
 *				know the cipher
 *		ENETDOWN	its interface is down
 *		ENOSPC		it has no room for another context
 *		others		what the device said
 *		A device that fails later, with the message on its way, ends the RPC: in the client
 *		recvmsg() reports one of these or EIO, in the server the RPC is forgotten.
 */
#define SMT_ABORT		1
#define SMT_INTEROP		2
#define SMT_SECURE		3
#define SMT_INFO		4
#define SMT_OFFLOAD		5

#define SMT_OFFLOAD_OFF		0
#define SMT_OFFLOAD_ALLOWED	1
#define SMT_OFFLOAD_REQUIRED	2

/**
 * struct smt_abort - end RPCs of this socket
 * @id: this one; an odd id means requests that were received, they get no response. 0: by cookie
 * @cookie: all requests with this cookie, when @id is 0
 * @error: 0: silently; else a positive errno that recvmsg() reports for each (even ids only)
 * @flags: 0
 */
struct smt_abort {
	__u64 id;
	__u64 cookie;
	__s32 error;
	__u32 flags;
};

/**
 * struct smt_info - what a socket holds
 * @client_rpcs: requests sent, without a response so far
 * @server_rpcs: requests arriving, being served, or with a response not yet acknowledged
 * @ready: messages and errors that recvmsg() would return
 * @sessions: peers with keys
 */
struct smt_info {
	__u32 client_rpcs;
	__u32 server_rpcs;
	__u32 ready;
	__u32 sessions;
};

/*
 * Keys: setsockopt(fd, SOL_TLS, TLS_TX or TLS_RX), once per direction and peer.
 *
 * version is TLS_1_2_VERSION. Records are those of TLS 1.2 AES-GCM; nonce: salt, then the 64-bit
 * record number, which the message id and the position in the message give. So iv and rec_seq
 * are not used.
 *
 * A record number must never be used twice under one key. This is what it takes:
 * - A (key, salt) is installed for TLS_TX once, and for TLS_RX once, as long as the machine is up,
 *   on whatever socket, in whatever namespace. smt_ledger.ko remembers that (not the key) when
 *   smt.ko is unloaded, and cannot be unloaded itself. Take fresh keys from a handshake.
 * - TLS_TX and TLS_RX of one peer differ: request and response have the same numbers.
 * - The key of a peer encrypts requests or responses, not both: ids of the two ends may be equal.
 *   Two machines that are client and server to each other take two sockets each.
 * - default_keys = 1 (peer_addr and peer_port must be 0): keys for a peer not known yet. They
 *   belong to the first peer that they are used with (TLS_RX: that an authentic message came from)
 *   and to it alone; messages of others are dropped. One pair of default keys at a time.
 * The machine's memory cannot reach across a reboot or to other machines: keys that are written
 * down or handed to several machines are the user's own mistake.
 *	EINVAL		wrong length, version, or pad; no peer address or port; default_keys with
 *			one
 *	EOPNOTSUPP	a cipher other than AES-GCM with 128 or 256 bits
 *	EEXIST		the socket has keys for this peer and direction
 *	EKEYREJECTED	the key was installed before on this machine (this direction), or is the
 *			other direction's of this peer
 *	ENOSPC		more keys than smt_ledger remembers (its parameter max_keys)
 *	EBUSY		TLS_TX for a peer to which plaintext of this socket is under way
 *
 * End of message: message_length is in the clear part of each packet. To keep anybody from cutting
 * a message between records, the first framing header of each record, which is encrypted, says it
 * again: its ack client_id is 0, and the two port fields (4 bytes, not used by peers that run the
 * published code when client_id is 0) hold message_length. The receiver demands it; SMT_INTEROP
 * neither sends nor demands it.
 */
struct smt_crypto_info_aes_gcm_128 {
	struct tls12_crypto_info_aes_gcm_128 info;
	__be32 peer_addr;
	__be16 peer_port;
	__u8 default_keys;
	__u8 pad;
};

struct smt_crypto_info_aes_gcm_256 {
	struct tls12_crypto_info_aes_gcm_256 info;
	__be32 peer_addr;
	__be16 peer_port;
	__u8 default_keys;
	__u8 pad;
};

#endif /* _UAPI_LINUX_SMT_H */
