// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Bulk data over TCP with kernel TLS (Documentation/networking/tls.rst), without a handshake: both
 * ends are told the keys.
 *
 *   ktls listen PORT [KEY=VALUE ...]
 *   ktls connect ADDRESS PORT [KEY=VALUE ...]
 *
 *   send=BYTES, receive=BYTES  of each connection, at this end
 *   cipher=128|256             AES-GCM, TLS 1.2
 *   key=HEX salt=HEX iv=HEX    what connection 0 begins with; others have keys of their own
 *   record=NUMBER              of the first record
 *   connections=N parallel=N   how many, and how many of them at the same time, each in a process
 *   hold=0|1                   keep connections until the last one has ended
 *   chunk=BYTES                given to each call; 0: odd sizes, by seed
 *   how=write|more|sendfile    more: MSG_MORE on all but the last
 *   control=N                  an alert after every N chunks
 *   pause=MICROSECONDS         after each chunk
 *   tls=0|1                    0: plain TCP
 *   discard=0|1                do not decrypt nor look at what comes; its length is on the wire
 *   seed=N                     of the data
 *
 * One line of JSON on stdout says what came; the data must be what the seed says. Exit status 1 and
 * an "error" if not.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/tls.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef TCP_ULP
#define TCP_ULP 31
#endif
#ifndef SOL_TLS
#define SOL_TLS 282
#endif

#define POOL (1 << 20)
#define LARGEST_CHUNK 100000
#define MOST_HELD 4096
#define ALERT 21

enum how { WRITE, MORE, SENDFILE };

static struct {
	const char *address, *port;
	long long send, receive, record;
	int cipher, connections, parallel, hold, chunk, control, pause, tls, discard;
	enum how how;
	uint64_t seed;
	unsigned char key[32], salt[4], iv[8];
} options = { .cipher = 128, .connections = 1, .parallel = 1, .chunk = 16384, .tls = 1 };

/* what all processes count together */
static struct shared {
	atomic_llong sent, received, alerts_sent, alerts_received, connections, begin, end;
	atomic_int taken;
	_Atomic(int) failed;
	char error[200];
} *shared;

static unsigned char *pool; /* twice, so that a read may begin anywhere */
static int pool_file = -1;

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void fail(const char *format, ...)
{
	int none = 0, reason = errno;
	va_list list;

	if (atomic_compare_exchange_strong(&shared->failed, &none, 1)) {
		char what[100];

		va_start(list, format);
		vsnprintf(what, sizeof(what), format, list);
		va_end(list);
		snprintf(shared->error, sizeof(shared->error), "%s%s%s", what, reason ? ": " : "",
			 reason ? strerror(reason) : "");
	}
	_exit(1);
}

/* splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators) */
static uint64_t next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

static void make_pool(void)
{
	uint64_t state = options.seed;

	pool_file = memfd_create("pool", 0);
	if (pool_file < 0 || ftruncate(pool_file, 2 * POOL))
		fail("memfd");
	pool = mmap(NULL, 2 * POOL, PROT_READ | PROT_WRITE, MAP_SHARED, pool_file, 0);
	if (pool == MAP_FAILED)
		fail("mmap");
	for (size_t at = 0; at < POOL; at += 8) {
		uint64_t value = next(&state);

		memcpy(pool + at, &value, 8);
	}
	memcpy(pool + POOL, pool, POOL);
}

/* Where in the pool byte `at` of a stream is; both directions of each connection differ. */
static size_t place(uint32_t connection, int from_listener, long long at)
{
	return (at + connection * 4099ULL + from_listener * 77773ULL) % POOL;
}

static void offload(int fd, int direction, uint32_t connection, int from_listener)
{
	union {
		struct tls_crypto_info info;
		struct tls12_crypto_info_aes_gcm_128 gcm128;
		struct tls12_crypto_info_aes_gcm_256 gcm256;
	} crypto = { .info.version = TLS_1_2_VERSION };
	unsigned char key[32], number[8];
	socklen_t length;

	memcpy(key, options.key, sizeof(key));
	key[0] ^= from_listener << 7;
	for (int i = 0; i < 4; i++) {
		key[i + 1] ^= connection >> (8 * i);
	}
	for (int i = 0; i < 8; i++)
		number[i] = options.record >> (56 - 8 * i);
#define FILL(gcm)                                           \
	do {                                                \
		memcpy(gcm.key, key, sizeof(gcm.key));      \
		memcpy(gcm.salt, options.salt, 4);          \
		memcpy(gcm.iv, options.iv, 8);              \
		memcpy(gcm.rec_seq, number, 8);             \
		length = sizeof(gcm);                       \
	} while (0)
	if (options.cipher == 256) {
		crypto.info.cipher_type = TLS_CIPHER_AES_GCM_256;
		FILL(crypto.gcm256);
	} else {
		crypto.info.cipher_type = TLS_CIPHER_AES_GCM_128;
		FILL(crypto.gcm128);
	}
	if (setsockopt(fd, SOL_TLS, direction, &crypto, length))
		fail("setsockopt %s", direction == TLS_TX ? "TLS_TX" : "TLS_RX");
}

