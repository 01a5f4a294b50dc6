/* SPDX-License-Identifier: MIT */
/***
@submodule netlink.sys
*/
/* Clocks, and waiting. */

#include "sys/sys.h"

#include <poll.h>
#include <stdint.h>
#include <time.h>

#include <lauxlib.h>

static int push_clock(lua_State *L, clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	lua_pushnumber(L, (double)now.tv_sec + (double)now.tv_nsec / 1e9);

	return 1;
}

/***
Seconds on a clock that only runs forward.
@function clock
@treturn number
*/
int sys_clock(lua_State *L)
{
	return push_clock(L, CLOCK_MONOTONIC);
}

/***
Seconds since the kernel was started, those in which it slept included.
@function uptime
@treturn number
*/
int sys_uptime(lua_State *L)
{
	return push_clock(L, CLOCK_BOOTTIME);
}

/***
Seconds since 1970.
@function time
@treturn number
*/
int sys_time(lua_State *L)
{
	return push_clock(L, CLOCK_REALTIME);
}

/***
Wait, unless a signal comes.
@function sleep
@tparam integer ms
*/
int sys_sleep(lua_State *L)
{
	lua_Integer ms = luaL_checkinteger(L, 1);

	luaL_argcheck(L, ms >= 0 && ms <= INT32_MAX, 1, "not a number of milliseconds");
	poll(NULL, 0, (int)ms);
	return 0;
}
