/* SPDX-License-Identifier: MIT */
/*
 * Single values, Lua -> bytes: numbers and words within their range, texts, addresses; and the word
 * somebody may have meant.
 */

#include "attr/internal.h"

#include <stdio.h>
#include <string.h>

#include "sys/ip.h"

enum { MAX_NAMES = 256 };

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* How many letters are added, left out, replaced, or swapped with their neighbour. */
static size_t edit_distance(const char *a, const char *b)
{
	enum { MAX = 40 };
	size_t rows[3][MAX + 1], la = strlen(a), lb = strlen(b);

	if (la > MAX || lb > MAX)
		return MAX;
	for (size_t j = 0; j <= lb; j++)
		rows[0][j] = j;
	for (size_t i = 1; i <= la; i++) {
		const size_t *before = rows[(i + 1) % 3], *above = rows[(i - 1) % 3];
		size_t *row = rows[i % 3];

		row[0] = i;
		for (size_t j = 1; j <= lb; j++) {
			row[j] = least(above[j - 1] + (a[i - 1] != b[j - 1]),
				       least(above[j], row[j - 1]) + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				row[j] = least(row[j], before[j - 2] + 1);
		}
	}
	return rows[la % 3][lb];
}

/*
 * The candidate that begins with `word`, which was cut short; NULL when there are several, or when `word` has
 * less than three letters.
 */
static const char *longer_word(const char *word, const char *const *candidates)
{
	size_t len = strlen(word);
	const char *found = NULL;

	for (; len >= 3 && *candidates; candidates++) {
		if (strncmp(word, *candidates, len) != 0)
			continue;
		if (found)
			return NULL;
		found = *candidates;
	}
	return found;
}

const char *nearest_word(const char *word, const char *const *candidates)
{
	const char *longer = longer_word(word, candidates);
	size_t best = 1 + strlen(word) / 3;
	const char *found = NULL;

	for (; *candidates; candidates++) {
		size_t d = edit_distance(word, *candidates);

		if (d < best || (d == best && !found)) {
			best = d;
			found = *candidates;
		}
	}
	return longer && (!found || best > 1) ? longer : found;
}

size_t attr_width(int kind)
{
	switch (kind) {
	case ATTR_U8:
	case ATTR_BOOL:
		return 1;
	case ATTR_U16:
	case ATTR_BE16:
		return 2;
	case ATTR_U64:
	case ATTR_BE64:
		return 8;
	default:
		return 4;
	}
}

size_t attr_store(void *to, int kind, uint64_t value)
{
	size_t width = attr_width(kind);
	uint8_t *p = to;

	if (kind == ATTR_BE16 || kind == ATTR_BE32 || kind == ATTR_BE64) {
		for (size_t i = 0; i < width; i++)
			p[i] = (uint8_t)(value >> (8 * (width - 1 - i)));
	} else {
		memcpy(p, &(uint8_t){ (uint8_t)value }, width == 1 ? 1 : 0);
		memcpy(p, &(uint16_t){ (uint16_t)value }, width == 2 ? 2 : 0);
		memcpy(p, &(uint32_t){ (uint32_t)value }, width == 4 ? 4 : 0);
		memcpy(p, &value, width == 8 ? 8 : 0);
	}
	return width;
}

lua_Integer attr_integer(struct attr_out *out, const struct attr_row *row, int idx)
{
	int64_t min = row->min, max = row->max;
	size_t width = attr_width(row->kind);
	lua_Integer value;
	int exact = 0;

	if (!min && !max) {
		max = width == 8 ? INT64_MAX : (int64_t)(UINT64_MAX >> (64 - 8 * width));
		if (row->kind == ATTR_S32) {
			min = INT32_MIN;
			max = INT32_MAX;
		}
	}
	value = lua_type(out->L, idx) == LUA_TNUMBER ? lua_tointegerx(out->L, idx, &exact) : 0;
	if (lua_type(out->L, idx) != LUA_TNUMBER)
		attr_error(out, row, "expected an integer, got a %s", luaL_typename(out->L, idx));
	if (!exact)
		attr_error(out, row, "expected an integer");
	if (value < min || value > max)
		attr_error(out, row, "%lld is not in %lld..%lld", (long long)value, (long long)min,
			   (long long)max);
	return value;
}

static const char *text_of(struct attr_out *out, const struct attr_row *row, int idx, size_t *len)
{
	if (lua_type(out->L, idx) != LUA_TSTRING)
		attr_error(out, row, "expected a string, got a %s", luaL_typename(out->L, idx));
	return lua_tolstring(out->L, idx, len);
}

bool attr_boolean(struct attr_out *out, const struct attr_row *row, int idx)
{
	if (lua_type(out->L, idx) != LUA_TBOOLEAN)
		attr_error(out, row, "expected a boolean, got a %s", luaL_typename(out->L, idx));
	return lua_toboolean(out->L, idx);
}

static void check_table(struct attr_out *out, const struct attr_row *row, int idx)
{
	if (lua_type(out->L, idx) != LUA_TTABLE)
		attr_error(out, row, "expected a table, got a %s", luaL_typename(out->L, idx));
}

static uint32_t word_of(struct attr_out *out, const struct attr_row *row, int idx)
{
	const char *names[MAX_NAMES], *word, *near;
	size_t count = 0;

	if (lua_type(out->L, idx) == LUA_TNUMBER && row->flags & ATTR_NUMBER)
		return (uint32_t)attr_integer(out, row, idx);
	word = text_of(out, row, idx, NULL);
	for (size_t i = 0; i < row->words->count; i++) {
		if (!strcmp(row->words->list[i].word, word))
			return row->words->list[i].value;
		if (count < MAX_NAMES - 1)
			names[count++] = row->words->list[i].word;
	}
	names[count] = NULL;
	near = nearest_word(word, names);
	if (near)
		attr_error(out, row, "unknown value '%s' (did you mean '%s'?)", word, near);
	attr_error(out, row, "unknown value '%s' (such as '%s')", word, count ? names[0] : "");
}

static uint32_t bits_of(struct attr_out *out, const struct attr_row *row, int idx)
{
	uint32_t bits = 0;

	if (lua_type(out->L, idx) == LUA_TNUMBER && row->flags & ATTR_NUMBER)
		return (uint32_t)attr_integer(out, row, idx);
	check_table(out, row, idx);
	for (lua_Unsigned i = 1; i <= lua_rawlen(out->L, idx); i++) {
		lua_rawgeti(out->L, idx, (lua_Integer)i);
		bits |= word_of(out, row, lua_gettop(out->L));
		lua_pop(out->L, 1);
	}
	return bits;
}

uint64_t attr_number(struct attr_out *out, const struct attr_row *row, int idx)
{
	if (row->kind == ATTR_BOOL || row->kind == ATTR_BOOL32)
		return attr_boolean(out, row, idx);
	if (row->words && row->flags & ATTR_BITS)
		return bits_of(out, row, idx);
	if (row->words)
		return word_of(out, row, idx);
	return (uint64_t)attr_integer(out, row, idx);
}

size_t attr_ip(struct attr_out *out, const struct attr_row *row, int idx, uint8_t bytes[16])
{
	size_t len, n;
	const char *text = text_of(out, row, idx, &len);

	n = ip_parse(text, len, bytes);
	if (!n)
		attr_error(out, row, "'%.60s' is not an IP address", text);
	if (row->max && n != (size_t)row->max)
		attr_error(out, row, "'%.60s' is not an IPv%c address", text,
			   row->max == 4 ? '4' : '6');
	return n;
}

size_t attr_prefix(struct attr_out *out, const struct attr_row *row, int idx, uint8_t bytes[16],
		   uint8_t *ret_bits)
{
	size_t len, n = 0, at;
	const char *text = text_of(out, row, idx, &len), *digits;
	char ip[IP_TEXT_MAX];
	unsigned int bits = 0;

	at = strcspn(text, "/");
	if (at < sizeof ip && strlen(text) == len) {
		memcpy(ip, text, at);
		ip[at] = '\0';
		n = ip_parse(ip, at, bytes);
	}
	if (n && at == len) {
		*ret_bits = (uint8_t)(8 * n);
		return n;
	}
	/* A mapped address shrank to 4 bytes; a length meant for 16 would mean something else. */
	if (n == 4 && strchr(ip, ':'))
		n = 0;
	digits = text + at + 1;
	if (n && (len - at - 1 < 1 || len - at - 1 > 3 || (digits[0] == '0' && digits[1])))
		n = 0;
	for (; n && *digits; digits++) {
		if (*digits < '0' || *digits > '9')
			n = 0;
		bits = bits * 10 + (unsigned int)(*digits - '0');
	}
	if (!n || bits > 8 * n)
		attr_error(out, row, "'%.60s' is not an address with a prefix length", text);
	*ret_bits = (uint8_t)bits;
	return n;
}

/* The value of a hexadecimal digit, or -1. */
static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

void attr_put_mac(struct attr_out *out, const struct attr_row *row, int idx)
{
	size_t len, n;
	const char *text = text_of(out, row, idx, &len);
	uint8_t mac[32];

	for (n = 0; n < sizeof mac && 3 * n + 1 < len; n++) {
		int high = hex_value(text[3 * n]), low = hex_value(text[3 * n + 1]);

		if (high < 0 || low < 0 || (3 * n + 2 < len && text[3 * n + 2] != ':'))
			break;
		mac[n] = (uint8_t)(high << 4 | low);
	}
	/* Ethernet, FireWire, InfiniBand. */
	if (len != 3 * n - 1 || (n != 6 && n != 8 && n != 20))
		attr_error(out, row, "'%.60s' is not a hardware address", text);
	attr_put(out, row->type, mac, n);
}

void attr_put_text(struct attr_out *out, const struct attr_row *row, int idx)
{
	size_t len;
	const char *text = text_of(out, row, idx, &len);
	bool bytes = row->kind == ATTR_BYTES;

	if (!bytes && memchr(text, '\0', len))
		attr_error(out, row, "text with a zero byte");
	if ((row->min || row->max) && ((int64_t)len < row->min || (int64_t)len > row->max))
		attr_error(out, row, "%zu bytes are not in %lld..%lld", len, (long long)row->min,
			   (long long)row->max);
	attr_put(out, row->type, text, len + (row->kind == ATTR_STRING));
}

void attr_put_field(struct attr_out *out, const struct attr_row *row, int idx)
{
	uint8_t *field;
	uint64_t value;

	if (!row->mask) {
		value = attr_number(out, row, idx);
		attr_store((uint8_t *)attr_header(out) + row->offset, row->kind, value);
		return;
	}
	value = attr_boolean(out, row, idx) != !!(row->flags & ATTR_INVERT) ? row->mask : 0;
	field = (uint8_t *)attr_header(out) + row->offset;
	for (size_t i = 0; i < attr_width(row->kind); i++) {
		uint8_t bytes[8], set[8];

		attr_store(bytes, row->kind, row->mask);
		attr_store(set, row->kind, value);
		field[i] = (uint8_t)((field[i] & ~bytes[i]) | set[i]);
	}
	if (row->change) {
		uint32_t mask;

		field = (uint8_t *)attr_header(out) + row->change;
		memcpy(&mask, field, sizeof mask);
		mask |= row->mask;
		memcpy(field, &mask, sizeof mask);
	}
}
