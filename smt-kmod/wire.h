/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Packets on the wire. The header lies over TCP's, so that TSO repeats it in each packet. */
#ifndef SMT_WIRE_H
#define SMT_WIRE_H

#include <linux/types.h>
#include "segment.h"

enum smt_type {
	SMT_DATA = 0x10,
	SMT_GRANT = 0x11,
	SMT_RESEND = 0x12,
	SMT_UNKNOWN = 0x13,
	SMT_BUSY = 0x14,
	SMT_CUTOFFS = 0x15,
	SMT_FREEZE = 0x16,
	SMT_NEED_ACK = 0x17,
	SMT_ACK = 0x18,
};

#define SMT_DOFF	0xa0	/* of DATA: 40 bytes */
#define SMT_PRIORITIES	8
#define SMT_ACKS	5	/* always so many places in an ACK */

struct smt_common {
	__be16 sport;
	__be16 dport;
	__be32 unused[2];
	u8 doff;
	u8 type;
	__be16 start_high;	/* DATA: offset of the segment, high half */
	__be16 check;		/* not used */
	__be16 start_low;
	__be64 sender_id;
} __packed;

struct smt_data {
	struct smt_common common;
	__be32 message_length;
	__be32 incoming;	/* bytes sent without waiting for grants */
	__be16 cutoff_version;
	u8 retransmit;
	u8 index;		/* of a resent packet in its segment, to be added to the IPID */
} __packed;

struct smt_grant {
	struct smt_common common;
	__be32 offset;
	u8 priority;
} __packed;

struct smt_resend {
	struct smt_common common;
	__be32 offset;
	__be32 length;
	u8 priority;
} __packed;

struct smt_cutoffs {
	struct smt_common common;
	__be32 unscheduled[SMT_PRIORITIES];
	__be16 version;
} __packed;

struct smt_ack_entry {
	__be64 client_id;
	__be16 client_port;
	__be16 server_port;
} __packed;

struct smt_ack {
	struct smt_common common;
	__be16 count;
	struct smt_ack_entry entries[SMT_ACKS];
} __packed;

struct smt_framing {
	__be32 offset;
	__be32 length;
	__be64 ack_id;		/* 0: none */
	union {
		struct {
			__be16 client_port;
			__be16 server_port;
		} ack;
		__be32 message_length;	/* in the first one of a record, if ack_id is 0 */
	};
} __packed;

struct smt_record_header {
	u8 type;		/* 0x17: application data */
	__be16 version;		/* 0x0303 */
	__be16 length;
	__be64 nonce;
} __packed;

#define SMT_RECORD_TYPE		0x17
#define SMT_RECORD_VERSION	0x0303

static_assert(sizeof(struct smt_common) == 28);
static_assert(sizeof(struct smt_data) == SMT_HEADER);
static_assert(sizeof(struct smt_grant) == 33);
static_assert(sizeof(struct smt_resend) == 37);
static_assert(sizeof(struct smt_cutoffs) == 62);
static_assert(sizeof(struct smt_ack) == 90);
static_assert(sizeof(struct smt_framing) == SMT_FRAMING);
static_assert(sizeof(struct smt_record_header) == SMT_LEAD);

#endif
