/* SPDX-License-Identifier: MIT */
/*
 * Waiting on rtnetlink: for a state, by notification; and for a deleted link to be gone, while a
 * child of ours sits out what the kernel does afterwards.
 */
#include "rtnl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bindings.h"

/*** Await ***/

/* Open the handle's second socket and subscribe to what concerns `object`. */
static int listen_for(struct rtnl *h, const struct rtnl_object *object)
{
	int err;

	nl_close(&h->events);
	err = nl_open_beside(&h->events, &h->nl);
	if (!err && object->group)
		err = nl_subscribe(&h->events, object->group);
	if (!err && object->group6)
		err = nl_subscribe(&h->events, object->group6);
	return err;
}

/* Wait for a notification, and take those that came with it: one look at the state serves all. */
static int next_event(struct rtnl *h, int64_t deadline)
{
	int err = nl_receive(&h->events, deadline);

	while (!err || err == -ENOBUFS)
		err = nl_receive(&h->events, 0);
	return err == -ETIMEDOUT && nl_ms_left(deadline) ? 0 : err;
}

/* The address among the answers on top that another host has already; pushes its text. */
static bool find_duplicate(lua_State *L)
{
	int list = lua_gettop(L);

	for (lua_Integer i = 1; lua_rawgeti(L, list, i) == LUA_TTABLE; i++) {
		lua_getfield(L, -1, "dadfailed");
		if (lua_toboolean(L, -1)) {
			lua_getfield(L, -2, "address");
			return true;
		}
		lua_settop(L, list);
	}
	lua_settop(L, list);
	return false;
}

enum { AGREES = -1, DIFFERS = 0 };

/*
 * Look at the state once. AGREES: what to return is on top; DIFFERS: nothing pushed; else the
 * number of values pushed for a failure.
 */
static int look(lua_State *L, struct rtnl *h, const struct rtnl_object *object, int filter,
		int wanted, int timeout)
{
	bool addresses = object->add == RTM_NEWADDR;
	bool dump = !object->lookup;
	int top = lua_gettop(L), list;
	struct nl_failure fail;
	bool agrees = true;

	rtnl_build_get(L, h, object, 3, dump);
	if (nl_query(&h->nl, timeout, &fail)) {
		if (rtnl_is_absent(fail.error))
			return DIFFERS;
		rtnl_push_what(L, "await", object->name, 3);
		return push_nl_failure(L, &fail, lua_tostring(L, -1));
	}
	rtnl_push_answers(L, h, object, dump ? filter : 0);
	list = lua_gettop(L);
	if (addresses && find_duplicate(L))
		return push_failure(L, EADDRINUSE, "%s: duplicate address detected",
				    lua_tostring(L, -1));
	for (lua_Integer i = 1; agrees && lua_rawgeti(L, list, i) == LUA_TTABLE; i++)
		agrees = attr_match(L, lua_gettop(L), wanted);
	lua_settop(L, list);
	if (agrees && (addresses || lua_rawlen(L, list))) {
		if (!addresses)
			lua_rawgeti(L, list, 1);
		return AGREES;
	}
	lua_settop(L, top);
	return DIFFERS;
}

