/* SPDX-License-Identifier: MIT */
/*
 * A netlink conversation, see nl/nl.h. The kernel works on a request inside sendmsg, so the answers
 * are normally in the queue when it returns: receiving never blocks first, and polls only then.
 */

#include "nl/internal.h"

#include <errno.h>
#include <limits.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	RECV_ROOM = 32 * 1024, /* as large as the kernel makes a piece of a dump */
	RECV_FIRST = 2 * RECV_ROOM, /* so that a short dump needs no second, larger buffer */
};

enum {
	CHUNK_BYTES = 64 * 1024,
	CHUNK_MESSAGES = 64, /* so that their answers fit the default receive buffer */
	ACKS_AT_ONCE = 16,
	ACK_ROOM = 512,
	UNANSWERED = -1,
};

/*** Time ***/

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t nl_deadline(int timeout_ms)
{
	return now_ns() + (int64_t)timeout_ms * 1000000;
}

int nl_ms_left(int64_t deadline)
{
	int64_t left = (deadline - now_ns() + 999999) / 1000000;

	return left < 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left;
}

/*** Sockets ***/

void nl_init(struct nl *nl)
{
	*nl = (struct nl){ .fd = -1 };
}

/* Returns a descriptor or -errno. */
static int open_socket(int protocol, const struct nl_place *place)
{
	int fd, home, err;

	if (protocol == NETLINK_ROUTE && place->spare && *place->spare >= 0) {
		fd = *place->spare;
		*place->spare = -1;
		return fd;
	}
	err = netns_visit(place, &home);
	if (err)
		return err;
	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
	err = fd < 0 ? -errno : 0;
	netns_leave(home);
	return err ? err : fd;
}

static void equip_socket(struct nl *nl, int fd, int protocol)
{
	static const int options[] = {
		NETLINK_EXT_ACK,
		NETLINK_CAP_ACK,
		NETLINK_GET_STRICT_CHK,
	};

	/* An old kernel may lack some of them: nothing depends on them. */
	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		setsockopt(fd, SOL_NETLINK, options[i], &(int){ 1 }, sizeof(int));
	nl->fd = fd;
	nl->protocol = protocol;
}

int nl_open(struct nl *nl, int protocol, const struct nl_place *place)
{
	int fd = open_socket(protocol, place);

	if (fd < 0)
		return fd;
	equip_socket(nl, fd, protocol);
	return 0;
}

int nl_cookie(int fd, uint64_t *ret)
{
	return getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, ret, &(socklen_t){ sizeof *ret }) < 0
		       ? -errno
		       : 0;
}

/*
 * A socket where `other` is, if that is the namespace we are in; else -1. Mostly it is, and to compare costs
 * less than to go there.
 */
static int open_here(int protocol, const struct nl *other)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
	uint64_t here, there;

	if (fd < 0 || (!nl_cookie(fd, &here) && !nl_cookie(other->fd, &there) && here == there))
		return fd;
	close(fd);
	return -1;
}

int nl_open_beside(struct nl *nl, const struct nl *other)
{
	int fd = open_here(other->protocol, other);
	struct nl_place place = { .fd = -1 };
	int err = 0;

	if (fd < 0) {
		place.fd = ioctl(other->fd, SIOCGSKNS);
		if (place.fd < 0)
			return -errno;
		fd = open_socket(other->protocol, &place);
		err = fd < 0 ? fd : 0;
		close(place.fd);
	}
	if (!err)
		equip_socket(nl, fd, other->protocol);
	return err;
}

static int slow[NL_SLOW];
static size_t slow_count;

void nl_note_slow(struct nl *nl)
{
	if (nl->slow || slow_count == ARRAY_SIZE(slow))
		return;
	slow[slow_count++] = nl->fd;
	nl->slow = true;
}

size_t nl_slow(const int **ret_fds)
{
	*ret_fds = slow;
	return slow_count;
}

static void forget_slow(int fd)
{
	for (size_t i = 0; i < slow_count; i++)
		if (slow[i] == fd)
			slow[i] = slow[--slow_count];
}

static void free_buffers(struct nl *nl)
{
	nl_buf_free(&nl->out);
	nl_buf_free(&nl->in);
	free(nl->status);
	nl_init(nl);
}

void nl_close(struct nl *nl)
{
	if (nl->slow)
		forget_slow(nl->fd);
	if (nl->fd >= 0)
		close(nl->fd);
	free_buffers(nl);
}

