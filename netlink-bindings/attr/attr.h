/* SPDX-License-Identifier: MIT */
/*
 * One encoder and one decoder between Lua tables and netlink attributes, driven by tables of rows.
 * A new option is one row; see tables/tables.c (rtnetlink) and nft/objects.c (nf_tables).
 *
 * Strict on the way in: an unknown key, a wrong type or a number out of range raises a Lua error
 * that names the path and the nearest valid key. Lenient on the way out: attributes without a row
 * are skipped, unknown numbers of a word are given as numbers.
 *
 * Everything reads tables raw, so no metamethod runs in the middle of a batch.
 */
#ifndef NETLINK_BINDINGS_ATTR_ATTR_H
#define NETLINK_BINDINGS_ATTR_ATTR_H

#include <lauxlib.h>
#include <lua.h>

#include "nl/nl.h"

/* How a value is laid out, and what it is in Lua. */
enum attr_kind {
	ATTR_SKIP, /* known to exist, not shown: a row without a kind */
	/* integers; with .words they are words, with .mask one bit of the field as a boolean */
	ATTR_U8,
	ATTR_U16,
	ATTR_U32,
	ATTR_U64,
	ATTR_S32,
	ATTR_BE16,
	ATTR_BE32,
	ATTR_BE64,
	ATTR_BOOL,   /* boolean in a u8 */
	ATTR_BOOL32, /* boolean in a u32 */
	ATTR_FLAG,   /* boolean by presence, no payload */
	ATTR_STRING, /* text with a NUL behind it; .max is the longest length, without the NUL */
	ATTR_TEXT,   /* text without a NUL behind it */
	ATTR_MAC,    /* "02:42:ac:11:00:02" */
	ATTR_IP,     /* "10.1.2.3", "fd00::1"; 4 or 16 bytes, .max says which; 0: either */
	ATTR_BYTES,  /* a Lua string as it is; .min and .max bound its length */
	ATTR_NEST,   /* a table of its own: (header and) attributes by .table or .choose */
	ATTR_FLAT,   /* on the wire as ATTR_NEST; its keys live in the table that holds it */
	ATTR_LIST,   /* a nest of elements <-> a Lua list; .each is the row of one element */
	ATTR_HOOK,   /* .hook does it */
};

/* Row flags. */
enum {
	ATTR_READONLY = 1 << 0,  /* an error to write */
	ATTR_WRITEONLY = 1 << 1, /* not shown when read */
	ATTR_NUMBER = 1 << 2,    /* with .words: a bare integer is accepted as well */
	ATTR_BITS = 1 << 3,      /* with .words: a list of words, or-ed together */
	ATTR_UNNESTED = 1 << 4,  /* nested, but without NLA_F_NESTED in the type */
	ATTR_INVERT = 1 << 5,    /* with .mask: the boolean is the opposite of the bit */
};

/* Special attribute numbers. */
#define ATTR_HEADER 0xffffU /* not an attribute: the field of the family header at .offset */
#define ATTR_WHOLE 0xfffeU  /* ATTR_HOOK: decode once per table, after all rows */
#define ATTR_FIRST "\1"     /* as a key: the table's element [1], as in { "cmp", op = "eq" } */

struct attr_word {
	const char *word;
	uint32_t value;
};

struct attr_words {
	const struct attr_word *list;
	size_t count;
};

struct attr_row;

struct attr_table {
	const char *name; /* for messages: "link", "bridge" */
	const struct attr_row *rows;
	size_t count;
	size_t header; /* bytes of struct before the attributes; ATTR_HEADER rows live there */
};

/* Which table a nest follows depends on the value of another key of the same Lua table. */
struct attr_case {
	const char *name;
	const struct attr_table *table;
};

struct attr_switch {
	const char *key; /* the selector, often "kind"; ATTR_FIRST for element [1] */
	const struct attr_case *cases;
	size_t count;
	const struct attr_table *otherwise; /* while the selector is not there at all; or NULL */
};

struct attr_out;
struct attr_in;

