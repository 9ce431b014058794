// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * smt_echo serve PORT [--keys FILE]... [--tls CERTIFICATE KEY] [--secure] [--offload WORD] [--roam]
 * smt_echo ADDRESS:PORT --load SIZE:CONCURRENCY:COUNT... [--serial] [--seed N] [--timeout SECONDS]
 *	[--keys FILE | --tls AUTHORITY] [--keylog FILE] [--secure] [--offload WORD] [--roam]
 *
 * The server sends each request back. The client keeps CONCURRENCY requests of SIZE bytes under way
 * until COUNT are answered, for each --load at the same time (--serial: one after the other), and
 * compares every byte. What it saw is a line of JSON; times are of one RPC, in microseconds. It ends
 * with 0 if all was well, 1 if an RPC failed or came back wrong, 2 if nothing could be done at all.
 * --keylog writes the keys of the handshake for `nicmodel decrypt`, --interop is for a peer that
 * runs the published code, --offload sets SMT_OFFLOAD (off, allowed, required), --roam sends each
 * message from another processor than the one before.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "handshake.h"

#define MAX_LOADS	256
#define MAX_ERRNO	134

static volatile sig_atomic_t ended;

static void on_end(int signal)
{
	(void)signal;
	ended = 1;
}

struct options {
	const char *keys[16];
	int n_keys;
	const char *certificate, *private_key;
	const char *keylog;
	const char *offload;
	bool secure, interop, serial, roam;
	uint64_t seed;
	double timeout;
};

/**
 * struct load - requests of one size
 * @sent: begun so far
 * @done: answered or failed
 * @failed: ended with an error or another text
 * @times: of each that was answered well, microseconds
 */
struct load {
	size_t size;
	unsigned int concurrency;
	size_t count, sent, done, failed, n_times;
	uint32_t *times;
};

/**
 * struct slot - a request under way
 * @number: which one; also the cookie's upper half
 */
struct slot {
	struct load *load;
	uint64_t number;
	uint64_t begun;
	bool busy;
};

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000ULL + time.tv_nsec / 1000;
}

/* Go to the next processor. */
static void roam(const struct options *options)
{
	static unsigned int next;
	cpu_set_t one;

	if (!options->roam)
		return;
	CPU_ZERO(&one);
	CPU_SET(++next % sysconf(_SC_NPROCESSORS_ONLN), &one);
	if (sched_setaffinity(0, sizeof(one), &one))
		die_errno("sched_setaffinity");
}

static void log_keys(const struct options *options, const struct smt_keys *keys,
		     struct in_addr client, struct in_addr server, uint16_t sport, uint16_t dport)
{
	struct smt_flow there = { client, server, sport, dport, keys->client };
	struct smt_flow back = { server, client, dport, sport, keys->server };
	FILE *file;

	if (!options->keylog)
		return;
	file = fopen(options->keylog, "a");
	if (!file)
		die_errno("%s", options->keylog);
	smt_write_flow(file, &there);
	smt_write_flow(file, &back);
	fclose(file);
}

/* Installs what a key file has for one end: a server at @port, or a client of @server. */
static void install_file(int fd, const char *name, uint16_t port, const struct sockaddr_in *server)
{
	FILE *file = fopen(name, "r");
	unsigned int count = 0;
	struct smt_flow flow;

	if (!file)
		die_errno("%s", name);
	while (smt_read_flow(file, name, &flow)) {
		struct sockaddr_in peer = { .sin_family = AF_INET };
		bool there = flow.dport == port;	/* the client's direction */
		bool known = true;

		if (!there && flow.sport != port)
			continue;
		if (server) {
			peer = *server;
		} else {
			peer.sin_addr = there ? flow.src : flow.dst;
			peer.sin_port = htons(there ? flow.sport : flow.dport);
			known = peer.sin_port;
		}
		if (smt_install(fd, there == !!server ? TLS_TX : TLS_RX, &flow.key,
				known ? &peer : NULL))
			die_errno("a key of %s is refused", name);
		count++;
	}
	fclose(file);
	explicit_bzero(&flow, sizeof(flow));
	if (!count)
		die("%s has no key for port %u", name, port);
}

