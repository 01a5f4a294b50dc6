/* SPDX-License-Identifier: MIT */
/***
@submodule netlink.ns
*/
/*
 * Sockets in a namespace for what is said by packets: frames of a link that may have no address yet, and
 * datagrams of one that has. packet(7), udp(7).
 */

#include "ns/ns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "nl/push.h"

#define WIRE_HANDLE "netlink.wire"
#define LONGEST 65536
#define PATIENCE_MS 1000

union peer {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_ll ll;
	struct sockaddr_storage room;
};

struct wire {
	int fd; /* -1 once closed */
	union peer to;
	socklen_t to_len;
};

/* What came: its length, who sent it, whether its checksum is what the wire has. */
struct packet {
	size_t len;
	union peer from;
	bool is_summed;
};

/*** Plain C ***/

static int attach(int fd, struct sock_filter *code, size_t len)
{
	struct sock_fprog program = { .len = (unsigned short)len, .filter = code };

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0 ? -errno : 0;
}

/* Of IPv6: one type of ICMPv6, right behind the header. */
static int hear_icmp(int fd, unsigned int type)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 6),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_ICMPV6, 0, 3),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 40),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, type, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, LONGEST),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};

	return attach(fd, code, ARRAY_SIZE(code));
}

/* Of IPv4: datagrams to a port, whole or the first fragment of one. */
static int hear_port(int fd, unsigned int port)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 9),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 0, 6),
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 6),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x1fff, 4, 0),
		BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0),
		BPF_STMT(BPF_LD | BPF_H | BPF_IND, 2),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, port, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, LONGEST),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};

	return attach(fd, code, ARRAY_SIZE(code));
}

static int open_socket(const struct nl_place *place, int family)
{
	int home, fd, err = netns_visit(place, &home);

	if (err)
		return err;
	/* A packet socket without a protocol hears nothing until it is bound to one. */
	fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	err = fd < 0 ? -errno : 0;
	netns_leave(home);
	return err ? err : fd;
}

static int bind_to(int fd, const union peer *own, socklen_t len, unsigned int only)
{
	const bool frames = own->any.sa_family == AF_PACKET;
	const bool ipv6 = frames && own->ll.sll_protocol == htons(ETH_P_IPV6);
	int err = !only ? 0 : ipv6 ? hear_icmp(fd, only) : hear_port(fd, only);
	socklen_t err_len = sizeof err;

	if (err)
		return err;
	if (setsockopt(fd, frames ? SOL_PACKET : SOL_SOCKET, frames ? PACKET_AUXDATA : SO_REUSEADDR,
		       &(int){ 1 }, sizeof(int)) < 0 ||
	    bind(fd, &own->any, len) < 0)
		return -errno;
	/* A link that is down can be bound to: the kernel leaves word of it for who reads next. */
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &err_len) < 0 ? -errno : -err;
}

/* A socket, or -errno. */
static int open_wire(const struct nl_place *place, const union peer *own, socklen_t len, unsigned int only)
{
	int fd = open_socket(place, own->any.sa_family), err;

	err = fd < 0 ? fd : bind_to(fd, own, len, only);
	if (err && fd >= 0)
		close(fd);
	return err ? err : fd;
}

/* Between two processes of one machine a checksum may be left for the card to fill in, and never is. */
static bool is_summed(struct msghdr *msg)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		struct tpacket_auxdata aux;

		if (c->cmsg_level != SOL_PACKET || c->cmsg_type != PACKET_AUXDATA)
			continue;
		memcpy(&aux, CMSG_DATA(c), sizeof aux);
		return !(aux.tp_status & TP_STATUS_CSUMNOTREADY);
	}
	return true;
}

/* 0, -ETIMEDOUT at the deadline, or another -errno. */
static int take(int fd, unsigned char *bytes, struct packet *ret, int64_t deadline)
{
	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		char control[256];
		struct iovec iov = { bytes, LONGEST };
		struct msghdr msg = { .msg_name = &ret->from, .msg_namelen = sizeof ret->from,
				      .msg_iov = &iov, .msg_iovlen = 1,
				      .msg_control = control, .msg_controllen = sizeof control };
		ssize_t len = recvmsg(fd, &msg, MSG_DONTWAIT);

		if (len >= 0) {
			ret->len = (size_t)len;
			ret->is_summed = is_summed(&msg);
			return 0;
		}
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		if (!nl_ms_left(deadline))
			return -ETIMEDOUT;
		if (poll(&p, 1, nl_ms_left(deadline)) < 0 && errno != EINTR)
			return -errno;
	}
}

