/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the parts of the module share.
 *
 * Locks: smt_sock.lock guards the socket and all its calls; below it (taken with it held) are
 * smt_net.port_lock, .grant_lock and .peer_lock, and none of these within another. Packets are sent
 * with smt_sock.lock held. Encryption and decryption sleep and hold nothing.
 */
#ifndef SMT_H
#define SMT_H

#include <crypto/aead.h>
#include <linux/llist.h>
#include <linux/smt.h>
#include <linux/skbuff.h>
#include <net/inet_sock.h>
#include <net/sock.h>
#include "compat.h"
#include "offload.h"
#include "replay.h"
#include "stats.h"
#include "wire.h"

#define SMT_PORT_BUCKETS	1024
#define SMT_PEER_BUCKETS	256
#define SMT_CALL_BUCKETS	256
#define SMT_SESSION_BUCKETS	64
#define SMT_MAX_GRANTED		8	/* messages that have grants at the same time */
#define SMT_CUTOFF_VERSION	1	/* ours are always the same */
#define SMT_UNSCHEDULED_LOWEST	5	/* priorities below are for granted data */

/* sysctls; times in milliseconds, the others in bytes or as said in sysctl.c */
struct smt_limits {
	int unscheduled;
	int resend_ticks;
	int resend_interval;
	int timeout_resends;
	int ack_ticks;
	int max_incoming;
	int grant_calls;
	int fifo_percent;
	int max_message;
	int max_gso;
	int max_calls;
	int max_peers;
	int tso;
	int interop;
	int offload;
};

struct smt_net {
	struct net *net;
	struct smt_limits limits;

	spinlock_t port_lock;			/* ports, sockets, next_port */
	struct hlist_head ports[SMT_PORT_BUCKETS];
	struct list_head sockets;
	u16 next_port;

	spinlock_t peer_lock;			/* peers and what is in them */
	struct hlist_head peers[SMT_PEER_BUCKETS];
	int n_peers;

	spinlock_t grant_lock;			/* these, and the grant part of calls */
	struct list_head grantable;		/* fewest bytes to come first */
	u32 incoming;				/* granted and not yet here */
	u32 fifo_credit;			/* bytes owed to the oldest message */
	u64 births;

	struct delayed_work timer;
	u64 __percpu *counters;
	struct ctl_table_header *sysctl;
	struct ctl_table *sysctl_table;
};

struct smt_peer {
	struct hlist_node node;
	__be32 addr;
	int users;
	unsigned long used;			/* jiffies */
	unsigned long heard;			/* jiffies of its last packet */
	unsigned long asked;			/* jiffies of our last questions, */
	u8 questions;				/* and how many those were */
	u32 cutoffs[SMT_PRIORITIES];
	u16 cutoff_version;
	unsigned long told;			/* jiffies of the last CUTOFFS */
	struct smt_ack_entry acks[SMT_ACKS];
	u8 n_acks;
	__be32 ack_saddr;
};

/* What a key may encrypt, decided by its first use. */
enum smt_role { SMT_ROLE_NONE, SMT_ROLE_CLIENT, SMT_ROLE_SERVER };

struct smt_key {
	struct crypto_aead *aead;		/* NULL: not installed */
	u8 salt[4];
	u8 secret[32];				/* TX: for devices; RX: to compare, then wiped */
	u8 size;
};

struct smt_session {
	struct hlist_node node;
	__be32 addr;				/* 0: default keys, not taken yet */
	u16 port;
	bool is_default;
	enum smt_role role;
	struct smt_key tx, rx;
	struct smt_window window;		/* of requests received */
	struct smt_hw_key *hw;			/* tx in the device used last; smt_sock.key_lock */
};

/* A message's part that is in order and, with keys, authentic. */
struct smt_record {
	struct list_head node;
	u32 start;				/* offset in the message */
	u32 data;				/* bytes of the message */
	u32 room;				/* data bytes of a packet */
	u32 truesize;
	struct sk_buff *skb;			/* plaintext: one packet, headers included */
	u8 *stream;				/* else: decrypted stream of the segment */
};

/* Packets of a record until all are there. */
struct smt_segment {
	struct list_head node;			/* smt_in.segments by start, or smt_sock.sealed */
	struct smt_call *call;			/* with a reference, in smt_sock.sealed */
	u32 start;
	u32 bytes;
	u32 number;				/* record index */
	u32 message_length;
	struct smt_cut cut;			/* valid when known */
	bool known;				/* first packet is here */
	u16 count;
	struct sk_buff_head packets;		/* by index */
};