/***
Wait, by notification, until an object is as wanted.

For addresses `key` says which link's (`{ index = 4 }`), all that agree with it must be as wanted
(`{ tentative = false }`), and a duplicate ends the waiting: errno is then EADDRINUSE.
@function rtnl:await
@tparam string object
@tparam table key as for get
@tparam table wanted values it must show, such as `{ operstate = "up" }`
@tparam[opt=10000] integer timeout_ms
@treturn[1] table attributes as they are now; for addresses the list of them
@return[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno; ETIMEDOUT
*/
int rtnl_await(lua_State *L)
{
	struct rtnl *h = rtnl_check(L);
	const struct rtnl_object *object = rtnl_object_arg(L, 2);
	int timeout = rtnl_timeout_arg(L, 5, RTNL_TIMEOUT_MS);
	int64_t deadline = nl_deadline(timeout);
	int n, err = 0;

	luaL_checktype(L, 3, LUA_TTABLE);
	luaL_checktype(L, 4, LUA_TTABLE);
	lua_settop(L, 4);
	rtnl_push_canonical(L, h, object, 3);
	rtnl_push_canonical(L, h, object, 4);

	n = look(L, h, object, 5, 6, timeout);
	if (n == DIFFERS) {
		err = listen_for(h, object);
		/* It may have changed before we listened. */
		while (!err && n == DIFFERS) {
			n = look(L, h, object, 5, 6, nl_ms_left(deadline) + 1000);
			if (n == DIFFERS)
				err = next_event(h, deadline);
		}
		nl_close(&h->events);
	}
	if (n == AGREES)
		return 1;
	if (n)
		return n;
	rtnl_push_what(L, "await", object->name, 3);
	return push_failure(L, err, "%s", lua_tostring(L, -1));
}

/*** Deleting without the wait ***/

struct deletion {
	struct nl worker; /* the child's socket */
	int index;
	int report[2];
};

/* Close the descriptors from `first` up to, but not including, `end`. */
static void close_between(unsigned int first, unsigned int end)
{
	long most = sysconf(_SC_OPEN_MAX);

	if (first >= end || syscall(SYS_close_range, first, end - 1, 0U) == 0)
		return;
	/* Kernels before 5.9. */
	for (; first < end && (long)first < most; first++)
		close((int)first);
}

/*
 * Let go of everything the caller may be waiting on: pipes, terminals, files. What was left open for
 * us to close (nl_leave_open) stays.
 */
static void detach(const struct deletion *d)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	const int *late;
	size_t late_count = nl_left_open(&late);
	unsigned int from = 3;

	setsid();
	/* By the time we report, nobody may be listening any more. */
	signal(SIGPIPE, SIG_IGN);
	if (chdir("/") < 0)
		_exit(1);
	for (int fd = 0; null >= 0 && fd < 3; fd++)
		dup2(null, fd);
	for (;;) {
		unsigned int keep = UINT_MAX; /* the lowest from `from` on */

		for (size_t i = 0; i < late_count + 2; i++) {
			int fd = i < late_count ? late[i] : d->report[1];

			if (i == late_count)
				fd = d->worker.fd;
			if ((unsigned int)fd >= from && (unsigned int)fd < keep)
				keep = (unsigned int)fd;
		}
		close_between(from, keep);
		if (keep == UINT_MAX)
			return;
		from = keep + 1;
	}
}

/* The child: have the link deleted, say how that went, and end. The kernel keeps us meanwhile. */
static _Noreturn void delete_and_exit(struct deletion *d, struct nl *batch, int timeout_ms)
{
	struct nl_failure fail = { 0 };
	struct nl_buf none = batch->out;
	int error;

	detach(d);
	d->worker.out = none;
	error = -nl_transact(&d->worker, 0, timeout_ms, &fail);
	if (write(d->report[1], &error, sizeof error) < 0)
		_exit(1);
	_exit(0);
}

/* Whether one of the notifications says that the link is gone. */
static bool says_gone(const struct nl *events, int index)
{
	const struct nlmsghdr *msg = nl_first(events);

	for (; msg; msg = nl_next(events, msg)) {
		const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(msg);

		/* A bridge port says so too, but under its own family and while it still exists. */
		if (msg->nlmsg_type == RTM_DELLINK && ifi->ifi_family == AF_UNSPEC &&
		    ifi->ifi_index == index)
			return true;
	}
	return false;
}

/* Wait for the notification or the child's report. 0: gone; -EAGAIN: the child died over it. */
static int await_gone(struct rtnl *h, const struct deletion *d, int64_t deadline)
{
	struct pollfd p[] = {
		{ .fd = h->events.fd, .events = POLLIN },
		{ .fd = d->report[0], .events = POLLIN },
	};

	for (;;) {
		int error, n = poll(p, ARRAY_SIZE(p), nl_ms_left(deadline));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -ETIMEDOUT;
		if (p[0].revents) {
			int err = nl_receive(&h->events, 0);

			if (!err && says_gone(&h->events, d->index))
				return 0;
			if (err && err != -ENOBUFS && err != -ETIMEDOUT)
				return err;
		}
		if (p[1].revents)
			return read(d->report[0], &error, sizeof error) == sizeof error ? -error
											: -EAGAIN;
	}
}

