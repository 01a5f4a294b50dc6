/* SPDX-License-Identifier: MIT */
/***
Kernel talk that stays in the namespace it was begun in. A batch of requests is encoded into the handle's
own buffer (which may raise, and leaks nothing), sent, and every answer accounted for.
@module netlink
*/

#include "rtnl/rtnl.h"

#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

#include "bindings.h"
#include "nl/detached.h"
#include "nl/push.h"
#include "ns/ns.h"

enum { MAX_REQUESTS = 100000 };

/*** Arguments ***/

struct rtnl *rtnl_check(lua_State *L)
{
	struct rtnl *h = luaL_checkudata(L, 1, RTNL_HANDLE);

	luaL_argcheck(L, h->nl.fd >= 0, 1, "handle is closed");
	nl_clear(&h->nl);
	nl_buf_clear(&h->owners);
	return h;
}

int rtnl_timeout_arg(lua_State *L, int arg, int otherwise)
{
	lua_Integer ms = luaL_optinteger(L, arg, otherwise);

	luaL_argcheck(L, ms >= 0 && ms <= 24 * 3600 * 1000, arg, "milliseconds, at most a day");
	return (int)ms;
}

bool rtnl_is_absent(int err)
{
	return err == ENODEV || err == ENOENT || err == ESRCH || err == EADDRNOTAVAIL;
}

/*** Asking ***/

void rtnl_build_get(lua_State *L, struct rtnl *h, const struct rtnl_object *object, int key,
		    bool dump)
{
	uint32_t mask = RTEXT_FILTER_SKIP_STATS;
	/* What is not shown (a discipline that is built in) has no answer but the acknowledgement. */
	uint16_t flags = dump ? NLM_F_DUMP : object->echoes ? NLM_F_ECHO | NLM_F_ACK : 0;
	long at;

	nl_clear(&h->nl);
	at = nl_begin(&h->nl.out, object->get, flags, 0);
	rtnl_check_nl(L, at);
	if (dump)
		attr_encode_some(L, &h->nl.out, key, object->filter, object->table);
	else
		attr_encode(L, &h->nl.out, key, object->lookup);
	/* Counters are the dear part of a link, and nobody asked for them. */
	if (object->add == RTM_NEWLINK)
		rtnl_check_nl(L, nl_put(&h->nl.out, IFLA_EXT_MASK, &mask, sizeof mask));
	if (object->family)
		h->nl.out.data[at + NLMSG_HDRLEN] = object->family;
	rtnl_check_nl(L, nl_end(&h->nl.out, (size_t)at));
}

void rtnl_push_canonical(lua_State *L, struct rtnl *h, const struct rtnl_object *object, int filter)
{
	int plain, result;

	nl_clear(&h->nl);
	attr_encode_some(L, &h->nl.out, filter, object->table, object->table);
	attr_decode(L, object->table, NULL, h->nl.out.data, h->nl.out.len);
	plain = lua_gettop(L);
	lua_newtable(L);
	result = lua_gettop(L);
	lua_pushnil(L);
	while (lua_next(L, filter)) {
		lua_pushvalue(L, -2);
		if (lua_rawget(L, plain) == LUA_TNIL)
			lua_pop(L, 1);
		else
			lua_remove(L, -2);
		lua_pushvalue(L, -2);
		lua_insert(L, -2);
		lua_rawset(L, result);
	}
	lua_remove(L, plain);
}

/* "default" is of either family: let it match as the answer at `have` has it. */
static bool matches(lua_State *L, int have, int filter)
{
	bool same, any_default;

	any_default = rtnl_push_raw(L, filter, "dst") && lua_type(L, -1) == LUA_TSTRING &&
		      !strcmp(lua_tostring(L, -1), "default");
	lua_pop(L, 1);
	if (!any_default)
		return attr_match(L, have, filter);
	rtnl_push_without(L, filter, "dst");
	same = attr_match(L, have, lua_gettop(L));
	lua_pop(L, 1);
	rtnl_push_raw(L, have, "dst");
	same = same && lua_isstring(L, -1) &&
	       (!strcmp(lua_tostring(L, -1), "0.0.0.0/0") || !strcmp(lua_tostring(L, -1), "::/0"));
	lua_pop(L, 1);
	return same;
}