/*** Values ***/

static lua_Integer number_arg(lua_State *L, int arg, lua_Integer max)
{
	lua_Integer value = luaL_checkinteger(L, arg);

	luaL_argcheck(L, value >= 0 && value <= max, arg, "out of range");
	return value;
}

/* An address and, behind it, a port. */
static union peer peer_arg(lua_State *L, int arg, unsigned int index)
{
	union peer peer = { .any = { 0 } };
	size_t len;
	const char *bytes = luaL_checklstring(L, arg, &len);
	in_port_t port = htons((uint16_t)number_arg(L, arg + 1, UINT16_MAX));

	if (len == sizeof peer.in.sin_addr) {
		peer.in = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = port };
		memcpy(&peer.in.sin_addr, bytes, len);
		return peer;
	}
	luaL_argcheck(L, len == sizeof peer.in6.sin6_addr, arg, "not the bytes of an address");
	peer.in6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = port,
					  .sin6_scope_id = index };
	memcpy(&peer.in6.sin6_addr, bytes, len);
	return peer;
}

static socklen_t len_of(const union peer *peer)
{
	return peer->any.sa_family == AF_INET ? sizeof peer->in : sizeof peer->in6;
}

static struct wire *new_wire(lua_State *L)
{
	struct wire *w = lua_newuserdatauv(L, sizeof *w, 0);

	*w = (struct wire){ .fd = -1 };
	luaL_setmetatable(L, WIRE_HANDLE);
	return w;
}

static struct wire *wire_arg(lua_State *L)
{
	struct wire *w = luaL_checkudata(L, 1, WIRE_HANDLE);

	luaL_argcheck(L, w->fd >= 0, 1, "it is closed");
	return w;
}

/***
Listen to frames of a link, and send such: their content, behind the Ethernet header.
@function ns.frames
@tparam nil|string|ns where the namespace; nil: this one
@tparam integer index of the link there, from 1
@tparam integer protocol the EtherType, such as 0x0800 or 0x0806
@tparam[opt=0] integer only of IPv4: hear only UDP to this port; of IPv6: only this type of ICMPv6
@treturn[1] wire close it; it closes itself in a `<close>` variable
@return[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno: ENODEV without the link, ENETDOWN when it is down
@see packet(7)
*/
int netns_frames(lua_State *L)
{
	struct nl_place place = netns_place_arg(L, 1);
	union peer own = { .ll = { .sll_family = AF_PACKET,
				   .sll_ifindex = (int)number_arg(L, 2, INT32_MAX),
				   .sll_protocol = htons((uint16_t)number_arg(L, 3, UINT16_MAX)) } };
	unsigned int only = lua_isnoneornil(L, 4) ? 0 : (unsigned int)number_arg(L, 4, UINT16_MAX);
	struct wire *w = new_wire(L);
	int fd;

	/* To the kernel 0 is all links. */
	luaL_argcheck(L, own.ll.sll_ifindex, 2, "no link has it");
	fd = open_wire(&place, &own, sizeof own.ll, only);

	if (fd < 0)
		return push_failure(L, fd, "listen to a link");
	w->fd = fd;
	w->to = own;
	w->to_len = sizeof own.ll;
	return 1;
}

/***
Listen to datagrams of UDP at an address of the namespace, and send such to one peer. Others may answer too.
@function ns.datagrams
@tparam nil|string|ns where the namespace; nil: this one
@tparam string from the own address, 4 or 16 bytes
@tparam integer from_port
@tparam string to as many bytes; of IPv6 also a group
@tparam integer to_port
@tparam[opt=0] integer index of the link that link-local addresses and groups are of
@treturn[1] wire close it; it closes itself in a `<close>` variable
@return[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno: EADDRNOTAVAIL without the address, EADDRINUSE when another has the port, and does
not share it as these do
@see udp(7)
*/
int netns_datagrams(lua_State *L)
{
	struct nl_place place = netns_place_arg(L, 1);
	unsigned int index = lua_isnoneornil(L, 6) ? 0 : (unsigned int)number_arg(L, 6, INT32_MAX);
	union peer own = peer_arg(L, 2, index), to = peer_arg(L, 4, index);
	struct wire *w = new_wire(L);
	int fd;

	luaL_argcheck(L, own.any.sa_family == to.any.sa_family, 4, "of the other family");
	fd = open_wire(&place, &own, len_of(&own), 0);

	if (fd < 0)
		return push_failure(L, fd, "listen to datagrams");
	w->fd = fd;
	w->to = to;
	w->to_len = len_of(&to);
	return 1;
}

