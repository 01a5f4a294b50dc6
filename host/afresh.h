/* SPDX-License-Identifier: MIT */
#ifndef HOST_AFRESH_H
#define HOST_AFRESH_H

#include <lua.h>

/* Whether this is the second start, for which the stored state is not to be used. To be asked first. */
int afresh_asked(int argc, char **argv);

/* See afresh.c. */
int afresh(lua_State *L);

#endif