/* A message on its way in. */
struct smt_in {
	bool started;
	bool busy;				/* a record of it is being decrypted */
	u32 length;
	u32 incoming;				/* bytes that the sender sends without grants */
	u32 next;				/* all before it is in records */
	u32 number;				/* records so far */
	u32 received;				/* bytes here, in records or segments */
	u32 held;				/* truesize charged to the socket */
	u8 stuck;				/* resends since a record came */
	bool accepted;				/* a packet, since the last resend */
	bool refused;				/* one that was there already, likewise */
	struct list_head segments;
	struct list_head records;
	/* smt_net.grant_lock: */
	struct list_head grantable;
	u32 granted;
	u32 counted;				/* received, as of the last update */
	u32 awaited;				/* own share of smt_net.incoming */
	u64 birth;
	u8 priority;
};

/* A message on its way out: segments, built once and, unless a device does it, encrypted once. */
struct smt_out {
	struct sk_buff_head segments;
	struct sk_buff *unsent;			/* first that was not sent */
	struct smt_geometry geometry;
	u32 length;
	u32 unscheduled;			/* bytes that need no grant */
	u32 granted;
	u32 sent;
	u8 priority;				/* of granted data */
};

/* In smt_segment.packets, skb->cb. */
struct smt_packet_cb {
	u32 index;				/* in its segment */
};

#define SMT_PACKET_CB(skb) ((struct smt_packet_cb *)(skb)->cb)

/* In smt_out.segments, skb->cb. */
struct smt_segment_cb {
	u32 start;
	u32 data;
	u32 packets;
	struct smt_hw_record *hw;		/* plaintext for a device; else NULL */
	unsigned long resent;			/* jiffies, by a device */
};

#define SMT_SEGMENT_CB(skb) ((struct smt_segment_cb *)(skb)->cb)

enum smt_state {
	SMT_ASKING,	/* client: request going out */
	SMT_ANSWERED,	/* client: response coming in */
	SMT_ASKED,	/* server: request coming in */
	SMT_SERVING,	/* server: the program has it */
	SMT_REPLYING,	/* server: response is being built */
	SMT_REPLIED,	/* server: response going out, until acknowledged */
	SMT_DEAD,
};

/* One RPC as one end sees it. */
struct smt_call {
	refcount_t refs;
	enum smt_state state;
	bool secure;				/* has a session */
	struct smt_sock *ssk;
	struct hlist_node hash;
	struct list_head node;			/* smt_sock.calls */
	u64 id;					/* own: even in the client */
	u64 cookie;
	__be32 saddr, daddr;
	u16 sport, dport;
	struct dst_entry *dst;
	struct smt_peer *peer;
	struct smt_session *session;
	struct smt_message *message;		/* room for what the program gets */
	unsigned long deadline;			/* jiffies: when the timer looks next */
	u8 resends;				/* unanswered */
	u8 restarts;
	struct smt_in in;
	struct smt_out out;
};

/* What recvmsg() returns next. */
struct smt_message {
	struct list_head node;
	struct list_head records;
	u32 length;
	u32 held;
	__be32 addr;
	u16 port;
	struct smt_rpc rpc;
};

struct smt_sock {
	struct inet_sock inet;			/* first */
	struct smt_net *snet;
	spinlock_t lock;			/* the socket, its calls and sessions */
	bool dead;
	bool interop;
	bool secure;
	int offload;				/* SMT_OFFLOAD_* */
	u16 port;				/* 0: none */
	struct hlist_node port_node;
	struct list_head socket_node;
	u64 next_id;
	u32 n_clients, n_servers, n_ready, n_sessions;
	struct hlist_head hash[SMT_CALL_BUCKETS];
	struct list_head calls;
	struct list_head ready;
	struct mutex recv_lock;			/* one recvmsg() at a time copies */
	struct mutex key_lock;			/* one setsockopt() at a time installs */
	struct hlist_head sessions[SMT_SESSION_BUCKETS];
	struct smt_session *unclaimed;		/* default keys that no peer has yet */
	bool default_taken;			/* default keys that one has */
	struct list_head sealed;		/* segments to decrypt */
	struct work_struct open_work;
	struct llist_head refused;		/* records that a device did not send */
	struct work_struct refused_work;
};

static inline struct smt_sock *smt_sk(struct sock *sk)
{
	return (struct smt_sock *)sk;
}

static inline struct sock *smt_sock(struct smt_sock *ssk)
{
	return (struct sock *)ssk;
}

static inline bool smt_is_client(u64 id)
{
	return !(id & 1);
}

static inline void smt_count(struct smt_net *snet, enum smt_counter counter)
{
	this_cpu_inc(snet->counters[counter]);
}

static inline void smt_count_more(struct smt_net *snet, enum smt_counter counter, u64 by)
{
	this_cpu_add(snet->counters[counter], by);
}

static inline bool smt_server_port(u16 port)
{
	return port && port <= SMT_MAX_SERVER_PORT;
}

/* module.c */
extern unsigned int smt_net_id;
extern struct kmem_cache *smt_call_cache;
extern struct workqueue_struct *smt_workqueue;
struct smt_net *smt_net(struct net *net);

/* socket.c */
extern struct proto smt_proto;
extern const struct proto_ops smt_ops;
int smt_autobind(struct smt_sock *ssk);
struct smt_sock *smt_find_socket(struct smt_net *snet, __be32 addr, u16 port);