/* Dumps of all families bring some that are none of ours, and routes that are only cached. */
static bool is_foreign(const struct rtnl_object *object, const struct nlmsghdr *msg)
{
	const uint8_t *family = mnl_nlmsg_get_payload(msg);
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(msg);

	if (mnl_nlmsg_get_payload_len(msg) < object->table->header)
		return true;
	switch (object->add) {
	case RTM_NEWROUTE:
		if (rtm->rtm_flags & RTM_F_CLONED)
			return true;
		/* fall through */
	case RTM_NEWADDR:
	case RTM_NEWRULE:
		return *family != AF_INET && *family != AF_INET6;
	case RTM_NEWNEIGH:
		return *family != AF_INET && *family != AF_INET6 && *family != AF_BRIDGE;
	}
	return false;
}

/* The integer at a key, or `otherwise`. [-0, +0, m] */
static lua_Integer integer_at(lua_State *L, int idx, const char *key, lua_Integer otherwise)
{
	lua_Integer value = rtnl_push_raw(L, idx, key) ? lua_tointeger(L, -1) : otherwise;

	lua_pop(L, 1);
	return value;
}

/* Answers come in runs of equal VLANs: one that is looked for may be in the middle. */
static bool vlan_matches(lua_State *L, int have, int filter)
{
	lua_Integer first = integer_at(L, have, "vid", 0);
	lua_Integer last = integer_at(L, have, "vid_end", first);
	lua_Integer wanted = integer_at(L, filter, "vid", first);
	bool same;

	rtnl_push_without(L, filter, "vid");
	same = attr_match(L, have, lua_gettop(L));
	lua_pop(L, 1);
	return same && wanted >= first && wanted <= last;
}

/* Append every VLAN of the decoded answer on top to the list at `list`. [-1, +0, m] */
static void append_vlans(lua_State *L, int list, int filter)
{
	int answer = lua_gettop(L);

	if (lua_getfield(L, answer, "vlans") == LUA_TTABLE) {
		for (lua_Integer i = 1; lua_rawgeti(L, answer + 1, i) == LUA_TTABLE; i++) {
			lua_getfield(L, answer, "index");
			lua_setfield(L, -2, "index");
			if (!filter || vlan_matches(L, lua_gettop(L), filter))
				lua_rawseti(L, list, (lua_Integer)lua_rawlen(L, list) + 1);
			else
				lua_pop(L, 1);
		}
	}
	lua_settop(L, answer - 1);
}

void rtnl_push_answers(lua_State *L, struct rtnl *h, const struct rtnl_object *object, int filter,
		       const struct attr_only *only)
{
	const struct attr_table *table = object->answer ? object->answer : object->table;
	const struct nlmsghdr *msg = nl_first(&h->nl);
	int list;

	lua_newtable(L);
	list = lua_gettop(L);
	for (; msg; msg = nl_next(&h->nl, msg)) {
		if (is_foreign(object, msg))
			continue;
		attr_decode(L, table, only, mnl_nlmsg_get_payload(msg),
			    mnl_nlmsg_get_payload_len(msg));
		if (object->answer)
			append_vlans(L, list, filter);
		else if (!filter || matches(L, lua_gettop(L), filter))
			lua_rawseti(L, list, (lua_Integer)lua_rawlen(L, list) + 1);
		else
			lua_pop(L, 1);
	}
}

/*** Bindings ***/