static int serve(const char *where, const struct options *options)
{
	struct sockaddr_in own = { .sin_family = AF_INET, .sin_port = htons(atoi(where)) };
	int fd = smt_open(options->secure, options->interop);
	unsigned long served = 0, octets = 0, failed = 0, refused = 0, handshakes = 0;
	struct pollfd polled[2] = { { .fd = fd, .events = POLLIN }, { .fd = -1, .events = POLLIN } };
	char *data = malloc(SMT_MAX_MESSAGE);

	if (!data)
		die("no memory");
	smt_offload(fd, options->offload);
	if (bind(fd, (struct sockaddr *)&own, sizeof(own)))
		die_errno("port %s", where);
	for (int i = 0; i < options->n_keys; i++)
		install_file(fd, options->keys[i], ntohs(own.sin_port), NULL);
	if (options->certificate)
		polled[1].fd = handshake_listen(ntohs(own.sin_port), options->certificate,
						options->private_key);
	printf("ready\n");
	fflush(stdout);
	while (!ended) {
		struct sockaddr_in peer = { .sin_family = AF_INET };
		struct smt_rpc rpc;
		ssize_t length;

		if (poll(polled, 2, -1) < 0 && errno != EINTR)
			die_errno("poll");
		if (polled[1].revents & POLLIN) {
			struct smt_keys keys;

			if (handshake_serve(polled[1].fd, fd, &keys, &peer))
				handshakes++;
			explicit_bzero(&keys, sizeof(keys));
		}
		length = smt_receive(fd, data, SMT_MAX_MESSAGE, &peer, &rpc, MSG_DONTWAIT);
		if (length < 0) {
			if (errno != EAGAIN && errno != EINTR)
				failed++;
			continue;
		}
		if (rpc.error || !(rpc.flags & SMT_RPC_REQUEST)) {
			failed++;
			continue;
		}
		if (options->secure && !(rpc.flags & SMT_RPC_SECURE))
			die("a plain message on a secure socket");
		rpc.cookie = 0;
		roam(options);
		if (smt_send(fd, data, length, &peer, &rpc, 0)) {
			refused++;	/* the client has given up, or has no key for us */
			continue;
		}
		served++;
		octets += length;
	}
	printf("{\"served\": %lu, \"octets\": %lu, \"failed\": %lu, \"refused\": %lu, "
	       "\"handshakes\": %lu}\n", served, octets, failed, refused, handshakes);
	return 0;
}

static int by_value(const void *one, const void *other)
{
	uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)other;

	return a < b ? -1 : a > b;
}

static uint32_t percentile(const struct load *load, unsigned int percent)
{
	return load->n_times ? load->times[(load->n_times - 1) * percent / 100] : 0;
}

static void report(struct load *loads, int n_loads, const unsigned int *errors, double seconds,
		   bool all)
{
	const char *comma = "";

	printf("{\"finished\": %s, \"seconds\": %.3f, \"loads\": [", all ? "true" : "false", seconds);
	for (int i = 0; i < n_loads; i++) {
		struct load *load = &loads[i];

		qsort(load->times, load->n_times, sizeof(*load->times), by_value);
		printf("%s{\"size\": %zu, \"concurrency\": %u, \"sent\": %zu, \"good\": %zu, "
		       "\"failed\": %zu, \"us\": {\"min\": %u, \"p50\": %u, \"p90\": %u, "
		       "\"p99\": %u, \"max\": %u}}", i ? ", " : "", load->size,
		       load->concurrency, load->sent, load->n_times, load->failed,
		       percentile(load, 0), percentile(load, 50), percentile(load, 90),
		       percentile(load, 99), percentile(load, 100));
	}
	printf("], \"errors\": {");
	for (int i = 0; i <= MAX_ERRNO; i++) {
		if (!errors[i])
			continue;
		printf("%s\"%s\": %u", comma, i ? strerrorname_np(i) : "DIFFERS", errors[i]);
		comma = ", ";
	}
	printf("}}\n");
}

struct client {
	const struct options *options;
	struct sockaddr_in server;
	int fd;
	struct slot *slots;
	uint32_t n_slots;
	uint64_t number;
	char *data, *expected;
	unsigned int errors[MAX_ERRNO + 1];	/* [0]: another text came back */
};

static void count_error(struct client *client, struct load *load, int error)
{
	client->errors[error > 0 && error <= MAX_ERRNO ? error : MAX_ERRNO]++;
	load->failed++;
	load->done++;
}

