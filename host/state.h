/* SPDX-License-Identifier: MIT */
/*
 * The Lua state of the program: the libraries that are in it, where `require` finds modules
 * (inside the program, nowhere else), and what keeps a script from running for ever.
 */
#ifndef HOST_STATE_H
#define HOST_STATE_H

#include <stddef.h>

#include <lua.h>

/* A file that was put into the program when it was built: build/embedded.c has them by name. */
struct embedded {
	const char *name; /* "cni.main" for a module, "bridge" for a plugin */
	const char *code; /* precompiled, with debug information */
	size_t code_size;
	const char *source; /* plugins only */
	size_t source_size;
};

extern const struct embedded embedded_modules[], embedded_plugins[];
extern const size_t embedded_modules_count, embedded_plugins_count;

/* Look a name up in one of the lists above, which are sorted. NULL: not there. */
const struct embedded *embedded_find(const struct embedded *list, size_t count, const char *name);

/* Make the state, empty. NULL: no memory. */
lua_State *state_new(void);

/* Fill the state: to be called by lua_pcall, since it may raise. */
int state_open(lua_State *L);

/* The standard libraries there are, ending in NULL. */
extern const char *const state_libraries[];

/* Let a good deal be allocated before the collector looks for garbage: most runs end long before. */
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

/* Seconds until the deadline, or until the end of the program once it has passed; 0: there is none. */
double state_time_left(void);

#endif
