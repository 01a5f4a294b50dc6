/* SPDX-License-Identifier: MIT */
/***
@submodule netlink
*/
/*
 * Requests to change something: one Lua table each, encoded behind one another into the handle's
 * batch, and what the kernel's refusal of one of them looks like.
 */

#include "rtnl/rtnl.h"

#include <linux/fib_rules.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "bindings.h"
#include "nl/push.h"

struct verb {
	const char *name;
	uint16_t flags;
	bool del;
};

static const struct verb verbs[] = {
	{ "add", NLM_F_CREATE | NLM_F_EXCL, false },
	{ "ensure", NLM_F_CREATE, false },
	{ "replace", NLM_F_CREATE | NLM_F_REPLACE, false },
	{ "append", NLM_F_CREATE | NLM_F_APPEND, false },
	{ "set", 0, false },
	{ "del", 0, true },
};

const struct rtnl_object *rtnl_find_object(const char *name)
{
	for (size_t i = 0; i < rtnl_object_count; i++)
		if (!strcmp(rtnl_objects[i].name, name))
			return &rtnl_objects[i];
	return NULL;
}

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		if (!strcmp(verbs[i].name, name))
			return &verbs[i];
	return NULL;
}

bool rtnl_push_raw(lua_State *L, int idx, const char *key)
{
	lua_pushstring(L, key);
	return lua_rawget(L, idx) != LUA_TNIL;
}

bool rtnl_has_key(lua_State *L, int idx, const char *key)
{
	bool there = rtnl_push_raw(L, idx, key);

	lua_pop(L, 1);
	return there;
}

void rtnl_push_what(lua_State *L, const char *verb, const char *object, int attrs)
{
	static const char *const keys[] = { "name", "address", "dst", "from", "to", "index" };
	bool found = false;

	for (size_t i = 0; lua_istable(L, attrs) && i < ARRAY_SIZE(keys) && !found; i++) {
		found = rtnl_push_raw(L, attrs, keys[i]);
		if (!found)
			lua_pop(L, 1);
	}
	if (found && lua_isstring(L, -1)) {
		lua_pushfstring(L, "%s %s %s", verb, object, lua_tostring(L, -1));
		lua_remove(L, -2);
	} else {
		lua_pop(L, found);
		lua_pushfstring(L, "%s %s", verb, object);
	}
}

/*** Arguments ***/

const struct rtnl_object *rtnl_object_arg(lua_State *L, int arg)
{
	const char *name = luaL_checkstring(L, arg);
	const struct rtnl_object *object = rtnl_find_object(name);

	if (!object)
		luaL_argerror(L, arg, lua_pushfstring(L, "no such object '%s'", name));
	return object;
}

static void want_keys_of(lua_State *L, struct attr_only *only, const struct rtnl_object *object,
			 int idx)
{
	lua_pushnil(L);
	while (lua_next(L, idx)) {
		lua_pop(L, 1);
		attr_only_add(L, only, object->table, lua_tostring(L, -1));
	}
}

const struct attr_only *rtnl_only_arg(lua_State *L, int arg, const struct rtnl_object *object,
				      struct attr_only *only, int filter, int wanted)
{
	if (lua_isnoneornil(L, arg))
		return NULL;
	luaL_checktype(L, arg, LUA_TTABLE);
	luaL_argcheck(L, !object->answer, arg, "of this object all keys come");
	*only = (struct attr_only){ 0 };
	attr_only_list(L, only, object->table, arg);
	/* Both have been encoded by then: their keys are strings, and known. */
	if (filter)
		want_keys_of(L, only, object, filter);
	if (wanted)
		want_keys_of(L, only, object, wanted);
	return only;
}

/*** Building requests ***/

void rtnl_check_nl(lua_State *L, long err)
{
	if (err < 0)
		luaL_error(L, "netlink batch: %s", strerror((int)-err));
}

