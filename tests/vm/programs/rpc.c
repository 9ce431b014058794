// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Requests and responses over TCP, with kernel TLS in software or without; what smt_echo does by SMT.
 *
 *   rpc serve PORT
 *   rpc ADDRESS PORT SIZE CONCURRENCY COUNT [tls]
 *
 * Each of CONCURRENCY connections has one request of SIZE bytes under way until COUNT are answered
 * in all. The server sends each back, and every byte is compared. A line of JSON says how long one
 * took, in microseconds. A connection begins with struct hello, in clear: keys are random.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/tls.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef TCP_ULP
#define TCP_ULP 31
#endif
#ifndef SOL_TLS
#define SOL_TLS 282
#endif

#define MOST 1024
#define LARGEST (1 << 20)

struct hello {
	uint32_t size, tls;
	struct tls12_crypto_info_aes_gcm_128 client, server;
};

/* A connection, at either end: @at bytes of the message are there, or are sent. */
struct end {
	uint32_t size, at;
	int sending;
	uint64_t begun, number;
	unsigned char *data;
};

static struct pollfd polled[MOST + 1];
static struct end ends[MOST + 1];
static int n_ends;

static void die(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	fprintf(stderr, "rpc: ");
	vfprintf(stderr, format, list);
	fprintf(stderr, ": %s\n", strerror(errno));
	exit(2);
}

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000ULL + time.tv_nsec / 1000;
}

static void all(int fd, void *data, size_t size, int out)
{
	for (size_t at = 0; at < size;) {
		ssize_t done = out ? write(fd, data + at, size - at) : read(fd, data + at, size - at);

		if (done <= 0)
			die("no hello");
		at += done;
	}
}

static void add(int fd, struct hello *hello, int client)
{
	const void *tx = client ? &hello->client : &hello->server;
	const void *rx = client ? &hello->server : &hello->client;
	struct end *end = &ends[n_ends];
	int one = 1;

	if (n_ends == MOST)
		die("too many connections");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (hello->tls &&
	    (setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls")) ||
	     setsockopt(fd, SOL_TLS, TLS_TX, tx, sizeof(hello->client)) ||
	     setsockopt(fd, SOL_TLS, TLS_RX, rx, sizeof(hello->client))))
		die("kernel TLS");
	fcntl(fd, F_SETFL, O_NONBLOCK);
	*end = (struct end){ .size = hello->size, .data = malloc(hello->size) };
	if (!end->data)
		die("no memory");
	polled[n_ends++] = (struct pollfd){ .fd = fd, .events = POLLIN };
}

/* Goes on as far as it can; returns 1 when a message is complete, -1 at the end of the connection. */
static int go_on(int index)
{
	struct end *end = &ends[index];
	int fd = polled[index].fd;

	while (end->at < end->size) {
		void *data = end->data + end->at;
		size_t left = end->size - end->at;
		ssize_t done = end->sending ? write(fd, data, left) : read(fd, data, left);

		if (done < 0 && errno == EAGAIN) {
			polled[index].events = end->sending ? POLLOUT : POLLIN;
			return 0;
		}
		if (done <= 0)
			return -1;
		end->at += done;
	}
	end->at = 0;
	end->sending = !end->sending;
	return 1;
}

static void serve(int port)
{
	struct sockaddr_in own = { .sin_family = AF_INET, .sin_port = htons(port) };
	int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (struct sockaddr *)&own, sizeof(own)) || listen(listener, MOST))
		die("port %d", port);
	for (;;) {
		polled[n_ends] = (struct pollfd){ .fd = listener, .events = POLLIN };
		if (poll(polled, n_ends + 1, -1) < 0)
			die("poll");
		if (polled[n_ends].revents) {
			int fd = accept(listener, NULL, NULL);
			struct hello hello;

			all(fd, &hello, sizeof(hello), 0);
			if (hello.size - 1 >= LARGEST)
				die("%u bytes", hello.size);
			add(fd, &hello, 0);
		}
		for (int i = 0; i < n_ends; i++) {
			int done = 0;

			if (polled[i].revents)
				while ((done = go_on(i)) > 0)
					;
			if (done < 0) {
				close(polled[i].fd);
				free(ends[i].data);
				n_ends--;
				polled[i] = polled[n_ends];
				ends[i--] = ends[n_ends];
			}
		}
	}
}