static void send_alert(int fd)
{
	unsigned char text[2] = { 1, 90 }; /* warning, user_canceled */
	char space[CMSG_SPACE(1)] = { 0 };
	struct iovec part = { text, sizeof(text) };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = space,
				  .msg_controllen = sizeof(space) };
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);

	head->cmsg_level = SOL_TLS;
	head->cmsg_type = TLS_SET_RECORD_TYPE;
	head->cmsg_len = CMSG_LEN(1);
	*CMSG_DATA(head) = ALERT;
	if (sendmsg(fd, &message, 0) != sizeof(text))
		fail("sendmsg of an alert");
	shared->alerts_sent++;
}

static void send_all(int fd, uint32_t connection, int from_listener)
{
	uint64_t state = options.seed ^ connection;
	long long at = 0;

	for (int chunks = 1; at < options.send; chunks++) {
		size_t from = place(connection, from_listener, at);
		size_t size = options.chunk ? (size_t)options.chunk : 1 + next(&state) % LARGEST_CHUNK;
		ssize_t done;

		if (size > (size_t)(options.send - at))
			size = options.send - at;
		if (size > POOL)
			size = POOL;
		if (options.how == SENDFILE) {
			off_t offset = from;

			done = sendfile(fd, pool_file, &offset, size);
		} else {
			int more = options.how == MORE && at + (long long)size < options.send;

			done = send(fd, pool + from, size, more ? MSG_MORE : 0);
		}
		if (done <= 0)
			fail("send at %lld", at);
		at += done;
		shared->sent += done;
		if (options.control && chunks % options.control == 0)
			send_alert(fd);
		if (options.pause)
			usleep(options.pause);
	}
	if (shutdown(fd, SHUT_WR))
		fail("shutdown");
}

static void receive_all(int fd, uint32_t connection, int from_listener)
{
	static unsigned char buffer[1 << 17];
	long long at = 0;

	for (;;) {
		char space[CMSG_SPACE(1)];
		struct iovec part = { buffer, sizeof(buffer) };
		struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = space,
					  .msg_controllen = sizeof(space) };
		ssize_t done = recvmsg(fd, &message, 0);
		struct cmsghdr *head;
		int type = 23;
		long long none = 0;

		if (done < 0)
			fail("recvmsg at %lld", at);
		if (!done)
			break;
		head = CMSG_FIRSTHDR(&message);
		if (head && head->cmsg_level == SOL_TLS && head->cmsg_type == TLS_GET_RECORD_TYPE)
			type = *CMSG_DATA(head);
		errno = 0;
		atomic_compare_exchange_strong(&shared->begin, &none, now());
		shared->end = now();
		if (options.discard) {
			at = options.receive;
			shared->received += done;
			continue;
		}
		if (type == ALERT && done == 2 && buffer[0] == 1 && buffer[1] == 90) {
			shared->alerts_received++;
			continue;
		}
		if (type != 23)
			fail("a record of type %d with %zd bytes at %lld", type, done, at);
		if (memcmp(buffer, pool + place(connection, from_listener, at), done))
			fail("other data than was sent, from %lld on", at);
		at += done;
		shared->received += done;
	}
	errno = 0;
	if (at != options.receive)
		fail("%lld bytes came instead of %lld", at, options.receive);
}

/* Number the connection in plain text, turn both directions on, move the data. */
static void converse(int fd, uint32_t connection, int listener)
{
	char go = 'g';
	pid_t receiver = 0;
	int status;

	if (listener ? recv(fd, &connection, 4, MSG_WAITALL) != 4 : send(fd, &connection, 4, 0) != 4)
		fail("the number of a connection");
	if (options.tls && setsockopt(fd, SOL_TCP, TCP_ULP, "tls", 4))
		fail("setsockopt TCP_ULP");
	if (!listener && recv(fd, &go, 1, MSG_WAITALL) != 1)
		fail("the listener's word");
	if (options.tls && options.receive && !options.discard)
		offload(fd, TLS_RX, connection, !listener);
	if (listener && send(fd, &go, 1, 0) != 1)
		fail("the listener's word");
	if (options.tls && options.send)
		offload(fd, TLS_TX, connection, listener);
	if (options.send && options.receive)
		receiver = fork();
	if (options.receive && !receiver) {
		receive_all(fd, connection, !listener);
		if (options.send)
			_exit(0);
	}
	if (options.send)
		send_all(fd, connection, listener);
	if (receiver > 0 && (waitpid(receiver, &status, 0) < 0 || status))
		_exit(1);
	/* what was sent has come when the other end closes */
	if (!options.receive && recv(fd, &go, 1, 0) > 0)
		fail("there is data that nobody sent");
	if (!options.send && shutdown(fd, SHUT_WR))
		fail("shutdown");
	shared->connections++;
}

