/* SPDX-License-Identifier: MIT */
/*
 * The Lua state of the program: the libraries that are in it, where `require` finds modules
 * (inside the program, nowhere else), and what keeps a script from running for ever.
 */
#ifndef HOST_STATE_H
#define HOST_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lauxlib.h>

/* The modules in C, by name; in modules.c. */
extern const luaL_Reg state_modules[];

/* Make the state, empty. NULL: no memory. */
lua_State *state_new(void);

/* Fill the state: to be called by lua_pcall, since it may raise. */
int state_open(lua_State *L);

/* The standard libraries there are, ending in NULL. */
extern const char *const state_libraries[];

/* Put the first search for garbage off until a good deal is allocated: most runs end long before. */
void state_delay_gc(lua_State *L);

/* The globals that scripts may see, by name; pushes nil for any other. [-0, +1, m] */
void state_push_global(lua_State *L, const char *name);

/*
 * From now on give the scripts `seconds`: then the running one gets an error, and should that not
 * end it (it may sit in one long C call), the program ends `GRACE_SECONDS` later with an error
 * object on standard output. 0 takes the deadline off.
 */
#define GRACE_SECONDS 5
void state_deadline(lua_State *L, unsigned seconds);

/* What its error says, and how long. */
#define STATE_STOPPED "stopped: it ran for more than"

/* Whether the deadline has passed: a script must not go on then, whatever it has caught. */
bool state_deadline_passed(void);

/* Raise its error. [-0, +0, e] */
int state_stop(lua_State *L);

struct deadline {
	lua_State *L; /* whose functions get the error */
	unsigned seconds; /* 0: there is none */
	int64_t at_ms; /* of sys_now_ms() */
};

/*
 * Put a deadline in the place of the one in force, until state_deadline_again(). False: that one ends
 * before, or has passed, and stays.
 */
bool state_deadline_within(lua_State *L, unsigned seconds, struct deadline *ret_outer);
void state_deadline_again(const struct deadline *outer);

/* Seconds until the deadline, or until the end of the program once it has passed; 0: there is none. */
double state_time_left(void);

#endif
