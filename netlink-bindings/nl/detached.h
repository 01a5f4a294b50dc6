/* SPDX-License-Identifier: MIT */
/*
 * Sending one message in a process of its own, for requests that keep the kernel busy longer than we can use:
 * the sender waits that out, and goes on even when we are killed. And closing sockets in one, for the same
 * reason.
 */
#ifndef NETLINK_BINDINGS_NL_DETACHED_H
#define NETLINK_BINDINGS_NL_DETACHED_H

#include "nl/nl.h"

/*
 * Have one message sent on the socket of `nl`; the answer comes to that socket. 0 with *ret_fd set
 * to a descriptor that poll() tells of when the sender has ended, for the caller to close; or
 * -errno, -EAGAIN when all senders are busy.
 */
int detached_send(const struct nl *nl, const void *msg, size_t len, int *ret_fd);

/* Take note of senders that have ended. */
void detached_reap(void);

/*
 * For the end of the program: have the sockets of nl_note_slow() closed a while later, when the kernel has
 * nothing to wait for any more. Where that cannot be done they end with the program.
 */
void detached_close(void);

#endif
