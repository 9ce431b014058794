/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tracepoints on the life of messages: /sys/kernel/tracing/events/smt/. Ids are those of the end
 * where it happens: even in the client, odd in the server.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM smt

#if !defined(SMT_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define SMT_TRACE_H

#include <linux/tracepoint.h>
#include "smt.h"

/* An RPC, and a number that says more of it. */
DECLARE_EVENT_CLASS(smt_call_event,
	TP_PROTO(const struct smt_call *call, int value),
	TP_ARGS(call, value),
	TP_STRUCT__entry(
		__field(u64, id)
		__array(u8, addr, 4)
		__field(u16, sport)
		__field(u16, dport)
		__field(bool, secure)
		__field(int, value)
	),
	TP_fast_assign(
		__entry->id = call->id;
		memcpy(__entry->addr, &call->daddr, sizeof(__entry->addr));
		__entry->sport = call->sport;
		__entry->dport = call->dport;
		__entry->secure = call->secure;
		__entry->value = value;
	),
	TP_printk("id=%llu port=%u peer=%pI4:%u secure=%d value=%d", __entry->id, __entry->sport,
		  __entry->addr, __entry->dport, __entry->secure, __entry->value)
);

/* It begins: a request goes out, or its first packet is here. @value: 1 in the client. */
DEFINE_EVENT(smt_call_event, smt_begin,
	TP_PROTO(const struct smt_call *call, int value), TP_ARGS(call, value));

/* A program has given us a message; nothing of it is copied yet. @value: its bytes. */
DEFINE_EVENT(smt_call_event, smt_sendmsg,
	TP_PROTO(const struct smt_call *call, int value), TP_ARGS(call, value));

/* A message is built, and goes out as far as it may. @value: its bytes. */
DEFINE_EVENT(smt_call_event, smt_send,
	TP_PROTO(const struct smt_call *call, int value), TP_ARGS(call, value));

/* A whole message, or the error of an RPC, is there for recvmsg(). @value: bytes, or -errno. */
DEFINE_EVENT(smt_call_event, smt_deliver,
	TP_PROTO(const struct smt_call *call, int value), TP_ARGS(call, value));

/* A program has taken it. @value: bytes, or -errno. */
TRACE_EVENT(smt_recvmsg,
	TP_PROTO(const struct smt_sock *ssk, const struct smt_message *message),
	TP_ARGS(ssk, message),
	TP_STRUCT__entry(
		__field(u64, id)
		__array(u8, addr, 4)
		__field(u16, sport)
		__field(u16, dport)
		__field(bool, secure)
		__field(int, value)
	),
	TP_fast_assign(
		__entry->id = message->rpc.id;
		memcpy(__entry->addr, &message->addr, sizeof(__entry->addr));
		__entry->sport = ssk->port;
		__entry->dport = message->port;
		__entry->secure = message->rpc.flags & SMT_RPC_SECURE;
		__entry->value = message->rpc.error ? -(int)message->rpc.error :
				 (int)message->length;
	),
	TP_printk("id=%llu port=%u peer=%pI4:%u secure=%d value=%d", __entry->id, __entry->sport,
		  __entry->addr, __entry->dport, __entry->secure, __entry->value)
);

/* It is over. @value: the state in which it was, enum smt_state. */
DEFINE_EVENT(smt_call_event, smt_end,
	TP_PROTO(const struct smt_call *call, int value), TP_ARGS(call, value));

/* A part of a message. */
DECLARE_EVENT_CLASS(smt_range_event,
	TP_PROTO(u64 id, u32 start, u32 length),
	TP_ARGS(id, start, length),
	TP_STRUCT__entry(
		__field(u64, id)
		__field(u32, start)
		__field(u32, length)
	),
	TP_fast_assign(
		__entry->id = id;
		__entry->start = start;
		__entry->length = length;
	),
	TP_printk("id=%llu start=%u length=%u", __entry->id, __entry->start, __entry->length)
);

/* We ask for it again. */
DEFINE_EVENT(smt_range_event, smt_ask_again,
	TP_PROTO(u64 id, u32 start, u32 length), TP_ARGS(id, start, length));

/* We are asked for it again. */
DEFINE_EVENT(smt_range_event, smt_asked_again,
	TP_PROTO(u64 id, u32 start, u32 length), TP_ARGS(id, start, length));

/* A record was decrypted, is authentic, and is the next one of its message. */
DEFINE_EVENT(smt_range_event, smt_record,
	TP_PROTO(u64 id, u32 start, u32 length), TP_ARGS(id, start, length));

/* The sender may go on up to @start + @length: the second is what is new. */
DEFINE_EVENT(smt_range_event, smt_grant,
	TP_PROTO(u64 id, u32 start, u32 length), TP_ARGS(id, start, length));

/*
 * Packets of the segment at byte @start are on their way to the device as one skb. @bytes: without
 * headers. @again: they were asked for. @device: the device encrypts them.
 */
TRACE_EVENT(smt_segment,
	TP_PROTO(u64 id, u32 start, u32 index, u32 packets, u32 bytes, bool again, bool device),
	TP_ARGS(id, start, index, packets, bytes, again, device),
	TP_STRUCT__entry(
		__field(u64, id)
		__field(u32, start)
		__field(u32, index)
		__field(u32, packets)
		__field(u32, bytes)
		__field(bool, again)
		__field(bool, device)
	),
	TP_fast_assign(
		__entry->id = id;
		__entry->start = start;
		__entry->index = index;
		__entry->packets = packets;
		__entry->bytes = bytes;
		__entry->again = again;
		__entry->device = device;
	),
	TP_printk("id=%llu start=%u index=%u packets=%u bytes=%u again=%d device=%d", __entry->id,
		  __entry->start, __entry->index, __entry->packets, __entry->bytes, __entry->again,
		  __entry->device)
);

/* A packet, or a record, that was refused. */
TRACE_EVENT(smt_drop,
	TP_PROTO(const char *reason),
	TP_ARGS(reason),
	TP_STRUCT__entry(
		__string(reason, reason)
	),
	TP_fast_assign(
		smt_assign_str(reason, reason);
	),
	TP_printk("reason=%s", __get_str(reason))
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
