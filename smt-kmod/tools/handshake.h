/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keys for SMT from a TLS 1.3 handshake over TCP, on the port of the same number.
 *
 * Both ends export 2 * (key and salt) with the label SMT_EXPORTER (RFC 8446, 7.5): first what the
 * client sends with. The client says its SMT port, the server installs the keys for it and then
 * says that it is ready; after that the TCP connection is closed.
 */
#ifndef SMT_HANDSHAKE_H
#define SMT_HANDSHAKE_H

#include "tool.h"

#define SMT_EXPORTER "EXPORTER-smt"

struct smt_keys {
	struct smt_key client, server;
};

/* Listens for handshakes; @certificate and @key are PEM files. Returns the TCP socket. */
int handshake_listen(uint16_t port, const char *certificate, const char *key);

/*
 * Serves one handshake of the socket and installs its keys on @fd. @keys and @peer tell which.
 * Returns false when the client is none, or not one that agrees.
 */
bool handshake_serve(int listener, int fd, struct smt_keys *keys, struct sockaddr_in *peer);

/*
 * Shakes hands with @peer, whose certificate @authority (PEM) must vouch for; installs on @fd.
 * @own: what the server knows this end by.
 */
void handshake_client(int fd, const struct sockaddr_in *peer, const char *authority,
		      struct smt_keys *keys, struct sockaddr_in *own);

#endif
