/* SPDX-License-Identifier: MIT */
/*
 * netlink.json: what JSON needs beside lua-cjson, where Lua would be slow at it. lua/cni/json.lua
 * is the whole of it, and the only one to call this.
 */

#include "bindings.h"

#include <errno.h>
#include <lauxlib.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	MAX_LEVEL = 128,
	FEW_KEYS = 32,
	SURE_DIGITS = 15, /* of a number that a double holds whatever they are */
};

/***
What JSON needs beside lua-cjson.
@module netlink.json
*/

/*** Reading ***/

static bool is_space(unsigned char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_digit(unsigned char c)
{
	return c >= '0' && c <= '9';
}

/* The end of the string that opens at `p`, or NULL: there is none, or it holds odd bytes. */
static const unsigned char *string_end(const unsigned char *p, const unsigned char *end)
{
	while (++p < end && *p != '"') {
		if (*p == '\\')
			p++;
		if (p == end || *p < 0x20 || *p >= 0x80)
			return NULL;
	}
	return p < end ? p : NULL;
}

static bool is_tame(const unsigned char *p, const unsigned char *end)
{
	bool something = false;
	size_t digits = 0;

	for (; p < end; p++) {
		const unsigned char *next = p + 1;

		something |= !is_space(*p);
		digits = is_digit(*p) ? digits + 1 : 0;
		if (digits > SURE_DIGITS)
			return false;
		switch (*p) {
		case '"':
			p = string_end(p, end);
			if (!p)
				return false;
			break;
		case '[':
			while (next < end && is_space(*next))
				next++;
			if (next < end && *next == ']')
				return false;
			break;
		case '.':
			if (next == end || !is_digit(*next))
				return false;
			break;
		case '-':
			if (next < end && *next == '.')
				return false;
			break;
		default:
			if ((*p < 0x20 && !is_space(*p)) || *p >= 0x7f)
				return false;
		}
	}
	return something;
}

/***
Whether a text can go to lua-cjson as it is: ASCII, without control characters, empty lists, numbers that
it takes though JSON has none such, and those of so many digits that it loses some. A text that is not
JSON may be tame too.
@function json.tame
@tparam string text
@treturn boolean
*/
static int json_tame(lua_State *L)
{
	size_t len;
	const unsigned char *text = (const unsigned char *)luaL_checklstring(L, 1, &len);

	lua_pushboolean(L, is_tame(text, text + len));
	return 1;
}

enum { LIST = 2, MARK = 3, NUMBER = 4, DIGITS = 5 };

static bool is_null(lua_State *L, int idx)
{
	return lua_islightuserdata(L, idx) && !lua_touserdata(L, idx);
}

/* Whether the table at `t` stands for an empty list. */
static bool is_marked(lua_State *L, int t)
{
	bool marked;

	lua_rawgeti(L, t, 1);
	lua_rawgeti(L, t, 2);
	marked = lua_rawequal(L, -2, MARK) && lua_isnil(L, -1);
	lua_pop(L, 2);
	return marked;
}

/* Replace the value at `value`, of the key below it in the table at `t`, by that at the top. [-1, +0, m] */
static void replace(lua_State *L, int t, int value)
{
	lua_pushvalue(L, value - 1);
	lua_insert(L, -2);
	lua_rawset(L, t);
}

/* Push what a string stands for that begins with the mark of digits: a whole number. False: it does not. */
static bool push_digits(lua_State *L, int value)
{
	size_t len, skip;
	const char *text = lua_tolstring(L, value, &len), *mark = lua_tolstring(L, DIGITS, &skip);
	long long whole;

	if (!mark || len <= skip || memcmp(text, mark, skip))
		return false;
	errno = 0;
	whole = strtoll(text + skip, NULL, 10);
	if (errno) {
		lua_createtable(L, 0, 1);
		lua_pushlstring(L, text + skip, len - skip);
		lua_setfield(L, -2, "text");
		lua_pushvalue(L, NUMBER);
		lua_setmetatable(L, -2);
	} else {
		lua_pushinteger(L, whole);
	}
	return true;
}

/* Tidy the table at `t`. False: it holds a number out of range. [-0, +0, m] */
static bool tidy(lua_State *L, int t)
{
	bool good = true;

	luaL_checkstack(L, 6, "JSON");
	if (is_marked(L, t)) {
		lua_pushnil(L);
		lua_rawseti(L, t, 1);
		lua_pushvalue(L, LIST);
		lua_setmetatable(L, t);
		return true;
	}
	lua_pushnil(L);
	while (good && lua_next(L, t)) {
		int value = lua_gettop(L), type = lua_type(L, value);

		if (type == LUA_TTABLE) {
			good = tidy(L, value);
		} else if (type == LUA_TNUMBER && !lua_isinteger(L, value)) {
			lua_Number n = lua_tonumber(L, value);

			good = n - n == 0;
			/* Beyond 2^53 neighbours are lost: what was written is no longer known. */
			if (good && n == floor(n) && n <= 0x1p53 && n >= -0x1p53) {
				lua_pushinteger(L, (lua_Integer)n);
				replace(L, t, value);
			}
		} else if (type == LUA_TSTRING && push_digits(L, value)) {
			replace(L, t, value);
		} else if (is_null(L, value) && lua_type(L, value - 1) == LUA_TSTRING) {
			lua_pushnil(L);
			replace(L, t, value);
		}
		lua_settop(L, value - 1);
	}
	if (!good)
		lua_pop(L, 1);
	return good;
}

/***
Make plain Lua values of what lua-cjson gives: whole numbers become integers, members that are null
go, marked lists are emptied, marked digits become numbers.
@function json.tidy
@tparam table value changed in place
@tparam table list metatable of an empty list
@tparam string mark one that has this for its only element is empty
@tparam table number metatable of a whole number that no integer has room for: its `text` has the digits
@tparam[opt] string digits what a string begins with that is such a number, or an integer; nil: there are none
@treturn boolean false: a number is out of range
*/
static int json_tidy(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	luaL_checktype(L, LIST, LUA_TTABLE);
	luaL_checktype(L, MARK, LUA_TSTRING);
	luaL_checktype(L, NUMBER, LUA_TTABLE);
	lua_settop(L, DIGITS);
	lua_pushboolean(L, tidy(L, 1));
	return 1;
}

/*** Writing ***/

/* The text so far lies in a userdata on the stack, so that an error leaks nothing. */
struct writer {
	lua_State *L;
	char *data;
	size_t len, size;
	int box;
	const char *indent; /* NULL: all on one line */
	size_t indent_len;
	int rank; /* index of the table of key ranks, or 0 */
	int list; /* index of the metatable of empty lists */
};

static char *reserve(struct writer *w, size_t more)
{
	size_t size = w->size;
	char *data;

	while (w->len + more > size)
		size *= 2;
	if (size > w->size) {
		data = lua_newuserdatauv(w->L, size, 0);
		memcpy(data, w->data, w->len);
		w->data = data;
		w->size = size;
		lua_replace(w->L, w->box);
	}
	return w->data + w->len;
}

static void put(struct writer *w, const char *text, size_t len)
{
	memcpy(reserve(w, len), text, len);
	w->len += len;
}

/* Bytes of the UTF-8 sequence at `p`, or 0. */
static size_t utf8_length(const unsigned char *p, size_t left)
{
	size_t len = *p < 0x80 ? 1 : *p < 0xc2 ? 0 : *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : *p < 0xf5 ? 4 : 0;

	if (len > left)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	/* Overlong forms, surrogates, and what is beyond the last character. */
	if ((*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f) ||
	    (*p == 0xf0 && p[1] < 0x90) || (*p == 0xf4 && p[1] > 0x8f))
		return 0;
	return len;
}

static void put_escape(struct writer *w, unsigned char c)
{
	static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
	const char *known = c ? strchr(from, c) : NULL;
	char text[8];

	if (known)
		put(w, (const char[]){ '\\', to[known - from] }, 2);
	else
		put(w, text, (size_t)snprintf(text, sizeof text, "\\u%04x", c));
}

/* Bytes that are no UTF-8 would make the whole text unreadable. */
static void put_string(struct writer *w, const char *text, size_t len)
{
	const unsigned char *p = (const unsigned char *)text;

	put(w, "\"", 1);
	for (size_t at = 0, run; at < len; at += run) {
		for (run = 0; at + run < len; run++) {
			unsigned char c = p[at + run];

			if (c < 0x20 || c == '"' || c == '\\' || c >= 0x7f)
				break;
		}
		if (run) {
			put(w, text + at, run);
			continue;
		}
		run = utf8_length(p + at, len - at);
		if (run > 1)
			put(w, text + at, run);
		else if (run)
			put_escape(w, p[at]);
		else
			put(w, "\xef\xbf\xbd", 3);
		run = run ? run : 1;
	}
	put(w, "\"", 1);
}

static void put_number(struct writer *w, int idx)
{
	lua_Integer whole;
	lua_Number n;
	char text[40];
	int exact;

	whole = lua_tointegerx(w->L, idx, &exact);
	if (exact) {
		put(w, text, (size_t)snprintf(text, sizeof text, LUA_INTEGER_FMT, whole));
		return;
	}
	n = lua_tonumber(w->L, idx);
	if (n - n != 0)
		luaL_error(w->L, "JSON has no number %f", n);
	snprintf(text, sizeof text, "%.15g", n);
	if (strtod(text, NULL) != n)
		snprintf(text, sizeof text, "%.17g", n);
	put(w, text, strlen(text));
}

static void put_line(struct writer *w, int level)
{
	if (!w->indent)
		return;
	put(w, "\n", 1);
	for (int i = 0; i < level; i++)
		put(w, w->indent, w->indent_len);
}

struct key {
	const char *text; /* the table holds it */
	size_t len;
	lua_Integer rank;
};

static int by_rank(const void *a, const void *b)
{
	const struct key *x = a, *y = b;
	int order;

	if (x->rank != y->rank)
		return x->rank < y->rank ? -1 : 1;
	order = memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);
	return order ? order : (x->len > y->len) - (x->len < y->len);
}

