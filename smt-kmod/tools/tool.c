// SPDX-License-Identifier: GPL-2.0-or-later
#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tool.h"

static void say(const char *format, va_list arguments)
{
	fputs("smt: ", stderr);
	vfprintf(stderr, format, arguments);
}

void die(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	say(format, arguments);
	fputc('\n', stderr);
	exit(2);
}

void die_errno(const char *format, ...)
{
	int error = errno;
	va_list arguments;

	va_start(arguments, format);
	say(format, arguments);
	fprintf(stderr, ": %s\n", strerror(error));
	exit(2);
}

int smt_open(bool secure, bool interop)
{
	int one = 1, room = 4 << 20;
	int fd = socket(AF_INET, SOCK_DGRAM, IPPROTO_SMT);

	if (fd < 0)
		die_errno("no socket (is the module loaded?)");
	/* as much as net.core.rmem_max permits: a burst of requests is not lost */
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	if (interop && setsockopt(fd, SOL_SMT, SMT_INTEROP, &one, sizeof(one)))
		die_errno("SMT_INTEROP");
	if (secure && setsockopt(fd, SOL_SMT, SMT_SECURE, &one, sizeof(one)))
		die_errno("SMT_SECURE");
	return fd;
}

void smt_offload(int fd, const char *word)
{
	static const char *const words[] = { "off", "allowed", "required" };

	if (!word)
		return;
	for (int value = SMT_OFFLOAD_OFF; value <= SMT_OFFLOAD_REQUIRED; value++) {
		if (strcmp(word, words[value]))
			continue;
		if (setsockopt(fd, SOL_SMT, SMT_OFFLOAD, &value, sizeof(value)))
			die_errno("SMT_OFFLOAD");
		return;
	}
	die("%s is not off, allowed or required", word);
}

struct sockaddr_in smt_address(const char *text)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	const char *colon = strrchr(text, ':');
	char host[INET_ADDRSTRLEN] = "";
	char *end;
	unsigned long port;

	if (!colon || (size_t)(colon - text) >= sizeof(host))
		die("%s is not ADDRESS:PORT", text);
	memcpy(host, text, colon - text);
	port = strtoul(colon + 1, &end, 10);
	if (*end || !port || port > UINT16_MAX || inet_pton(AF_INET, host, &address.sin_addr) != 1)
		die("%s is not ADDRESS:PORT", text);
	address.sin_port = htons(port);
	return address;
}

int smt_install(int fd, int direction, const struct smt_key *key, const struct sockaddr_in *peer)
{
	int result;

	if (key->size == 16) {
		struct smt_crypto_info_aes_gcm_128 info = {
			.info.info = { TLS_1_2_VERSION, TLS_CIPHER_AES_GCM_128 },
			.peer_addr = peer ? peer->sin_addr.s_addr : 0,
			.peer_port = peer ? peer->sin_port : 0,
			.default_keys = !peer,
		};

		memcpy(info.info.key, key->key, sizeof(info.info.key));
		memcpy(info.info.salt, key->salt, sizeof(info.info.salt));
		result = setsockopt(fd, SOL_TLS, direction, &info, sizeof(info));
		explicit_bzero(&info, sizeof(info));
	} else {
		struct smt_crypto_info_aes_gcm_256 info = {
			.info.info = { TLS_1_2_VERSION, TLS_CIPHER_AES_GCM_256 },
			.peer_addr = peer ? peer->sin_addr.s_addr : 0,
			.peer_port = peer ? peer->sin_port : 0,
			.default_keys = !peer,
		};

		memcpy(info.info.key, key->key, sizeof(info.info.key));
		memcpy(info.info.salt, key->salt, sizeof(info.info.salt));
		result = setsockopt(fd, SOL_TLS, direction, &info, sizeof(info));
		explicit_bzero(&info, sizeof(info));
	}
	return result;
}

static void write_hex(FILE *file, const uint8_t *data, size_t size)
{
	for (size_t i = 0; i < size; i++)
		fprintf(file, "%02x", data[i]);
}

void smt_write_flow(FILE *file, const struct smt_flow *flow)
{
	char src[INET_ADDRSTRLEN], dst[INET_ADDRSTRLEN];

	inet_ntop(AF_INET, &flow->src, src, sizeof(src));
	inet_ntop(AF_INET, &flow->dst, dst, sizeof(dst));
	fprintf(file, "{\"protocol\": %d, \"src\": \"%s\", \"sport\": %u, \"dst\": \"%s\", "
		"\"dport\": %u, \"cipher\": \"AES-%zu-GCM\", \"key\": \"",
		IPPROTO_SMT, src, flow->sport, dst, flow->dport, flow->key.size * 8);
	write_hex(file, flow->key.key, flow->key.size);
	fputs("\", \"salt\": \"", file);
	write_hex(file, flow->key.salt, SMT_SALT_SIZE);
	fputs("\"}\n", file);
}

