/* SPDX-License-Identifier: MIT */
/*
 * A netlink conversation: requests leave in batches, answers are matched by sequence number,
 * dumps are repeated when they were interrupted. No Lua in here.
 *
 * Functions return 0 or -errno unless they say otherwise, never print, and leave their results
 * untouched on failure.
 *
 * Who owns what: a `struct nl` owns its socket and its buffers. A binding keeps it inside the
 * handle's userdata, so a Lua error in the middle of building a batch leaks nothing: the next
 * operation starts with nl_clear(), and nl_close() (from __gc) frees the rest.
 */
#ifndef NETLINK_BINDINGS_NL_NL_H
#define NETLINK_BINDINGS_NL_NL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libmnl/libmnl.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* Netlink's padding, in unsigned arithmetic, and what precedes an attribute's payload. */
#define NL_PAD(n) (((size_t)(n) + 3) & ~(size_t)3)
#define NL_ATTR_HDR sizeof(struct nlattr)

/* Bytes that grow. All-zero is a valid, empty one. Growing moves `data`: keep offsets. */
struct nl_buf {
	uint8_t *data;
	size_t len;
	size_t size;
	size_t count; /* messages begun since the last nl_buf_clear() */
};

/* Make room for `more` bytes behind `len`. -ENOMEM, or -EMSGSIZE beyond NL_BUF_LIMIT. */
int nl_buf_reserve(struct nl_buf *buf, size_t more);
void nl_buf_clear(struct nl_buf *buf);
void nl_buf_free(struct nl_buf *buf);

#define NL_BUF_LIMIT ((size_t)64 << 20)

/* A socket, and the messages that it sends and receives. */
struct nl {
	int fd; /* -1 once closed */
	int protocol;
	bool slow; /* see nl_note_slow() */
	uint32_t seq;
	struct nl_buf out; /* the batch being built */
	struct nl_buf in;  /* answers to the last query, whole messages, see nl_first() */
	int *status;       /* per message of the last batch: 0, an errno, or -errno: sent, but not answered */
	size_t status_size;
};

/* Where to open a socket: an open namespace file, else a path, else (-1, NULL) in our own namespace. */
struct nl_place {
	int fd;
	const char *path;
	int *spare; /* a NETLINK_ROUTE socket in there that nobody uses yet, or -1; or NULL */
	int *sysctl; /* two folders that are kept open, see ns/sysctl.c; or NULL */
};

#define NETNS_OWN "/proc/thread-self/ns/net"

/* Open what must be a network namespace. Returns a descriptor or -errno; -EINVAL: it is not. */
int netns_open(const char *path);

/* Open the namespace we are in. Returns a descriptor or -errno. */
int netns_open_own(void);

/*
 * Move the calling thread to a place, and back. *ret_home is -1 when there was nothing to do.
 * netns_leave() closes `home` and aborts the program when it cannot get back: nothing may go on
 * in the wrong namespace. Between the two only calls that cannot raise.
 */
int netns_visit(const struct nl_place *place, int *ret_home);
void netns_leave(int home);

/* What the kernel said about one failure. */
struct nl_failure {
	int error;        /* positive errno */
	size_t index;     /* which message of the batch, from 0 */
	uint32_t offset;  /* of the attribute it objects to, from the nlmsghdr; 0: it named none */
	uint16_t missing; /* type of an attribute that should be there; 0: none */
	char text[240];   /* extended acknowledgement, or "" */
};

/* Make it a closed one. To be called before anything else, and before a metatable with __gc is set. */
void nl_init(struct nl *nl);

/*
 * Open a NETLINK_* socket in a namespace, with extended and capped acknowledgements and strict
 * checking of dump requests. Costs no allocation: buffers appear with the first request. The
 * place's spare socket is taken, if it has one that fits.
 */
int nl_open(struct nl *nl, int protocol, const struct nl_place *place);

/* Open a second socket in the namespace of an open one. */
int nl_open_beside(struct nl *nl, const struct nl *other);

/* The cookie of a socket's namespace, see ns:cookie in ns/ns.c. */
int nl_cookie(int fd, uint64_t *ret);

/* Close and free; idempotent. */
void nl_close(struct nl *nl);

/*
 * Closing an nf_tables socket that has deleted something waits some 10 ms for RCU; the process that closes
 * it last waits. Note that it is such a one: detached children (nl/detached.h) keep their copies of those to
 * their ends. nl_leave_open() frees all but such a socket, which stays open until the process ends; it
 * closes any other one.
 */
void nl_note_slow(struct nl *nl);
void nl_leave_open(struct nl *nl);