static void read_key(struct writer *w, struct key *key)
{
	lua_State *L = w->L;

	if (lua_type(L, -1) != LUA_TSTRING)
		luaL_error(L, "JSON object with a key that is no string: %s",
			   luaL_tolstring(L, -1, NULL));
	key->text = lua_tolstring(L, -1, &key->len);
	key->rank = LUA_MAXINTEGER;
	if (w->rank) {
		lua_pushvalue(L, -1);
		if (lua_rawget(L, w->rank) != LUA_TNIL)
			key->rank = lua_tointeger(L, -1);
		lua_pop(L, 1);
	}
}

static void put_value(struct writer *w, int idx, int level);

static void put_object(struct writer *w, int t, int level)
{
	lua_State *L = w->L;
	struct key few[FEW_KEYS], *keys = few;
	size_t count = 0, n = 0;

	for (lua_pushnil(L); lua_next(L, t); lua_pop(L, 1))
		count++;
	/* Below everything else, to live as long as it is read. */
	if (count > FEW_KEYS)
		keys = lua_newuserdatauv(L, count * sizeof *keys, 0);
	lua_pushnil(L);
	while (n < count && lua_next(L, t)) {
		lua_pop(L, 1);
		read_key(w, &keys[n++]);
	}
	lua_settop(L, t + (count > FEW_KEYS));
	if (n > 1)
		qsort(keys, n, sizeof *keys, by_rank);

	put(w, "{", 1);
	for (size_t i = 0; i < n; i++) {
		if (i)
			put(w, ",", 1);
		put_line(w, level + 1);
		put_string(w, keys[i].text, keys[i].len);
		put(w, ": ", w->indent ? 2 : 1);
		lua_pushlstring(L, keys[i].text, keys[i].len);
		lua_rawget(L, t);
		put_value(w, lua_gettop(L), level + 1);
		lua_pop(L, 1);
	}
	put_line(w, level);
	put(w, "}", 1);
	lua_settop(L, t);
}

