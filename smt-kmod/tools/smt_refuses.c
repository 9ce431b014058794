// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * smt_refuses ADDRESS PORT: every call with wrong arguments must return the errno that
 * <linux/smt.h> documents, and change nothing; what is aborted is over. ADDRESS is local. Says what was otherwise, one line
 * each, and ends with how many calls were tried; 0 if all were refused as documented.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tool.h"

static unsigned int tried, wrong;

static void expect(int line, const char *what, long result, int want)
{
	int got = result < 0 ? errno : 0;

	tried++;
	if (got == want)
		return;
	wrong++;
	printf("line %d: %s: %s instead of %s\n", line, what, got ? strerrorname_np(got) : "success",
	       want ? strerrorname_np(want) : "success");
}

#define REFUSED(call, want) expect(__LINE__, #call, (call), want)
#define GOOD(call) expect(__LINE__, #call, (call), 0)

static struct sockaddr_in own;
static char text[64];

static struct sockaddr_in address(const char *host, int port)
{
	struct sockaddr_in made = { .sin_family = AF_INET, .sin_port = htons(port) };

	inet_pton(AF_INET, host, &made.sin_addr);
	return made;
}

static int fresh(void)
{
	return smt_open(false, false);
}

static struct smt_crypto_info_aes_gcm_128 random_key(const struct sockaddr_in *peer)
{
	struct smt_crypto_info_aes_gcm_128 info = {
		.info.info = { TLS_1_2_VERSION, TLS_CIPHER_AES_GCM_128 },
		.peer_addr = peer->sin_addr.s_addr,
		.peer_port = peer->sin_port,
	};

	if (getrandom(info.info.key, sizeof(info.info.key), 0) < 0)
		die_errno("getrandom");
	return info;
}

static void addresses(void)
{
	struct sockaddr_in high = own, foreign = own, other = own;
	int fd = fresh(), second = fresh();

	high.sin_port = htons(SMT_MAX_SERVER_PORT + 1);
	inet_pton(AF_INET, "192.0.2.1", &foreign.sin_addr);
	other.sin_family = AF_INET6;
	REFUSED(bind(fd, (struct sockaddr *)&high, sizeof(high)), EADDRNOTAVAIL);
	REFUSED(bind(fd, (struct sockaddr *)&foreign, sizeof(foreign)), EADDRNOTAVAIL);
	REFUSED(bind(fd, (struct sockaddr *)&other, sizeof(other)), EAFNOSUPPORT);
	REFUSED(bind(fd, (struct sockaddr *)&own, sizeof(own) - 1), EINVAL);
	GOOD(bind(fd, (struct sockaddr *)&own, sizeof(own)));
	REFUSED(bind(fd, (struct sockaddr *)&own, sizeof(own)), EINVAL);
	REFUSED(bind(second, (struct sockaddr *)&own, sizeof(own)), EADDRINUSE);
	REFUSED(connect(fd, (struct sockaddr *)&own, sizeof(own)), EOPNOTSUPP);
	REFUSED(listen(fd, 1), EOPNOTSUPP);
	REFUSED(accept(fd, NULL, NULL), EOPNOTSUPP);
	REFUSED(shutdown(fd, SHUT_RDWR), EOPNOTSUPP);
	close(fd);
	GOOD(bind(second, (struct sockaddr *)&own, sizeof(own)));
	close(second);
}

static long send_to(int fd, const struct sockaddr_in *peer, socklen_t length, size_t size,
		    const void *control, size_t control_size, int flags)
{
	struct iovec iov = { text, size };
	struct msghdr message = {
		.msg_name = (void *)peer,
		.msg_namelen = peer ? length : 0,
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = (void *)control,
		.msg_controllen = control_size,
	};

	return sendmsg(fd, &message, flags);
}

struct control {
	struct cmsghdr header;
	struct smt_rpc rpc;
};

static struct control control(int level, int type, size_t size)
{
	struct control made = {
		.header = { .cmsg_level = level, .cmsg_type = type, .cmsg_len = CMSG_LEN(size) },
	};

	return made;
}

static long send_control(int fd, struct control *with)
{
	return send_to(fd, &own, sizeof(own), 1, with, sizeof(*with), MSG_DONTWAIT);
}