/* Values that a request has when nothing else was said. */
static void complete_route(lua_State *L, struct rtmsg *rtm, int attrs, bool del)
{
	if (!rtm->rtm_family)
		rtm->rtm_family = AF_INET;
	if (!rtnl_has_key(L, attrs, "table"))
		rtm->rtm_table = RT_TABLE_MAIN;
	if (del) {
		if (!rtnl_has_key(L, attrs, "scope"))
			rtm->rtm_scope = RT_SCOPE_NOWHERE;
		return;
	}
	if (!rtnl_has_key(L, attrs, "protocol"))
		rtm->rtm_protocol = RTPROT_BOOT;
	if (!rtm->rtm_type)
		rtm->rtm_type = RTN_UNICAST;
	if (!rtnl_has_key(L, attrs, "scope") && rtm->rtm_type == RTN_LOCAL)
		rtm->rtm_scope = RT_SCOPE_HOST;
}

static void complete_rule(lua_State *L, struct fib_rule_hdr *rule, int attrs, bool del)
{
	if (!rule->family)
		rule->family = AF_INET;
	if (del)
		return;
	if (!rule->action)
		rule->action = rtnl_has_key(L, attrs, "goto") ? FR_ACT_GOTO : FR_ACT_TO_TBL;
	if (rule->action == FR_ACT_TO_TBL && !rtnl_has_key(L, attrs, "table") &&
	    !rtnl_has_key(L, attrs, "l3mdev"))
		rule->table = RT_TABLE_MAIN;
}

static void complete_neigh(lua_State *L, struct ndmsg *neigh, int attrs, bool del)
{
	if (!neigh->ndm_family && !rtnl_has_key(L, attrs, "dst"))
		neigh->ndm_family = AF_BRIDGE;
	if (!del && !rtnl_has_key(L, attrs, "state"))
		neigh->ndm_state = NUD_PERMANENT;
}

/* Begin and end one message round the attributes at `attrs`, for request `nth` (from 1). */
static void encode_message(lua_State *L, struct rtnl *h, const struct verb *verb,
			   const struct rtnl_object *object, int attrs, lua_Integer nth)
{
	uint16_t type = verb->del ? object->del : object->add;
	uint32_t owner = (uint32_t)(nth - 1);
	long at = nl_begin(&h->nl.out, type, (uint16_t)(verb->flags | NLM_F_ACK), 0);
	void *header;

	rtnl_check_nl(L, at);
	attr_encode_nth(L, &h->nl.out, attrs, object->table, nth);
	rtnl_check_nl(L, nl_end(&h->nl.out, (size_t)at));
	header = h->nl.out.data + at + NLMSG_HDRLEN;
	if (object->family)
		*(uint8_t *)header = object->family;
	switch (object->add) {
	case RTM_NEWROUTE:
		complete_route(L, header, attrs, verb->del);
		break;
	case RTM_NEWRULE:
		complete_rule(L, header, attrs, verb->del);
		break;
	case RTM_NEWNEIGH:
		complete_neigh(L, header, attrs, verb->del);
		break;
	}
	rtnl_check_nl(L, nl_buf_reserve(&h->owners, sizeof owner));
	memcpy(h->owners.data + h->owners.len, &owner, sizeof owner);
	h->owners.len += sizeof owner;
}

void rtnl_push_without(lua_State *L, int idx, const char *key)
{
	lua_newtable(L);
	lua_pushnil(L);
	while (lua_next(L, idx)) {
		lua_pushvalue(L, -2);
		lua_insert(L, -2);
		lua_rawset(L, -4);
	}
	lua_pushnil(L);
	lua_setfield(L, -2, key);
}

/* The verb and object of the request at `idx`; pushes its attributes. [-0, +1, v] */
static const struct verb *read_request(lua_State *L, int idx, lua_Integer nth,
				       const struct rtnl_object **ret_object)
{
	const struct verb *verb;
	const char *name;

	if (!lua_istable(L, idx))
		luaL_error(L, "request %I: expected a table", (LUAI_UACINT)nth);
	lua_rawgeti(L, idx, 1);
	lua_rawgeti(L, idx, 2);
	name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "";
	verb = find_verb(name);
	if (!verb)
		luaL_error(L, "request %I: no such verb '%s'", (LUAI_UACINT)nth, name);
	name = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
	*ret_object = rtnl_find_object(name);
	if (!*ret_object)
		luaL_error(L, "request %I: no such object '%s'", (LUAI_UACINT)nth, name);
	lua_pop(L, 2);
	lua_rawgeti(L, idx, 3);
	return verb;
}

