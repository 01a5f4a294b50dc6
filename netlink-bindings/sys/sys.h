/* SPDX-License-Identifier: MIT */
/*
 * What the parts of netlink.sys share: its one failure shape, its argument checks, its clock.
 */
#ifndef NETLINK_BINDINGS_SYS_SYS_H
#define NETLINK_BINDINGS_SYS_SYS_H

#include <stdint.h>

#include <lua.h>

/* Push nil, "<what> <path>: <reason>", errno. `err` is positive. [-0, +3, m] */
int sys_fail(lua_State *L, int err, const char *what, const char *path);

/* Push true for a `ret` of 0, else a failure. [-0, +(1|3), m] */
int sys_done(lua_State *L, int ret, const char *what, const char *path);

/* Check for a path: not empty, shorter than PATH_MAX, no zero byte. [-0, +0, v] */
const char *sys_check_path(lua_State *L, int arg);

/* Check for milliseconds; nil gives `otherwise`. [-0, +0, v] */
int sys_opt_timeout(lua_State *L, int arg, int otherwise);

/* Milliseconds on a clock that only runs forward. */
int64_t sys_now_ms(void);

/* flock(2) until sys_now_ms() reaches `deadline`. 0, -ETIMEDOUT or -errno. */
int sys_flock(int fd, int how, int64_t deadline);

/* The connection that the listener at `arg` has accepted, or -1; it stays the listener's. [-0, +0, -] */
int sys_connection(lua_State *L, int arg);

/* The bindings that live in files of their own. */
int sys_open_locked(lua_State *L);
int sys_open_locked_existing(lua_State *L);
int sys_lock_netns(lua_State *L);
int sys_unlock_netns(lua_State *L);
int sys_clock(lua_State *L);
int sys_uptime(lua_State *L);
int sys_time(lua_State *L);
int sys_sleep(lua_State *L);
int sys_exec(lua_State *L);
int sys_listen(lua_State *L);
int sys_receive(lua_State *L);
int sys_matches(lua_State *L);
int sys_readlink(lua_State *L);
int sys_symlink(lua_State *L);

#endif
