// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Hands packets that are longer than the wire carries to the kernel of a guest, which leaves their
 * segmentation to the device or does it in software, as ethtool -K says.
 *
 *   supersend frames INTERFACE POOL      AF_PACKET with a virtio_net_hdr (packet(7), virtio_net.h)
 *   supersend datagrams ADDRESS POOL     a UDP socket with UDP_SEGMENT (udp(7))
 *
 * Records come on stdin, in host byte order: struct record, then header_length bytes of headers.
 * The payload of each is a part of the file POOL.
 */
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

struct record {
	struct virtio_net_hdr vnet; /* datagrams: gso_size alone counts */
	uint16_t port;              /* datagrams: both the source's and the destination's */
	uint16_t header_length;
	uint32_t payload_at;
	uint32_t payload_length;
} __attribute__((packed));

static int take(void *to, size_t length)
{
	size_t got = fread(to, 1, length, stdin);

	if (got && got != length)
		errx(1, "a record ends early");
	return got == length;
}

static int packet_socket(const char *interface)
{
	struct sockaddr_ll where = { .sll_family = AF_PACKET };
	int one = 1, buffer = 1 << 22;
	int fd = socket(AF_PACKET, SOCK_RAW, 0);

	if (fd < 0)
		err(1, "socket");
	where.sll_ifindex = if_nametoindex(interface);
	if (!where.sll_ifindex)
		err(1, "%s", interface);
	if (setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)) ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof(buffer)) ||
	    bind(fd, (struct sockaddr *)&where, sizeof(where)))
		err(1, "packet socket");
	return fd;
}

static ssize_t send_datagram(const struct record *record, const char *address, struct iovec *parts)
{
	struct sockaddr_in6 to6 = { .sin6_family = AF_INET6 }, from6 = to6;
	struct sockaddr_in to4 = { .sin_family = AF_INET }, from4 = to4;
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };
	int ipv4 = inet_pton(AF_INET, address, &to4.sin_addr) == 1;
	int gso_size = record->vnet.gso_size, discover = IP_PMTUDISC_DO;
	int fd = socket(ipv4 ? AF_INET : AF_INET6, SOCK_DGRAM, 0);
	const void *from = ipv4 ? (void *)&from4 : (void *)&from6;
	ssize_t sent;

	if (!ipv4 && inet_pton(AF_INET6, address, &to6.sin6_addr) != 1)
		errx(1, "%s is no address", address);
	to4.sin_port = from4.sin_port = to6.sin6_port = from6.sin6_port = htons(record->port);
	message.msg_name = ipv4 ? (void *)&to4 : (void *)&to6;
	message.msg_namelen = ipv4 ? sizeof(to4) : sizeof(to6);
	/* with DF and not connected: the IPv4 identification is then always 0 */
	if (fd < 0 || setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &gso_size, sizeof(gso_size)) ||
	    (ipv4 && setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &discover, sizeof(discover))) ||
	    bind(fd, from, message.msg_namelen))
		err(1, "UDP socket");
	sent = sendmsg(fd, &message, 0);
	close(fd);
	return sent;
}

int main(int argc, char **argv)
{
	static uint8_t header[1 << 16];
	struct record record;
	struct stat pool;
	uint8_t *payload;
	int frames, packets = -1, count = 0;
	int file;

	if (argc != 4)
		errx(1, "usage: supersend frames|datagrams INTERFACE|ADDRESS POOL");
	frames = !strcmp(argv[1], "frames");
	file = open(argv[3], O_RDONLY);
	if (file < 0 || fstat(file, &pool))
		err(1, "%s", argv[3]);
	payload = mmap(NULL, pool.st_size, PROT_READ, MAP_PRIVATE, file, 0);
	if (payload == MAP_FAILED)
		err(1, "mmap");
	if (frames)
		packets = packet_socket(argv[2]);
	while (take(&record, sizeof(record)) && take(header, record.header_length)) {
		struct iovec parts[] = {
			{ &record.vnet, sizeof(record.vnet) },
			{ header, record.header_length },
			{ payload + record.payload_at, record.payload_length },
		};
		size_t whole = parts[1].iov_len + parts[2].iov_len;
		ssize_t sent;

		if ((uint64_t)record.payload_at + record.payload_length > (uint64_t)pool.st_size)
			errx(1, "record %d: the payload ends behind the pool", count);
		if (frames) {
			whole += sizeof(record.vnet);
			sent = writev(packets, parts, 3);
		} else {
			sent = send_datagram(&record, argv[2], parts + 1);
		}
		if (sent != (ssize_t)whole)
			err(1, "record %d of %zu bytes", count, whole);
		count++;
	}
	printf("%d\n", count);
	return 0;
}
