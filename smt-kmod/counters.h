/* SPDX-License-Identifier: GPL-2.0-or-later */
/* All counters; included where SMT_COUNTER() is defined. /proc/net/smt has them in lower case. */
SMT_COUNTER(TX_MESSAGES)		/* messages handed to us by programs */
SMT_COUNTER(TX_BYTES)
SMT_COUNTER(TX_SEGMENTS)		/* skbs of DATA, before any segmentation */
SMT_COUNTER(TX_PACKETS)			/* DATA packets in them */
SMT_COUNTER(TX_RESENT)			/* DATA packets sent again because of a RESEND */
SMT_COUNTER(TX_RESTARTS)		/* requests sent from the start because of an UNKNOWN */
SMT_COUNTER(TX_GRANT)
SMT_COUNTER(TX_RESEND)
SMT_COUNTER(TX_UNKNOWN)
SMT_COUNTER(TX_BUSY)
SMT_COUNTER(TX_CUTOFFS)
SMT_COUNTER(TX_NEED_ACK)
SMT_COUNTER(TX_ACK)
SMT_COUNTER(TX_NO_ROUTE)		/* not sent: no route any more */
SMT_COUNTER(TX_NO_MEMORY)		/* not sent: no memory */
SMT_COUNTER(TX_ERRORS)			/* not sent: the stack below refused it */
SMT_COUNTER(TX_SEALED)			/* records encrypted in software */
SMT_COUNTER(TX_SEAL_ERRORS)
SMT_COUNTER(TX_HW_MESSAGES)		/* messages that a device is to encrypt */
SMT_COUNTER(TX_HW_SEGMENTS)		/* skbs of plaintext given to devices, each a record */
SMT_COUNTER(TX_HW_BYTES)		/* bytes of these records */
SMT_COUNTER(TX_HW_RESENT)		/* segments that a device encrypts again: a RESEND */
SMT_COUNTER(TX_HW_MOVED)		/* records that go to another queue or device than before */
SMT_COUNTER(HW_DROP_UNKNOWN)		/* records dropped by a device: nobody knew them */
SMT_COUNTER(HW_DROP_MALFORMED)		/* they were not as described */
SMT_COUNTER(HW_DROP_CONTEXT)		/* they came to a queue without context */
SMT_COUNTER(HW_DROP_STACK)		/* records dropped above it: another device, or no TSO */
SMT_COUNTER(HW_GONE)			/* records whose device, or the way to it, was gone */
SMT_COUNTER(FALLBACK_NO_DEVICE)		/* messages (late: records) for software: no device */
SMT_COUNTER(FALLBACK_OFF)		/* it was told not to, or not to segment; not this cipher */
SMT_COUNTER(FALLBACK_DOWN)		/* it is down */
SMT_COUNTER(FALLBACK_CONTEXTS)		/* it has no context left */
SMT_COUNTER(FALLBACK_ERROR)		/* it failed */
SMT_COUNTER(FALLBACK_RECORDS)		/* records of its messages, encrypted by software */
SMT_COUNTER(FALLBACK_FORBIDDEN)		/* messages not sent, RPCs ended: software must not */
SMT_COUNTER(RX_MESSAGES)		/* whole messages given to a socket */
SMT_COUNTER(RX_BYTES)
SMT_COUNTER(RX_DATA)
SMT_COUNTER(RX_GRANT)
SMT_COUNTER(RX_RESEND)
SMT_COUNTER(RX_UNKNOWN)
SMT_COUNTER(RX_BUSY)
SMT_COUNTER(RX_CUTOFFS)
SMT_COUNTER(RX_FREEZE)
SMT_COUNTER(RX_NEED_ACK)
SMT_COUNTER(RX_ACK)
SMT_COUNTER(RX_OPENED)			/* records decrypted in software */
SMT_COUNTER(RX_RESENT)			/* DATA packets that say that they were sent again */
SMT_COUNTER(CALL_TIMEOUTS)		/* RPCs given up, peer silent */
SMT_COUNTER(CALL_STUCK)			/* RPCs given up, peer talks but nothing usable comes */
SMT_COUNTER(CALL_ICMP)			/* RPCs ended by an ICMP error */
SMT_COUNTER(CALL_ABORTS)		/* RPCs ended by SMT_ABORT or close() */
SMT_COUNTER(CALL_FORGOTTEN)		/* RPCs ended because the peer does not know them */
SMT_COUNTER(KEYS_INSTALLED)
SMT_COUNTER(KEYS_REJECTED)
SMT_COUNTER(DROP_SHORT)			/* shorter than its type */
SMT_COUNTER(DROP_TYPE)			/* no such type */
SMT_COUNTER(DROP_NOT_HOST)		/* broadcast or multicast */
SMT_COUNTER(DROP_NO_PORT)		/* no socket: answered by ICMP */
SMT_COUNTER(DROP_NO_SERVER)		/* a request for a port that serves nothing */
SMT_COUNTER(DROP_UNKNOWN_CALL)		/* a response, or a control packet, for no RPC */
SMT_COUNTER(DROP_NOT_BEGUN)		/* data of a request whose first packet is not here */
SMT_COUNTER(DROP_STATE)			/* data that the RPC does not wait for */
SMT_COUNTER(DROP_HEADER)		/* impossible DATA header */
SMT_COUNTER(DROP_LENGTH)		/* message length changed */
SMT_COUNTER(DROP_DUPLICATE)		/* packet that is here already */
SMT_COUNTER(DROP_EXCESS)		/* more bytes than the message can have */
SMT_COUNTER(DROP_RCVBUF)		/* SO_RCVBUF used up */
SMT_COUNTER(DROP_NO_MEMORY)
SMT_COUNTER(DROP_MAX_CALLS)		/* net.smt.max_calls */
SMT_COUNTER(DROP_MAX_PEERS)		/* net.smt.max_peers */
SMT_COUNTER(DROP_NO_ROUTE)		/* nowhere to answer */
SMT_COUNTER(DROP_PLAINTEXT)		/* plaintext where there are keys, or SMT_SECURE */
SMT_COUNTER(DROP_NO_KEY)		/* encrypted, and no key */
SMT_COUNTER(DROP_RECORD)		/* impossible record header or packets */
SMT_COUNTER(DROP_AUTH)			/* record that is not authentic */
SMT_COUNTER(DROP_FRAMING)		/* authentic record that says it belongs elsewhere */
SMT_COUNTER(DROP_TRUNCATED)		/* authentic record of a message of another length */
SMT_COUNTER(DROP_REPLAY)		/* authentic message that was here before */
SMT_COUNTER(DROP_ROLE)			/* request under a key that encrypts our requests */
SMT_COUNTER(DROP_FLUSHED)		/* packets thrown away, to be sent anew */