void nl_leave_open(struct nl *nl)
{
	if (nl->slow)
		free_buffers(nl);
	else
		nl_close(nl);
}

void nl_clear(struct nl *nl)
{
	nl_buf_clear(&nl->out);
	nl_buf_clear(&nl->in);
}

int nl_subscribe(struct nl *nl, unsigned int group)
{
	/* A socket that is not bound has port 0, which is the kernel's own, and would receive nothing. */
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK };

	if (bind(nl->fd, (struct sockaddr *)&addr, sizeof addr) < 0 && errno != EINVAL)
		return -errno;
	if (setsockopt(nl->fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) < 0)
		return -errno;
	return 0;
}

int nl_wait(const struct nl *nl, int64_t deadline)
{
	struct pollfd p = { .fd = nl->fd, .events = POLLIN };
	int n;

	do {
		n = poll(&p, 1, nl_ms_left(deadline));
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n ? 0 : -ETIMEDOUT;
}

int nl_send(const struct nl *nl, const void *data, size_t len)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	int want = (int)len + 4096;
	bool grown = false;

	for (;;) {
		ssize_t n = sendto(nl->fd, data, len, 0, (struct sockaddr *)&kernel, sizeof kernel);

		if (n >= 0)
			return 0;
		if (errno == EINTR)
			continue;
		if (errno != EMSGSIZE || grown)
			return -errno;
		grown = true;
		if (setsockopt(nl->fd, SOL_SOCKET, SO_SNDBUFFORCE, &want, sizeof want) < 0 &&
		    setsockopt(nl->fd, SOL_SOCKET, SO_SNDBUF, &want, sizeof want) < 0)
			return -errno;
	}
}

/*** Acknowledgements ***/

/* Read what comes behind an error code: the kernel's own words, and what they are about. */
static void read_extack(const struct nlmsghdr *msg, size_t at, struct nl_failure *fail)
{
	const void *tlvs = mnl_nlmsg_get_payload(msg);
	size_t bytes = mnl_nlmsg_get_payload_len(msg);
	const struct nlattr *attr;

	if (!(msg->nlmsg_flags & NLM_F_ACK_TLVS))
		return;
	for (; (attr = nl_attr(tlvs, bytes, at)); at += NL_PAD(attr->nla_len)) {
		size_t len = mnl_attr_get_payload_len(attr);
		const void *data = mnl_attr_get_payload(attr);

		switch (mnl_attr_get_type(attr)) {
		case NLMSGERR_ATTR_MSG:
			len = len < sizeof fail->text ? len : sizeof fail->text - 1;
			memcpy(fail->text, data, len);
			fail->text[len] = '\0';
			break;
		case NLMSGERR_ATTR_OFFS:
			if (len >= sizeof fail->offset)
				memcpy(&fail->offset, data, sizeof fail->offset);
			break;
		case NLMSGERR_ATTR_MISS_TYPE:
			if (len >= sizeof(uint32_t))
				fail->missing = (uint16_t)mnl_attr_get_u32(attr);
			break;
		}
	}
}

void nl_note(const struct nlmsghdr *msg, size_t tlvs, size_t index, int error,
	     struct nl_failure *ret)
{
	*ret = (struct nl_failure){ .error = error, .index = index };
	read_extack(msg, tlvs, ret);
}

size_t nl_error_tlvs(const struct nlmsghdr *msg, const struct nlmsgerr *err)
{
	size_t echoed = err->msg.nlmsg_len > NLMSG_HDRLEN ? err->msg.nlmsg_len - NLMSG_HDRLEN : 0;

	if (msg->nlmsg_flags & NLM_F_CAPPED)
		echoed = 0;
	return sizeof *err + NL_PAD(echoed);
}

bool nl_read_error(const struct nlmsghdr *msg, struct nl_failure *ret)
{
	const struct nlmsgerr *err = mnl_nlmsg_get_payload(msg);

	if (mnl_nlmsg_get_payload_len(msg) < sizeof *err)
		return false;
	nl_note(msg, nl_error_tlvs(msg, err), 0, nl_outcome(err->error), ret);
	return true;
}

struct acks {
	struct nl *nl;
	uint32_t seq;  /* of the first message of this chunk */
	size_t first;  /* its index in the batch */
	size_t count;  /* messages in this chunk */
	size_t wanted; /* answers still to come */
	struct nl_failure *fail;
};

