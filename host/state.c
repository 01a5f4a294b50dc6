/* SPDX-License-Identifier: MIT */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lualib.h>

#include "alloc.h"
#include "image.h"
#include "place.h"
#include "report.h"
#include "state.h"
#include "sys/sys.h"

#define GC_START_KIB 8192

/*
 * Modules.
 */

/* Pushes the loader of a module, or raises. [-0, +1, e] */
static void push_loader(lua_State *L, const char *name)
{
	const struct embedded *file = embedded_find(embedded_modules, embedded_modules_count, name);

	if (file) {
		image_push_chunk(L, file, luaL_gsub(L, name, ".", "/"));
		lua_remove(L, -2);
		return;
	}
	for (const luaL_Reg *module = state_modules; module->name; module++)
		if (!strcmp(module->name, name)) {
			lua_pushcfunction(L, module->func);
			return;
		}

	luaL_error(L, "there is no module '%s'", name);
}

/*
 * require, as the manual has it, but modules come out of the program only. Upvalue 1 is the table
 * of what is loaded; false in it marks one that is being loaded.
 */
static int state_require(lua_State *L)
{
	const char *name = luaL_checkstring(L, 1);

	lua_settop(L, 1);
	switch (lua_getfield(L, lua_upvalueindex(1), name)) {
	case LUA_TNIL:
		break;
	case LUA_TBOOLEAN:
		if (!lua_toboolean(L, 2))
			return luaL_error(L, "module '%s' requires itself, by way of others", name);
		return 1;
	default:
		return 1;
	}

	push_loader(L, name);
	lua_pushboolean(L, 0);
	lua_setfield(L, lua_upvalueindex(1), name);
	lua_pushvalue(L, 1);
	lua_call(L, 1, 1);
	if (lua_isnil(L, -1)) {
		lua_pop(L, 1);
		lua_pushboolean(L, 1);
	}
	lua_pushvalue(L, -1);
	lua_setfield(L, lua_upvalueindex(1), name);

	return 1;
}

/*
 * Globals.
 */

/* Standard output carries the protocol, so print is for standard error. */
static int state_print(lua_State *L)
{
	int count = lua_gettop(L);
	luaL_Buffer b;

	luaL_buffinit(L, &b);
	for (int i = 1; i <= count; i++) {
		if (i > 1)
			luaL_addchar(&b, '\t');
		luaL_tolstring(L, i, NULL);
		luaL_addvalue(&b);
	}
	luaL_addchar(&b, '\n');
	luaL_pushresult(&b);
	report_text(STDERR_FILENO, lua_tostring(L, -1), lua_rawlen(L, -1));

	return 0;
}

/* What of the base library stays: nothing that reads files or loads code from text. */
static const char *const base_names[] = {
	"assert",       "error",    "getmetatable", "ipairs", "next",   "pairs",
	"pcall",        "rawequal", "rawget",       "rawlen", "rawset", "select",
	"setmetatable", "tonumber", "tostring",     "type",   "xpcall", NULL,
};

const char *const state_libraries[] = {
	LUA_COLIBNAME, LUA_MATHLIBNAME, LUA_STRLIBNAME, LUA_TABLIBNAME, LUA_UTF8LIBNAME, NULL,
};

/* In the order of the names above. */
static const lua_CFunction library_openers[] = {
	luaopen_coroutine, luaopen_math, luaopen_string, luaopen_table, luaopen_utf8,
};

void state_push_global(lua_State *L, const char *name)
{
	lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
	lua_pushstring(L, name);
	if (lua_rawget(L, -2) == LUA_TNIL) {
		for (size_t i = 0; state_libraries[i]; i++)
			if (!strcmp(state_libraries[i], name)) {
				lua_pop(L, 1);
				lua_pushcfunction(L, library_openers[i]);
				lua_call(L, 0, 1);
				lua_pushstring(L, name);
				lua_pushvalue(L, -2);
				lua_rawset(L, -4);
				break;
			}
	}
	lua_remove(L, -2);
}

/* Libraries are opened when first named; a name that is nobody's is a misspelling. */
static int globals_index(lua_State *L)
{
	const char *name = luaL_checkstring(L, 2);

	state_push_global(L, name);
	if (lua_isnil(L, -1))
		return luaL_error(L, "global '%s' is not defined", name);

	return 1;
}

static int globals_newindex(lua_State *L)
{
	return luaL_error(L, "assignment to global '%s': declare it local",
			  luaL_tolstring(L, 2, NULL));
}

static const luaL_Reg globals_meta[] = {
	{ "__index", globals_index },
	{ "__newindex", globals_newindex },
	{ NULL, NULL },
};

