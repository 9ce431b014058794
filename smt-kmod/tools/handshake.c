// SPDX-License-Identifier: GPL-2.0-or-later
#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "handshake.h"

#define KEY_SIZE 16
#define PATIENCE 10	/* seconds for a peer that says nothing */

static SSL_CTX *context;

static void make_context(const SSL_METHOD *method)
{
	context = SSL_CTX_new(method);
	if (!context || !SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION))
		die("OpenSSL cannot do TLS 1.3");
}

static void patient(int tcp)
{
	struct timeval time = { .tv_sec = PATIENCE };

	setsockopt(tcp, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof(time));
	setsockopt(tcp, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof(time));
}

static bool export_keys(SSL *ssl, struct smt_keys *keys)
{
	uint8_t material[2 * (KEY_SIZE + SMT_SALT_SIZE)];
	struct smt_key *each[] = { &keys->client, &keys->server };
	const uint8_t *at = material;

	if (SSL_export_keying_material(ssl, material, sizeof(material), SMT_EXPORTER,
				       strlen(SMT_EXPORTER), NULL, 0, 0) != 1)
		return false;
	for (int i = 0; i < 2; i++) {
		each[i]->size = KEY_SIZE;
		memcpy(each[i]->key, at, KEY_SIZE);
		memcpy(each[i]->salt, at + KEY_SIZE, SMT_SALT_SIZE);
		at += KEY_SIZE + SMT_SALT_SIZE;
	}
	explicit_bzero(material, sizeof(material));
	return true;
}

int handshake_listen(uint16_t port, const char *certificate, const char *key)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
	int one = 1, tcp = socket(AF_INET, SOCK_STREAM, 0);

	make_context(TLS_server_method());
	if (SSL_CTX_use_certificate_chain_file(context, certificate) != 1)
		die("%s is no certificate in PEM", certificate);
	if (SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
		die("%s is not the private key of %s", key, certificate);
	setsockopt(tcp, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (tcp < 0 || bind(tcp, (struct sockaddr *)&address, sizeof(address)) || listen(tcp, 8))
		die_errno("TCP port %u", port);
	return tcp;
}

static bool agree(SSL *ssl, int fd, struct smt_keys *keys, struct sockaddr_in *peer)
{
	__be16 port;
	char ready = 1;

	if (SSL_accept(ssl) != 1 || !export_keys(ssl, keys))
		return false;
	if (SSL_read(ssl, &port, sizeof(port)) != sizeof(port))
		return false;
	peer->sin_port = port;
	if (smt_install(fd, TLS_RX, &keys->client, peer) ||
	    smt_install(fd, TLS_TX, &keys->server, peer))
		return false;
	return SSL_write(ssl, &ready, 1) == 1;
}

bool handshake_serve(int listener, int fd, struct smt_keys *keys, struct sockaddr_in *peer)
{
	socklen_t size = sizeof(*peer);
	int tcp = accept(listener, (struct sockaddr *)peer, &size);
	SSL *ssl;
	bool good;

	if (tcp < 0)
		return false;
	patient(tcp);
	ssl = SSL_new(context);
	good = ssl && SSL_set_fd(ssl, tcp) && agree(ssl, fd, keys, peer);
	if (good)
		SSL_shutdown(ssl);
	SSL_free(ssl);
	close(tcp);
	return good;
}

static void no_handshake(void)
{
	unsigned long code = ERR_get_error();

	if (code)
		die("no handshake: %s", ERR_reason_error_string(code));
	die("no handshake: the peer closed the connection or said nothing for %d s", PATIENCE);
}

void handshake_client(int fd, const struct sockaddr_in *peer, const char *authority,
		      struct smt_keys *keys, struct sockaddr_in *own)
{
	socklen_t size = sizeof(*own);
	__be16 port;
	int tcp = socket(AF_INET, SOCK_STREAM, 0);
	char ready = 0;
	SSL *ssl;

	make_context(TLS_client_method());
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
	if (SSL_CTX_load_verify_locations(context, authority, NULL) != 1)
		die("%s is no certificate in PEM", authority);
	/* the port that the server is to install the keys for */
	*own = (struct sockaddr_in){ .sin_family = AF_INET };
	if (bind(fd, (struct sockaddr *)own, sizeof(*own)) ||
	    getsockname(fd, (struct sockaddr *)own, &size))
		die_errno("no SMT port");
	port = own->sin_port;
	patient(tcp);
	if (tcp < 0 || connect(tcp, (const struct sockaddr *)peer, sizeof(*peer)))
		die_errno("no TCP connection for the handshake");
	ssl = SSL_new(context);
	if (!ssl || !SSL_set_fd(ssl, tcp) || SSL_connect(ssl) != 1 || !export_keys(ssl, keys))
		no_handshake();
	if (smt_install(fd, TLS_TX, &keys->client, peer) ||
	    smt_install(fd, TLS_RX, &keys->server, peer))
		die_errno("the keys of the handshake are refused");
	if (SSL_write(ssl, &port, sizeof(port)) != sizeof(port) ||
	    SSL_read(ssl, &ready, 1) != 1)
		no_handshake();
	/* the socket is bound to no address: this one the server sees, and has the keys for */
	if (getsockname(tcp, (struct sockaddr *)own, &size))
		die_errno("no address");
	own->sin_port = port;
	SSL_shutdown(ssl);
	SSL_free(ssl);
	close(tcp);
}