static void take_acks(struct acks *a, const void *data, size_t bytes)
{
	const struct nlmsghdr *msg;

	for (size_t at = 0; at < bytes && (msg = nl_message((const uint8_t *)data + at, bytes - at));
	     at += NL_PAD(msg->nlmsg_len)) {
		const struct nlmsgerr *err = mnl_nlmsg_get_payload(msg);
		uint32_t nth = msg->nlmsg_seq - a->seq;
		int *status;

		if (msg->nlmsg_type != NLMSG_ERROR || nth >= a->count ||
		    mnl_nlmsg_get_payload_len(msg) < sizeof *err)
			continue;
		status = &a->nl->status[a->first + nth];
		if (*status == UNANSWERED)
			a->wanted--;
		else if (*status)
			continue;
		*status = nl_outcome(err->error);
		if (*status && (!a->fail->error || a->first + nth < a->fail->index))
			nl_note(msg, nl_error_tlvs(msg, err), a->first + nth, *status, a->fail);
	}
}

/* Receive what is queued, up to ACKS_AT_ONCE datagrams. -EAGAIN: nothing there. */
static int receive_acks(struct acks *a)
{
	struct {
		_Alignas(struct nlmsghdr) uint8_t bytes[ACK_ROOM];
	} room[ACKS_AT_ONCE];
	struct mmsghdr msgs[ACKS_AT_ONCE];
	struct iovec iov[ACKS_AT_ONCE];
	struct sockaddr_nl from[ACKS_AT_ONCE] = { 0 };
	unsigned int want = ACKS_AT_ONCE;
	int n;

	if (a->wanted && a->wanted < want)
		want = (unsigned int)a->wanted;
	for (unsigned int i = 0; i < want; i++) {
		iov[i] = (struct iovec){ room[i].bytes, ACK_ROOM };
		msgs[i] = (struct mmsghdr){ .msg_hdr = {
						    .msg_name = &from[i],
						    .msg_namelen = sizeof from[i],
						    .msg_iov = &iov[i],
						    .msg_iovlen = 1,
					    } };
	}
	n = recvmmsg(a->nl->fd, msgs, want, MSG_DONTWAIT, NULL);
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	for (int i = 0; i < n; i++)
		if (from[i].nl_pid == 0)
			take_acks(a, room[i].bytes, msgs[i].msg_len);
	return 0;
}

long nl_receive_behind(struct nl *nl, int64_t deadline, size_t *ret_at)
{
	const size_t room = RECV_ROOM;
	struct nl_buf *in = &nl->in;
	struct sockaddr_nl from = { 0 };
	struct iovec iov;
	struct msghdr msg = {
		.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &iov, .msg_iovlen = 1
	};
	ssize_t n;
	int err = nl_buf_reserve(in, in->size ? room : RECV_FIRST);

	if (err)
		return err;
	for (;;) {
		/* Leave room for the padding of the last message, which may come without it. */
		iov = (struct iovec){ in->data + in->len, in->size - in->len - NLMSG_ALIGNTO };
		n = recvmsg(nl->fd, &msg, MSG_DONTWAIT | MSG_TRUNC);
		if (n >= 0)
			break;
		if (errno == EAGAIN) {
			err = deadline ? nl_wait(nl, deadline) : -ETIMEDOUT;
			if (err)
				return err;
		} else if (errno != EINTR) {
			return -errno;
		}
	}
	if ((size_t)n > iov.iov_len) {
		err = nl_buf_reserve(in, (size_t)n);
		return err ? err : -EOVERFLOW;
	}
	*ret_at = in->len;
	return from.nl_pid == 0 ? n : 0;
}

/*
 * The same for one datagram, where answers may be large: an answer that is no acknowledgement stays in
 * nl->in. One that is larger than the room there is lost.
 */
static int receive_echoes(struct acks *a)
{
	size_t at;
	long n = nl_receive_behind(a->nl, 0, &at);

	if (n <= 0)
		return n == -ETIMEDOUT ? -EAGAIN : n == -EOVERFLOW ? 0 : (int)n;
	if (nl_message(a->nl->in.data + at, (size_t)n) &&
	    nl_at(&a->nl->in, at)->nlmsg_type != NLMSG_ERROR)
		a->nl->in.len += NL_PAD(n);
	else
		take_acks(a, a->nl->in.data + at, (size_t)n);
	return 0;
}

/*
 * Collect the answers of a chunk. A refused nf_tables batch may have more to say than was asked
 * for, so with `whole` the queue is read to its end.
 */
