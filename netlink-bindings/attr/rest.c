/* SPDX-License-Identifier: MIT */
/*
 * What attr_decode_all() tells beside the values: in which order their keys come, and what there is that
 * no row makes sense of.
 */

#include "attr/internal.h"

#include <stdio.h>
#include <string.h>

void attr_list_key(struct attr_in *in, const char *key)
{
	lua_rawgeti(in->L, in->idx, 0);
	for (lua_Integer i = (lua_Integer)lua_rawlen(in->L, -1); i > 0; i--) {
		bool same;

		lua_rawgeti(in->L, -1, i);
		same = !strcmp(lua_tostring(in->L, -1), key);
		lua_pop(in->L, 1);
		if (same) {
			lua_pop(in->L, 1);
			return;
		}
	}
	lua_pushstring(in->L, key);
	lua_rawseti(in->L, -2, (lua_Integer)lua_rawlen(in->L, -2) + 1);
	lua_pop(in->L, 1);
}

static void add_hex(luaL_Buffer *b, const uint8_t *bytes, size_t len)
{
	static const char digits[] = "0123456789abcdef";

	luaL_addstring(b, "0x");
	for (size_t i = 0; i < len; i++) {
		luaL_addchar(b, digits[bytes[i] >> 4]);
		luaL_addchar(b, digits[bytes[i] & 15]);
	}
}

void attr_push_bytes(const struct attr_in *in, const void *bytes, size_t len)
{
	luaL_Buffer b;

	if (!in->all) {
		lua_pushlstring(in->L, bytes, len);
		return;
	}
	luaL_buffinit(in->L, &b);
	add_hex(&b, bytes, len);
	luaL_pushresult(&b);
}

/* "{1=0x0102 2={3=0x04}}" for what says that there are attributes in it, and has nothing but those. */
static void add_attr(luaL_Buffer *b, const struct nlattr *attr, int depth)
{
	const void *inside = attr_payload(attr);
	size_t len = attr_len(attr), at = 0;
	const struct nlattr *below;

	while ((below = nl_attr(inside, len, at)))
		at += NL_PAD(below->nla_len);
	if (!(attr->nla_type & NLA_F_NESTED) || at < len || depth > ATTR_MAX_DEPTH) {
		add_hex(b, inside, len);
		return;
	}
	luaL_addchar(b, '{');
	for (at = 0; (below = nl_attr(inside, len, at)); at += NL_PAD(below->nla_len)) {
		char number[16];

		snprintf(number, sizeof number, "%s%d=", at ? " " : "",
			 below->nla_type & NLA_TYPE_MASK);
		luaL_addstring(b, number);
		add_attr(b, below, depth + 1);
	}
	luaL_addchar(b, '}');
}

/* Push the key of an attribute without a row: "#18.2" is number 2 in the flat row 18. [-0, +1, m] */
static void push_number_of(struct attr_in *in, int type)
{
	if (!in->outer) {
		lua_pushfstring(in->L, "#%d", type);
		return;
	}
	push_number_of((struct attr_in *)(uintptr_t)in->outer, in->type);
	lua_pushfstring(in->L, "%s.%d", lua_tostring(in->L, -1), type);
	lua_remove(in->L, -2);
}

void attr_tell_rest(struct attr_in *in, const struct nlattr *attr)
{
	luaL_Buffer b;
	int key;

	luaL_checkstack(in->L, 12, "attributes");
	push_number_of(in, attr->nla_type & NLA_TYPE_MASK);
	key = lua_gettop(in->L);
	attr_list_key(in, lua_tostring(in->L, key));
	/* Another attribute of the same number is put behind the first: it may be a list. */
	lua_pushvalue(in->L, key);
	if (lua_rawget(in->L, in->idx) == LUA_TSTRING) {
		lua_pushliteral(in->L, " ");
	} else {
		lua_pop(in->L, 1);
		lua_pushliteral(in->L, "");
		lua_pushliteral(in->L, "");
	}
	luaL_buffinit(in->L, &b);
	add_attr(&b, attr, 0);
	luaL_pushresult(&b);
	lua_concat(in->L, 3);
	lua_rawset(in->L, in->idx);
}