static void sending(void)
{
	struct sockaddr_in no_port = own, many = own, all = own, other = own;
	struct control rpc = control(SOL_SMT, SMT_RPC, sizeof(struct smt_rpc));
	struct iovec bad = { (void *)8, 100 };
	struct msghdr fault = { .msg_name = &own, .msg_namelen = sizeof(own), .msg_iov = &bad,
				.msg_iovlen = 1 };
	char *large = mmap(NULL, SMT_MAX_MESSAGE + 1, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = fresh();
	struct control each;

	if (large == MAP_FAILED)
		die_errno("mmap");
	no_port.sin_port = 0;
	inet_pton(AF_INET, "224.0.0.1", &many.sin_addr);
	inet_pton(AF_INET, "255.255.255.255", &all.sin_addr);
	other.sin_family = AF_INET6;
	REFUSED(send_to(fd, NULL, 0, 1, NULL, 0, 0), EDESTADDRREQ);
	REFUSED(send_to(fd, &own, sizeof(own) - 1, 1, NULL, 0, 0), EINVAL);
	REFUSED(send_to(fd, &no_port, sizeof(own), 1, NULL, 0, 0), EINVAL);
	REFUSED(send_to(fd, &many, sizeof(own), 1, NULL, 0, 0), EINVAL);
	REFUSED(send_to(fd, &all, sizeof(own), 1, NULL, 0, 0), EINVAL);
	REFUSED(send_to(fd, &other, sizeof(own), 1, NULL, 0, 0), EAFNOSUPPORT);
	REFUSED(send_to(fd, &own, sizeof(own), 1, NULL, 0, MSG_OOB), EOPNOTSUPP);
	REFUSED(sendto(fd, large, SMT_MAX_MESSAGE + 1, 0, (struct sockaddr *)&own, sizeof(own)),
		EMSGSIZE);
	REFUSED(sendmsg(fd, &fault, 0), EFAULT);
	each = control(SOL_SMT, SMT_RPC + 1, sizeof(struct smt_rpc));
	REFUSED(send_control(fd, &each), EINVAL);
	each = control(SOL_SMT, SMT_RPC, sizeof(struct smt_rpc) - 1);
	REFUSED(send_control(fd, &each), EINVAL);
	each = rpc;
	each.rpc.flags = SMT_RPC_REQUEST;
	REFUSED(send_control(fd, &each), EINVAL);
	each = rpc;
	each.rpc.error = EIO;
	REFUSED(send_control(fd, &each), EINVAL);
	each = rpc;
	each.rpc.id = 4711;
	REFUSED(send_control(fd, &each), ENOENT);
	each.rpc.id = 4710;
	REFUSED(send_control(fd, &each), ENOENT);
	munmap(large, SMT_MAX_MESSAGE + 1);
	close(fd);
}

static void receiving(void)
{
	char room[64];
	int fd = fresh();

	REFUSED(recv(fd, room, sizeof(room), MSG_DONTWAIT), EAGAIN);
	REFUSED(recv(fd, room, sizeof(room), MSG_DONTWAIT | MSG_OOB), EOPNOTSUPP);
	REFUSED(recv(fd, room, sizeof(room), MSG_DONTWAIT | MSG_ERRQUEUE), EOPNOTSUPP);
	close(fd);
}

static void options(void)
{
	struct smt_abort abort = { .id = 2 };
	struct smt_info info;
	socklen_t size = sizeof(info);
	int fd = fresh(), value = 1;

	REFUSED(setsockopt(fd, SOL_SMT, 99, &value, sizeof(value)), ENOPROTOOPT);
	REFUSED(getsockopt(fd, SOL_SMT, 99, &value, &size), ENOPROTOOPT);
	REFUSED(setsockopt(fd, SOL_SMT, SMT_INTEROP, &value, 1), EINVAL);
	REFUSED(setsockopt(fd, SOL_SMT, SMT_SECURE, &value, 1), EINVAL);
	REFUSED(setsockopt(fd, SOL_SMT, SMT_ABORT, &abort, sizeof(abort) - 1), EINVAL);
	REFUSED(setsockopt(fd, SOL_SMT, SMT_ABORT, &abort, sizeof(abort)), ENOENT);
	abort.flags = 1;
	REFUSED(setsockopt(fd, SOL_SMT, SMT_ABORT, &abort, sizeof(abort)), EINVAL);
	GOOD(setsockopt(fd, SOL_SMT, SMT_SECURE, &value, sizeof(value)));
	value = 0;
	REFUSED(setsockopt(fd, SOL_SMT, SMT_SECURE, &value, sizeof(value)), EPERM);
	REFUSED(send_to(fd, &own, sizeof(own), 1, NULL, 0, 0), ENOKEY);
	value = SMT_OFFLOAD_REQUIRED + 1;
	REFUSED(setsockopt(fd, SOL_SMT, SMT_OFFLOAD, &value, sizeof(value)), EINVAL);
	value = SMT_OFFLOAD_OFF - 1;
	REFUSED(setsockopt(fd, SOL_SMT, SMT_OFFLOAD, &value, sizeof(value)), EINVAL);
	size = sizeof(info);
	GOOD(getsockopt(fd, SOL_SMT, SMT_INFO, &info, &size));
	if (info.client_rpcs || info.server_rpcs || info.ready || info.sessions) {
		wrong++;
		printf("a refused call has left something behind\n");
	}
	close(fd);
}

/* RPCs that are aborted are over, and only those. */
static void aborting(void)
{
	struct smt_abort loud = { .cookie = 7, .error = ECANCELED }, silent = { .cookie = 8 };
	struct smt_abort served = {};
	struct smt_rpc rpc = { .cookie = 7 };
	int client = fresh(), server = fresh();
	struct sockaddr_in peer;
	struct smt_info info;
	socklen_t size = sizeof(info);
	char room[64];

#define ABORT(fd, what) setsockopt(fd, SOL_SMT, SMT_ABORT, &(what), sizeof(what))
	GOOD(bind(server, (struct sockaddr *)&own, sizeof(own)));
	GOOD(smt_send(client, text, 1, &own, &rpc, 0));
	rpc.cookie = 8;
	GOOD(smt_send(client, text, 1, &own, &rpc, 0));
	REFUSED(recv(client, room, sizeof(room), MSG_DONTWAIT), EAGAIN);
	GOOD(ABORT(client, loud));
	REFUSED(recv(client, room, sizeof(room), MSG_DONTWAIT), ECANCELED);
	REFUSED(ABORT(client, loud), ENOENT);
	GOOD(ABORT(client, silent));
	REFUSED(recv(client, room, sizeof(room), MSG_DONTWAIT), EAGAIN);
	REFUSED(ABORT(client, silent), ENOENT);
	GOOD(getsockopt(client, SOL_SMT, SMT_INFO, &info, &size));
	if (info.client_rpcs || info.ready) {
		wrong++;
		printf("an aborted call has left something behind\n");
	}
	GOOD(smt_receive(server, room, sizeof(room), &peer, &rpc, 0));
	served.id = rpc.id;
	GOOD(ABORT(server, served));
	rpc = (struct smt_rpc){ .id = served.id };
	REFUSED(smt_send(server, text, 1, &peer, &rpc, 0), ENOENT);
	close(client);
	close(server);
}

static void keys(void)
{
	struct smt_crypto_info_aes_gcm_128 info = random_key(&own), bad;
	struct sockaddr_in peer = own;
	int fd = fresh(), second = fresh(), one = 1, required = SMT_OFFLOAD_REQUIRED;

#define KEY(fd, direction, info) setsockopt(fd, SOL_TLS, direction, &(info), sizeof(info))
	REFUSED(setsockopt(fd, SOL_TLS, TLS_TX, &info, sizeof(info) - 1), EINVAL);
	REFUSED(setsockopt(fd, SOL_TLS, TLS_TX, &info, sizeof(info.info)), EINVAL);
	REFUSED(setsockopt(fd, SOL_TLS, TLS_TX, (void *)8, sizeof(info)), EFAULT);
	bad = info;
	bad.info.info.version = TLS_1_3_VERSION;
	REFUSED(KEY(fd, TLS_TX, bad), EINVAL);
	bad = info;
	bad.info.info.cipher_type = TLS_CIPHER_AES_CCM_128;
	REFUSED(KEY(fd, TLS_TX, bad), EOPNOTSUPP);
	bad = info;
	bad.pad = 1;
	REFUSED(KEY(fd, TLS_TX, bad), EINVAL);
	bad = info;
	bad.default_keys = 1;
	REFUSED(KEY(fd, TLS_TX, bad), EINVAL);
	bad = info;
	bad.peer_port = 0;
	REFUSED(KEY(fd, TLS_TX, bad), EINVAL);
	bad = info;
	bad.peer_addr = 0;
	REFUSED(KEY(fd, TLS_TX, bad), EINVAL);
	GOOD(KEY(fd, TLS_TX, info));
	/* the same key never again: same socket, other socket, other peer, other direction */
	REFUSED(KEY(fd, TLS_TX, info), EEXIST);
	REFUSED(KEY(second, TLS_TX, info), EKEYREJECTED);
	peer.sin_port = htons(1234);
	bad = info;
	bad.peer_port = peer.sin_port;
	REFUSED(KEY(fd, TLS_TX, bad), EKEYREJECTED);
	REFUSED(KEY(fd, TLS_RX, info), EKEYREJECTED);
	/* the route to an own address has no device that encrypts */
	GOOD(setsockopt(fd, SOL_SMT, SMT_OFFLOAD, &required, sizeof(required)));
	REFUSED(send_to(fd, &own, sizeof(own), 1, NULL, 0, 0), ENODEV);
	close(fd);
	REFUSED(KEY(second, TLS_TX, info), EKEYREJECTED);
	bad = random_key(&own);
	GOOD(KEY(second, TLS_RX, bad));
	REFUSED(send_to(second, &own, sizeof(own), 1, NULL, 0, 0), ENOKEY);
	REFUSED(setsockopt(second, SOL_SMT, SMT_INTEROP, &one, sizeof(one)), EBUSY);
	close(second);
}

int main(int argc, char **argv)
{
	if (argc != 3)
		die("usage: smt_refuses ADDRESS PORT");
	own = address(argv[1], atoi(argv[2]));
	addresses();
	sending();
	receiving();
	options();
	aborting();
	keys();
	printf("%u calls\n", tried);
	return wrong ? 1 : 0;
}
