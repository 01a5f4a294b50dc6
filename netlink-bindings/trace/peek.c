/* SPDX-License-Identifier: MIT */
/***
@submodule netlink.trace
*/
/*
 * Reads the memory and the descriptors of a traced thread. It may be hostile, and other threads of its
 * process go on meanwhile: nothing that is read there is believed, and every length is limited.
 */
#include "trace/trace.h"

#include <lauxlib.h>
#include <limits.h>
#include <linux/sockios.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "nl/nl.h"

enum {
	BYTES_LIMIT = 1 << 20, /* of one call */
	VECTOR_LIMIT = 1024,   /* the kernel's own, UIO_MAXIOV */
	PAGE = 4096,
};

static struct trace *checked(lua_State *L)
{
	struct trace *t = luaL_checkudata(L, 1, TRACE_HANDLE);

	luaL_argcheck(L, t->stopped, 1, "no thread stands still");
	return t;
}

/* How many bytes could be read; those behind a hole in the memory cannot. */
static size_t peek(const struct trace *t, uint64_t addr, void *to, size_t len)
{
	struct iovec here = { to, len }, there = { (void *)(uintptr_t)addr, len };
	ssize_t n = len ? process_vm_readv(t->stopped, &here, 1, &there, 1, 0) : 0;

	return n > 0 ? (size_t)n : 0;
}

/* Push what is at an address: fewer bytes where it ends, "" where nothing is. [-0, +1, m] */
static void push_bytes(lua_State *L, const struct trace *t, uint64_t addr, size_t len)
{
	void *room;

	len = len < BYTES_LIMIT ? len : BYTES_LIMIT;
	room = lua_newuserdatauv(L, len + 1, 0);
	lua_pushlstring(L, room, peek(t, addr, room, len));
	lua_remove(L, -2);
}

/***
Bytes of the thread's memory.
@function trace:bytes
@int address
@int length at most a MiB is read
@treturn string shorter where there is no more
*/
int trace_bytes(lua_State *L)
{
	const struct trace *t = checked(L);
	lua_Integer len = luaL_checkinteger(L, 3);

	push_bytes(L, t, (uint64_t)luaL_checkinteger(L, 2), len > 0 ? (size_t)len : 0);
	return 1;
}

/***
Text in the thread's memory, up to its NUL.
@function trace:text
@int address
@treturn ?string nil: there is none of less than 4096 bytes
*/
int trace_text(lua_State *L)
{
	const struct trace *t = checked(L);
	uint64_t addr = (uint64_t)luaL_checkinteger(L, 2);
	char text[PATH_MAX];
	size_t len = 0;

	/* A page at a time: the next one may not be there. */
	while (len < sizeof text) {
		size_t want = PAGE - (addr + len) % PAGE, got;

		want = want < sizeof text - len ? want : sizeof text - len;
		got = peek(t, addr + len, text + len, want);
		if (memchr(text + len, 0, got)) {
			lua_pushstring(L, text);
			return 1;
		}
		if (got < want)
			break;
		len += got;
	}
	return 0;
}

/* Push what lies in a vector of buffers, `len` bytes of it. [-0, +1, m] */
static void push_vector(lua_State *L, const struct trace *t, uint64_t addr, uint64_t count,
			uint64_t len)
{
	size_t left = len < BYTES_LIMIT ? (size_t)len : BYTES_LIMIT;
	luaL_Buffer b;

	luaL_buffinit(L, &b);
	for (uint64_t i = 0; i < count && i < VECTOR_LIMIT && left; i++) {
		struct iovec v;
		size_t want;

		if (peek(t, addr + i * sizeof v, &v, sizeof v) < sizeof v)
			break;
		want = v.iov_len < left ? v.iov_len : left;
		luaL_addsize(&b, peek(t, (uintptr_t)v.iov_base, luaL_prepbuffsize(&b, want), want));
		left -= want;
	}
	luaL_pushresult(&b);
}