/* keys.c */
int smt_set_key(struct smt_sock *ssk, int direction, sockptr_t optval, unsigned int optlen);
struct smt_session *smt_find_session(struct smt_sock *ssk, __be32 addr, u16 port);
bool smt_claim_session(struct smt_sock *ssk, struct smt_session *session, __be32 addr, u16 port);
void smt_free_sessions(struct smt_sock *ssk);

/* send.c, receive.c */
int smt_sendmsg(struct sock *sk, struct msghdr *msg, size_t len);
int smt_recvmsg(struct sock *sk, struct msghdr *msg, size_t len, int flags, int *addr_len);

/* call.c */
struct smt_call *smt_call_new(struct smt_sock *ssk, gfp_t gfp);
void smt_call_put(struct smt_call *call);
void smt_call_link(struct smt_call *call);
void smt_call_end(struct smt_call *call);
void smt_call_fail(struct smt_call *call, int error);
void smt_call_expect(struct smt_call *call, int milliseconds);
void smt_call_deliver(struct smt_call *call);
struct smt_call *smt_find_call(struct smt_sock *ssk, u64 id, __be32 addr, u16 port);
int smt_abort(struct smt_sock *ssk, const struct smt_abort *what);
void smt_end_calls(struct smt_sock *ssk);
void smt_message_free(struct smt_sock *ssk, struct smt_message *message);
void smt_record_free(struct smt_record *record);
void smt_in_charge(struct smt_call *call, int truesize);
void smt_in_flush(struct smt_call *call);
void smt_segment_free(struct smt_segment *segment);

/* peer.c */
struct smt_peer *smt_peer_get(struct smt_net *snet, __be32 addr);
void smt_peer_put(struct smt_net *snet, struct smt_peer *peer);
u8 smt_peer_priority(struct smt_net *snet, struct smt_peer *peer, u32 length);
void smt_peer_cutoffs(struct smt_net *snet, __be32 addr, const struct smt_cutoffs *from);
bool smt_peer_untold(struct smt_net *snet, struct smt_peer *peer);
bool smt_peer_may_ask(struct smt_net *snet, struct smt_peer *peer);
void smt_peer_ack(struct smt_call *call);
void smt_peer_ack_now(struct smt_net *snet, __be32 saddr, __be32 daddr,
		      const struct smt_ack_entry *entry);
void smt_peers_tick(struct smt_net *snet);
void smt_peers_free(struct smt_net *snet);

/* output.c */
struct dst_entry *smt_route(struct sock *sk, struct net *net, __be32 *saddr, __be32 daddr);
int smt_out_build(struct smt_call *call, struct msghdr *msg, u32 length);
void smt_out_free_segment(struct sk_buff *skb);
void smt_out_free(struct smt_out *out);
void smt_out_send(struct smt_call *call, struct sk_buff *segment);
void smt_out_start(struct smt_call *call);
void smt_out_push(struct smt_call *call);
bool smt_out_resend(struct smt_call *call, u32 offset, u32 length, u8 priority);
void smt_send_control(struct smt_call *call, enum smt_type type, void *packet, size_t size);
void smt_send_to(struct smt_net *snet, __be32 saddr, __be32 daddr, u16 sport, u16 dport, u64 id,
		 enum smt_type type, void *packet, size_t size);

/* refused.c */
void smt_out_refused(struct smt_sock *ssk, struct smt_hw_record *record);

/* input.c */
int smt_rcv(struct sk_buff *skb);
int smt_err(struct sk_buff *skb, u32 info);
void smt_in_progress(struct smt_call *call);
void smt_acked(struct smt_net *snet, __be32 addr, __be32 local, u64 client_id, u16 client_port,
	       u16 server_port);

/* record.c */
void smt_opened(struct smt_segment *segment, struct smt_record *record,
		enum smt_counter reason);
int smt_seal(const struct smt_key *key, u64 number, struct sk_buff *skb, u32 stream);
void smt_open_work(struct work_struct *work);
void smt_drop_sealed(struct smt_sock *ssk);

/* grant.c */
void smt_grant_add(struct smt_call *call, u32 granted);
void smt_grant_update(struct smt_call *call);
void smt_grant_remove(struct smt_call *call);
void smt_grant_more(struct smt_net *snet);

/* timer.c */
void smt_timer_start(struct smt_net *snet);
void smt_timer_work(struct work_struct *work);

/* stats.c, sysctl.c */
const char *smt_counter_name(enum smt_counter counter);
int smt_stats_init(struct smt_net *snet);
void smt_stats_exit(struct smt_net *snet);
int smt_sysctl_init(struct smt_net *snet);
void smt_sysctl_exit(struct smt_net *snet);

/* gso.c */
int smt_gso_type(struct smt_net *snet, const struct net_device *dev);
extern const struct net_offload smt_offload;

#endif
