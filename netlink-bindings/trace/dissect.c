/* SPDX-License-Identifier: MIT */
/***
What the bytes say that another program has sent or received on a netlink socket. They are read by the rows of
our own messages; what is in no row is given as bytes.
@module netlink.dissect
*/
#include "bindings.h"

#include <lauxlib.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>

#include "nft/rows.h"
#include "nl/nl.h"
#include "tables/tables.h"

/* What a message is about. */
struct subject {
	const char *verb, *object;
	const struct attr_table *table; /* NULL: there are no rows for it */
};

/* For messages of nf_tables about objects that have no rows: this header, and then attributes. */
static const struct attr_table plain_nft = { "message", NULL, 0, sizeof(struct nfgenmsg) };

static const struct nft_object *nft_object_of_type(uint8_t type, const char **ret_verb)
{
	for (size_t i = 0; i < nft_object_count; i++) {
		const struct nft_object *o = &nft_objects[i];

		*ret_verb = type == o->add    ? "new"
			    : type == o->get  ? "get"
			    : type == o->del  ? "del"
			    : type == o->destroy ? "destroy"
					      : NULL;
		if (*ret_verb)
			return o;
	}
	return NULL;
}

static void find_subject(int protocol, const struct nlmsghdr *msg, struct subject *ret)
{
	static const char *const verbs[] = { "new", "del", "get", "set" };
	const uint8_t *body = mnl_nlmsg_get_payload(msg);
	size_t len = mnl_nlmsg_get_payload_len(msg);

	*ret = (struct subject){ 0 };
	if (protocol == NETLINK_ROUTE && msg->nlmsg_type >= NLMSG_MIN_TYPE) {
		const struct rtnl_object *o =
			rtnl_object_of(msg->nlmsg_type, len ? *body : 0, &ret->table);

		ret->verb = verbs[msg->nlmsg_type & 3];
		ret->object = o ? o->name : NULL;
	} else if (protocol == NETLINK_NETFILTER &&
		   msg->nlmsg_type >> 8 == NFNL_SUBSYS_NFTABLES) {
		const struct nft_object *o =
			nft_object_of_type((uint8_t)msg->nlmsg_type, &ret->verb);

		ret->object = o ? o->name : NULL;
		ret->table = o ? o->table : &plain_nft;
	}
}

static void set_number(lua_State *L, const char *key, lua_Integer value)
{
	lua_pushinteger(L, value);
	lua_setfield(L, -2, key);
}

static void set_text(lua_State *L, const char *key, const char *value)
{
	if (!value)
		return;
	lua_pushstring(L, value);
	lua_setfield(L, -2, key);
}

/* Errno, its name, what it means, and what the kernel adds. [-0, +0, m] */
static void set_outcome(lua_State *L, const struct nl_failure *fail)
{
	set_number(L, "errno", fail->error);
	if (fail->error) {
		set_text(L, "error", strerrorname_np(fail->error));
		set_text(L, "meaning", strerror(fail->error));
	}
	set_text(L, "text", fail->text[0] ? fail->text : NULL);
	if (fail->offset)
		set_number(L, "offset", fail->offset);
	if (fail->missing)
		set_number(L, "missing", fail->missing);
}

static void push_message(lua_State *L, int protocol, const struct nlmsghdr *msg)
{
	const void *body = mnl_nlmsg_get_payload(msg);
	size_t len = mnl_nlmsg_get_payload_len(msg);
	struct attr_in all = { .L = L, .all = true };
	struct nl_failure fail = { 0 };
	struct subject subject;
	int32_t code;

	lua_createtable(L, 0, 8);
	set_number(L, "type", msg->nlmsg_type);
	set_number(L, "flags", msg->nlmsg_flags);
	set_number(L, "seq", msg->nlmsg_seq);
	set_number(L, "length", msg->nlmsg_len);
	find_subject(protocol, msg, &subject);
	set_text(L, "verb", subject.verb);
	set_text(L, "object", subject.object);
	if (msg->nlmsg_type == NLMSG_ERROR && nl_read_error(msg, &fail)) {
		set_outcome(L, &fail);
	} else if (msg->nlmsg_type == NLMSG_DONE && len >= sizeof code) {
		memcpy(&code, body, sizeof code);
		fail.error = nl_outcome(code < 0 ? code : 0);
		set_outcome(L, &fail);
	} else if (subject.table) {
		attr_decode_all(L, subject.table, body, len);
		lua_setfield(L, -2, "attrs");
	} else if (len) {
		attr_push_bytes(&all, body, len);
		lua_setfield(L, -2, "body");
	}
}

/***
What a datagram says.
@function messages
@int protocol NETLINK_*
@string bytes
@treturn {table,...} per message `type`, `flags`, `seq`, `length`; `verb` ("new", "del", "get", "set",
"destroy") and `object` where they are known; `attrs`, see attr_decode_all in attr/attr.h, or else
`body`, in hexadecimal; of an outcome `errno` (0: done), `error` (its name), `meaning`, `text` (the
kernel's own), `offset` and `missing`: of the attribute that the kernel objects to in the message, and
the number of one that it misses
@treturn integer how many bytes at the end are no whole message
*/
static int dissect_messages(lua_State *L)
{
	lua_Integer protocol = luaL_checkinteger(L, 1), n = 0;
	const struct nlmsghdr *msg;
	size_t len, at = 0;
	const char *bytes = luaL_checklstring(L, 2, &len);
	/* Lua's own bytes are aligned to nothing in particular. */
	uint8_t *copy = lua_newuserdatauv(L, len + 1, 0);

	memcpy(copy, bytes, len);
	lua_newtable(L);
	while (at < len && (msg = nl_message(copy + at, len - at))) {
		luaL_checkstack(L, 8, "messages");
		push_message(L, (int)protocol, msg);
		lua_rawseti(L, -2, ++n);
		at += NL_PAD(msg->nlmsg_len);
	}
	lua_pushinteger(L, at < len ? (lua_Integer)(len - at) : 0);
	return 2;
}

/***
Which value of a request the kernel objects to.
@function locate
@int protocol NETLINK_*
@string bytes the request alone
@int offset that the kernel gives for it
@treturn ?string such as "peer.mtu"; nil: it is in no row
*/
static int dissect_locate(lua_State *L)
{
	lua_Integer protocol = luaL_checkinteger(L, 1), offset = luaL_checkinteger(L, 3);
	size_t len;
	const char *bytes = luaL_checklstring(L, 2, &len);
	uint8_t *copy = lua_newuserdatauv(L, len + 1, 0);
	const struct nlmsghdr *msg;
	struct subject subject;

	memcpy(copy, bytes, len);
	msg = nl_message(copy, len);
	if (!msg || offset < (lua_Integer)sizeof *msg || offset > (lua_Integer)len)
		return 0;
	find_subject((int)protocol, msg, &subject);
	return subject.table ? attr_locate(L, subject.table, mnl_nlmsg_get_payload(msg),
					   mnl_nlmsg_get_payload_len(msg),
					   (size_t)offset - sizeof *msg)
			     : 0;
}

int luaopen_netlink_dissect(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{ "messages", dissect_messages },
		{ "locate", dissect_locate },
		{ NULL, NULL },
	};

	luaL_newlib(L, functions);
	return 1;
}