/* What follows "NAME": in a line of JSON that this program or `nicmodel` wrote; NULL: not there. */
static const char *value(const char *line, const char *name)
{
	char quoted[32];
	const char *at;

	snprintf(quoted, sizeof(quoted), "\"%s\":", name);
	at = strstr(line, quoted);
	if (!at)
		return NULL;
	at += strlen(quoted);
	at += strspn(at, " ");
	return *at == '"' ? at + 1 : at;
}

static size_t read_hex(const char *text, uint8_t *data, size_t most)
{
	size_t size = 0;

	while (text && size < most && sscanf(text, "%2hhx", &data[size]) == 1) {
		text += 2;
		size++;
		if (*text == '"')
			return size;
	}
	return 0;
}

static bool read_address(const char *text, struct in_addr *address)
{
	char copy[INET_ADDRSTRLEN];

	if (!text || sscanf(text, "%15[0-9.]", copy) != 1)
		return false;
	return inet_pton(AF_INET, copy, address) == 1;
}

bool smt_read_flow(FILE *file, const char *name, struct smt_flow *flow)
{
	char line[1024];
	const char *port;

	if (!fgets(line, sizeof(line), file))
		return false;
	memset(flow, 0, sizeof(*flow));
	port = value(line, "sport");
	flow->sport = port ? strtoul(port, NULL, 10) : 0;
	port = value(line, "dport");
	flow->dport = port ? strtoul(port, NULL, 10) : 0;
	flow->key.size = read_hex(value(line, "key"), flow->key.key, SMT_KEY_MAX);
	if ((flow->key.size != 16 && flow->key.size != 32) ||
	    read_hex(value(line, "salt"), flow->key.salt, SMT_SALT_SIZE) != SMT_SALT_SIZE ||
	    !read_address(value(line, "src"), &flow->src) ||
	    !read_address(value(line, "dst"), &flow->dst))
		die("%s has a line that is no key of SMT: make the file with smt_keys", name);
	explicit_bzero(line, sizeof(line));
	return true;
}

int smt_send(int fd, const void *data, size_t size, const struct sockaddr_in *peer,
	     const struct smt_rpc *rpc, int flags)
{
	union {
		char room[CMSG_SPACE(sizeof(struct smt_rpc))];
		struct cmsghdr align;
	} control = {};
	struct iovec iov = { (void *)data, size };
	struct msghdr message = {
		.msg_name = (void *)peer,
		.msg_namelen = sizeof(*peer),
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.room,
		.msg_controllen = sizeof(control.room),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	struct smt_rpc told = { .id = rpc->id, .cookie = rpc->cookie };

	header->cmsg_level = SOL_SMT;
	header->cmsg_type = SMT_RPC;
	header->cmsg_len = CMSG_LEN(sizeof(told));
	memcpy(CMSG_DATA(header), &told, sizeof(told));
	return sendmsg(fd, &message, flags) < 0 ? -1 : 0;
}

ssize_t smt_receive(int fd, void *data, size_t size, struct sockaddr_in *peer, struct smt_rpc *rpc,
		    int flags)
{
	union {
		char room[CMSG_SPACE(sizeof(struct smt_rpc))];
		struct cmsghdr align;
	} control = {};
	struct iovec iov = { data, size };
	struct msghdr message = {
		.msg_name = peer,
		.msg_namelen = sizeof(*peer),
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.room,
		.msg_controllen = sizeof(control.room),
	};
	struct cmsghdr *header;
	ssize_t length = recvmsg(fd, &message, flags | MSG_TRUNC);

	if (length < 0)
		return -1;
	header = CMSG_FIRSTHDR(&message);
	if (!header || header->cmsg_level != SOL_SMT || header->cmsg_type != SMT_RPC ||
	    header->cmsg_len != CMSG_LEN(sizeof(*rpc)))
		die("a message came without its control message");
	memcpy(rpc, CMSG_DATA(header), sizeof(*rpc));
	return length;
}

void smt_fill(void *data, size_t size, uint64_t seed, uint64_t number)
{
	uint64_t state = (seed ^ number * 0x9e3779b97f4a7c15) | 1;
	uint8_t *at = data;

	while (size) {
		size_t step = size < sizeof(state) ? size : sizeof(state);

		/* xorshift64*, Vigna 2016 */
		state ^= state >> 12;
		state ^= state << 25;
		state ^= state >> 27;
		uint64_t word = state * 0x2545f4914f6cdd1d;

		memcpy(at, &word, step);
		at += step;
		size -= step;
	}
}
