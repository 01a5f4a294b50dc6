/* SPDX-License-Identifier: MIT */
/* What the encoder's and the decoder's files share. */
#ifndef NETLINK_BINDINGS_ATTR_INTERNAL_H
#define NETLINK_BINDINGS_ATTR_INTERNAL_H

#include "attr/attr.h"

enum { ATTR_MAX_DEPTH = 16 };

/* Bytes of an integer or boolean kind. */
size_t attr_width(int kind);

/* Lay `value` out as `kind` has it. Returns the bytes written. */
size_t attr_store(void *to, int kind, uint64_t value);

/* Raise when `err` is negative: the message grew beyond all bounds, or memory is short. */
void attr_check(struct attr_out *out, int err);

/* The number that a value of one of the integer or boolean kinds stands for. Raises. */
uint64_t attr_number(struct attr_out *out, const struct attr_row *row, int idx);
bool attr_boolean(struct attr_out *out, const struct attr_row *row, int idx);

/* Append one attribute of these kinds, or set a field (or one bit of one) of the header. */
void attr_put_mac(struct attr_out *out, const struct attr_row *row, int idx);
void attr_put_text(struct attr_out *out, const struct attr_row *row, int idx);
void attr_put_field(struct attr_out *out, const struct attr_row *row, int idx);

static inline const void *attr_payload(const struct nlattr *attr)
{
	return attr + 1;
}

static inline size_t attr_len(const struct nlattr *attr)
{
	return attr->nla_len - NL_ATTR_HDR;
}

bool attr_only_has(const struct attr_only *only, const char *key);

/* Raise, naming the nearest key of an answer by `table`. */
_Noreturn void attr_no_such_key(lua_State *L, const struct attr_table *table, const char *key);

/* What attr_decode_all() adds, in attr/rest.c: a key to the list of them, an attribute by number. */
void attr_list_key(struct attr_in *in, const char *key);
void attr_tell_rest(struct attr_in *in, const struct nlattr *attr);

/* Split a body into header and attributes. */
struct attr_in attr_body(const struct attr_table *table, const void *body, size_t len);

#endif
