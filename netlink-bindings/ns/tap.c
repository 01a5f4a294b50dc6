/* SPDX-License-Identifier: MIT */
/***
@submodule netlink.ns
*/
/* netlink.ns.tap: a persistent tap link. Netlink cannot make one, the tun device can: tun(4). */

#include "ns/ns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_arp.h>
#include <linux/if_tun.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "nl/push.h"

#define DEVICE "/dev/net/tun"

struct tap {
	struct ifreq name; /* with the flags */
	struct ifreq mac;
	bool has_mac;
	lua_Integer owner, group; /* -1: anybody */
};

/*** Plain C ***/

/* The device belongs to the namespace in which it was opened: only this needs a visit. */
static int open_device(const struct nl_place *place)
{
	int home, fd, err;

	err = netns_visit(place, &home);
	if (err)
		return err;
	fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	err = fd < 0 ? -errno : 0;
	netns_leave(home);
	return fd < 0 ? err : fd;
}

/* The last ioctl lets the link outlive its descriptor: so what fails before leaves no link. */
static int make_tap(const struct nl_place *place, struct tap *tap)
{
	int fd = open_device(place), err = 0;

	if (fd < 0)
		return fd;
	if (ioctl(fd, TUNSETIFF, &tap->name) < 0 ||
	    (tap->has_mac && ioctl(fd, SIOCSIFHWADDR, &tap->mac) < 0) ||
	    (tap->owner >= 0 && ioctl(fd, TUNSETOWNER, (unsigned long)tap->owner) < 0) ||
	    (tap->group >= 0 && ioctl(fd, TUNSETGROUP, (unsigned long)tap->group) < 0) ||
	    ioctl(fd, TUNSETPERSIST, 1UL) < 0)
		err = -errno;
	close(fd);
	return err;
}

/*** Values ***/

static bool flag_field(lua_State *L, int arg, const char *key)
{
	bool value;

	lua_getfield(L, arg, key);
	value = lua_toboolean(L, -1);
	lua_pop(L, 1);
	return value;
}

static lua_Integer id_field(lua_State *L, int arg, const char *key)
{
	lua_Integer id = -1;
	int ok = 1;

	if (lua_getfield(L, arg, key) != LUA_TNIL)
		id = lua_tointegerx(L, -1, &ok);
	if (!ok || id < -1 || id > UINT32_MAX)
		luaL_error(L, "tap: %s must be a number from 0 to 4294967295", key);
	lua_pop(L, 1);
	return id;
}

static void read_mac(lua_State *L, int arg, struct tap *tap)
{
	unsigned char *to = (unsigned char *)tap->mac.ifr_hwaddr.sa_data;
	const char *text;
	char end;

	tap->has_mac = lua_getfield(L, arg, "mac") != LUA_TNIL;
	if (tap->has_mac) {
		text = luaL_checkstring(L, -1);
		if (sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%c", to, to + 1, to + 2,
			   to + 3, to + 4, to + 5, &end) != 6)
			luaL_error(L, "tap: mac '%s' is not six bytes in hexadecimal", text);
	}
	tap->mac.ifr_hwaddr.sa_family = ARPHRD_ETHER;
	lua_pop(L, 1);
}

/***
Make a tap link that stays when nobody has it open. Packets carry no extra header of the device's.
@function ns.tap
@tparam nil|string|ns where the namespace; nil: this one
@tparam table want
  name                   required
  mac
  multi_queue, vnet_hdr  true or false; with vnet_hdr packets carry a virtio header
  owner, group           numbers: who may open it; absent: anybody who may make links
@treturn[1] boolean true
@return[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno: EBUSY when a link of that name exists, ENOENT without the tun device
@see tun(4)
*/
int netns_tap(lua_State *L)
{
	struct nl_place place = netns_place_arg(L, 1);
	struct tap tap = { .owner = -1 };
	const char *name;
	size_t len;
	int err;

	luaL_checktype(L, 2, LUA_TTABLE);
	lua_settop(L, 2);
	if (lua_getfield(L, 2, "name") != LUA_TSTRING)
		return luaL_error(L, "tap: name must be a string");
	name = lua_tolstring(L, 3, &len);
	if (len == 0 || len >= IFNAMSIZ || strlen(name) != len)
		return luaL_error(L, "tap: '%s' is not the name of a link", name);
	memcpy(tap.name.ifr_name, name, len);
	tap.name.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_TUN_EXCL |
				     (flag_field(L, 2, "multi_queue") ? IFF_MULTI_QUEUE : 0) |
				     (flag_field(L, 2, "vnet_hdr") ? IFF_VNET_HDR : 0));
	tap.owner = id_field(L, 2, "owner");
	tap.group = id_field(L, 2, "group");
	read_mac(L, 2, &tap);

	err = make_tap(&place, &tap);

	if (err)
		return push_failure(L, err, "make tap %s", name);
	lua_pushboolean(L, 1);
	return 1;
}
