// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * smt_keys CLIENT[:PORT] SERVER:PORT [128|256]
 *
 * Prints fresh keys for both directions, as smt_echo --keys and `nicmodel decrypt --keys` read
 * them: first what the client sends, then what the server sends. Keys from a file are for tests;
 * take them from a handshake (smt_echo --tls) where it matters.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "tool.h"

static void fresh(struct smt_key *key, size_t size)
{
	key->size = size;
	if (getrandom(key->key, size, 0) != (ssize_t)size ||
	    getrandom(key->salt, SMT_SALT_SIZE, 0) != SMT_SALT_SIZE)
		die_errno("no random numbers");
}

int main(int argc, char **argv)
{
	struct smt_flow there = {}, back = {};
	struct sockaddr_in server, client = {};
	size_t size = 16;

	if (argc < 3 || argc > 4)
		die("usage: smt_keys CLIENT[:PORT] SERVER:PORT [128|256]");
	if (argc == 4) {
		if (strcmp(argv[3], "128") && strcmp(argv[3], "256"))
			die("a key has 128 or 256 bits, not %s", argv[3]);
		size = atoi(argv[3]) / 8;
	}
	server = smt_address(argv[2]);
	if (strchr(argv[1], ':'))
		client = smt_address(argv[1]);
	else if (inet_pton(AF_INET, argv[1], &client.sin_addr) != 1)
		die("%s is no IPv4 address", argv[1]);
	there.src = back.dst = client.sin_addr;
	there.dst = back.src = server.sin_addr;
	there.sport = back.dport = ntohs(client.sin_port);
	there.dport = back.sport = ntohs(server.sin_port);
	fresh(&there.key, size);
	fresh(&back.key, size);
	smt_write_flow(stdout, &there);
	smt_write_flow(stdout, &back);
	return fflush(stdout) ? 1 : 0;
}