/***
Open a handle.
@function open
@tparam[opt] string|ns where a namespace file or object; the namespace we are in when absent
@treturn[1] rtnl handle
@return[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
@see rtnetlink(7)
*/
static int rtnl_open(lua_State *L)
{
	struct nl_place place = netns_place_arg(L, 1);
	struct rtnl *h = lua_newuserdatauv(L, sizeof *h, 0);
	int err;

	nl_init(&h->nl);
	nl_init(&h->events);
	h->owners = (struct nl_buf){ 0 };
	luaL_setmetatable(L, RTNL_HANDLE);

	err = nl_open(&h->nl, NETLINK_ROUTE, &place);

	if (err)
		return push_failure(L, err, "open netlink in %s",
				    place.path ? place.path : "a namespace");
	return 1;
}

/***
A handle on the rtnetlink of one namespace: it stays there whatever the process does later.

A request is `{ verb, object, attrs }`. Verbs: `add` (must be new), `ensure` (create), `replace`,
`append`, `set` (must exist), `del`. Objects: `link`, `addr`, `route`, `rule`, `neigh`, `vlan` (of a
bridge port), `qdisc`, `class`, `filter`; and `group`, the multicast groups of IPv6 that a link has joined,
which can only be looked at. What keys the attributes of an object may have,
`netlink.describe` tells.
@type rtnl
*/

/***
Send requests, as one datagram when they fit, and wait for every answer.

One that the kernel refuses does not keep the others from being carried out. A link with both
`master` and `port` goes as two messages, one after the other.

With `echo`, a list of keys, a request asks for what has come of it, which is how the index of a new
link is learnt without another question. What the kernel has not to say is absent: links are echoed
since Linux 6.2, as they are before they have a master.
@function rtnl:send
@tparam table requests list of `{ verb, object, attrs [, echo = { key, ... }] }`
@tparam[opt=10000] integer timeout_ms
@treturn[1] boolean true
@treturn[1] ?table the attributes echoed by the number of the request, when one asked for it
@return[2] nil
@treturn[2] string the first failure: the step, the errno's text, the kernel's own words
@treturn[2] integer its errno
@treturn[2] integer the index of its request
@treturn[2] table for each request 0, or the errno it was refused with; negative where it may have been
  carried out, in whole or in part: the answer did not come, or a later message of it was refused
@raise unknown verb, object or key, wrong type, number out of range
*/
static int rtnl_send(lua_State *L)
{
	struct rtnl *h = rtnl_check(L);
	int timeout = rtnl_timeout_arg(L, 3, RTNL_TIMEOUT_MS);
	struct nl_failure fail;
	lua_Integer count;
	bool echoes = false;

	luaL_checktype(L, 2, LUA_TTABLE);
	lua_settop(L, 2);
	count = (lua_Integer)lua_rawlen(L, 2);
	luaL_argcheck(L, count <= MAX_REQUESTS, 2, "too many requests");
	for (lua_Integer i = 1; i <= count; i++) {
		lua_rawgeti(L, 2, i);
		echoes |= rtnl_encode(L, h, 3, i);
		lua_pop(L, 1);
	}

	if (count && nl_transact(&h->nl, echoes ? NL_ECHOES : 0, timeout, &fail))
		return rtnl_push_refusal(L, h, 2, &fail);
	lua_pushboolean(L, 1);
	if (!echoes)
		return 1;
	rtnl_push_echoes(L, h, 2);
	return 2;
}

/* Send the question in h->nl.out. Returns 0, or the number of values pushed for a failure. */
static int ask(lua_State *L, struct rtnl *h, const struct rtnl_object *object, int key, int timeout,
	       bool dump)
{
	struct nl_failure fail;

	if (!nl_query(&h->nl, timeout, &fail))
		return 0;
	rtnl_push_what(L, dump ? "list" : "get", object->name, key);
	return push_nl_failure(L, &fail, lua_tostring(L, -1));
}

