/* SPDX-License-Identifier: MIT */
/* The netlink socket of the limit program: several requests, one send, one status for each. */
#include "limit.h"

#include <errno.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>

void nl_open(struct nl *nl, int bus, unsigned int groups)
{
	memset(nl, 0, offsetof(struct nl, out));
	nl->sock = mnl_socket_open2(bus, SOCK_CLOEXEC);
	if (!nl->sock || mnl_socket_bind(nl->sock, groups, MNL_SOCKET_AUTOPID) < 0)
		give_up("netlink socket", errno);
}

void nl_finish(struct nl *nl)
{
	if (nl->last)
		nl->used += NLMSG_ALIGN(nl->last->nlmsg_len);
	nl->last = NULL;
}

struct nlmsghdr *nl_request(struct nl *nl, uint16_t type, uint16_t flags)
{
	nl_finish(nl);
	if (nl->count == NL_REQUESTS)
		give_up("too many requests", ENOBUFS);
	nl->last = mnl_nlmsg_put_header(nl->out + nl->used);
	nl->last->nlmsg_type = type;
	nl->last->nlmsg_flags = NLM_F_REQUEST | flags;
	nl->last->nlmsg_seq = nl->seq + nl->count;
	nl->status[nl->count++] = 0;
	return nl->last;
}

/* Which requests are still to be acked, as a set of bits: those that asked for it. */
static unsigned int awaited(const struct nl *nl)
{
	const struct nlmsghdr *nlh;
	unsigned int bits = 0, i = 0;
	size_t at;

	for (at = 0; at < nl->used; at += NLMSG_ALIGN(nlh->nlmsg_len), i++) {
		nlh = (const struct nlmsghdr *)(nl->out + at);
		if (nlh->nlmsg_flags & NLM_F_ACK)
			bits |= 1u << i;
	}
	return bits;
}

/*
 * Sends what was gathered and reads until every ack is in. Answers and notifications go to the
 * callback. Returns the first failure; the status of each request stays in nl->status.
 */
int nl_exchange(struct nl *nl, mnl_cb_t answer, void *data)
{
	char in[8192] __attribute__((aligned(8)));
	unsigned int wanted, i;
	struct nlmsghdr *nlh;
	int rc = 0, got;
	ssize_t len;

	nl_finish(nl);
	wanted = awaited(nl);
	if (mnl_socket_sendto(nl->sock, nl->out, nl->used) < 0)
		return -errno;
	while (wanted) {
		len = mnl_socket_recvfrom(nl->sock, in, sizeof(in));
		if (len < 0)
			return -errno;
		got = (int)len;
		for (nlh = (void *)in; mnl_nlmsg_ok(nlh, got); nlh = mnl_nlmsg_next(nlh, &got)) {
			const struct nlmsgerr *err = mnl_nlmsg_get_payload(nlh);

			i = nlh->nlmsg_seq - nl->seq;
			if (nlh->nlmsg_type != NLMSG_ERROR) {
				if (answer)
					answer(nlh, data);
				continue;
			}
			if (i >= nl->count)
				continue;
			nl->status[i] = err->error;
			if (err->error && rc == 0)
				rc = err->error;
			/* A batch that fails as a whole is answered once, at its beginning. */
			wanted = wanted & (1u << i) ? wanted & ~(1u << i) : 0;
		}
	}
	nl->seq += nl->count;
	nl->count = 0;
	nl->used = 0;
	return rc;
}
