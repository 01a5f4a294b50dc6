/* SPDX-License-Identifier: MIT */
/*
 * Questions: one answer, or a dump. An interrupted dump is read to its end before it is asked for again,
 * because the kernel has only one dump open per socket.
 */

#include "nl/internal.h"

#include <errno.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>

struct query {
	struct nl *nl;
	struct nl_failure *fail;
	bool done;
	bool again; /* ask once more: it was interrupted, or pieces were lost */
};

/* Keep the messages of a datagram that answer the query; note its end. */
static int take_answers(struct query *q, size_t at, size_t bytes)
{
	struct nl_buf *in = &q->nl->in;
	size_t end = at + bytes, keep = at;

	while (at < end && nl_message(in->data + at, end - at)) {
		struct nlmsghdr *msg = nl_at(in, at);
		size_t len = NL_PAD(msg->nlmsg_len);
		const struct nlmsgerr *err = mnl_nlmsg_get_payload(msg);
		int32_t code = 0;
		int error = 0;

		at += len;
		if (msg->nlmsg_seq != q->nl->seq)
			continue;
		q->again |= (msg->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
		switch (msg->nlmsg_type) {
		case NLMSG_DONE:
			/* The payload is the dump's own result. */
			if (mnl_nlmsg_get_payload_len(msg) >= sizeof code)
				memcpy(&code, mnl_nlmsg_get_payload(msg), sizeof code);
			q->done = true;
			error = nl_outcome(code);
			if (error)
				nl_note(msg, NL_PAD(sizeof code), 0, error, q->fail);
			break;
		case NLMSG_ERROR:
			if (mnl_nlmsg_get_payload_len(msg) < sizeof *err)
				return -EBADMSG;
			q->done = true;
			error = nl_outcome(err->error);
			if (error)
				nl_note(msg, nl_error_tlvs(msg, err), 0, error, q->fail);
			break;
		case NLMSG_NOOP:
			break;
		case NLMSG_OVERRUN:
			q->again = true;
			break;
		default:
			q->done |= !(msg->nlmsg_flags & NLM_F_MULTI);
			if (keep != at - len)
				memmove(in->data + keep, msg, len);
			keep += len;
		}
		if (error)
			return -error;
	}
	in->len = keep;
	return 0;
}

/* Ask once. A dump that has lost something is read to its end as well, see above. */
static int query_once(struct query *q, int64_t deadline)
{
	struct nl *nl = q->nl;
	int err;

	nl_buf_clear(&nl->in);
	nl_at(&nl->out, 0)->nlmsg_seq = ++nl->seq;
	err = nl_send(nl, nl->out.data, nl->out.len);
	q->done = q->again = false;
	while (!err && !q->done) {
		size_t at = 0;
		long n = nl_receive_behind(nl, deadline, &at);

		if (n == -EOVERFLOW || n == -ENOBUFS) {
			q->again = true;
			if (!(nl_at(&nl->out, 0)->nlmsg_flags & NLM_F_DUMP))
				return 0;
		} else if (n < 0) {
			err = (int)n;
		} else {
			err = take_answers(q, at, (size_t)n);
		}
	}
	return err;
}

int nl_query(struct nl *nl, int timeout_ms, struct nl_failure *ret)
{
	struct nl_failure fail = { 0 };
	struct query q = { .nl = nl, .fail = &fail };
	int64_t deadline = nl_deadline(timeout_ms);
	int err = nl->fd < 0 ? -EBADF : 0;

	for (int i = 0; !err && i < NL_DUMP_TRIES; i++) {
		err = query_once(&q, deadline);
		if (!err && !q.again)
			return 0;
	}
	err = err ? err : -EAGAIN;
	if (!fail.error)
		fail.error = -err;
	*ret = fail;
	return err;
}

const struct nlmsghdr *nl_first(const struct nl *nl)
{
	return nl_message(nl->in.data, nl->in.len);
}

const struct nlmsghdr *nl_next(const struct nl *nl, const struct nlmsghdr *msg)
{
	const uint8_t *next = (const uint8_t *)msg + NL_PAD(msg->nlmsg_len);
	const uint8_t *end = nl->in.data + nl->in.len;

	return next < end ? nl_message(next, (size_t)(end - next)) : NULL;
}

int nl_receive(struct nl *nl, int64_t deadline)
{
	for (;;) {
		size_t at;
		long n;

		nl_buf_clear(&nl->in);
		n = nl_receive_behind(nl, deadline, &at);
		if (n == -EOVERFLOW)
			return -ENOBUFS;
		if (n < 0)
			return (int)n;
		if (n > 0) {
			nl->in.len = (size_t)n;
			return 0;
		}
	}
}
