// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Sends echo requests of every payload size of a range, in one piece, and compares every answer.
 *
 *   sweep ADDRESS FIRST LAST
 *
 * Prints a line for each size that got no answer in 10 s or another one; exit status 1 if any did.
 *
 * One request is in flight at a time: a guest answers from one socket with 132 KiB of send buffer
 * for each CPU, and drops answers (Icmp OutErrors) when more than 15 of them wait for their
 * transmit completion, which happens as soon as requests keep one receive poll busy.
 */
#include <arpa/inet.h>
#include <err.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HEADER 8
#define MOST 65536
#define PATIENCE_MS 10000

struct echo { /* RFC 792, RFC 4443 4.1 */
	uint8_t type;
	uint8_t code;
	uint16_t checksum;
	uint16_t identifier;
	uint16_t sequence;
	uint8_t data[MOST];
};

static uint16_t checksum(const void *data, size_t length)
{
	const uint8_t *bytes = data;
	uint32_t sum = 0;
	size_t at;

	for (at = 0; at < length; at++)
		sum += at & 1 ? bytes[at] : bytes[at] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons(~sum);
}

static int opened(int v6, const char *address)
{
	struct sockaddr_in6 there6 = { .sin6_family = AF_INET6 };
	struct sockaddr_in there = { .sin_family = AF_INET };
	const int whole = IP_PMTUDISC_DO, whole6 = IPV6_PMTUDISC_DO, room = 4 << 20;
	int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_RAW, v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);

	if (fd < 0)
		err(1, "socket");
	if (inet_pton(v6 ? AF_INET6 : AF_INET, address,
		      v6 ? (void *)&there6.sin6_addr : (void *)&there.sin_addr) != 1)
		errx(1, "%s is no address", address);
	if (v6 ? setsockopt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &whole6, sizeof(whole6)) :
		 setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &whole, sizeof(whole)))
		err(1, "setsockopt");
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	if (connect(fd, v6 ? (void *)&there6 : (void *)&there, v6 ? sizeof(there6) : sizeof(there)))
		err(1, "connect");
	return fd;
}

static long long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* What is wrong with the answer to @request of @length bytes; NULL if nothing. */
static const char *wrong(int fd, int v6, const struct echo *request, size_t length)
{
	static uint8_t packet[MOST + 64];
	long long end = now_ms() + PATIENCE_MS, left;
	struct pollfd ready = { .fd = fd, .events = POLLIN };

	while ((left = end - now_ms()) > 0) {
		const struct echo *answer = (void *)packet;
		ssize_t got;

		if (poll(&ready, 1, left) <= 0)
			continue;
		got = recv(fd, packet, sizeof(packet), 0);
		if (!v6) { /* the IP header comes too */
			const size_t skip = (packet[0] & 15) * 4;

			answer = (void *)(packet + skip);
			got -= skip;
		}
		if (got < HEADER || answer->type != (v6 ? ICMP6_ECHO_REPLY : ICMP_ECHOREPLY) ||
		    answer->identifier != request->identifier ||
		    answer->sequence != request->sequence)
			continue;
		if ((size_t)got != length || memcmp(answer->data, request->data, length - HEADER))
			return "the answer differs";
		return NULL;
	}
	return "no answer";
}

int main(int argc, char **argv)
{
	static struct echo request;
	int fd, v6, status = 0;
	long size, last;

	if (argc != 4)
		errx(1, "usage: sweep ADDRESS FIRST LAST");
	v6 = strchr(argv[1], ':') != NULL;
	fd = opened(v6, argv[1]);
	last = atol(argv[3]);
	for (size = atol(argv[2]); size <= last && size <= MOST; size++) {
		const size_t length = HEADER + size;
		const char *why;
		long at;

		request.type = v6 ? ICMP6_ECHO_REQUEST : ICMP_ECHO;
		request.identifier = htons(getpid());
		request.sequence = htons(size);
		for (at = 0; at < size; at++) /* no two sizes alike */
			request.data[at] = size * 7 + at * 31;
		request.checksum = 0;
		if (!v6) /* the kernel fills in that of ICMPv6 */
			request.checksum = checksum(&request, length);
		why = send(fd, &request, length, 0) < 0 ? "it could not be sent" :
							  wrong(fd, v6, &request, length);
		if (why) {
			printf("%ld: %s\n", size, why);
			status = 1;
		}
	}
	return status;
}