static void open_globals(lua_State *L)
{
	lua_pushcfunction(L, luaopen_base);
	lua_call(L, 0, 1);

	lua_createtable(L, 0, 32);
	for (const char *const *name = base_names; *name; name++) {
		lua_getfield(L, -2, *name);
		lua_setfield(L, -2, *name);
	}
	lua_pushcfunction(L, state_print);
	lua_setfield(L, -2, "print");

	luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
	lua_pushcclosure(L, state_require, 1);
	lua_setfield(L, -2, "require");

	luaL_newlib(L, globals_meta);
	lua_setmetatable(L, -2);
	lua_rawseti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
	lua_pop(L, 1);

	/* Methods on strings must work before anybody has named the library. */
	state_push_global(L, LUA_STRLIBNAME);
	/* All strings share one metatable: a plugin must not get hold of it. */
	lua_pushliteral(L, "");
	lua_getmetatable(L, -1);
	lua_pushboolean(L, 0);
	lua_setfield(L, -2, "__metatable");
	lua_pop(L, 3);
}

int state_open(lua_State *L)
{
	open_globals(L);

	return 0;
}

void state_delay_gc(lua_State *L)
{
	lua_gc(L, LUA_GCSTEP, -GC_START_KIB); /* the debt that starts a step gets that much lower */
}

static int panic(lua_State *L)
{
	const char *what = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "no reason given";

	report_error(REPORT_INTERNAL, "the Lua state panicked", what);
	_exit(1);
}

lua_State *state_new(void)
{
	lua_State *L = lua_newstate(alloc_for_lua, NULL);

	if (!L)
		return NULL;
	lua_atpanic(L, panic);
	state_delay_gc(L);

	return L;
}

/*
 * The deadline. A timer costs a run that ends in time two system calls; a count hook would slow
 * down every instruction.
 */

static struct deadline deadline;
static volatile sig_atomic_t deadline_passed;
/* Whether something has got the error of this deadline, and may have caught it. */
static bool deadline_told;

/* Instructions after which a script that has caught the error gets it again. */
#define AGAIN_COUNT 1000

int state_stop(lua_State *L)
{
	int base = lua_gettop(L);

	/* What a script has called may be what is at work. */
	if (place_push(L, -1))
		lua_pushliteral(L, ": ");
	else
		luaL_where(L, 0);
	lua_pushfstring(L, STATE_STOPPED " %d seconds", (int)deadline.seconds);
	lua_concat(L, lua_gettop(L) - base);

	return lua_error(L);
}

static void on_deadline_hook(lua_State *L, lua_Debug *where)
{
	bool is_first = !deadline_told;

	(void)where;
	deadline_told = true;
	lua_sethook(L, on_deadline_hook, LUA_MASKCOUNT, AGAIN_COUNT);
	if (!is_first) {
		/* The library takes back in peace what the script has done. */
		if (!place_push(L, -1))
			return;
		lua_pop(L, 1);
	}
	state_stop(L);
}

bool state_deadline_passed(void)
{
	return deadline_passed;
}

static void on_alarm(int sig)
{
	(void)sig;
	if (deadline_passed) {
		report_error(REPORT_INTERNAL, "the script did not end in time",
			     "it was stopped, and what it did was not undone");
		_exit(1);
	}
	deadline_passed = 1;
	/* lua_sethook is the one call of Lua that a signal handler may make. */
	lua_sethook(deadline.L, on_deadline_hook,
		    LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

static void start_timer(int64_t ms)
{
	struct itimerval timer = {
		.it_value.tv_sec = (time_t)(ms / 1000),
		.it_value.tv_usec = (suseconds_t)(ms % 1000 * 1000),
		.it_interval.tv_sec = GRACE_SECONDS,
	};

	setitimer(ITIMER_REAL, &timer, NULL);
}

void state_deadline(lua_State *L, unsigned seconds)
{
	struct sigaction act = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
	sigset_t alarm;

	deadline = (struct deadline){ L, seconds, sys_now_ms() + (int64_t)seconds * 1000 };
	deadline_passed = 0;
	deadline_told = false;
	lua_sethook(L, NULL, 0, 0);
	sigaction(SIGALRM, &act, NULL);
	/* Our caller may have blocked it, for itself. */
	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	sigprocmask(SIG_UNBLOCK, &alarm, NULL);
	start_timer((int64_t)seconds * 1000);
}

bool state_deadline_within(lua_State *L, unsigned seconds, struct deadline *ret_outer)
{
	if (deadline.seconds &&
	    (deadline_passed || deadline.at_ms <= sys_now_ms() + (int64_t)seconds * 1000))
		return false;
	*ret_outer = deadline;
	state_deadline(L, seconds);
	return true;
}

void state_deadline_again(const struct deadline *outer)
{
	int64_t left = outer->at_ms - sys_now_ms();

	start_timer(0);
	/* It may have passed just behind the end of what it was for. */
	lua_sethook(deadline.L, NULL, 0, 0);
	deadline = *outer;
	deadline_passed = 0;
	deadline_told = false;
	if (outer->seconds)
		start_timer(left > 0 ? left : 1);
}

double state_time_left(void)
{
	struct itimerval timer;

	if (getitimer(ITIMER_REAL, &timer) < 0)
		return 0;

	return (double)timer.it_value.tv_sec + (double)timer.it_value.tv_usec / 1e6;
}
