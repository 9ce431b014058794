/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The card's clock and its time stamps, by the kernel's own interfaces; every value is printed as
 * "name number", all times in ns.
 *
 * ptp DEVICE clock                     set, shift and slow down the clock
 * ptp DEVICE stamp IFACE ADDRESS PORT  send to somebody who echoes, print both time stamps
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <linux/net_tstamp.h>
#include <linux/ptp_clock.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#define CLOCK_OF(fd) ((~(clockid_t)(fd) << 3) | 3)
#define SECOND 1000000000LL

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static long long read_clock(clockid_t id)
{
	struct timespec now;

	if (clock_gettime(id, &now))
		die("clock_gettime");
	return now.tv_sec * SECOND + now.tv_nsec;
}

static void say(const char *name, long long value)
{
	printf("%s %lld\n", name, value);
}

static void adjust(clockid_t id, struct timex how)
{
	if (clock_adjtime(id, &how) < 0)
		die("clock_adjtime");
}

/* ticks of the card's clock for each second of the guest's, in parts per million */
static long long rate(clockid_t id)
{
	struct timespec half = { 0, SECOND / 2 };
	long long ours = read_clock(CLOCK_MONOTONIC), its = read_clock(id);

	nanosleep(&half, NULL);
	ours = read_clock(CLOCK_MONOTONIC) - ours;
	its = read_clock(id) - its;
	return its * 1000000 / ours;
}

static void clock_works(int fd)
{
	struct timespec then = { 1000, 0 };
	clockid_t id = CLOCK_OF(fd);
	struct ptp_clock_caps caps;
	long long before, after;

	if (ioctl(fd, PTP_CLOCK_GETCAPS, &caps))
		die("PTP_CLOCK_GETCAPS");
	say("max_adj", caps.max_adj);
	say("pps", caps.pps);
	say("pins", caps.n_pins);
	if (clock_settime(id, &then))
		die("clock_settime");
	say("set", read_clock(id));
	before = read_clock(id);
	adjust(id, (struct timex){ .modes = ADJ_SETOFFSET | ADJ_NANO, .time = { 50, 0 } });
	after = read_clock(id);
	say("shifted", after - before);
	say("rate", rate(id));
	/* freq has 16 binary digits behind the point, in parts per million */
	adjust(id, (struct timex){ .modes = ADJ_FREQUENCY, .freq = 40000LL << 16 });
	say("fast", rate(id));
	adjust(id, (struct timex){ .modes = ADJ_FREQUENCY, .freq = -(40000LL << 16) });
	say("slow", rate(id));
	adjust(id, (struct timex){ .modes = ADJ_FREQUENCY, .freq = 0 });
}

/* the raw hardware time stamp of what comes next: from the error queue (flags) or the socket */
static long long stamp(int sock, int flags)
{
	char data[2048], control[1024];
	struct iovec part = { data, sizeof(data) };
	struct msghdr message = {
		.msg_iov = &part, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct pollfd want = { sock, flags ? 0 : POLLIN, 0 };
	struct cmsghdr *one;

	if (poll(&want, 1, 10000) != 1) {
		fprintf(stderr, "nothing came\n");
		exit(1);
	}
	if (recvmsg(sock, &message, flags) < 0)
		die("recvmsg");
	for (one = CMSG_FIRSTHDR(&message); one; one = CMSG_NXTHDR(&message, one))
		if (one->cmsg_level == SOL_SOCKET && one->cmsg_type == SO_TIMESTAMPING) {
			struct scm_timestamping *times = (void *)CMSG_DATA(one);

			return times->ts[2].tv_sec * SECOND + times->ts[2].tv_nsec;
		}
	return 0;
}

static void stamps_work(int fd, const char *iface, const char *address, int port)
{
	int wanted = SOF_TIMESTAMPING_TX_HARDWARE | SOF_TIMESTAMPING_RX_HARDWARE |
		     SOF_TIMESTAMPING_RAW_HARDWARE | SOF_TIMESTAMPING_OPT_TSONLY;
	struct hwtstamp_config config = { 0, HWTSTAMP_TX_ON, HWTSTAMP_FILTER_ALL };
	struct sockaddr_in peer = { .sin_family = AF_INET, .sin_port = htons(port) };
	int sock = socket(AF_INET, SOCK_DGRAM, 0);
	struct ifreq request = { 0 };

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", iface);
	request.ifr_data = (void *)&config;
	if (ioctl(sock, SIOCSHWTSTAMP, &request))
		die("SIOCSHWTSTAMP");
	if (setsockopt(sock, SOL_SOCKET, SO_TIMESTAMPING, &wanted, sizeof(wanted)))
		die("SO_TIMESTAMPING");
	inet_pton(AF_INET, address, &peer.sin_addr);
	if (connect(sock, (struct sockaddr *)&peer, sizeof(peer)))
		die("connect");
	for (int i = 0; i < 5; i++) {
		say("before", read_clock(CLOCK_OF(fd)));
		if (send(sock, "hello", 5, 0) != 5)
			die("send");
		say("sent", stamp(sock, MSG_ERRQUEUE));
		say("received", stamp(sock, 0));
		say("after", read_clock(CLOCK_OF(fd)));
	}
	config.tx_type = HWTSTAMP_TX_OFF;
	config.rx_filter = HWTSTAMP_FILTER_NONE;
	if (ioctl(sock, SIOCSHWTSTAMP, &request))
		die("SIOCSHWTSTAMP");
}

int main(int argc, char **argv)
{
	int fd = argc > 2 ? open(argv[1], O_RDWR) : -1;

	if (fd < 0)
		die("open");
	if (argc == 3)
		clock_works(fd);
	else if (argc == 6)
		stamps_work(fd, argv[3], argv[4], atoi(argv[5]));
	return 0;
}