static void push_message(lua_State *L, const struct trace *t, uint64_t addr, uint64_t len)
{
	struct msghdr m;

	if (peek(t, addr, &m, sizeof m) == sizeof m)
		push_vector(L, t, (uintptr_t)m.msg_iov, m.msg_iovlen, len);
	else
		lua_pushliteral(L, "");
}

/***
What a call has sent, or received, or would have sent.
@function trace:datagrams
@treturn {string,...} their bytes: of all calls but sendmmsg and recvmmsg, one
*/
int trace_datagrams(lua_State *L)
{
	const struct trace *t = checked(L);
	const struct trace_event *e = &t->event;
	const char *call = e->kind == TRACE_CALL ? e->who.call : "";
	const uint64_t *args = e->who.args;
	/* A call that was refused tells no length: then all that its buffers hold. */
	uint64_t len = e->result >= 0 ? (uint64_t)e->result : UINT64_MAX;
	const char *v = strchr(call, 'v');

	lua_newtable(L);
	if (!strcmp(call, "sendmmsg") || !strcmp(call, "recvmmsg")) {
		uint64_t count = e->result >= 0 ? (uint64_t)e->result : args[2];

		for (uint64_t i = 0; i < count && i < VECTOR_LIMIT; i++) {
			uint64_t at = args[1] + i * sizeof(struct mmsghdr);
			unsigned int one = 0;

			peek(t, at + offsetof(struct mmsghdr, msg_len), &one, sizeof one);
			push_message(L, t, at, e->result >= 0 ? one : UINT64_MAX);
			lua_rawseti(L, -2, (lua_Integer)i + 1);
		}
		return 1;
	}
	if (!strcmp(call, "sendmsg") || !strcmp(call, "recvmsg"))
		push_message(L, t, args[1], len);
	else if (v && !v[1])
		push_vector(L, t, args[1], args[2], len);
	else
		push_bytes(L, t, args[1], len < args[2] ? (size_t)len : (size_t)args[2]);
	lua_rawseti(L, -2, 1);
	return 1;
}

/* A copy of a descriptor of the thread's, or -1. */
static int copy_of(const struct trace *t, uint64_t fd)
{
	int process = (int)syscall(SYS_pidfd_open, t->event.who.pid, 0), copy;

	if (process < 0)
		return -1;
	copy = (int)syscall(SYS_pidfd_getfd, process, (int)fd, 0);
	close(process);
	return copy;
}

static bool option(int fd, int name, int *ret)
{
	return getsockopt(fd, SOL_SOCKET, name, ret, &(socklen_t){ sizeof *ret }) == 0;
}

/***
Of a netlink socket of the thread's: its protocol, and in which namespace it is.
@function trace:socket
@int fd
@treturn ?integer NETLINK_*; nil: it is no netlink socket
@treturn ?string the namespace, the number of its inode; nil: not to be found out
@treturn ?string the socket, the number of its inode: it may have several descriptors, in several processes
*/
int trace_socket(lua_State *L)
{
	const struct trace *t = checked(L);
	int fd = copy_of(t, (uint64_t)luaL_checkinteger(L, 2)), domain, protocol, ns = -1;
	char id[24] = "", socket[24] = "";
	struct stat st;
	bool is;

	if (fd < 0)
		return 0;
	is = option(fd, SO_DOMAIN, &domain) && domain == AF_NETLINK &&
	     option(fd, SO_PROTOCOL, &protocol);
	if (fstat(fd, &st) == 0)
		snprintf(socket, sizeof socket, "%ju", (uintmax_t)st.st_ino);
	if (is)
		ns = ioctl(fd, SIOCGSKNS);
	if (ns >= 0 && fstat(ns, &st) == 0)
		snprintf(id, sizeof id, "%ju", (uintmax_t)st.st_ino);
	if (ns >= 0)
		close(ns);
	close(fd);
	if (!is)
		return 0;
	lua_pushinteger(L, protocol);
	lua_pushstring(L, id[0] ? id : NULL);
	lua_pushstring(L, socket);
	return 3;
}
