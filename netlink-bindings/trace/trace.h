/* SPDX-License-Identifier: MIT */
/* A program that is traced, and what is read out of it; shared by trace/trace.c and trace/peek.c. */
#ifndef NETLINK_BINDINGS_TRACE_TRACE_H
#define NETLINK_BINDINGS_TRACE_TRACE_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { TRACE_ARGS = 6 };

/* A thread. */
struct tracee {
	pid_t tid, pid;
	const char *call; /* the system call it is in, when that one is of interest */
	uint64_t args[TRACE_ARGS];
	int64_t since; /* when it went in, ns */
};

enum trace_kind { TRACE_CALL, TRACE_EXEC, TRACE_EXIT, TRACE_END };

struct trace_event {
	enum trace_kind kind;
	struct tracee who;
	int64_t at;     /* ns: a call's beginning */
	int64_t took;   /* ns */
	int64_t result; /* of a call, or the wait status of a process; negative: an errno */
};

struct trace {
	pid_t root;      /* the process that was started; 0: none */
	int root_status; /* once it has ended */
	bool root_ended, leaving;
	int64_t begun, leave_at;
	pid_t stopped; /* the thread of the last event, which waits to go on */
	struct tracee *list;
	size_t count, room;
	struct trace_event event;
};

#define TRACE_HANDLE "netlink.trace"

/* Methods that read what the thread of the last event has in its memory and its table of files. */
int trace_text(lua_State *L);
int trace_bytes(lua_State *L);
int trace_datagrams(lua_State *L);
int trace_socket(lua_State *L);

#endif
