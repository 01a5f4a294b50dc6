/* SPDX-License-Identifier: MIT */
/* IP addresses and their text. */
#ifndef NETLINK_BINDINGS_SYS_IP_H
#define NETLINK_BINDINGS_SYS_IP_H

#include <stddef.h>
#include <stdint.h>

/*
 * Addresses. ip_parse() is strict: no leading zeros, no zone, v4-mapped becomes 4 bytes; returns
 * 4, 16, or 0 for "not an address". ip_format() writes the canonical text (RFC 5952).
 */
size_t ip_parse(const char *text, size_t len, uint8_t bytes[16]);
#define IP_TEXT_MAX 48
void ip_format(const void *bytes, size_t len, char text[IP_TEXT_MAX]);

#endif
