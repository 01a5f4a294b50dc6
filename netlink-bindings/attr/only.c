/* SPDX-License-Identifier: MIT */
/*
 * Which keys of an answer are wanted. A link has some fifty, and to make Lua values of them all
 * takes longer than to have the kernel tell them.
 */

#include "attr/internal.h"

#include <string.h>

static bool has_key(const struct attr_row *row, const char *key)
{
	return row->key && row->kind != ATTR_SKIP && row->key[0] == key[0] && !strcmp(row->key, key);
}

/* The row of a key, wherever it is; *ret_choice is the row by whose choice it is there, or NULL. */
static const struct attr_row *find_row(const struct attr_table *table, const char *key,
					const struct attr_row **ret_choice)
{
	const struct attr_row *found = NULL;

	for (size_t i = 0; i < table->count; i++)
		if (has_key(&table->rows[i], key))
			return &table->rows[i];
	for (size_t i = 0; i < table->count && !found; i++) {
		const struct attr_row *row = &table->rows[i];

		if (row->kind != ATTR_FLAT)
			continue;
		if (row->table)
			found = find_row(row->table, key, ret_choice);
		for (size_t j = 0; row->choose && j < row->choose->count && !found; j++) {
			if (row->choose->cases[j].table)
				found = find_row(row->choose->cases[j].table, key, ret_choice);
			if (found)
				*ret_choice = row;
		}
	}
	return found;
}

static void add(lua_State *L, struct attr_only *only, const char *key)
{
	for (size_t i = 0; i < only->count; i++)
		if (!strcmp(only->names[i], key))
			return;
	if (only->count == ARRAY_SIZE(only->names))
		luaL_error(L, "more than %d keys are wanted", (int)ARRAY_SIZE(only->names));
	only->names[only->count++] = key;
}

void attr_only_add(lua_State *L, struct attr_only *only, const struct attr_table *table,
		   const char *key)
{
	const struct attr_row *choice = NULL, *row = find_row(table, key, &choice);

	if (!row)
		attr_no_such_key(L, table, key);
	add(L, only, row->key);
	if (row->choose)
		add(L, only, row->choose->key);
	if (choice) {
		/* One level of choices is all there is outside of nests. */
		add(L, only, choice->choose->key);
		only->deep = true;
	}
}

void attr_only_list(lua_State *L, struct attr_only *only, const struct attr_table *table, int idx)
{
	lua_Integer count = (lua_Integer)lua_rawlen(L, idx);

	for (lua_Integer i = 1; i <= count; i++) {
		if (lua_rawgeti(L, idx, i) != LUA_TSTRING)
			luaL_error(L, "%s: a wanted key is a %s", table->name,
				   luaL_typename(L, -1));
		attr_only_add(L, only, table, lua_tostring(L, -1));
		lua_pop(L, 1);
	}
}

bool attr_only_has(const struct attr_only *only, const char *key)
{
	for (size_t i = 0; i < only->count; i++)
		if (only->names[i][0] == key[0] && !strcmp(only->names[i], key))
			return true;
	return false;
}
