/* SPDX-License-Identifier: MIT */
/* What the files that talk netlink share, and nobody else needs. */
#ifndef NETLINK_BINDINGS_NL_INTERNAL_H
#define NETLINK_BINDINGS_NL_INTERNAL_H

#include "nl/nl.h"

/* The mark of nl_continue(), in nlmsg_pid until the message leaves. */
#define NL_CONTINUES UINT32_MAX

/* Wait until there is something to receive. */
int nl_wait(const struct nl *nl, int64_t deadline);

/*
 * Receive one datagram behind what is in nl->in already. Returns its length with *ret_at set; 0
 * when it was not the kernel's; -EOVERFLOW when it was larger than the room, which has grown. A
 * deadline of 0: do not wait.
 */
long nl_receive_behind(struct nl *nl, int64_t deadline, size_t *ret_at);

/* Send `len` bytes in one go; a send buffer that is too small for them is made larger once. */
int nl_send(const struct nl *nl, const void *data, size_t len);

/* Note that message `index` failed; the extended acknowledgement is `tlvs` behind its payload. */
void nl_note(const struct nlmsghdr *msg, size_t tlvs, size_t index, int error,
	     struct nl_failure *ret);

/* The offset of the extended acknowledgement in an NLMSG_ERROR's payload. */
size_t nl_error_tlvs(const struct nlmsghdr *msg, const struct nlmsgerr *err);

#endif
