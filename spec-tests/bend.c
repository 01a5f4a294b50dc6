/* SPDX-License-Identifier: MIT */
/*
 * Preloaded into an interpreter: what the kernel says over netlink is bent on its way. The seeds are
 * the kernel's own answers, so they are of the kernel that this runs on. As a Lua module the same
 * library is told what to do. Under AddressSanitizer the room behind an answer cannot be read.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <linux/netlink.h>
#include <lua.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

int luaopen_bend(lua_State *L);
void __asan_poison_memory_region(const volatile void *at, size_t len) __attribute__((weak));
void __asan_unpoison_memory_region(const volatile void *at, size_t len) __attribute__((weak));

enum {
	ALIGN = NLMSG_ALIGNTO,
	NESTED = 8, /* levels of attributes */
	KEPT = 4096, /* bytes of an earlier answer, to put parts of it into later ones */
	LAST = 1 << 16,
};

static struct {
	bool on;
	uint64_t random;
	uint64_t count;
	uint8_t earlier[KEPT];
	size_t earlier_len;
	/* In a file, so that it outlives us: the last answer as it was handed on. */
	struct {
		uint32_t len;
		uint8_t bytes[LAST];
	} *last;
} bend = { .random = 1 };

static uint32_t dice(uint32_t sides)
{
	bend.random ^= bend.random >> 12;
	bend.random ^= bend.random << 25;
	bend.random ^= bend.random >> 27;
	return sides ? (uint32_t)((bend.random * 0x2545f4914f6cdd1dU) >> 33) % sides : 0;
}

static size_t padded(size_t n)
{
	return (n + ALIGN - 1) & ~(size_t)(ALIGN - 1);
}

/*** Changes. Each gets the answer and its length, and the room there is, and returns the length ***/

static const uint32_t numbers[] = {
	0, 1, 2, 3, 4, 5, 8, 12, 15, 16, 17, 20, 31, 32, 33, 64, 127, 128, 255, 256, 4095, 4096, 32767,
	32768, 65531, 65535, 0x7ffffffe, 0x7fffffff, 0x80000000, 0x80000001, 0xfffffff0, 0xffffffff,
};

static uint32_t number(void)
{
	uint32_t n = numbers[dice(sizeof numbers / sizeof *numbers)];

	return dice(4) ? n : n + dice(5) - 2;
}

static size_t change_bytes(uint8_t *p, size_t len, size_t room)
{
	(void)room;
	if (len)
		p[dice((uint32_t)len)] = (uint8_t)dice(256);
	return len;
}

static size_t change_number(uint8_t *p, size_t len, size_t room)
{
	size_t size = (size_t)1 << dice(3), step = dice(4) ? ALIGN : size;
	uint32_t n = number();

	(void)room;
	if (len >= ALIGN)
		memcpy(p + dice((uint32_t)(len / step)) * step, &n, size < step ? size : step);
	return len;
}

static size_t cut_end(uint8_t *p, size_t len, size_t room)
{
	(void)p, (void)room;
	return dice((uint32_t)len + 1);
}

static size_t cut_middle(uint8_t *p, size_t len, size_t room)
{
	size_t at = dice((uint32_t)(len / ALIGN + 1)) * ALIGN;
	size_t gone = (1 + dice(8)) * ALIGN;

	(void)room;
	if (at > len || gone > len - at)
		return len;
	memmove(p + at, p + at + gone, len - at - gone);
	return len - gone;
}

static size_t insert(uint8_t *p, size_t len, size_t room, size_t at, const uint8_t *what, size_t more)
{
	if (at > len || more > room - len)
		return len;
	memmove(p + at + more, p + at, len - at);
	if (what)
		memcpy(p + at, what, more);
	else
		memset(p + at, (int)dice(256), more);
	return len + more;
}

static size_t put_earlier(uint8_t *p, size_t len, size_t room)
{
	size_t from = dice((uint32_t)(bend.earlier_len / ALIGN + 1)) * ALIGN;
	size_t most = bend.earlier_len - from, more = dice((uint32_t)(most < 256 ? most : 256) + 1);

	return insert(p, len, room, dice((uint32_t)(len / ALIGN + 1)) * ALIGN, bend.earlier + from,
		      padded(more) <= most ? padded(more) : 0);
}

static struct nlattr *attr_at(uint8_t *p, size_t at, size_t end)
{
	struct nlattr *attr = (struct nlattr *)(void *)(p + at);

	return at + sizeof *attr <= end && attr->nla_len >= sizeof *attr && attr->nla_len <= end - at
		       ? attr
		       : NULL;
}

/* The attributes between `at` and `end`, or NULL: these are none. */
static size_t count_attrs(uint8_t *p, size_t at, size_t end)
{
	struct nlattr *attr;
	size_t n = 0;

	for (; at < end && (attr = attr_at(p, at, end)); at += padded(attr->nla_len))
		n++;
	return at >= end ? n : 0;
}