static int dial(const struct addrinfo *to)
{
	int fd, one = 1;

	for (int attempt = 0;; attempt++) {
		fd = socket(to->ai_family, SOCK_STREAM, 0);
		if (fd < 0)
			fail("socket");
		if (!connect(fd, to->ai_addr, to->ai_addrlen))
			break;
		if (errno != ECONNREFUSED || attempt == 200)
			fail("connect");
		close(fd);
		usleep(50000);
	}
	setsockopt(fd, SOL_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

static int serve(void)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(atoi(options.port)) };
	int one = 1, fd = socket(AF_INET6, SOCK_STREAM, 0);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&any, sizeof(any)) || listen(fd, 1024))
		fail("listen");
	return fd;
}

static void work(int listener, const struct addrinfo *to)
{
	int held[MOST_HELD], count = 0, number;

	while ((number = shared->taken++) < options.connections) {
		int fd = listener >= 0 ? accept(listener, NULL, NULL) : dial(to);

		if (fd < 0)
			fail("accept");
		converse(fd, number, listener >= 0);
		if (options.hold && count < MOST_HELD)
			held[count++] = fd;
		else
			close(fd);
	}
	while (options.hold && shared->connections < options.connections && !shared->failed)
		usleep(10000);
	while (count)
		close(held[--count]);
}

static void take_hex(unsigned char *to, size_t length, const char *text)
{
	unsigned value;

	if (strlen(text) != 2 * length)
		fail("%s has not %zu bytes", text, length);
	for (size_t i = 0; i < length; i++) {
		if (sscanf(text + 2 * i, "%2x", &value) != 1)
			fail("%s is not hexadecimal", text);
		to[i] = value;
	}
}

static void take(const char *word)
{
	const char *value = strchr(word, '=');
	struct { const char *name; int *to; } numbers[] = {
		{ "cipher", &options.cipher }, { "connections", &options.connections },
		{ "parallel", &options.parallel }, { "hold", &options.hold },
		{ "chunk", &options.chunk }, { "control", &options.control },
		{ "pause", &options.pause }, { "tls", &options.tls },
		{ "discard", &options.discard },
	};
	struct { const char *name; long long *to; } large[] = {
		{ "send", &options.send }, { "receive", &options.receive },
		{ "record", &options.record }, { "seed", (long long *)&options.seed },
	};
	size_t length = value ? (size_t)(value++ - word) : 0;
#define IS(text) (strlen(text) == length && !strncmp(word, text, length))

	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
		if (IS(numbers[i].name)) {
			*numbers[i].to = atoi(value);
			return;
		}
	for (size_t i = 0; i < sizeof(large) / sizeof(*large); i++)
		if (IS(large[i].name)) {
			*large[i].to = strtoll(value, NULL, 0);
			return;
		}
	if (IS("key"))
		take_hex(options.key, strlen(value) == 32 ? 16 : 32, value);
	else if (IS("salt"))
		take_hex(options.salt, 4, value);
	else if (IS("iv"))
		take_hex(options.iv, 8, value);
	else if (IS("how"))
		options.how = !strcmp(value, "more")	   ? MORE :
			      !strcmp(value, "sendfile") ? SENDFILE :
							   WRITE;
	else
		fail("what is %s", word);
}

static void report(void)
{
	printf("{\"connections\": %lld, \"sent\": %lld, \"received\": %lld, \"alerts_sent\": %lld, "
	       "\"alerts_received\": %lld, \"nanoseconds\": %lld",
	       (long long)shared->connections, (long long)shared->sent, (long long)shared->received,
	       (long long)shared->alerts_sent, (long long)shared->alerts_received,
	       (long long)(shared->end - shared->begin));
	if (shared->failed)
		printf(", \"error\": \"%s\"", shared->error);
	puts("}");
}

int main(int count, char **words)
{
	struct addrinfo *to = NULL;
	int listener = -1, at = 2, status;

	signal(SIGPIPE, SIG_IGN);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED || count < 3)
		return 2;
	if (fork() == 0) { /* a failure ends this process, not the report */
		if (!strcmp(words[1], "connect"))
			options.address = words[at++];
		if (at == count)
			fail("no port");
		options.port = words[at++];
		while (at < count)
			take(words[at++]);
		make_pool();
		if (!options.address)
			listener = serve();
		else if (getaddrinfo(options.address, options.port, NULL, &to))
			fail("%s is no address", options.address);
		for (int i = 0; i < options.parallel; i++)
			if (fork() == 0) {
				work(listener, to);
				_exit(0);
			}
		for (int i = 0; i < options.parallel; i++)
			if (wait(&status) > 0 && status && !shared->failed)
				fail("a process ended with %#x", status);
		_exit(0);
	}
	wait(&status);
	report();
	return shared->failed || status;
}