/***
Read one object.

Links are looked up by `index` or `name` (alternative names too), neighbours by `index` and `dst`,
queueing disciplines and classes by `index` and `handle`;
of the other objects the first is given that agrees with every value of the key.
@function rtnl:get
@tparam string object
@tparam table key
@tparam[opt] {string,...} keys the attributes that are wanted; the others are left out, which spares
  most of the time it takes. What they depend on (`kind`) and what is compared comes as well
@tparam[opt=10000] integer timeout_ms
@treturn[1] table attributes
@treturn[2] nil there is none
@return[3] nil
@treturn[3] string what went wrong
@treturn[3] integer errno
*/
static int rtnl_get(lua_State *L)
{
	struct rtnl *h = rtnl_check(L);
	const struct rtnl_object *object = rtnl_object_arg(L, 2);
	int timeout = rtnl_timeout_arg(L, 5, RTNL_TIMEOUT_MS);
	const struct attr_only *only;
	struct attr_only keys;
	int n;

	luaL_checktype(L, 3, LUA_TTABLE);
	luaL_argcheck(L,
		      object->lookup == NULL || rtnl_has_key(L, 3, "index") ||
			      rtnl_has_key(L, 3, "name"),
		      3, "a key needs 'index' or 'name'");
	lua_settop(L, 4);
	if (!object->lookup)
		rtnl_push_canonical(L, h, object, 3);
	only = rtnl_only_arg(L, 4, object, &keys, object->lookup ? 0 : 5, 0);
	rtnl_build_get(L, h, object, 3, !object->lookup);

	n = ask(L, h, object, 3, timeout, false);
	if (n) {
		if (!rtnl_is_absent((int)lua_tointeger(L, -1)))
			return n;
		lua_pushnil(L);
		return 1;
	}
	rtnl_push_answers(L, h, object, object->lookup ? 0 : 5, only);
	lua_rawgeti(L, -1, 1);
	return 1;
}

/***
The route that a packet to an address takes, as the kernel chooses it.
@function rtnl:way
@string address
@treturn[1] table attributes of a route, such as `type` (local: the address is the host's own) and `oif`
@treturn[2] nil there is no way
@return[3] nil
@treturn[3] string what went wrong
@treturn[3] integer errno
*/
static int rtnl_way(lua_State *L)
{
	struct rtnl *h = rtnl_check(L);
	const struct nlmsghdr *msg;
	struct nl_failure fail;
	long at;
	int err;

	luaL_checkstring(L, 2);
	lua_settop(L, 2);
	lua_newtable(L);
	lua_pushvalue(L, 2);
	lua_setfield(L, 3, "dst");
	nl_clear(&h->nl);
	at = nl_begin(&h->nl.out, RTM_GETROUTE, 0, 0);
	rtnl_check_nl(L, at);
	attr_encode(L, &h->nl.out, 3, &rtnl_route_table);
	rtnl_check_nl(L, nl_end(&h->nl.out, (size_t)at));
	err = nl_query(&h->nl, RTNL_TIMEOUT_MS, &fail);
	if (err && err != -ENETUNREACH && err != -EHOSTUNREACH)
		return push_nl_failure(L, &fail,
				       lua_pushfstring(L, "the way to %s", lua_tostring(L, 2)));
	msg = err ? NULL : nl_first(&h->nl);
	if (!msg || mnl_nlmsg_get_payload_len(msg) < rtnl_route_table.header)
		lua_pushnil(L);
	else
		attr_decode(L, &rtnl_route_table, NULL, mnl_nlmsg_get_payload(msg),
			    mnl_nlmsg_get_payload_len(msg));
	return 1;
}