/* Make the payload of an attribute, at some depth, longer or shorter, and the lengths around it agree. */
static size_t resize_attr(uint8_t *p, size_t len, size_t room)
{
	static const uint8_t headers[] = { 4, 8, 12, 16, 20 };
	struct nlattr *path[NESTED];
	struct nlmsghdr *msg = (struct nlmsghdr *)(void *)p;
	size_t at = 0, end, level = 0, count = 0, have, want;

	/* One of the messages, and where its attributes are. */
	for (size_t skip = dice(4); len >= sizeof *msg && skip; skip--) {
		size_t next = at + padded(msg->nlmsg_len);

		if (msg->nlmsg_len < sizeof *msg || next + sizeof *msg > len)
			break;
		at = next;
		msg = (struct nlmsghdr *)(void *)(p + at);
	}
	if (len < sizeof *msg || msg->nlmsg_len > len - at)
		return len;
	end = at + msg->nlmsg_len;
	at += sizeof *msg;
	for (size_t i = 0; !count && i < sizeof headers; i++)
		count = at + headers[i] < end ? count_attrs(p, at + headers[i], end) : 0,
		at += count ? headers[i] : 0;
	while (count && level < NESTED) {
		struct nlattr *attr = attr_at(p, at, end);

		for (uint32_t skip = dice((uint32_t)count); skip; skip--) {
			at += padded(attr->nla_len);
			attr = attr_at(p, at, end);
		}
		path[level++] = attr;
		end = at + attr->nla_len;
		at += sizeof *attr;
		count = dice(4) ? count_attrs(p, at, end) : 0;
	}
	if (!level)
		return len;
	have = padded(path[level - 1]->nla_len);
	want = dice(2) ? dice(40) : number() & 0x3ff;
	path[level - 1]->nla_len = (uint16_t)(sizeof(struct nlattr) + want);
	want = padded(sizeof(struct nlattr) + want);
	end = (size_t)((uint8_t *)path[level - 1] - p) + have;
	if (end > len || (want > have && want - have > room - len))
		return len;
	msg->nlmsg_len += (uint32_t)(want - have);
	for (size_t i = 0; i + 1 < level; i++)
		path[i]->nla_len = (uint16_t)(path[i]->nla_len + want - have);
	if (want > have)
		return insert(p, len, room, end, NULL, want - have);
	memmove(p + end - (have - want), p + end, len - end);
	return len - (have - want);
}

static size_t bend_answer(uint8_t *p, size_t len, size_t room)
{
	static size_t (*const changes[])(uint8_t *, size_t, size_t) = {
		change_bytes, change_number, change_number, cut_end,     cut_middle,
		put_earlier,  resize_attr,   resize_attr,   resize_attr,
	};

	for (uint32_t n = 1 + dice(3); n; n--)
		len = changes[dice(sizeof changes / sizeof *changes)](p, len, room);
	bend.count++;
	if (bend.last) {
		bend.last->len = (uint32_t)(len < LAST ? len : LAST);
		memcpy(bend.last->bytes, p, bend.last->len);
	}
	return len;
}

/*** In the place of libc's ***/

static bool is_netlink(int fd)
{
	int domain = 0;

	return bend.on && !getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &(socklen_t){ sizeof domain }) &&
	       domain == AF_NETLINK;
}

static size_t take(struct iovec *iov, size_t len)
{
	uint8_t copy[KEPT];
	size_t kept = len < KEPT ? len : KEPT;

	if (len > iov->iov_len || !dice(3))
		return len;
	memcpy(copy, iov->iov_base, kept);
	len = bend_answer(iov->iov_base, len, iov->iov_len);
	if (!dice(8)) {
		memcpy(bend.earlier, copy, kept);
		bend.earlier_len = kept;
	}
	return len;
}

ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	static ssize_t (*real)(int, struct msghdr *, int);
	struct iovec *iov = msg->msg_iov;
	bool bent = is_netlink(fd) && msg->msg_iovlen == 1;
	ssize_t n;

	if (!real)
		real = (ssize_t(*)(int, struct msghdr *, int))dlsym(RTLD_NEXT, "recvmsg");
	if (bent && __asan_unpoison_memory_region)
		__asan_unpoison_memory_region(iov->iov_base, iov->iov_len);
	n = real(fd, msg, flags);
	if (!bent || n < 0 || (size_t)n > iov->iov_len)
		return n;
	n = (ssize_t)take(iov, (size_t)n);
	if (__asan_poison_memory_region && padded((size_t)n) < iov->iov_len)
		__asan_poison_memory_region((uint8_t *)iov->iov_base + padded((size_t)n),
					    iov->iov_len - padded((size_t)n));
	return n;
}

int recvmmsg(int fd, struct mmsghdr *msgs, unsigned int count, int flags, struct timespec *timeout)
{
	static int (*real)(int, struct mmsghdr *, unsigned int, int, struct timespec *);
	int n;

	if (!real)
		real = (int (*)(int, struct mmsghdr *, unsigned int, int, struct timespec *))dlsym(
			RTLD_NEXT, "recvmmsg");
	n = real(fd, msgs, count, flags, timeout);
	for (int i = 0; i < n && is_netlink(fd); i++)
		msgs[i].msg_len = (unsigned int)take(msgs[i].msg_hdr.msg_iov, msgs[i].msg_len);
	return n;
}

/*** For Lua ***/

/***
Begin.
@function begin
@tparam integer seed
@tparam string path of a file for the last answer as it was handed on
*/
static int begin(lua_State *L)
{
	int fd = open(luaL_checkstring(L, 2), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	bend.random = (uint64_t)luaL_checkinteger(L, 1) | 1;
	if (fd < 0 || ftruncate(fd, sizeof *bend.last) < 0)
		return luaL_error(L, "no file for the last answer");
	bend.last = mmap(NULL, sizeof *bend.last, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (bend.last == MAP_FAILED)
		return luaL_error(L, "no memory for the last answer");
	bend.on = true;
	return 0;
}

/***
How many answers were bent.
@function count
@treturn integer
*/
static int count(lua_State *L)
{
	lua_pushinteger(L, (lua_Integer)bend.count);
	return 1;
}

int luaopen_bend(lua_State *L)
{
	static const luaL_Reg functions[] = { { "begin", begin }, { "count", count }, { NULL, NULL } };

	luaL_newlib(L, functions);
	return 1;
}
