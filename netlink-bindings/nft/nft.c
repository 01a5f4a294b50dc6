/* SPDX-License-Identifier: MIT */
/***
The rule set of one namespace. Queries and dumps are here, changes in nft/batch.c; what objects look like is
in nft/rows.h. lua/cni/nft.lua builds readable rules.
@module netlink.nft
*/

#include "nft/nft.h"

#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>

#include "bindings.h"
#include "nl/push.h"
#include "ns/ns.h"

#define HANDLE "netlink.nft"

enum {
	DEFAULT_TIMEOUT_MS = 5000,
	FOUND_AT_ONCE = 64, /* so that the answers fit the default receive buffer */
};

static const char *const element_names[] = { "family", "table", "set", "key", NULL };
static const char *const list_names[] = { "family", "table", "set", NULL };
static const char *const found_names[] = { "family", "table", "set", "elements", NULL };

static const struct attr_row generation_rows[] = {
	{ ROW("id", NFTA_GEN_ID, BE32) },
};

static const struct attr_table generation_table = ATTR_TABLE("generation", generation_rows,
							     sizeof(struct nfgenmsg));

/*** Arguments ***/

struct nft *nft_check(lua_State *L)
{
	struct nft *h = luaL_checkudata(L, 1, HANDLE);

	if (h->nl.fd < 0)
		luaL_error(L, "the nft handle is closed");
	return h;
}

int nft_timeout_arg(lua_State *L, int arg)
{
	lua_Integer ms = luaL_optinteger(L, arg, DEFAULT_TIMEOUT_MS);

	luaL_argcheck(L, ms >= 0 && ms <= INT32_MAX, arg, "not a time in milliseconds");
	return (int)ms;
}

_Noreturn void nft_unknown_word(lua_State *L, const char *what, const char *word,
				   const char *const *names)
{
	const char *near = nearest_word(word, names);

	if (near)
		luaL_error(L, "unknown %s '%s' (did you mean '%s'?)", what, word, near);
	luaL_error(L, "unknown %s '%s'", what, word);
	__builtin_unreachable();
}

const struct nft_object *nft_object_of(lua_State *L, const char *word)
{
	const char *names[16] = { 0 };

	for (size_t i = 0; i < nft_object_count && i < ARRAY_SIZE(names) - 1; i++) {
		names[i] = nft_objects[i].name;
		if (!strcmp(names[i], word))
			return &nft_objects[i];
	}
	nft_unknown_word(L, "object", word, names);
}

static bool has_key(lua_State *L, int idx, const char *key, size_t len)
{
	bool found;

	lua_pushlstring(L, key, len);
	found = lua_rawget(L, idx) != LUA_TNIL;
	lua_pop(L, 1);
	return found;
}

/* Raise unless the table at `idx` has every key of `needs`, one of "a|b". */
void nft_check_needs(lua_State *L, int idx, const char *const *needs, const char *verb,
			const char *object, lua_Integer nth)
{
	for (; *needs; needs++) {
		const char *bar = strchr(*needs, '|');
		size_t len = bar ? (size_t)(bar - *needs) : strlen(*needs);

		if (has_key(L, idx, *needs, len) ||
		    (bar && has_key(L, idx, bar + 1, strlen(bar + 1))))
			continue;
		if (nth)
			luaL_error(L, "request %I: %s %s needs '%s'", (LUAI_UACINT)nth, verb,
				   object, *needs);
		luaL_error(L, "%s %s needs '%s'", verb, object, *needs);
	}
}

void nft_check_room(lua_State *L, long err)
{
	if (err < 0)
		luaL_error(L, "nft: %s", strerror((int)-err));
}

/*** Methods ***/

/* Ask for one object or all; the answers are in h->nl.in afterwards. */
static int ask(lua_State *L, struct nft *h, uint8_t type, uint16_t flags,
	       const struct attr_table *query, const struct attr_table *full, int idx,
	       int timeout_ms, struct nl_failure *fail)
{
	long at;

	nl_clear(&h->nl);
	at = nl_begin(&h->nl.out, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), flags, 0);
	nft_check_room(L, at);
	attr_encode_some(L, &h->nl.out, idx, query, full);
	nl_end(&h->nl.out, (size_t)at);
	return nl_query(&h->nl, timeout_ms, fail);
}