/*** Links: settings that have to wait ***/

/* What the kernel passes over in silence when it creates a link. */
static const char *const not_at_birth[] = {
	"alias", "carrier", "proto_down", "addr_gen_mode", "ipv6_token", "port", "port_kind",
};

/* How the link makes its IPv6 address, which it does when it goes up. */
static const char *const before_up[] = { "addr_gen_mode", "ipv6_token" };

static bool has_any(lua_State *L, int attrs, const char *const *keys, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (rtnl_has_key(L, attrs, keys[i]))
			return true;
	return false;
}

static void move_key(lua_State *L, int from, int to, const char *key)
{
	if (rtnl_push_raw(L, from, key)) {
		lua_setfield(L, to, key);
		lua_pushnil(L);
		lua_setfield(L, from, key);
	} else {
		lua_pop(L, 1);
	}
}

/* Push a table with what identifies the link: its name may be changing, its index does not. */
static int push_identity(lua_State *L, int attrs, lua_Integer nth)
{
	const char *key = rtnl_has_key(L, attrs, "index") ? "index" : "name";

	lua_newtable(L);
	if (!rtnl_push_raw(L, attrs, key))
		luaL_error(L, "request %I: link: no 'name'", (LUAI_UACINT)nth);
	lua_setfield(L, -2, key);
	return lua_gettop(L);
}

/* A continuation of the message before it. */
static void encode_more(lua_State *L, struct rtnl *h, const struct rtnl_object *object, int attrs,
			lua_Integer nth)
{
	static const struct verb set = { "set", 0, false };
	size_t at = h->nl.out.len;

	encode_message(L, h, &set, object, attrs, nth);
	nl_continue(&h->nl.out, at);
}

/* Leave what cannot go with the rest to a second message, and `up` to a third if need be. */
static void encode_in_steps(lua_State *L, struct rtnl *h, const struct verb *verb,
			    const struct rtnl_object *object, int attrs, lua_Integer nth)
{
	bool creating = verb->flags & NLM_F_CREATE;
	int first, later, last;

	if (creating && has_any(L, attrs, (const char *const[]){ "netns", "netns_pid" }, 2))
		luaL_error(L, "request %I: link: alias, port and the like cannot go with 'netns'",
			   (LUAI_UACINT)nth);
	later = push_identity(L, attrs, nth);
	last = push_identity(L, attrs, nth);
	rtnl_push_without(L, attrs, "");
	first = lua_gettop(L);
	if (has_any(L, attrs, before_up, ARRAY_SIZE(before_up)))
		move_key(L, first, last, "up");
	for (size_t i = 0; i < ARRAY_SIZE(not_at_birth); i++)
		move_key(L, first, later, not_at_birth[i]);
	encode_message(L, h, verb, object, first, nth);
	encode_more(L, h, object, later, nth);
	if (rtnl_has_key(L, last, "up"))
		encode_more(L, h, object, last, nth);
}

/* The other end of a pair is created down and bare; asking for more would be in vain, or fail. */
static void check_peer(lua_State *L, int attrs, lua_Integer nth)
{
	const char *bad = NULL;
	int peer;

	rtnl_push_raw(L, attrs, "peer");
	peer = lua_gettop(L);
	if (lua_istable(L, peer)) {
		for (size_t i = 0; i < ARRAY_SIZE(not_at_birth) && !bad; i++)
			bad = rtnl_has_key(L, peer, not_at_birth[i]) ? not_at_birth[i] : NULL;
		rtnl_push_raw(L, peer, "up");
		bad = lua_toboolean(L, -1) ? "up" : bad;
	}
	lua_settop(L, peer - 1);
	if (bad)
		luaL_error(L, "request %I: link.peer.%s: cannot be set before the pair is there",
			   (LUAI_UACINT)nth, bad);
}

