/* SPDX-License-Identifier: MIT */
/* The module `netlink`: its parts put together. */
#include "bindings.h"

#include "nl/nl.h"

/* A part that is not linked in is not there: the address of a weak function is then null. */
#pragma weak luaopen_netlink_nft
#pragma weak luaopen_netlink_sys
#pragma weak luaopen_netlink_store
#pragma weak luaopen_netlink_json
#pragma weak luaopen_netlink_dissect
#pragma weak luaopen_netlink_trace
#pragma weak luaopen_netlink_losses

int luaopen_netlink(lua_State *L)
{
	static const struct {
		const char *name;
		lua_CFunction open;
	} parts[] = {
		{ "open", luaopen_netlink_rtnl },
		{ "check", luaopen_netlink_check },
		{ "ns", luaopen_netlink_ns },
		{ "ip", luaopen_netlink_ip },
		{ "nft", luaopen_netlink_nft },
		{ "sys", luaopen_netlink_sys },
		{ "store", luaopen_netlink_store },
		{ "json", luaopen_netlink_json },
		{ "describe", luaopen_netlink_describe },
		{ "dissect", luaopen_netlink_dissect },
		{ "trace", luaopen_netlink_trace },
		{ "losses", luaopen_netlink_losses },
	};

	lua_createtable(L, 0, ARRAY_SIZE(parts));
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		if (!parts[i].open)
			continue;
		lua_pushcfunction(L, parts[i].open);
		lua_call(L, 0, 1);
		lua_setfield(L, -2, parts[i].name);
	}
	return 1;
}
