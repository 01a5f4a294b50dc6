/* SPDX-License-Identifier: MIT */
/*
 * How attributes are appended and errors are raised, for the encoder's other files. An error has the path of
 * the value, from the request down.
 */

#include "attr/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MAX_PATH_TEXT = 160 };

static size_t path_text(const struct attr_out *out, char *text, size_t size)
{
	size_t at = 0;

	if (!out->parent) {
		if (out->index)
			at = (size_t)snprintf(text, size, "request %lld: ", (long long)out->index);
		return at + (size_t)snprintf(text + at, size - at, "%s", out->table->name);
	}
	at = path_text(out->parent, text, size);
	if (at < size && out->key)
		at += (size_t)snprintf(text + at, size - at, ".%s", out->key);
	if (at < size && out->index)
		at += (size_t)snprintf(text + at, size - at, "[%lld]", (long long)out->index);
	return at < size ? at : size - 1;
}

_Noreturn void attr_error(struct attr_out *out, const struct attr_row *row, const char *fmt, ...)
{
	char path[MAX_PATH_TEXT], text[256];
	size_t at = path_text(out, path, sizeof path);
	va_list args;

	if (row && row->key)
		snprintf(path + at, sizeof path - at,
			 !strcmp(row->key, ATTR_FIRST) ? "[1]" : ".%s", row->key);
	va_start(args, fmt);
	vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	luaL_error(out->L, "%s: %s", path, text);
	__builtin_unreachable();
}

void attr_check(struct attr_out *out, int err)
{
	if (err)
		attr_error(out, NULL, "%s", strerror(-err));
}

void attr_put(struct attr_out *out, uint16_t type, const void *data, size_t len)
{
	attr_check(out, nl_put(out->buf, type, data, len));
}

size_t attr_nest(struct attr_out *out, uint16_t type)
{
	long at = nl_nest(out->buf, type);

	attr_check(out, at < 0 ? (int)at : 0);
	return (size_t)at;
}

void attr_nest_end(struct attr_out *out, size_t at)
{
	attr_check(out, nl_nest_end(out->buf, at));
}

void *attr_header(struct attr_out *out)
{
	return out->buf->data + out->header;
}