static void fill(unsigned char *data, uint32_t size, uint64_t number)
{
	for (uint32_t i = 0; i < size; i++)
		data[i] = number * 31 + i * 7 + (i >> 8);
}

static int by_value(const void *one, const void *other)
{
	uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)other;

	return a < b ? -1 : a > b;
}

static void begin(int index, uint64_t number)
{
	struct end *end = &ends[index];

	end->sending = 1;
	end->at = 0;
	end->number = number;
	fill(end->data, end->size, number);
	end->begun = now();
}

static void ask(char **words, int tls)
{
	struct sockaddr_in peer = { .sin_family = AF_INET, .sin_port = htons(atoi(words[1])) };
	uint32_t size = atoi(words[2]), done = 0, count = atoi(words[4]), sent = 0;
	uint32_t *times = calloc(count, sizeof(*times));
	unsigned char *expected = malloc(size);
	int concurrency = atoi(words[3]);
	uint64_t begun;

	if (!times || !expected || inet_pton(AF_INET, words[0], &peer.sin_addr) != 1)
		die("%s", words[0]);
	for (int i = 0; i < concurrency; i++) {
		struct tls_crypto_info info = { TLS_1_2_VERSION, TLS_CIPHER_AES_GCM_128 };
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		struct hello hello;

		if (connect(fd, (struct sockaddr *)&peer, sizeof(peer)))
			die("%s:%s", words[0], words[1]);
		if (getrandom(&hello, sizeof(hello), 0) != sizeof(hello))
			die("getrandom");
		hello.size = size;
		hello.tls = tls;
		hello.client.info = hello.server.info = info;
		memset(hello.client.rec_seq, 0, sizeof(hello.client.rec_seq));
		memset(hello.server.rec_seq, 0, sizeof(hello.server.rec_seq));
		all(fd, &hello, sizeof(hello), 1);
		add(fd, &hello, 1);
	}
	begun = now();
	for (int i = 0; i < n_ends && sent < count; i++) {
		begin(i, sent++);
		go_on(i);
		polled[i].events = ends[i].sending ? POLLOUT : POLLIN;
	}
	while (done < count) {
		if (poll(polled, n_ends, -1) < 0)
			die("poll");
		for (int i = 0; i < n_ends; i++) {
			struct end *end = &ends[i];
			int all_of_it = 0;

			if (!polled[i].revents)
				continue;
			if (end->sending)
				all_of_it = go_on(i);
			if (all_of_it >= 0 && !end->sending)
				all_of_it = go_on(i);
			if (all_of_it < 0)
				die("the server has gone");
			if (!all_of_it)
				continue;
			times[done++] = now() - end->begun;
			fill(expected, size, end->number);
			if (memcmp(expected, end->data, size))
				die("another text came back");
			if (sent == count) {
				polled[i].fd = -1;
				continue;
			}
			begin(i, sent++);
			go_on(i);
			polled[i].events = end->sending ? POLLOUT : POLLIN;
		}
	}
	begun = now() - begun;
	qsort(times, count, sizeof(*times), by_value);
	printf("{\"good\": %u, \"seconds\": %.6f, \"us\": {\"p50\": %u, \"p99\": %u}}\n", count,
	       begun / 1e6, times[(count - 1) / 2], times[(count - 1) * 99 / 100]);
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	if (argc == 3 && !strcmp(argv[1], "serve"))
		serve(atoi(argv[2]));
	else if (argc == 6 || (argc == 7 && !strcmp(argv[6], "tls")))
		ask(argv + 1, argc == 7);
	else
		die("usage: rpc serve PORT | rpc ADDRESS PORT SIZE CONCURRENCY COUNT [tls]");
	return 0;
}