/***
Read all objects that agree with a filter, in one consistent picture.

The kernel filters by what it can (links: `master`, `kind`; addresses: `index`, `family`, `netnsid`;
routes: `table`, `oif`, `protocol`, `type`, `family`; rules: `family`; neighbours: `index`, `family`;
VLANs: `index`; classes and filters: `index`, `parent`), the rest is compared here. A dump that was
interrupted is asked for again.
@function rtnl:dump
@tparam string object
@tparam[opt] table filter
@tparam[opt] {string,...} keys the attributes that are wanted, as for get
@tparam[opt=10000] integer timeout_ms
@treturn[1] table list, empty when there is none
@return[2] nil
@treturn[2] string what went wrong; EAGAIN: it was interrupted time after time
@treturn[2] integer errno
*/
static int rtnl_dump(lua_State *L)
{
	struct rtnl *h = rtnl_check(L);
	const struct rtnl_object *object = rtnl_object_arg(L, 2);
	int timeout = rtnl_timeout_arg(L, 5, RTNL_TIMEOUT_MS);
	const struct attr_only *only;
	struct attr_only keys;
	bool filtered;
	int n;

	lua_settop(L, 4);
	if (lua_isnil(L, 3)) {
		lua_newtable(L);
		lua_replace(L, 3);
	}
	luaL_checktype(L, 3, LUA_TTABLE);
	lua_pushnil(L);
	filtered = lua_next(L, 3);
	lua_settop(L, 4);
	if (filtered)
		rtnl_push_canonical(L, h, object, 3);
	only = rtnl_only_arg(L, 4, object, &keys, filtered ? 5 : 0, 0);
	rtnl_build_get(L, h, object, 3, true);

	n = ask(L, h, object, 3, timeout, true);
	/* A routing table that nothing is in does not exist. */
	if (n && (lua_tointeger(L, -1) != ENOENT || object->add != RTM_NEWROUTE))
		return n;
	if (n)
		lua_newtable(L);
	else
		rtnl_push_answers(L, h, object, filtered ? 5 : 0, only);
	return 1;
}

/***
The socket's descriptor, for tests; -1 when closed.
@function rtnl:fd
@treturn integer
*/
static int rtnl_fd(lua_State *L)
{
	lua_pushinteger(L, ((struct rtnl *)luaL_checkudata(L, 1, RTNL_HANDLE))->nl.fd);
	return 1;
}

/***
Close the handle. Closing twice is fine; so is leaving it to the collector.
@function rtnl:close
*/
static int rtnl_close(lua_State *L)
{
	struct rtnl *h = luaL_checkudata(L, 1, RTNL_HANDLE);

	nl_close(&h->nl);
	nl_close(&h->events);
	nl_buf_free(&h->owners);
	detached_reap();
	return 0;
}

static int rtnl_tostring(lua_State *L)
{
	const struct rtnl *h = luaL_checkudata(L, 1, RTNL_HANDLE);

	if (h->nl.fd < 0)
		lua_pushliteral(L, "rtnl (closed)");
	else
		lua_pushfstring(L, "rtnl (%d)", h->nl.fd);
	return 1;
}

/***
List the keys that the attributes of an object may have.
@function describe
@tparam string object `link`, `addr`, `group`, `route`, `rule`, `neigh`, `vlan`, `qdisc`, `class`, `filter`
@treturn table list of `{ key=, kind=, words=, min=, max=, readonly=, when=, fields= }`; `when` is the kind
  of link, or of its master, that has the key; `fields` is such a list for what is a table itself
*/
static int rtnl_describe(lua_State *L)
{
	attr_describe(L, rtnl_object_arg(L, 1)->table);
	return 1;
}

int luaopen_netlink_describe(lua_State *L)
{
	lua_pushcfunction(L, rtnl_describe);
	return 1;
}

int luaopen_netlink_rtnl(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{ "send", rtnl_send },
		{ "get", rtnl_get }, { "way", rtnl_way },
		{ "dump", rtnl_dump },
		{ "await", rtnl_await },
		{ "del_link_quick", rtnl_del_link_quick },
		{ "del_group_quick", rtnl_del_group_quick },
		{ "fd", rtnl_fd },
		{ "close", rtnl_close },
		{ NULL, NULL },
	};
	static const luaL_Reg meta[] = {
		{ "__gc", rtnl_close },
		{ "__close", rtnl_close },
		{ "__tostring", rtnl_tostring },
		{ NULL, NULL },
	};

	new_handle_type(L, RTNL_HANDLE, methods, meta);
	lua_pushcfunction(L, rtnl_open);
	return 1;
}
