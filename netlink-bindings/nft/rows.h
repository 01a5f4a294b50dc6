/* SPDX-License-Identifier: MIT */
/*
 * nf_tables as data: which Lua keys its objects have, and which attributes those become.
 *
 *   nft/objects.c    objects: tables, chains, rules, sets, elements, and the messages for each
 *   nft/exprs.c    expressions of rules
 *   nft/types.c    data types and concatenations, numbered as the program nft does
 *   nft/values.c   values of those types, verdicts, comments
 *   nft/sets.c     what in sets and elements is more than one attribute a key: types, intervals
 */
#ifndef NETLINK_BINDINGS_NFT_ROWS_H
#define NETLINK_BINDINGS_NFT_ROWS_H

#include "attr/attr.h"

#define ROW(key_, type_, kind_) .key = (key_), .type = (type_), .kind = ATTR_##kind_
#define NFT_WORDS(name_) .words = ATTR_WORDS(name_)
#define NFT_WORD(name_) .words = ATTR_WORDS(name_), .flags = ATTR_NUMBER
#define NFT_BITS(name_) .words = ATTR_WORDS(name_), .flags = ATTR_BITS | ATTR_NUMBER
#define NFT_NAME(key_, attr_) { ROW(key_, attr_, STRING), .min = 1, .max = 255 }


/*** Objects ***/

/* Messages, attributes and mandatory keys of one kind of object. */
struct nft_object {
	const char *name;
	const struct attr_table *table; /* everything about one */
	const struct attr_table *query; /* by which the kernel finds one, or several */
	const struct attr_table *flush; /* to empty one; NULL: there is nothing in it */
	uint8_t add, get, del, destroy, emptied_by; /* NFT_MSG_*, what flush deletes */
	bool in_list; /* messages hold lists of it: elements */
	/*
	 * The keys that a message must have, "a|b" for either. To the kernel, a deletion without
	 * them means everything there is.
	 */
	const char *const *needs, *const *names, *const *flush_names;
};

extern const struct nft_object nft_objects[];
extern const size_t nft_object_count;

/* The families, for every table of rows. */
extern const struct attr_words nft_families;

/* One expression, and its row in a list of them. */
extern const struct attr_table nft_expression_table;
extern const struct attr_row nft_expression_row;

/* The kinds of stateful objects, and the tables of those that are expressions as well. */
extern const struct attr_words nft_object_types;
extern const struct attr_table nft_counter_table, nft_quota_table, nft_limit_table,
	nft_connlimit_table;

/* One element of a set. */
extern const struct attr_table nft_element_table;


/*** Values ***/

enum {
	NFT_VALUE_MAX = 64, /* NFT_DATA_VALUE_MAXLEN */
	NFT_FIELDS_MAX = 5,
	NFT_COMMENT_MAX = 128, /* bytes; the program nft reads back no more */
};

enum { NFT_ORDER_NONE, NFT_ORDER_HOST, NFT_ORDER_BIG };

enum nft_form {
	NFT_FORM_NUMBER,
	NFT_FORM_BITS, /* a word, a list of words, or a number */
	NFT_FORM_IP,
	NFT_FORM_MAC,
	NFT_FORM_NAME, /* text, padded with zero bytes */
	NFT_FORM_VERDICT,
};

struct nft_type {
	const char *word;
	uint8_t number; /* enum datatypes of nft */
	uint8_t len;
	uint8_t order; /* NFT_ORDER_* */
	uint8_t form;
	const struct attr_words *words;
};

/* A data type, or a concatenation of several. count is 0 for none. */
struct nft_types {
	size_t count;
	const struct nft_type *field[NFT_FIELDS_MAX];
};

/* Read "ipv4_addr", "ipv4_addr . inet_service" or { "ipv4_addr", "inet_service" }; raises. */
void nft_types_read(struct attr_out *out, const struct attr_row *row, int idx,
		    struct nft_types *ret);

/* The types in the Lua table of `out` under `key`; none when it is absent. */
void nft_types_beside(struct attr_out *out, const char *key, struct nft_types *ret);

bool nft_types_verdict(const struct nft_types *types);

/* What nft and the kernel call them. */
uint32_t nft_types_number(const struct nft_types *types);
void nft_types_from_number(uint32_t number, struct nft_types *ret);
size_t nft_types_len(const struct nft_types *types);
size_t nft_field_len(const struct nft_types *types, size_t i);
size_t nft_field_room(const struct nft_types *types, size_t i); /* with what pads it */
uint32_t nft_types_order(const struct nft_types *types);
void nft_push_types(lua_State *L, const struct nft_types *types); /* [-0, +1, m] */

/*
 * Lay the value at `idx` out as types has it: bytes into `first`, and into `last` the end of the
 * range when it has prefixes in it, else the same again. Returns the length.
 */
size_t nft_value_read(struct attr_out *out, const struct attr_row *row,
		      const struct nft_types *types, int idx, uint8_t first[NFT_VALUE_MAX],
		      uint8_t last[NFT_VALUE_MAX]);

/* Push what the bytes mean; the bytes themselves when they are no such value. [-0, +1, m] */
void nft_push_value(lua_State *L, const struct nft_types *types, const void *bytes, size_t len);

/* Append NFTA_DATA_VALUE in a nest of its own. */
void nft_put_bytes(struct attr_out *out, uint16_t type, const void *bytes, size_t len);

/* Bytes, { verdict =, chain = } or { type = value } <-> a nest of NFTA_DATA_*. */
extern const struct attr_hook nft_data_hook;

/* A comment in user data. row->data: uint8_t *, the type it has there. */
extern const struct attr_hook nft_comment_hook;

/* Check a comment and lay out type, length and text. Returns the bytes. */
size_t nft_comment_read(struct attr_out *out, const struct attr_row *row, int idx,
			uint8_t tlv[NFT_COMMENT_MAX + 3]);


/*** Sets and elements ***/

/*
 * key_type of a set writes everything that is not an attribute of one key: its neighbours' hooks
 * only check theirs, and read them back.
 */
extern const struct attr_hook nft_set_type_hook, nft_set_data_hook, nft_set_flags_hook,
	nft_set_size_hook, nft_set_comment_hook;

/* An element's key and data, typed by the key_type and data_type beside the list. */
extern const struct attr_hook nft_key_hook, nft_key_end_hook, nft_element_data_hook;

/* The key of a query for one element. */
extern const struct attr_hook nft_one_key_hook;

/* The number of a base chain's hook, which depends on the family. */
extern const struct attr_hook nft_hook_hook;

/* Keys that are no attributes: types, and booleans. */
extern const struct attr_hook nft_type_hook, nft_boolean_hook;

/* A list of elements, as many as fit one message; in nft/batch.c. */
extern const struct attr_hook nft_elements_hook;

/* Append the elements that one of the Lua list means, the table at `idx`: two for an interval. */
void nft_put_element(struct attr_out *out, int idx, lua_Integer index);

#endif
