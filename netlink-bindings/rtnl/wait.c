/* SPDX-License-Identifier: MIT */
/***
@submodule netlink
*/
/*
 * Waiting on rtnetlink: for a state, by notification; and for a deleted link to be gone, while a
 * child of ours sits out what the kernel does afterwards.
 */

#include "rtnl/rtnl.h"

#include <errno.h>
#include <limits.h>
#include <linux/netconf.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "nl/detached.h"
#include "nl/internal.h"
#include "nl/push.h"

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
		int wanted, const struct attr_only *only, int timeout)
{
	bool addresses = object->add == RTM_NEWADDR;
	bool dump = !object->lookup || !(rtnl_has_key(L, 3, "index") || rtnl_has_key(L, 3, "name"));
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
	rtnl_push_answers(L, h, object, dump ? filter : 0, only);
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
(`{ tentative = false }`), and a duplicate ends the waiting: errno is then EADDRINUSE. A link may
also be asked for by other values than its index or name: the first that agrees with them counts.
@function rtnl:await
@tparam string object
@tparam table key as for get
@tparam table wanted values it must show, such as `{ operstate = "up" }`
@tparam[opt] {string,...} keys the attributes to return, as for get
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
	int timeout = rtnl_timeout_arg(L, 6, RTNL_TIMEOUT_MS);
	int64_t deadline = nl_deadline(timeout);
	const struct attr_only *only;
	struct attr_only keys;
	int n, err = 0;

	luaL_checktype(L, 3, LUA_TTABLE);
	luaL_checktype(L, 4, LUA_TTABLE);
	lua_settop(L, 5);
	rtnl_push_canonical(L, h, object, 3);
	rtnl_push_canonical(L, h, object, 4);
	only = rtnl_only_arg(L, 5, object, &keys, 6, 7);
	if (only && object->add == RTM_NEWADDR) {
		attr_only_add(L, &keys, object->table, "address");
		attr_only_add(L, &keys, object->table, "dadfailed");
	}

	n = look(L, h, object, 6, 7, only, timeout);
	if (n == DIFFERS) {
		err = listen_for(h, object);
		/* It may have changed before we listened. */
		while (!err && n == DIFFERS) {
			n = look(L, h, object, 6, 7, only, nl_ms_left(deadline) + 1000);
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

/* A link that a message says is about to be unregistered, as far as IPv4 goes; 0: none. */
static int index_of_netconf(const struct nlmsghdr *msg)
{
	size_t at = NLMSG_ALIGN(sizeof(struct netconfmsg)), len = mnl_nlmsg_get_payload_len(msg);
	const char *payload = mnl_nlmsg_get_payload(msg);
	struct nlattr attr;
	int index;

	/* It is the first of the attributes. */
	if (len < at + sizeof attr + sizeof index)
		return 0;
	memcpy(&attr, payload + at, sizeof attr);
	if (attr.nla_type != NETCONFA_IFINDEX || attr.nla_len != sizeof attr + sizeof index)
		return 0;
	memcpy(&index, payload + at + sizeof attr, sizeof index);
	return index;
}

/*
 * Whether one of the notifications says that the link is gone: that nobody finds it any more. Of links
 * that go together all are by then.
 *
 * A bridge waits for RCU before it sends RTM_DELLINK, but not before IPv4 says that it has let go.
 */
static bool says_gone(const struct nlmsghdr *msg, int index)
{
	const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(msg);

	if (msg->nlmsg_type == RTM_DELNETCONF)
		return index_of_netconf(msg) == index;
	/* A bridge port says so too, but under its own family and while it still exists. */
	return msg->nlmsg_type == RTM_DELLINK &&
	       mnl_nlmsg_get_payload_len(msg) >= sizeof *ifi && ifi->ifi_family == AF_UNSPEC &&
	       ifi->ifi_index == index;
}

enum { GONE = 1, REFUSED = 2 };

/* What has arrived so far: 0 is nothing to the point. The kernel's answer is as good as the news. */
static int look_for_end(const struct nl *events, uint32_t seq, int index, struct nl_failure *fail)
{
	const struct nlmsghdr *msg = nl_first(events);

	for (; msg; msg = nl_next(events, msg)) {
		const struct nlmsgerr *err = mnl_nlmsg_get_payload(msg);

		if (says_gone(msg, index))
			return GONE;
		if (msg->nlmsg_type != NLMSG_ERROR || msg->nlmsg_seq != seq ||
		    mnl_nlmsg_get_payload_len(msg) < sizeof *err)
			continue;
		if (!err->error)
			return GONE;
		nl_note(msg, nl_error_tlvs(msg, err), 0, nl_outcome(err->error), fail);
		return REFUSED;
	}
	return 0;
}

/* Wait for the end. 0 or -errno with *fail filled in; -ESRCH: the child died over it. */
static int await_gone(struct nl *events, int child, int index, int64_t deadline,
		      struct nl_failure *fail)
{
	struct pollfd p[] = {
		{ .fd = events->fd, .events = POLLIN },
		{ .fd = child, .events = POLLIN },
	};
	bool dead = false;

	for (;;) {
		int end, n, err = nl_receive(events, 0);

		if (!err) {
			end = look_for_end(events, events->seq, index, fail);
			if (end)
				return end == GONE ? 0 : -fail->error;
			continue;
		}
		if (err != -ENOBUFS && err != -ETIMEDOUT)
			return err;
		if (dead)
			return -ESRCH;
		n = poll(p, ARRAY_SIZE(p), nl_ms_left(deadline));
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -ETIMEDOUT;
		/* What it has sent before is in the queue by now. */
		dead = n > 0 && p[1].revents;
	}
}

/*
 * Have the request in h->nl.out, which deletes links, sent by a detached sender, and wait for the news
 * that they are gone, `index` being one of them. Owns what it opens.
 */
static int delete_quickly(struct rtnl *h, int index, int timeout_ms, struct nl_failure *fail)
{
	int64_t deadline = nl_deadline(timeout_ms);
	struct nlmsghdr *msg = nl_at(&h->nl.out, 0);
	int child = -1, err = listen_for(h, &rtnl_objects[0]);

	*fail = (struct nl_failure){ 0 };
	if (!err)
		err = nl_subscribe(&h->events, RTNLGRP_IPV4_NETCONF);
	if (!err) {
		msg->nlmsg_seq = ++h->events.seq;
		err = detached_send(&h->events, msg, h->nl.out.len, &child);
	}
	if (!err)
		err = await_gone(&h->events, child, index, deadline, fail);
	else
		err = -ESRCH;
	if (child >= 0)
		close(child);
	nl_close(&h->events);

	/* Nobody is there to do it, or somebody has killed them: it is done the slow way. */
	if (err == -ESRCH && !fail->error)
		return nl_transact(&h->nl, 0, timeout_ms, fail);
	if (err && !fail->error)
		*fail = (struct nl_failure){ .error = -err };
	return err;
}

/* Put the request into h->nl.out that deletes a link, or with index 0 those of a group. 0 or -errno. */
static int build_deletion(struct rtnl *h, int index, uint32_t group)
{
	struct ifinfomsg del = { .ifi_index = index };
	long at;

	nl_buf_clear(&h->nl.out);
	at = nl_begin(&h->nl.out, RTM_DELLINK, NLM_F_ACK, sizeof del);
	if (at < 0)
		return (int)at;
	memcpy(h->nl.out.data + at + NLMSG_HDRLEN, &del, sizeof del);
	if (!index) {
		int err = nl_put(&h->nl.out, IFLA_GROUP, &group, sizeof group);

		if (err)
			return err;
		nl_end(&h->nl.out, (size_t)at);
	}
	return 0;
}

/* The index of the link that the RTM_GETLINK in h->nl.out asks for; 0: there is none. */
static int find_index(struct rtnl *h, int timeout, int *ret, struct nl_failure *fail)
{
	const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(nl_at(&h->nl.out, 0));
	const struct nlmsghdr *msg;
	int err;

	if (!ifi->ifi_index) {
		err = nl_query(&h->nl, timeout, fail);
		msg = err ? NULL : nl_first(&h->nl);
		if (!msg)
			return err;
		ifi = mnl_nlmsg_get_payload(msg);
		if (mnl_nlmsg_get_payload_len(msg) < sizeof *ifi) {
			*fail = (struct nl_failure){ .error = EBADMSG };
			return -EBADMSG;
		}
	}
	*ret = ifi->ifi_index;
	return 0;
}

/***
Delete a link and return when it is gone for every observer: no request finds it, or its name taken. (A
bridge's folder in /sys stays for the time of the cleaning up.)

The kernel goes on cleaning up for some 15 ms inside the request; a detached child of ours waits for
that (it holds none of the caller's descriptors, and finishes whatever becomes of us).
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
	int timeout = rtnl_timeout_arg(L, 3, RTNL_TIMEOUT_MS);
	struct nl_failure fail;
	int err, index = 0;

	luaL_checktype(L, 2, LUA_TTABLE);
	lua_settop(L, 2);
	rtnl_build_get(L, h, &rtnl_objects[0], 2, false);

	err = find_index(h, timeout, &index, &fail);
	if (index) {
		fail = (struct nl_failure){ .error = ENOMEM };
		err = build_deletion(h, index, 0);
		if (!err)
			err = delete_quickly(h, index, timeout, &fail);
	}

	if (err && !rtnl_is_absent(fail.error)) {
		rtnl_push_what(L, "del", "link", 2);
		return push_nl_failure(L, &fail, lua_tostring(L, -1));
	}
	lua_pushboolean(L, 1);
	return 1;
}

/***
Delete the links of a group, as `del_link_quick` does one. The kernel's cleaning up takes no longer than
that of one link.
@function rtnl:del_group_quick
@tparam integer group a number that no other links have for their group; not 0, which all have
@tparam integer index of the oldest of them, which the kernel begins with
@tparam[opt=10000] integer timeout_ms
@treturn[1] boolean true, also when there were none of that group
@return[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
int rtnl_del_group_quick(lua_State *L)
{
	struct rtnl *h = rtnl_check(L);
	lua_Integer group = luaL_checkinteger(L, 2), index = luaL_checkinteger(L, 3);
	int timeout = rtnl_timeout_arg(L, 4, RTNL_TIMEOUT_MS), err;
	struct nl_failure fail = { .error = ENOMEM };

	luaL_argcheck(L, group > 0 && group <= UINT32_MAX, 2, "a group is 1 to 2^32-1");
	luaL_argcheck(L, index > 0 && index <= INT_MAX, 3, "an index is from 1 on");

	err = build_deletion(h, 0, (uint32_t)group);
	if (!err)
		err = delete_quickly(h, (int)index, timeout, &fail);
	if (err && !rtnl_is_absent(fail.error)) {
		lua_pushfstring(L, "del links of group %I", group);
		return push_nl_failure(L, &fail, lua_tostring(L, -1));
	}
	lua_pushboolean(L, 1);
	return 1;
}
