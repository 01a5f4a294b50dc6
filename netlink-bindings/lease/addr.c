/* SPDX-License-Identifier: MIT */
/* Addresses of the lease store: text to number and back. */
#include "lease/addr.h"

#include <string.h>

#include "sys/ip.h"

bool lease_addr_parse(const char *text, size_t len, struct lease_addr *ret)
{
	uint8_t bytes[16];
	size_t size = ip_parse(text, len, bytes);

	ret->v6 = size == 16;
	ret->n = 0;
	for (size_t i = 0; i < size; i++)
		ret->n = ret->n << 8 | bytes[i];

	return size > 0;
}

void lease_addr_text(const struct lease_addr *addr, char text[LEASE_ADDR_TEXT])
{
	size_t size = addr->v6 ? 16 : 4;
	lease_number n = addr->n;
	uint8_t bytes[16];

	for (size_t i = size; i-- > 0; n >>= 8)
		bytes[i] = (uint8_t)n;
	ip_format(bytes, size, text);
}

bool lease_addr_from_name(const char *name, struct lease_addr *ret)
{
	char text[LEASE_ADDR_TEXT];

	if (!lease_addr_parse(name, strlen(name), ret))
		return false;
	lease_addr_text(ret, text);

	return strcmp(text, name) == 0;
}