/* Those sockets, whether left open or still in use; returns how many. */
#define NL_SLOW 16
size_t nl_slow(const int **ret_fds);

/* Forget any half-built batch. Call it first in every operation. */
void nl_clear(struct nl *nl);

/*
 * Begin a message with a zeroed family header of `header` bytes and end it. In between, append
 * attributes to the buffer. nl_begin() returns the message's offset, or -errno; nl_end() sets
 * its length. NLM_F_REQUEST is added; NLM_F_ACK is for the caller to choose. Sequence numbers
 * are set when the batch leaves.
 */
long nl_begin(struct nl_buf *buf, uint16_t type, uint16_t flags, size_t header);
int nl_end(struct nl_buf *buf, size_t at);
struct nlmsghdr *nl_at(const struct nl_buf *buf, size_t at);

/*
 * Mark a message as the continuation of the one before it: it leaves when that one was carried out,
 * and not at all when that one was refused.
 */
void nl_continue(struct nl_buf *buf, size_t at);

/* Append one attribute, padded. -EMSGSIZE when the payload exceeds 65531 bytes. */
int nl_put(struct nl_buf *buf, uint16_t type, const void *data, size_t len);

/* Open a nested attribute (NLA_F_NESTED is added) and close it. Returns its offset or -errno. */
long nl_nest(struct nl_buf *buf, uint16_t type);
int nl_nest_end(struct nl_buf *buf, size_t at);

enum {
	/*
	 * One sendmsg whatever the size, for batches that the kernel takes as a whole (nf_tables). The
	 * kernel has done the work when sendmsg returns: so all answers are in the queue then, and a
	 * message without an answer counts as successful.
	 */
	NL_WHOLE = 1 << 0,
	/* Some messages carry NLM_F_ECHO: keep in nl->in what the kernel says beside the acks. */
	NL_ECHOES = 1 << 1,
};

/*
 * Send all of nl->out and collect the acknowledgement of every message that carries NLM_F_ACK.
 *
 * Without NL_WHOLE a batch leaves in as few sendmsg as fit, and a refused message does not keep
 * the others from being carried out: nl->status[] tells for each.
 *
 * Returns 0, or the first refusal (the lowest message) as -errno with *ret filled in; ret->index is
 * meaningful then. After -ETIMEDOUT it is unknown what became of the messages without an answer.
 */
int nl_transact(struct nl *nl, unsigned int flags, int timeout_ms, struct nl_failure *ret);

/*
 * Send the one message in nl->out and collect what it asks for in nl->in. With NLM_F_DUMP in its
 * flags that is a whole dump, asked for again (at most NL_DUMP_TRIES times) while the kernel says
 * it was interrupted; -EAGAIN when that never ended. Without, one answer.
 * Do not set NLM_F_ACK.
 */
int nl_query(struct nl *nl, int timeout_ms, struct nl_failure *ret);

#define NL_DUMP_TRIES 10

/*
 * The message that the `left` bytes at `p` begin with, or NULL: they hold no whole one. (libmnl's
 * own check takes a length of 2^31 and more for a small one.)
 */
const struct nlmsghdr *nl_message(const void *p, size_t left);

/* The attribute at `at` of `len` bytes, or NULL at the end. */
const struct nlattr *nl_attr(const void *attrs, size_t len, size_t at);

/* The outcome that the kernel gives as 0 or -errno, as 0 or a positive errno; EBADMSG: it is neither. */
int nl_outcome(int32_t code);

/*
 * What a message of type NLMSG_ERROR says; ret->error is 0 for an acknowledgement. False: it is too
 * short for either.
 */
bool nl_read_error(const struct nlmsghdr *msg, struct nl_failure *ret);

/* Walk the answers in nl->in; nl_next() returns NULL at the end. */
const struct nlmsghdr *nl_first(const struct nl *nl);
const struct nlmsghdr *nl_next(const struct nl *nl, const struct nlmsghdr *msg);

/* Join a multicast group (RTNLGRP_*). Use a socket of its own: a flood of notifications drowns answers. */
int nl_subscribe(struct nl *nl, unsigned int group);

/*
 * Wait for one datagram of notifications and leave it in nl->in. `deadline` is absolute, see
 * nl_deadline(); 0: do not wait. -ETIMEDOUT; -ENOBUFS means that some were lost: look at the state
 * again.
 */
int nl_receive(struct nl *nl, int64_t deadline);

/* Monotonic nanoseconds at which `timeout_ms` from now is over. */
int64_t nl_deadline(int timeout_ms);

/* Milliseconds left until a deadline, rounded up, at least 0: what poll(2) wants. */
int nl_ms_left(int64_t deadline);

#endif
