/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "channel.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

/*
 * Room for posted writes. Linux counts 768 bytes for each, so the default of
 * 208 KiB holds 278 of them and this one 5000.
 */
#define SEND_BUFFER (4 << 20)

int64_t channel_deadline(unsigned ms)
{
    return g_get_monotonic_time() + (int64_t)ms * 1000;
}

bool channel_open(Channel *channel, const char *path, Error **errp)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int size = SEND_BUFFER;
    int fd;

    channel->fd = -1;
    channel->waited_us = 0;
    if (strlen(path) >= sizeof(addr.sun_path)) {
        error_setg(errp, "the socket path is longer than %zu bytes",
                   sizeof(addr.sun_path) - 1);
        return false;
    }
    strcpy(addr.sun_path, path);

    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        error_setg_errno(errp, errno, "cannot create a socket");
        return false;
    }
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        error_setg_errno(errp, errno, "cannot connect");
        close(fd);
        return false;
    }
    /* Only privileged processes may pass net.core.wmem_max. */
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0) {
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    }
    channel->fd = fd;
    return true;
}

void channel_close(Channel *channel)
{
    if (channel->fd >= 0) {
        close(channel->fd);
        channel->fd = -1;
    }
}

/* Wait for @events until @deadline. */
static bool wait_for(Channel *channel, short events, const char *what,
                     int64_t deadline, Error **errp)
{
    struct pollfd pollfd = { .fd = channel->fd, .events = events };
    int64_t start = g_get_monotonic_time();
    int64_t now = start;
    int n = 0;

    while (n == 0 && now < deadline) {
        n = poll(&pollfd, 1, (deadline - now + 999) / 1000);
        if (n < 0 && errno == EINTR) {
            n = 0;
        }
        now = g_get_monotonic_time();
    }
    channel->waited_us += now - start;
    if (n < 0) {
        error_setg_errno(errp, errno, "cannot poll its socket");
    } else if (n == 0) {
        error_setg(errp, "it %s in time", what);
    }
    return n > 0;
}

bool channel_send(Channel *channel, enum Request request, uint32_t flags,
                  const void *body, size_t size, const int *fds, size_t nfds,
                  int64_t deadline, Error **errp)
{
    uint8_t message[sizeof(Header) + MAX_BODY];
    char control[CMSG_SPACE(MAX_TABLE_REGIONS * sizeof(int))] = {};
    Header header = {
        .request = cpu_to_le32(request),
        .flags = cpu_to_le32(FLAG_VERSION | flags),
        .size = cpu_to_le32(size),
    };
    struct iovec iov = { .iov_base = message,
                         .iov_len = sizeof(header) + size };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

    assert(size <= MAX_BODY && nfds <= MAX_TABLE_REGIONS);
    channel->waited_us = 0;
    memcpy(message, &header, sizeof(header));
    if (size) {
        memcpy(message + sizeof(header), body, size);
    }
    if (nfds) {
        struct cmsghdr *cmsg;

        msg.msg_control = control;
        msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
        cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(nfds * sizeof(int));
        memcpy(CMSG_DATA(cmsg), fds, nfds * sizeof(int));
    }
    while (iov.iov_len) {
        ssize_t n = sendmsg(channel->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n >= 0) {
            iov.iov_base = (uint8_t *)iov.iov_base + n;
            iov.iov_len -= n;
            msg.msg_control = NULL;
            msg.msg_controllen = 0;
        } else if (errno == EAGAIN) {
            if (!wait_for(channel, POLLOUT, "did not take messages", deadline,
                          errp)) {
                return false;
            }
        } else if (errno == EPIPE || errno == ECONNRESET) {
            error_setg(errp, "it closed the connection");
            return false;
        } else if (errno != EINTR) {
            error_setg_errno(errp, errno, "it does not take messages");
            return false;
        }
    }
    return true;
}

static bool receive_bytes(Channel *channel, void *data, size_t size,
                          int64_t deadline, Error **errp)
{
    uint8_t *next = data;

    while (size) {
        ssize_t n = recv(channel->fd, next, size, MSG_DONTWAIT);

        if (n > 0) {
            next += n;
            size -= n;
        } else if (n == 0 || errno == ECONNRESET) {
            error_setg(errp, "it closed the connection");
            return false;
        } else if (errno == EAGAIN) {
            if (!wait_for(channel, POLLIN, "did not answer", deadline, errp)) {
                return false;
            }
        } else if (errno != EINTR) {
            error_setg_errno(errp, errno, "it broke the connection");
            return false;
        }
    }
    return true;
}

bool channel_receive(Channel *channel, enum Request request, void *body,
                     size_t size, int64_t deadline, Error **errp)
{
    Header header;

    if (!receive_bytes(channel, &header, sizeof(header), deadline, errp)) {
        return false;
    }
    if (le32_to_cpu(header.request) != request ||
        le32_to_cpu(header.flags) != (FLAG_VERSION | FLAG_REPLY) ||
        le32_to_cpu(header.size) != size) {
        error_setg(errp, "it gave a wrong answer to request %d", request);
        return false;
    }
    return receive_bytes(channel, body, size, deadline, errp);
}

bool channel_do(Channel *channel, enum Request request, const void *body,
                size_t size, const int *fds, size_t nfds, int64_t deadline,
                Error **errp)
{
    uint64_t status;

    if (!channel_send(channel, request, FLAG_NEED_REPLY, body, size, fds, nfds,
                      deadline, errp) ||
        !channel_receive(channel, request, &status, sizeof(status), deadline,
                         errp)) {
        return false;
    }
    if (status) {
        error_setg(errp, "it refused request %d", request);
        return false;
    }
    return true;
}

bool channel_get_u64(Channel *channel, enum Request request, uint64_t *value,
                     int64_t deadline, Error **errp)
{
    if (!channel_send(channel, request, 0, NULL, 0, NULL, 0, deadline, errp) ||
        !channel_receive(channel, request, value, sizeof(*value), deadline,
                         errp)) {
        return false;
    }
    *value = le64_to_cpu(*value);
    return true;
}

bool channel_is_quiet(Channel *channel, Error **errp)
{
    uint8_t byte;
    ssize_t n = recv(channel->fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK);

    channel->waited_us = 0;
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return true;
    }
    if (n > 0) {
        error_setg(errp, "it sent what nobody had asked for");
    } else {
        error_setg(errp, "it closed the connection");
    }
    return false;
}