static void encode_link(lua_State *L, struct rtnl *h, const struct verb *verb,
			const struct rtnl_object *object, int attrs, lua_Integer nth)
{
	bool creating = verb->flags & NLM_F_CREATE;
	bool steps;

	check_peer(L, attrs, nth);
	if (creating)
		steps = has_any(L, attrs, not_at_birth, ARRAY_SIZE(not_at_birth));
	else
		/* A port has no settings before it is one, and the kernel looks at them first. */
		steps = (rtnl_has_key(L, attrs, "port") && rtnl_has_key(L, attrs, "master")) ||
			(rtnl_has_key(L, attrs, "up") &&
			 has_any(L, attrs, before_up, ARRAY_SIZE(before_up)));
	if (steps)
		encode_in_steps(L, h, verb, object, attrs, nth);
	else
		encode_message(L, h, verb, object, attrs, nth);
}

bool rtnl_encode(lua_State *L, struct rtnl *h, int idx, lua_Integer nth)
{
	size_t at = h->nl.out.len;
	const struct rtnl_object *object;
	const struct verb *verb = read_request(L, idx, nth, &object);
	int attrs = lua_gettop(L);
	struct attr_only keys;
	bool echo;

	luaL_checkstack(L, 12, "request");
	if (object->add == RTM_NEWLINK && !verb->del && lua_istable(L, attrs))
		encode_link(L, h, verb, object, attrs, nth);
	else
		encode_message(L, h, verb, object, attrs, nth);
	echo = rtnl_push_raw(L, idx, "echo");
	if (echo) {
		if (!lua_istable(L, -1) || object->answer)
			luaL_error(L, "request %I: %s: echo cannot be asked for by a %s",
				   (LUAI_UACINT)nth, object->name, luaL_typename(L, -1));
		/* Unknown keys must not be noticed when all is done. */
		rtnl_only_arg(L, lua_gettop(L), object, &keys, 0, 0);
		/* Of several messages the first is the one that makes the object. */
		nl_at(&h->nl.out, at)->nlmsg_flags |= NLM_F_ECHO;
	}
	lua_settop(L, attrs - 1);
	return echo;
}

/*** Looking at attributes that are not sent ***/

/***
Look at attributes as `rtnl:send` does before it sends them: every key and value by its row. No socket is
needed, and what only the whole request tells (a link's alias cannot go with `netns`) is not looked at.
@function check
@tparam string object `link`, `addr`, `group`, `route`, `rule`, `neigh`, `vlan`, `qdisc`, `class`, `filter`
@tparam table attrs
@raise unknown key, wrong type, number out of range
*/
static int rtnl_check_attrs(lua_State *L)
{
	struct nl_buf *buf = &((struct rtnl *)lua_touserdata(L, lua_upvalueindex(1)))->nl.out;
	const struct rtnl_object *object = rtnl_object_arg(L, 1);
	long at;

	lua_settop(L, 2);
	nl_buf_clear(buf);
	at = nl_begin(buf, object->add, 0, 0);
	rtnl_check_nl(L, at);
	attr_encode(L, buf, 2, object->table);
	return 0;
}

int luaopen_netlink_check(lua_State *L)
{
	struct rtnl *h = lua_newuserdatauv(L, sizeof *h, 0);

	nl_init(&h->nl);
	nl_init(&h->events);
	h->owners = (struct nl_buf){ 0 };
	luaL_setmetatable(L, RTNL_HANDLE);
	lua_pushcclosure(L, rtnl_check_attrs, 1);
	return 1;
}

/*** Echoes ***/

/* The number of the request that a message of the kernel's is about, from 1; 0: of none. */
static lua_Integer owner_of(const struct rtnl *h, const struct nlmsghdr *echo)
{
	const uint32_t *owners = (const uint32_t *)(const void *)h->owners.data;
	size_t at = 0;

	for (size_t i = 0; at < h->nl.out.len; i++) {
		const struct nlmsghdr *msg = nl_at(&h->nl.out, at);

		if (msg->nlmsg_flags & NLM_F_ECHO && msg->nlmsg_seq == echo->nlmsg_seq)
			return (lua_Integer)owners[i] + 1;
		at += NL_PAD(msg->nlmsg_len);
	}
	return 0;
}

