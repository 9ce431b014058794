/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A vhost-user socket whose every operation ends by a deadline.
 *
 * The callers hold the big QEMU lock, so waiting here stops the whole machine.
 * QEMU's own vhost-user code waits without end; that is why this exists.
 */
#ifndef PCI_VHOST_USER_CHANNEL_H
#define PCI_VHOST_USER_CHANNEL_H

#include "qemu-compat.h"
#include "protocol.h"

typedef struct Channel {
    int fd;            /* -1 while closed */
    int64_t waited_us; /* how long the last operation waited for the peer */
} Channel;

/* A point in time for the operations below, @ms from now. */
int64_t channel_deadline(unsigned ms);

/* Connect without waiting. */
bool channel_open(Channel *channel, const char *path, Error **errp);

void channel_close(Channel *channel);

/* Send one message; @fds go with it and stay the caller's. */
bool channel_send(Channel *channel, enum Request request, uint32_t flags,
                  const void *body, size_t size, const int *fds, size_t nfds,
                  int64_t deadline, Error **errp);

/* Receive the answer to @request, whose body must have @size bytes. */
bool channel_receive(Channel *channel, enum Request request, void *body,
                     size_t size, int64_t deadline, Error **errp);

/* Send one message and wait until the peer says that it is carried out. */
bool channel_do(Channel *channel, enum Request request, const void *body,
                size_t size, const int *fds, size_t nfds, int64_t deadline,
                Error **errp);

/* Send a request without a body and receive a number. */
bool channel_get_u64(Channel *channel, enum Request request, uint64_t *value,
                     int64_t deadline, Error **errp);

/* Nothing was asked: is the peer still there? */
bool channel_is_quiet(Channel *channel, Error **errp);

#endif