/* Show bytes of the elements in the list at the top as values of the types asked for. */
static void type_elements(lua_State *L, const struct nft_types *key, const struct nft_types *data)
{
	static const char *const names[] = { "key", "key_end", "data" };
	int list = lua_gettop(L);
	size_t len;

	for (lua_Integer i = 1; i <= (lua_Integer)lua_rawlen(L, list); i++) {
		lua_rawgeti(L, list, i);
		for (size_t j = 0; j < ARRAY_SIZE(names); j++) {
			const struct nft_types *types = j == 2 ? data : key;

			lua_getfield(L, list + 1, names[j]);
			if (lua_type(L, -1) == LUA_TSTRING && types->count) {
				const char *bytes = lua_tolstring(L, -1, &len);

				nft_push_value(L, types, bytes, len);
				lua_setfield(L, list + 1, names[j]);
			}
			lua_settop(L, list + 1);
		}
		lua_settop(L, list);
	}
}

/* Push what one answer says; for elements, the list of them. [-0, +1, m] */
static void push_answer(lua_State *L, const struct nft_object *object, const struct nlmsghdr *msg)
{
	attr_decode(L, object->table, NULL, mnl_nlmsg_get_payload(msg), mnl_nlmsg_get_payload_len(msg));
	if (!object->in_list)
		return;
	if (lua_getfield(L, -1, "elements") != LUA_TTABLE) {
		lua_pop(L, 1);
		lua_newtable(L);
	}
	lua_replace(L, -2);
}

/* The types that a query names for the bytes of elements. */
static void types_asked(lua_State *L, const struct nft_object *object, int idx,
			struct nft_types *key, struct nft_types *data)
{
	struct attr_out out = { .L = L, .table = object->query, .idx = idx };

	*key = *data = (struct nft_types){ 0 };
	if (!object->in_list)
		return;
	nft_types_beside(&out, "key_type", key);
	nft_types_beside(&out, "data_type", data);
}

/***
Find one object by its key.

Keys: table `{ family, name }`; chain, set, map `{ family, table, name }`; rule `{ family, table,
chain, handle }`; element `{ family, table, set, key }`, with `key_type` and `data_type` for values
instead of bytes; object `{ family, table, name, type }`.
@function nft:get
@string object
@tparam table key
@int[opt=5000] timeout_ms
@treturn[1] table its attributes
@treturn[2] nil there is no such object
@return[3] nil
@treturn[3] string what went wrong
@treturn[3] int errno
*/
static int nft_get(lua_State *L)
{
	struct nft *h = nft_check(L);
	const struct nft_object *object = nft_object_of(L, luaL_checkstring(L, 2));
	int timeout_ms = nft_timeout_arg(L, 4), err;
	struct nft_types key, data;
	const struct nlmsghdr *msg;
	struct nl_failure fail;

	luaL_checktype(L, 3, LUA_TTABLE);
	lua_settop(L, 3);
	nft_check_needs(L, 3, object->in_list ? element_names : object->names, "get",
			object->name, 0);
	types_asked(L, object, 3, &key, &data);
	err = ask(L, h, object->get, 0, object->query, object->query, 3, timeout_ms, &fail);

	if (err == -ENOENT) {
		lua_pushnil(L);
		return 1;
	}
	if (err)
		return push_nl_failure(L, &fail, lua_pushfstring(L, "get %s", object->name));
	msg = nl_first(&h->nl);
	if (!msg) {
		lua_pushnil(L);
		return 1;
	}
	push_answer(L, object, msg);
	if (object->in_list) {
		type_elements(L, &key, &data);
		lua_rawgeti(L, -1, 1);
	}
	return 1;
}

/* Put one answer, or false for none, into the result at the top, at place `to`. */
static void put_found(lua_State *L, const struct nft_object *object, const struct nlmsghdr *msg,
		      const struct nft_types *key, const struct nft_types *data, lua_Integer to)
{
	int result = lua_gettop(L);

	if (msg) {
		push_answer(L, object, msg);
		type_elements(L, key, data);
		lua_rawgeti(L, -1, 1);
	} else {
		lua_pushboolean(L, 0);
	}
	lua_rawseti(L, result, to);
	lua_settop(L, result);
}

/*
 * Put questions about elements from place `next` on into the batch, one each: of several in one message
 * the kernel answers no more behind the first that it has not. Returns the place of the next one; 0: none
 * is left.
 */