/***
Send one frame or datagram.
@function wire:send
@tparam string bytes
@tparam[opt] string mac of frames: whose it is, the bytes of a hardware address
@treturn[1] boolean true
@return[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
static int wire_send(lua_State *L)
{
	struct wire *w = wire_arg(L);
	size_t len, mac_len = 0;
	const char *bytes = luaL_checklstring(L, 2, &len);
	const char *mac = luaL_optlstring(L, 3, "", &mac_len);
	union peer to = w->to;

	luaL_argcheck(L, mac_len <= sizeof to.ll.sll_addr, 3, "too long for a hardware address");
	if (to.any.sa_family == AF_PACKET) {
		to.ll.sll_halen = (unsigned char)mac_len;
		memcpy(to.ll.sll_addr, mac, mac_len);
	}
	while (sendto(w->fd, bytes, len, 0, &to.any, w->to_len) < 0) {
		if (errno != EINTR)
			return push_failure(L, errno, "send");
	}
	lua_pushboolean(L, 1);
	return 1;
}

/***
Take the next frame or datagram.
@function wire:receive
@tparam[opt=1000] integer timeout_ms how long to wait for it; 0: take what is there
@treturn[1] string its bytes
@treturn[1] string who has sent it: the bytes of a hardware address, of datagrams those of an IP address
@treturn[1] boolean of frames: whether the checksum in it was filled in; that of a process of this machine may
be none
@return[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno: ETIMEDOUT when none came, ENETDOWN when the link went down
*/
static int wire_receive(lua_State *L)
{
	struct wire *w = wire_arg(L);
	lua_Integer ms = lua_isnoneornil(L, 2) ? PATIENCE_MS : number_arg(L, 2, INT32_MAX);
	int64_t deadline = nl_deadline((int)ms);
	struct packet packet = { .is_summed = true };
	luaL_Buffer buf;
	int err;

	/* A buffer of Lua's: what raises frees it. */
	err = take(w->fd, (unsigned char *)luaL_buffinitsize(L, &buf, LONGEST), &packet, deadline);
	luaL_pushresultsize(&buf, err ? 0 : packet.len);
	if (err)
		return push_failure(L, err, "receive");
	if (w->to.any.sa_family == AF_PACKET) {
		size_t len = packet.from.ll.sll_halen;

		lua_pushlstring(L, (const char *)packet.from.ll.sll_addr,
				len > sizeof packet.from.ll.sll_addr ? sizeof packet.from.ll.sll_addr : len);
	} else if (w->to.any.sa_family == AF_INET) {
		lua_pushlstring(L, (const char *)&packet.from.in.sin_addr, sizeof packet.from.in.sin_addr);
	} else {
		lua_pushlstring(L, (const char *)&packet.from.in6.sin6_addr,
				sizeof packet.from.in6.sin6_addr);
	}
	lua_pushboolean(L, packet.is_summed);
	return 3;
}

/***
Listen no more; twice is fine.
@function wire:close
*/
static int wire_close(lua_State *L)
{
	struct wire *w = luaL_checkudata(L, 1, WIRE_HANDLE);

	if (w->fd >= 0)
		close(w->fd);
	w->fd = -1;
	return 0;
}

void netns_new_wires(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{ "send", wire_send }, { "receive", wire_receive }, { "close", wire_close }, { NULL, NULL },
	};
	static const luaL_Reg meta[] = {
		{ "__gc", wire_close }, { "__close", wire_close }, { NULL, NULL },
	};

	new_handle_type(L, WIRE_HANDLE, methods, meta);
}