static void put_list(struct writer *w, int t, int level)
{
	lua_Integer count = (lua_Integer)lua_rawlen(w->L, t);

	put(w, "[", 1);
	for (lua_Integer i = 1; i <= count; i++) {
		if (i > 1)
			put(w, ",", 1);
		put_line(w, level + 1);
		lua_rawgeti(w->L, t, i);
		put_value(w, lua_gettop(w->L), level + 1);
		lua_pop(w->L, 1);
	}
	put_line(w, level);
	put(w, "]", 1);
}

static void put_table(struct writer *w, int t, int level)
{
	lua_State *L = w->L;
	bool is_list = false;
	size_t len;

	if (level > MAX_LEVEL)
		luaL_error(L, "JSON nested too deeply");
	luaL_checkstack(L, 8, "JSON");
	if (luaL_getmetafield(L, t, "__tostring") != LUA_TNIL) {
		const char *text = luaL_tolstring(L, t, &len);

		if (luaL_getmetafield(L, t, "__number") != LUA_TNIL)
			put(w, text, len);
		else
			put_string(w, text, len);
		lua_settop(L, t);
		return;
	}
	if (lua_getmetatable(L, t))
		is_list = lua_rawequal(L, -1, w->list);
	lua_settop(L, t);
	lua_pushnil(L);
	if (lua_rawgeti(L, t, 1) != LUA_TNIL) {
		lua_settop(L, t);
		put_list(w, t, level);
		return;
	}
	lua_pop(L, 1);
	if (lua_next(L, t)) {
		lua_settop(L, t);
		put_object(w, t, level);
	} else {
		put(w, is_list ? "[]" : "{}", 2);
	}
}