void rtnl_push_echoes(lua_State *L, struct rtnl *h, int requests)
{
	const struct nlmsghdr *msg = nl_first(&h->nl);
	int list;

	lua_newtable(L);
	list = lua_gettop(L);
	for (; msg; msg = nl_next(&h->nl, msg)) {
		lua_Integer nth = owner_of(h, msg);
		const struct rtnl_object *object;
		struct attr_only keys;

		if (!nth)
			continue;
		lua_rawgeti(L, requests, nth);
		read_request(L, list + 1, nth, &object);
		if (msg->nlmsg_type == object->add && !object->answer) {
			rtnl_push_raw(L, list + 1, "echo");
			attr_decode(L, object->table,
				    rtnl_only_arg(L, lua_gettop(L), object, &keys, 0, 0),
				    mnl_nlmsg_get_payload(msg), mnl_nlmsg_get_payload_len(msg));
			lua_rawseti(L, list, nth);
		}
		lua_settop(L, list);
	}
}

/*** Failures ***/

/*
 * Push the list of statuses, one per request: negative where it may have been carried out, or, being of
 * several messages, was in part. [-0, +1, m]
 */
static void push_statuses(lua_State *L, const struct rtnl *h, lua_Integer count)
{
	const uint32_t *owners = (const uint32_t *)(const void *)h->owners.data;
	size_t i = 0;

	lua_createtable(L, (int)count, 0);
	for (lua_Integer nth = 1; nth <= count; nth++) {
		size_t first = i;
		int status = 0;

		for (; i < h->nl.out.count && owners[i] + 1 == nth; i++)
			if (!status && h->nl.status[i])
				status = i == first ? h->nl.status[i] : -abs(h->nl.status[i]);
		lua_pushinteger(L, status);
		lua_rawseti(L, -2, nth);
	}
}

/* Replace the message on top by one that also says where in the request the trouble is. */
static void add_place(lua_State *L, const struct rtnl *h, const struct rtnl_object *object,
		      const struct nl_failure *fail)
{
	const struct nlmsghdr *msg = nl_at(&h->nl.out, 0);

	for (size_t i = 0; i < fail->index; i++)
		msg = (const void *)((const uint8_t *)msg + NL_PAD(msg->nlmsg_len));
	if (fail->offset >= NLMSG_HDRLEN && fail->offset < msg->nlmsg_len &&
	    attr_locate(L, object->table, (const uint8_t *)msg + NLMSG_HDRLEN,
			msg->nlmsg_len - NLMSG_HDRLEN, fail->offset - NLMSG_HDRLEN))
		lua_pushfstring(L, "%s, at '%s'", lua_tostring(L, -2), lua_tostring(L, -1));
	else if (fail->missing && attr_name(L, object->table, fail->missing))
		lua_pushfstring(L, "%s, without '%s'", lua_tostring(L, -2), lua_tostring(L, -1));
	else
		return;
	lua_replace(L, -3);
	lua_pop(L, 1);
}

int rtnl_push_refusal(lua_State *L, struct rtnl *h, int requests, const struct nl_failure *fail)
{
	const uint32_t *owners = (const uint32_t *)(const void *)h->owners.data;
	lua_Integer nth = (lua_Integer)owners[fail->index] + 1;
	const struct rtnl_object *object;
	const struct verb *verb;
	int what;

	lua_rawgeti(L, requests, nth);
	verb = read_request(L, lua_gettop(L), nth, &object);
	rtnl_push_what(L, verb->name, object->name, lua_gettop(L));
	what = lua_gettop(L);
	push_nl_failure(L, fail, lua_tostring(L, what));
	lua_insert(L, -2);
	add_place(L, h, object, fail);
	lua_insert(L, -2);
	lua_pushinteger(L, nth);
	push_statuses(L, h, (lua_Integer)lua_rawlen(L, requests));
	return 5;
}