struct attr_hook {
	/* Append to out->buf what the value at absolute index `idx` stands for. May raise. */
	void (*encode)(struct attr_out *out, const struct attr_row *row, int idx);
	/* Push a value and return 1, or nothing and return 0. `attr` is NULL for ATTR_WHOLE. */
	int (*decode)(struct attr_in *in, const struct attr_row *row, const struct nlattr *attr);
};

struct attr_row {
	const char *key; /* NULL: none of its own (ATTR_FLAT, elements of a list) */
	uint16_t type;   /* attribute number, or ATTR_HEADER, ATTR_WHOLE */
	uint8_t kind;
	uint8_t flags;
	uint16_t offset; /* ATTR_HEADER: of the field */
	uint16_t change; /* with .mask: offset of the u32 that says which bits are meant; 0: none */
	uint32_t mask;
	int64_t min, max; /* both 0: whatever the kind can hold */
	const struct attr_words *words;
	const struct attr_table *table;
	const struct attr_switch *choose;
	const struct attr_row *each;
	const struct attr_hook *hook;
	const void *data; /* for the hook */
};

/* Initialisers. Nothing is counted by hand. */
#define ATTR_WORDS(list_) (&(const struct attr_words){ (list_), ARRAY_SIZE(list_) })
#define ATTR_MAX_ROWS 80 /* of one table; another size does not compile */
#define ATTR_TABLE(name_, rows_, header_) \
	{ \
		(name_), (rows_), \
			ARRAY_SIZE(rows_) + \
				0 * sizeof(char[ARRAY_SIZE(rows_) <= ATTR_MAX_ROWS ? 1 : -1]), \
			(header_) \
	}
#define ATTR_SWITCH(key_, cases_) \
	(&(const struct attr_switch){ (key_), (cases_), ARRAY_SIZE(cases_), NULL })
#define ATTR_FIELD(struct_, member_) .type = ATTR_HEADER, .offset = offsetof(struct_, member_)

/* State of the encoder, one per Lua table on the way down. */
struct attr_out {
	lua_State *L;
	struct nl_buf *buf;
	size_t header; /* offset in buf of this table's header, see attr_header() */
	const struct attr_table *table;
	int idx;                       /* absolute index of the Lua table */
	const struct attr_out *parent; /* for the path in messages */
	const char *key;               /* by which the parent reached this one; NULL: by .index */
	lua_Integer index;
	int depth;
	bool query; /* read-only keys may be given: they are compared, not set */
};

/* The keys that are wanted of an answer; empty to begin with. */
struct attr_only {
	const char *names[24];
	size_t count;
	bool deep; /* one of them is there by choice of another (a link's kind) */
};

/* State of the decoder: one set of attributes, and the Lua table that it fills. */
struct attr_in {
	lua_State *L;
	const struct attr_only *only; /* NULL: all */
	const void *header;
	size_t header_len;
	const void *attrs;
	size_t len;
	int idx; /* absolute index of the Lua table being filled */
	int depth;
	bool all;                    /* see attr_decode_all() */
	const struct attr_in *outer; /* in a flat row: the attributes around it, and its number in them */
	uint16_t type;
	uint64_t found; /* the numbers below 64 that attr_find() has found, a bit each */
};

/*
 * Append header and attributes for the Lua table at `idx` to a message begun with
 * nl_begin(buf, type, flags, 0). The header starts zeroed. Raises on mistakes; the half-written
 * message stays in the buffer, for nl_clear(). [-0, +0, v]
 */
void attr_encode(lua_State *L, struct nl_buf *buf, int idx, const struct attr_table *table);

/* The same for element `nth` of a list of requests, counted from 1: messages say which. */
void attr_encode_nth(lua_State *L, struct nl_buf *buf, int idx, const struct attr_table *table,
		     lua_Integer nth);

/*
 * For queries, where a kernel can filter by a few keys only: keys of `full` that `table` does not
 * know are passed over, read-only ones are allowed, those of neither are an error. [-0, +0, v]
 */
void attr_encode_some(lua_State *L, struct nl_buf *buf, int idx, const struct attr_table *table,
		      const struct attr_table *full);

/*
 * Push a new table with what a message body (header and attributes) says: all of it, or with `only`
 * no more than the keys there. [-0, +1, m]
 */