static void put_value(struct writer *w, int idx, int level)
{
	const char *text;
	size_t len;

	switch (lua_type(w->L, idx)) {
	case LUA_TSTRING:
		text = lua_tolstring(w->L, idx, &len);
		put_string(w, text, len);
		break;
	case LUA_TNUMBER:
		put_number(w, idx);
		break;
	case LUA_TTABLE:
		put_table(w, idx, level);
		break;
	case LUA_TBOOLEAN:
		text = lua_toboolean(w->L, idx) ? "true" : "false";
		put(w, text, strlen(text));
		break;
	default:
		if (!is_null(w->L, idx))
			luaL_error(w->L, "JSON has no %s", luaL_typename(w->L, idx));
		put(w, "null", 4);
	}
}

/***
Print a value. A table is a list when it has an element 1 or the metatable of lists; one whose
metatable has `__tostring` is printed as that text; else it is an object, its keys sorted.
@function json.encode
@param value
@tparam table list metatable of lists
@tparam[opt] string indent one member a line, indented by that for each level
@tparam[opt] table rank a number by key: these come first, in this order
@treturn string
@raise what JSON has not: infinite numbers, functions, keys that are no strings
*/
static int json_encode(lua_State *L)
{
	struct writer w = { .L = L, .size = 1024, .list = 2, .box = 5 };

	luaL_checkany(L, 1);
	luaL_checktype(L, 2, LUA_TTABLE);
	w.indent = luaL_optlstring(L, 3, NULL, &w.indent_len);
	if (!lua_isnoneornil(L, 4)) {
		luaL_checktype(L, 4, LUA_TTABLE);
		w.rank = 4;
	}
	lua_settop(L, 4);
	w.data = lua_newuserdatauv(L, w.size, 0);
	/* On top: what is above a value while it is printed is thrown away. */
	lua_pushvalue(L, 1);
	put_value(&w, w.box + 1, 0);
	lua_pushlstring(L, w.data, w.len);
	return 1;
}

int luaopen_netlink_json(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{ "tame", json_tame },
		{ "tidy", json_tidy },
		{ "encode", json_encode },
		{ NULL, NULL },
	};

	luaL_newlib(L, functions);
	return 1;
}
