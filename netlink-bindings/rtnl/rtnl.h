/* SPDX-License-Identifier: MIT */
/* The rtnetlink handle, shared by its files: rtnl/handle.c over rtnl/request.c, and rtnl/wait.c over both. */
#ifndef NETLINK_BINDINGS_RTNL_RTNL_H
#define NETLINK_BINDINGS_RTNL_RTNL_H

#include <lua.h>

#include "nl/nl.h"
#include "tables/tables.h"

#define RTNL_HANDLE "netlink.rtnl"
#define RTNL_TIMEOUT_MS 10000

struct rtnl {
	struct nl nl;
	struct nl events;     /* open only while something is awaited */
	struct nl_buf owners; /* uint32_t per message: which request it belongs to, from 0 */
};

/* The open handle at argument 1, its batch cleared; raises when it is closed. */
struct rtnl *rtnl_check(lua_State *L);
const struct rtnl_object *rtnl_object_arg(lua_State *L, int arg);
int rtnl_timeout_arg(lua_State *L, int arg, int otherwise);

/*
 * Put the question for one object (by the key table at `key`) or for a dump into h->nl.out. Raises
 * on mistakes. rtnl_ask() sends it.
 */
void rtnl_build_get(lua_State *L, struct rtnl *h, const struct rtnl_object *object, int key,
		    bool dump);

/* Push a copy of the filter at `filter` with every value as answers spell it. [-0, +1, v] */
void rtnl_push_canonical(lua_State *L, struct rtnl *h, const struct rtnl_object *object,
			 int filter);

/*
 * The list of keys at `arg` as what is wanted of answers; what is compared with (tables at `filter`
 * and `wanted`, 0: none) is wanted too. NULL when there is no list: all. [-0, +0, v]
 */
const struct attr_only *rtnl_only_arg(lua_State *L, int arg, const struct rtnl_object *object,
				      struct attr_only *only, int filter, int wanted);

/* Push the list of all answers in h->nl.in that agree with the canonical filter. [-0, +1, m] */
void rtnl_push_answers(lua_State *L, struct rtnl *h, const struct rtnl_object *object, int filter,
		       const struct attr_only *only);

/* Whether an errno says that what was asked for does not exist. */
bool rtnl_is_absent(int err);

/*
 * Encode the request at `idx`, number `nth` from 1, into h->nl.out. Raises on mistakes. Returns
 * whether it asks for an echo.
 */
bool rtnl_encode(lua_State *L, struct rtnl *h, int idx, lua_Integer nth);

/* Push a table with the echoes in h->nl.in by the number of the request. [-0, +1, v] */
void rtnl_push_echoes(lua_State *L, struct rtnl *h, int requests);

/* Push what h:send returns when the kernel refused one of the requests. [-0, +5, m] */
int rtnl_push_refusal(lua_State *L, struct rtnl *h, int requests, const struct nl_failure *fail);

/* NULL: there is no such object. */
const struct rtnl_object *rtnl_find_object(const char *name);

/* Raise when `err` is negative: the batch grew beyond all bounds, or memory is short. */
void rtnl_check_nl(lua_State *L, long err);

/* Push the raw value of a key. Returns whether there is one. [-0, +1, m] */
bool rtnl_push_raw(lua_State *L, int idx, const char *key);
bool rtnl_has_key(lua_State *L, int idx, const char *key);

/* Push a shallow copy of the table at `idx` without one key. [-0, +1, m] */
void rtnl_push_without(lua_State *L, int idx, const char *key);

/* Push "get link eth0" and the like. [-0, +1, m] */
void rtnl_push_what(lua_State *L, const char *verb, const char *object, int attrs);

int rtnl_await(lua_State *L);
int rtnl_del_link_quick(lua_State *L);
int rtnl_del_group_quick(lua_State *L);

#endif