/* Begins the next request of a slot; returns false while there is no room. */
static bool begin(struct client *client, uint32_t index)
{
	struct slot *slot = &client->slots[index];
	struct load *load = slot->load;
	struct smt_rpc rpc = {};

	slot->number = client->number++;
	rpc.cookie = slot->number << 32 | index;
	smt_fill(client->data, load->size, client->options->seed, slot->number);
	roam(client->options);
	slot->begun = now();
	if (smt_send(client->fd, client->data, load->size, &client->server, &rpc, MSG_DONTWAIT)) {
		if (errno == EAGAIN)
			return false;
		load->sent++;
		count_error(client, load, errno);
		return true;
	}
	load->sent++;
	slot->busy = true;
	return true;
}

/* Takes what came; returns false when there is nothing. */
static bool take(struct client *client)
{
	struct sockaddr_in peer;
	struct smt_rpc rpc;
	ssize_t length = smt_receive(client->fd, client->data, SMT_MAX_MESSAGE, &peer, &rpc,
				     MSG_DONTWAIT);
	struct slot *slot;
	struct load *load;

	if (length < 0) {
		if (errno != EAGAIN && errno != EINTR)
			die_errno("recvmsg");
		return false;
	}
	slot = &client->slots[(uint32_t)rpc.cookie % client->n_slots];
	if ((uint32_t)rpc.cookie >= client->n_slots || !slot->busy ||
	    slot->number != rpc.cookie >> 32 || !(rpc.flags & SMT_RPC_RESPONSE))
		die("something came that was not asked for: id %llu cookie %llx flags %x",
		    (unsigned long long)rpc.id, (unsigned long long)rpc.cookie, rpc.flags);
	slot->busy = false;
	load = slot->load;
	if (rpc.error) {
		count_error(client, load, rpc.error);
		return true;
	}
	if (client->options->secure && !(rpc.flags & SMT_RPC_SECURE))
		die("a plain message on a secure socket");
	smt_fill(client->expected, load->size, client->options->seed, slot->number);
	if (peer.sin_addr.s_addr != client->server.sin_addr.s_addr ||
	    peer.sin_port != client->server.sin_port || (size_t)length != load->size ||
	    memcmp(client->data, client->expected, load->size)) {
		client->errors[0]++;
		load->failed++;
	} else {
		load->times[load->n_times++] = now() - slot->begun;
	}
	load->done++;
	return true;
}

/* Runs loads to their end; returns false when @deadline came first. */
static bool run(struct client *client, struct load *loads, int n_loads, uint64_t deadline)
{
	struct pollfd polled = { .fd = client->fd };
	size_t left = 0;

	client->n_slots = 0;
	for (int i = 0; i < n_loads; i++)
		for (unsigned int k = 0; k < loads[i].concurrency; k++)
			client->slots[client->n_slots++] = (struct slot){ .load = &loads[i] };
	for (int i = 0; i < n_loads; i++)
		left += loads[i].count;
	while (!ended) {
		bool full = false, refused = false;
		uint64_t time = now();
		size_t done = 0;

		for (uint32_t i = 0; i < client->n_slots && !full; i++) {
			struct load *load = client->slots[i].load;

			if (!client->slots[i].busy && load->sent < load->count) {
				full = !begin(client, i);
				refused |= !full && !client->slots[i].busy;
			}
		}
		for (int i = 0; i < n_loads; i++)
			done += loads[i].done;
		if (done == left)
			return true;
		if (time >= deadline)
			return false;
		polled.events = POLLIN | (full ? POLLOUT : 0);
		/* nothing comes of a request that was refused */
		if (poll(&polled, 1, refused ? 0 : (deadline - time) / 1000 + 1) < 0 && errno != EINTR)
			die_errno("poll");
		while (take(client))
			;
	}
	return false;
}