void rtnl_reap(struct rtnl *h)
{
	if (h->child > 0 && waitpid(h->child, NULL, WNOHANG) != 0)
		h->child = 0;
}

/* Delete the link of the RTM_DELLINK in h->nl.out. Owns what it opens; no Lua. */
static int delete_quickly(struct rtnl *h, struct deletion *d, int timeout_ms,
			  struct nl_failure *fail)
{
	int64_t deadline = nl_deadline(timeout_ms);
	int err = listen_for(h, &rtnl_objects[0]);
	pid_t pid = -1;

	rtnl_reap(h);
	nl_init(&d->worker);
	d->report[0] = d->report[1] = -1;
	if (!err)
		err = nl_open_beside(&d->worker, &h->nl);
	if (!err && pipe2(d->report, O_CLOEXEC) < 0)
		err = -errno;
	if (!err) {
		pid = fork();
		if (pid == 0)
			delete_and_exit(d, &h->nl, timeout_ms);
		err = pid < 0 ? -errno : 0;
		h->child = pid > 0 ? pid : 0;
	}
	if (d->report[1] >= 0)
		close(d->report[1]);
	if (!err)
		err = await_gone(h, d, deadline);
	if (d->report[0] >= 0)
		close(d->report[0]);
	nl_close(&d->worker);
	nl_close(&h->events);

	/* Without a child, or with one that was killed, do it the slow way. */
	if (pid < 0 || err == -EAGAIN)
		return nl_transact(&h->nl, 0, timeout_ms, fail);
	if (err)
		*fail = (struct nl_failure){ .error = -err };
	return err;
}

/***
Delete a link and return when it is gone for every observer.

The kernel goes on cleaning up for some 15 ms inside the request; a detached child of ours waits for
that (it holds none of our descriptors, and finishes whatever becomes of us).
@function rtnl:del_link_quick
@tparam table key `{ name = }` or `{ index = }`
@tparam[opt=10000] integer timeout_ms
@treturn[1] boolean true, also when there was no such link
@return[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
int rtnl_del_link_quick(lua_State *L)
{
	struct rtnl *h = rtnl_check(L);
	const struct rtnl_object *link = &rtnl_objects[0];
	int timeout = rtnl_timeout_arg(L, 3, RTNL_TIMEOUT_MS);
	const struct nlmsghdr *msg;
	struct deletion d = { 0 };
	struct nl_failure fail;
	int err;

	luaL_checktype(L, 2, LUA_TTABLE);
	lua_settop(L, 2);
	rtnl_build_get(L, h, link, 2, false);

	err = nl_query(&h->nl, timeout, &fail);
	msg = err ? NULL : nl_first(&h->nl);
	if (msg) {
		const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(msg);
		struct ifinfomsg del = { .ifi_index = ifi->ifi_index };
		long at;

		d.index = ifi->ifi_index;
		nl_buf_clear(&h->nl.out);
		at = nl_begin(&h->nl.out, RTM_DELLINK, NLM_F_ACK, sizeof del);
		if (at >= 0)
			memcpy(h->nl.out.data + at + NLMSG_HDRLEN, &del, sizeof del);
		fail = (struct nl_failure){ .error = ENOMEM };
		err = at < 0 ? -ENOMEM : delete_quickly(h, &d, timeout, &fail);
	}

	if (err && !rtnl_is_absent(fail.error)) {
		rtnl_push_what(L, "del", "link", 2);
		return push_nl_failure(L, &fail, lua_tostring(L, -1));
	}
	lua_pushboolean(L, 1);
	return 1;
}