void attr_decode(lua_State *L, const struct attr_table *table, const struct attr_only *only,
		 const void *body, size_t len);

/*
 * The same for people, who want to know all that the bytes say:
 *   - write-only keys are told too;
 *   - an attribute that no row makes sense of has the key "#" and its number (in flat rows "#18.2"), and
 *     its bytes in hexadecimal;
 *   - fields of the header that are 0, and bits of it that are neither set nor meant, are left out;
 *   - element [0] of every table is the list of its keys, in the order of the message.
 */
void attr_decode_all(lua_State *L, const struct attr_table *table, const void *body, size_t len);

/*
 * Add one key, or a list of them at `idx`, to what is wanted. What a key depends on (a link's kind)
 * comes with it. Raises when there is no such key. [-0, +0, v]
 */
void attr_only_add(lua_State *L, struct attr_only *only, const struct attr_table *table,
		   const char *key);
void attr_only_list(lua_State *L, struct attr_only *only, const struct attr_table *table, int idx);

/*
 * Push the path of keys (such as "peer.mtu") for the attribute at `offset` of a body encoded by
 * `table`, and return 1; or push nothing and return 0. [-0, +(0|1), m]
 */
int attr_locate(lua_State *L, const struct attr_table *table, const void *body, size_t len,
		size_t offset);

/* Push "key" for an attribute number of the outermost level and return 1, or 0. [-0, +(0|1), m] */
int attr_name(lua_State *L, const struct attr_table *table, uint16_t type);

/* Whether every value of the Lua table at `wanted` is equal in the one at `have`. [-0, +0, m] */
bool attr_match(lua_State *L, int have, int wanted);

/* Push a list of { key=, kind=, words=, min=, max=, readonly=, when= } per row. [-0, +1, m] */
void attr_describe(lua_State *L, const struct attr_table *table);

/*
 * For hooks: building blocks. Each raises with the path of the value in its message.
 * They keep offsets, not pointers: buf->data moves.
 */
void attr_put(struct attr_out *out, uint16_t type, const void *data, size_t len);
size_t attr_nest(struct attr_out *out, uint16_t type);
void attr_nest_end(struct attr_out *out, size_t at);
void *attr_header(struct attr_out *out); /* valid until the next append */
void attr_put_value(struct attr_out *out, const struct attr_row *row, int idx);
void attr_put_table(struct attr_out *out, const struct attr_table *table, int idx, const char *key,
		    lua_Integer index);
lua_Integer attr_integer(struct attr_out *out, const struct attr_row *row, int idx);
/* Address text to 4 or 16 bytes. Returns the length. */
size_t attr_ip(struct attr_out *out, const struct attr_row *row, int idx, uint8_t bytes[16]);
/* "10.1.2.0/24" (a bare address means all its bits). Returns the length of the address. */
size_t attr_prefix(struct attr_out *out, const struct attr_row *row, int idx, uint8_t bytes[16],
		   uint8_t *ret_bits);
_Noreturn void attr_error(struct attr_out *out, const struct attr_row *row, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

const struct nlattr *attr_find(struct attr_in *in, uint16_t type);
/* Push the table of what lies inside the value that is being read. [-0, +1, m] */
void attr_decode_below(struct attr_in *in, const struct attr_table *table, const void *body,
		       size_t len);
/* Push the value of one attribute payload by its row; 0 when it makes no sense. [-0, +(0|1), m] */
int attr_push(lua_State *L, const struct attr_row *row, const void *data, size_t len);
void attr_push_ip(lua_State *L, const void *bytes, size_t len);               /* [-0, +1, m] */
/* Bytes of no known form: as they are, or where all is to be told in hexadecimal. [-0, +1, m] */
void attr_push_bytes(const struct attr_in *in, const void *bytes, size_t len);
void attr_push_prefix(lua_State *L, const void *bytes, size_t len, int bits); /* [-0, +1, m] */

/* The candidate nearest to a misspelt word, or NULL when none is near. NULL ends the list. */
const char *nearest_word(const char *word, const char *const *candidates);

#endif