static int ask(const char *where, const struct options *options, struct load *loads, int n_loads)
{
	struct client client = { .options = options, .server = smt_address(where) };
	uint16_t port = ntohs(client.server.sin_port);
	unsigned int slots = 0;
	uint64_t begun, deadline;
	bool all = true;
	size_t failed = 0;

	client.fd = smt_open(options->secure, options->interop);
	smt_offload(client.fd, options->offload);
	for (int i = 0; i < options->n_keys; i++)
		install_file(client.fd, options->keys[i], port, &client.server);
	if (options->certificate) {
		struct sockaddr_in own;
		struct smt_keys keys;

		handshake_client(client.fd, &client.server, options->certificate, &keys, &own);
		log_keys(options, &keys, own.sin_addr, client.server.sin_addr, ntohs(own.sin_port),
			 port);
		explicit_bzero(&keys, sizeof(keys));
	}
	for (int i = 0; i < n_loads; i++) {
		slots += loads[i].concurrency;
		loads[i].times = calloc(loads[i].count, sizeof(*loads[i].times));
		if (!loads[i].times)
			die("no memory");
	}
	client.slots = calloc(slots, sizeof(*client.slots));
	client.data = malloc(SMT_MAX_MESSAGE);
	client.expected = malloc(SMT_MAX_MESSAGE);
	if (!client.slots || !client.data || !client.expected)
		die("no memory");
	begun = now();
	deadline = begun + options->timeout * 1e6;
	if (options->serial) {
		for (int i = 0; i < n_loads && all; i++)
			all = run(&client, &loads[i], 1, deadline);
	} else {
		all = run(&client, loads, n_loads, deadline);
	}
	report(loads, n_loads, client.errors, (now() - begun) / 1e6, all);
	for (int i = 0; i < n_loads; i++)
		failed += loads[i].failed;
	return all && !failed ? 0 : 1;
}

static struct load parse_load(const char *text)
{
	struct load load = {};
	char end;

	if (sscanf(text, "%zu:%u:%zu%c", &load.size, &load.concurrency, &load.count, &end) != 3 ||
	    load.size > SMT_MAX_MESSAGE || !load.concurrency || !load.count)
		die("%s is not SIZE:CONCURRENCY:COUNT, of at most %d bytes", text, SMT_MAX_MESSAGE);
	return load;
}

int main(int argc, char **argv)
{
	static const struct option known[] = {
		{ "load", required_argument, NULL, 'l' },
		{ "keys", required_argument, NULL, 'k' },
		{ "tls", required_argument, NULL, 't' },
		{ "keylog", required_argument, NULL, 'g' },
		{ "seed", required_argument, NULL, 's' },
		{ "timeout", required_argument, NULL, 'o' },
		{ "secure", no_argument, NULL, 'S' },
		{ "interop", no_argument, NULL, 'I' },
		{ "serial", no_argument, NULL, 'r' },
		{ "offload", required_argument, NULL, 'f' },
		{ "roam", no_argument, NULL, 'm' },
		{}
	};
	struct sigaction action = { .sa_handler = on_end };
	struct options options = { .timeout = 60 };
	static struct load loads[MAX_LOADS];
	int n_loads = 0, option;
	bool server;

	while ((option = getopt_long(argc, argv, "", known, NULL)) >= 0) {
		switch (option) {
		case 'l':
			if (n_loads == MAX_LOADS)
				die("at most %d loads", MAX_LOADS);
			loads[n_loads++] = parse_load(optarg);
			break;
		case 'k':
			if (options.n_keys == 16)
				die("at most 16 key files");
			options.keys[options.n_keys++] = optarg;
			break;
		case 't':
			options.certificate = optarg;
			break;
		case 'g':
			options.keylog = optarg;
			break;
		case 's':
			options.seed = strtoull(optarg, NULL, 0);
			break;
		case 'o':
			options.timeout = atof(optarg);
			break;
		case 'S':
			options.secure = true;
			break;
		case 'I':
			options.interop = true;
			break;
		case 'r':
			options.serial = true;
			break;
		case 'f':
			options.offload = optarg;
			break;
		case 'm':
			options.roam = true;
			break;
		default:
			die("see smt(7) for how to call it");
		}
	}
	server = optind < argc && !strcmp(argv[optind], "serve");
	if (argc - optind != 1 + server + (server && options.certificate))
		die("usage: smt_echo serve PORT | ADDRESS:PORT --load SIZE:CONCURRENCY:COUNT");
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	if (server) {
		if (options.certificate)
			options.private_key = argv[optind + 2];
		return serve(argv[optind + 1], &options);
	}
	if (!n_loads)
		die("say what to send with --load SIZE:CONCURRENCY:COUNT");
	return ask(argv[optind], &options, loads, n_loads);
}
