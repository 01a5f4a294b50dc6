/* SPDX-License-Identifier: MIT */
/***
Addresses between text and bytes. CIDRs are lua/cni/addr.lua's business.
@module netlink.ip
*/

#include "sys/ip.h"

#include <arpa/inet.h>
#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "bindings.h"

static const uint8_t mapped_prefix[12] = { [10] = 0xff, [11] = 0xff };

size_t ip_parse(const char *text, size_t len, uint8_t bytes[16])
{
	/* A NUL inside would end the text early for inet_pton(). */
	if (len >= INET6_ADDRSTRLEN || strlen(text) != len)
		return 0;
	if (inet_pton(AF_INET, text, bytes) == 1)
		return 4;
	if (inet_pton(AF_INET6, text, bytes) != 1)
		return 0;
	if (memcmp(bytes, mapped_prefix, sizeof mapped_prefix))
		return 16;
	memmove(bytes, bytes + sizeof mapped_prefix, 4);
	return 4;
}

/* Find the longest run of at least two zero groups, the first of equals. Returns its length. */
static int longest_zeros(const uint8_t *b, int *ret_start)
{
	int best = 1;

	for (int i = 0; i < 8; i++) {
		int n = 0;

		while (i + n < 8 && !b[2 * (i + n)] && !b[2 * (i + n) + 1])
			n++;
		if (n > best) {
			best = n;
			*ret_start = i;
		}
	}
	return best > 1 ? best : 0;
}

void ip_format(const void *bytes, size_t len, char text[IP_TEXT_MAX])
{
	const uint8_t *b = bytes;
	int start = 8, zeros, at = 0;

	if (len == 4) {
		inet_ntop(AF_INET, bytes, text, IP_TEXT_MAX);
		return;
	}
	if (!memcmp(b, mapped_prefix, sizeof mapped_prefix)) {
		snprintf(text, IP_TEXT_MAX, "::ffff:%u.%u.%u.%u", b[12], b[13], b[14], b[15]);
		return;
	}
	zeros = longest_zeros(b, &start);
	for (int i = 0; i < 8; i++) {
		if (i == start && zeros) {
			at += snprintf(text + at, IP_TEXT_MAX - (size_t)at, "::");
			i += zeros - 1;
			continue;
		}
		at += snprintf(text + at, IP_TEXT_MAX - (size_t)at, "%s%x",
			       i && i != start + zeros ? ":" : "", b[2 * i] << 8 | b[2 * i + 1]);
	}
}

/***
Turn the text of an address into its bytes.

Strict: no leading zeros, no zone, no prefix length, no blanks. An IPv4-mapped IPv6 address gives
the four bytes of the IPv4 address.
@function ip.pack
@tparam string text such as `10.1.2.3` or `fd00::1`
@treturn string|nil 4 or 16 bytes; nil when it is not an address
*/
static int ip_pack(lua_State *L)
{
	size_t len;
	const char *text = luaL_checklstring(L, 1, &len);
	uint8_t bytes[16];
	size_t n = ip_parse(text, len, bytes);

	if (n)
		lua_pushlstring(L, (const char *)bytes, n);
	else
		lua_pushnil(L);
	return 1;
}

/***
Turn the bytes of an address into its canonical text (RFC 5952).
@function ip.text
@tparam string bytes 4 or 16 of them; anything else is an argument error
@treturn string text
*/
static int ip_text(lua_State *L)
{
	size_t len;
	const char *bytes = luaL_checklstring(L, 1, &len);
	char text[IP_TEXT_MAX];

	luaL_argcheck(L, len == 4 || len == 16, 1, "an address has 4 or 16 bytes");
	ip_format(bytes, len, text);
	lua_pushstring(L, text);
	return 1;
}

int luaopen_netlink_ip(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{ "pack", ip_pack },
		{ "text", ip_text },
		{ NULL, NULL },
	};

	luaL_newlib(L, functions);
	return 1;
}