static lua_Integer put_questions(lua_State *L, struct nft *h, const struct nft_object *object,
				 lua_Integer next)
{
	const uint16_t type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETSETELEM;

	nl_clear(&h->nl);
	h->next_element = next;
	h->at_once = 1;
	while (h->next_element && h->nl.out.count < FOUND_AT_ONCE) {
		long at = nl_begin(&h->nl.out, type, NLM_F_ACK, 0);

		nft_check_room(L, at);
		attr_encode_some(L, &h->nl.out, 2, object->table, object->table);
		nl_end(&h->nl.out, (size_t)at);
	}
	return h->next_element;
}

/***
Find elements of one set, which has no intervals: many in one question.
@function nft:find
@tparam table list `{ family, table, set, elements }`, the elements as `{ key = }`; `key_type` and `data_type`
for values instead of bytes
@int[opt=5000] timeout_ms for each 64 of them
@treturn[1] {table|boolean,...} for each key its element, or false: there is none
@return[2] nil
@treturn[2] string what went wrong
@treturn[2] int errno
@see nft:get
*/
static int nft_find(lua_State *L)
{
	struct nft *h = nft_check(L);
	const struct nft_object *object = nft_object_of(L, "element");
	int timeout_ms = nft_timeout_arg(L, 3);
	struct nft_types key, data;
	lua_Integer count, next = 1;

	luaL_checktype(L, 2, LUA_TTABLE);
	lua_settop(L, 2);
	nft_check_needs(L, 2, found_names, "find", object->name, 0);
	lua_getfield(L, 2, "elements");
	luaL_argcheck(L, lua_istable(L, 3), 2, "no list of elements");
	count = (lua_Integer)lua_rawlen(L, 3);
	lua_settop(L, 2);
	types_asked(L, object, 2, &key, &data);
	lua_newtable(L);
	while (next && next <= count) {
		lua_Integer first = next;
		struct nl_failure fail;
		const struct nlmsghdr *msg;
		int err;

		next = put_questions(L, h, object, first);
		err = nl_transact(&h->nl, NL_ECHOES, timeout_ms, &fail);
		if (err && err != -ENOENT)
			return push_nl_failure(L, &fail, "find elements");
		msg = nl_first(&h->nl);
		for (size_t i = 0; i < h->nl.out.count; i++) {
			int status = h->nl.status[i];

			if (status && status != ENOENT)
				return push_failure(L, status < 0 ? -status : status, "find elements");
			if (!status && !msg)
				return push_failure(L, EBADMSG, "find elements");
			put_found(L, object, status ? NULL : msg, &key, &data, first + (lua_Integer)i);
			if (!status)
				msg = nl_next(&h->nl, msg);
		}
	}
	return 1;
}

/***
List objects.

Filter keys that the kernel knows are left to it (family, and of what they are part of); others are
compared here. Elements need `{ family, table, set }`; `key_type` and `data_type` give values
instead of bytes. The list is of one moment: a dump that a change ran into is repeated.
@function nft:dump
@string object
@tparam[opt] table filter
@int[opt=5000] timeout_ms
@treturn[1] {table,...} their attributes
@return[2] nil
@treturn[2] string what went wrong
@treturn[2] int errno
*/
static int nft_dump(lua_State *L)
{
	struct nft *h = nft_check(L);
	const struct nft_object *object = nft_object_of(L, luaL_checkstring(L, 2));
	int timeout_ms = nft_timeout_arg(L, 4), err;
	struct nft_types key, data;
	struct nl_failure fail;
	lua_Integer n = 0;

	lua_settop(L, 3);
	if (lua_isnil(L, 3)) {
		lua_newtable(L);
		lua_replace(L, 3);
	}
	luaL_checktype(L, 3, LUA_TTABLE);
	if (object->in_list)
		nft_check_needs(L, 3, list_names, "dump", object->name, 0);
	types_asked(L, object, 3, &key, &data);
	err = ask(L, h, object->get, NLM_F_DUMP, object->query, object->table, 3, timeout_ms,
		  &fail);

	if (err)
		return push_nl_failure(L, &fail, lua_pushfstring(L, "dump %s", object->name));
	lua_newtable(L);
	for (const struct nlmsghdr *msg = nl_first(&h->nl); msg; msg = nl_next(&h->nl, msg)) {
		push_answer(L, object, msg);
		if (!object->in_list) {
			if (attr_match(L, 5, 3))
				lua_rawseti(L, 4, ++n);
			lua_settop(L, 4);
			continue;
		}
		type_elements(L, &key, &data);
		for (lua_Integer i = 1; i <= (lua_Integer)lua_rawlen(L, 5); i++) {
			lua_rawgeti(L, 5, i);
			lua_rawseti(L, 4, ++n);
		}
		lua_settop(L, 4);
	}
	return 1;
}