static int collect_acks(struct acks *a, unsigned int flags, int64_t deadline)
{
	bool whole = flags & NL_WHOLE;
	bool lost = false;
	int err = 0;

	while (!err && (whole || a->wanted)) {
		err = flags & NL_ECHOES ? receive_echoes(a) : receive_acks(a);
		if (err == -ENOBUFS) {
			/* The kernel says this once; the answers that did arrive are still in the queue. */
			lost = true;
			err = 0;
		} else if (err == -EAGAIN && !whole && !lost) {
			err = nl_wait(a->nl, deadline);
		}
	}
	if (err == -EAGAIN)
		err = lost && a->wanted ? -ENOBUFS : 0;
	return err;
}

/* Number the messages from `at` on that leave together. Returns their bytes. */
static size_t number_chunk(struct nl *nl, size_t at, bool whole, struct acks *a)
{
	size_t bytes = 0;

	a->seq = nl->seq + 1;
	a->count = a->wanted = 0;
	while (at + bytes < nl->out.len) {
		struct nlmsghdr *msg = nl_at(&nl->out, at + bytes);
		size_t len = NL_PAD(msg->nlmsg_len);

		if (a->count &&
		    (msg->nlmsg_pid == NL_CONTINUES ||
		     (!whole && (bytes + len > CHUNK_BYTES || a->count == CHUNK_MESSAGES))))
			break;
		msg->nlmsg_pid = 0;
		msg->nlmsg_seq = ++nl->seq;
		bytes += len;
		nl->status[a->first + a->count++] = msg->nlmsg_flags & NLM_F_ACK ? UNANSWERED : 0;
		a->wanted += msg->nlmsg_flags & NLM_F_ACK ? 1 : 0;
	}
	return bytes;
}

/* How many bytes from `at` on are continuations of a refused message, or of such a continuation. */
static size_t skip_refused(struct nl *nl, size_t at, struct acks *a)
{
	size_t bytes = 0;

	while (a->first && nl->status[a->first - 1] && at + bytes < nl->out.len &&
	       nl_at(&nl->out, at + bytes)->nlmsg_pid == NL_CONTINUES) {
		bytes += NL_PAD(nl_at(&nl->out, at + bytes)->nlmsg_len);
		nl->status[a->first] = nl->status[a->first - 1];
		a->first++;
	}
	return bytes;
}

/* Make room for the statuses of the batch. */
static int reserve_status(struct nl *nl)
{
	int *status;

	if (nl->out.count <= nl->status_size)
		return 0;
	status = realloc(nl->status, nl->out.count * sizeof *status);
	if (!status)
		return -ENOMEM;
	nl->status = status;
	nl->status_size = nl->out.count;
	return 0;
}

/*
 * Give messages without an answer a status: 0, for done, when the conversation went well. When it failed with
 * `err`, a negative errno, the first `sent` messages may have been carried out all the same: they have the
 * status err. Those that were not sent have -err.
 */
static int settle(struct nl *nl, size_t count, size_t sent, int err, struct nl_failure *fail)
{
	for (size_t i = 0; i < count; i++) {
		if (nl->status[i] != UNANSWERED)
			continue;
		nl->status[i] = i < sent ? err : -err;
		if (err && (!fail->error || i < fail->index))
			*fail = (struct nl_failure){ .error = -err, .index = i };
	}
	if (err && !fail->error)
		*fail = (struct nl_failure){ .error = -err };
	return -fail->error;
}

int nl_transact(struct nl *nl, unsigned int flags, int timeout_ms, struct nl_failure *ret)
{
	struct nl_failure fail = { 0 };
	struct acks a = { .nl = nl, .fail = &fail };
	bool whole = flags & NL_WHOLE;
	int64_t deadline = nl_deadline(timeout_ms);
	int err = nl->fd < 0 ? -EBADF : reserve_status(nl);
	size_t sent = 0;

	nl_buf_clear(&nl->in);
	for (size_t i = 0; !err && i < nl->out.count; i++)
		nl->status[i] = UNANSWERED;
	for (size_t at = 0; !err && at < nl->out.len;) {
		size_t bytes = skip_refused(nl, at, &a);

		if (bytes) {
			at += bytes;
			continue;
		}
		bytes = number_chunk(nl, at, whole, &a);
		err = nl_send(nl, nl->out.data + at, bytes);
		at += bytes;
		if (!err) {
			sent = a.first + a.count;
			err = collect_acks(&a, flags, deadline);
		}
		a.first += a.count;
	}
	err = settle(nl, nl->status ? nl->out.count : 0, sent, err, &fail);
	if (err)
		*ret = fail;
	return err;
}
