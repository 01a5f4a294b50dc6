/* SPDX-License-Identifier: MIT */
/***
@submodule netlink.sys
*/
/*
 * netlink.sys.matches: regular expressions as other programs' files have them.
 */
#include "sys/sys.h"

#include <regex.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

/* Whether all of `text` matches; -1 and a reason when the pattern is none. */
static int matches(const char *pattern, const char *text, char *reason, size_t size)
{
	regex_t compiled;
	regmatch_t found;
	int ret = regcomp(&compiled, pattern, REG_EXTENDED);

	if (ret) {
		regerror(ret, &compiled, reason, size);
		return -1;
	}

	/* Of the leftmost matches it finds the longest. */
	ret = !regexec(&compiled, text, 1, &found, 0) && found.rm_so == 0 &&
	      (size_t)found.rm_eo == strlen(text);
	regfree(&compiled);

	return ret;
}

/***
Whether the whole of a text matches an extended regular expression: it is anchored at both ends, whether
the expression says so or not. Bytes behind a NUL do not count.
@function matches
@tparam string pattern as regex(7) has it
@tparam string text
@treturn boolean
@treturn[2] nil the expression is none
@treturn[2] string why
*/
int sys_matches(lua_State *L)
{
	const char *pattern = luaL_checkstring(L, 1);
	const char *text = luaL_checkstring(L, 2);
	char reason[128];
	int ret = matches(pattern, text, reason, sizeof reason);

	if (ret < 0) {
		lua_pushnil(L);
		lua_pushstring(L, reason);
		return 2;
	}

	lua_pushboolean(L, ret);

	return 1;
}