/***
The generation of the rule set: a number that changes with every change.
@function nft:generation
@int[opt=5000] timeout_ms
@treturn[1] int
@return[2] nil
@treturn[2] string what went wrong
@treturn[2] int errno
*/
static int nft_generation(lua_State *L)
{
	struct nft *h = nft_check(L);
	int timeout_ms = nft_timeout_arg(L, 2), err;
	struct nl_failure fail;
	const struct nlmsghdr *msg;

	lua_settop(L, 1);
	lua_newtable(L);
	err = ask(L, h, NFT_MSG_GETGEN, 0, &generation_table, &generation_table, 2, timeout_ms,
		  &fail);

	if (err)
		return push_nl_failure(L, &fail, "get generation");
	msg = nl_first(&h->nl);
	if (!msg)
		return push_failure(L, ENODATA, "get generation");
	attr_decode(L, &generation_table, NULL, mnl_nlmsg_get_payload(msg),
		    mnl_nlmsg_get_payload_len(msg));
	lua_getfield(L, -1, "id");
	return 1;
}

/***
The keys of an object, for people: a list of { key, kind, words, min, max, readonly, when }.
@function nft:keys
@string object or "expression"
@treturn {table,...}
*/
static int nft_keys(lua_State *L)
{
	const char *word = luaL_checkstring(L, 2);

	attr_describe(L, !strcmp(word, "expression") ? &nft_expression_table
						     : nft_object_of(L, word)->table);
	return 1;
}

/***
The socket's descriptor, for tests.
@function nft:fd
@treturn int -1 when closed
*/
static int nft_fd(lua_State *L)
{
	const struct nft *h = luaL_checkudata(L, 1, HANDLE);

	lua_pushinteger(L, h->nl.fd);
	return 1;
}

/***
Close it for this program. Closing a socket that has deleted something waits some 10 ms for RCU: so that one
is left to a time after the end of the process.
@function nft:leave_open
*/
static int nft_leave_open(lua_State *L)
{
	struct nft *h = luaL_checkudata(L, 1, HANDLE);

	nl_leave_open(&h->nl);
	nl_buf_free(&h->origins);
	return 0;
}

/***
Close the handle; closing twice is fine.
@function nft:close
*/
static int nft_close(lua_State *L)
{
	struct nft *h = luaL_checkudata(L, 1, HANDLE);

	nl_close(&h->nl);
	nl_buf_free(&h->origins);
	return 0;
}

static int nft_tostring(lua_State *L)
{
	const struct nft *h = luaL_checkudata(L, 1, HANDLE);

	lua_pushfstring(L, "nft handle (%s)", h->nl.fd < 0 ? "closed" : "open");
	return 1;
}

/***
Open a handle on the rule set of a network namespace.

It goes on talking to that namespace whatever the process does afterwards.
@function nft
@param[opt] ns a namespace object or the path of one; none: the process's own
@treturn[1] nft
@return[2] nil
@treturn[2] string what went wrong
@treturn[2] int errno
*/
static int nft_open(lua_State *L)
{
	struct nl_place place = netns_place_arg(L, 1);
	struct nft *h = lua_newuserdatauv(L, sizeof *h, 0);
	int err;

	*h = (struct nft){ 0 };
	nl_init(&h->nl);
	luaL_setmetatable(L, HANDLE);

	err = nl_open(&h->nl, NETLINK_NETFILTER, &place);

	return err ? push_failure(L, err, "open nftables") : 1;
}

int luaopen_netlink_nft(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{ "commit", nft_commit }, { "get", nft_get },   { "dump", nft_dump },
		{ "generation", nft_generation }, { "keys", nft_keys }, { "fd", nft_fd },
		{ "find", nft_find },     { "close", nft_close },   { "leave_open", nft_leave_open },
		{ "flows", nft_flows },   { "forget", nft_forget },
		{ NULL, NULL },
	};
	static const luaL_Reg meta[] = {
		{ "__gc", nft_close },
		{ "__close", nft_close },
		{ "__tostring", nft_tostring },
		{ NULL, NULL },
	};

	new_handle_type(L, HANDLE, methods, meta);
	lua_pushcfunction(L, nft_open);
	return 1;
}
