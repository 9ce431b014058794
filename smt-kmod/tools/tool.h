/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the programs share: sockets, keys and their file, messages with their control message. */
#ifndef SMT_TOOL_H
#define SMT_TOOL_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <linux/smt.h>

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

#define SMT_KEY_MAX 32
#define SMT_SALT_SIZE 4

/**
 * struct smt_key - the key of one direction
 * @size: 16 or 32 bytes
 */
struct smt_key {
	size_t size;
	uint8_t key[SMT_KEY_MAX];
	uint8_t salt[SMT_SALT_SIZE];
};

/**
 * struct smt_flow - a line of a key file: the key of packets from one end to the other
 *
 * Ports are in host byte order, 0 is any.
 */
struct smt_flow {
	struct in_addr src, dst;
	uint16_t sport, dport;
	struct smt_key key;
};

__attribute__((noreturn, format(printf, 1, 2))) void die(const char *format, ...);
__attribute__((noreturn, format(printf, 1, 2))) void die_errno(const char *format, ...);

/* Opens a socket; @secure: SMT_SECURE, @interop: SMT_INTEROP. */
int smt_open(bool secure, bool interop);

/* Sets SMT_OFFLOAD to what a word says: off, allowed, required. NULL: leaves it. */
void smt_offload(int fd, const char *word);

/* Parses ADDRESS:PORT. */
struct sockaddr_in smt_address(const char *text);

/*
 * Installs a key. @direction is TLS_TX or TLS_RX; @peer NULL: for a peer not known yet. Returns 0
 * or -1 with errno.
 */
int smt_install(int fd, int direction, const struct smt_key *key, const struct sockaddr_in *peer);

/* Writes a line that `nicmodel decrypt` reads. */
void smt_write_flow(FILE *file, const struct smt_flow *flow);

/* Reads a line; returns false at the end of the file, dies of a line that is none. */
bool smt_read_flow(FILE *file, const char *name, struct smt_flow *flow);

/* Sends @size bytes; @rpc's id 0: a request with @rpc's cookie. Returns 0 or -1 with errno. */
int smt_send(int fd, const void *data, size_t size, const struct sockaddr_in *peer,
	     const struct smt_rpc *rpc, int flags);

/* Receives one message; returns its whole length, or -1 with errno. */
ssize_t smt_receive(int fd, void *data, size_t size, struct sockaddr_in *peer, struct smt_rpc *rpc,
		    int flags);

/* Fills @data with bytes that depend on @seed and @number. */
void smt_fill(void *data, size_t size, uint64_t seed, uint64_t number);

#endif
