/* SPDX-License-Identifier: MIT */
/*
 * nf_tables by netlink: one atomic batch of changes, queries by key, dumps. The objects and their
 * keys are tables of rows, see nft_specs.h; lua/cni/nft.lua builds rules that people can read.
 */
#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "attr.h"
#include "bindings.h"
#include "nft_specs.h"

#define HANDLE "netlink.nft"

enum {
	DEFAULT_TIMEOUT_MS = 5000,
	LIST_BYTES = 60 * 1024, /* of elements in one attribute, which ends at 64 KiB */
};

/* What a message of the batch was made from. */
struct origin {
	lua_Integer entry;   /* of the batch; 0: its frame */
	lua_Integer element; /* the first of its list */
	const struct attr_table *table;
	size_t at; /* of the message */
};

struct nft {
	struct nl nl;
	struct nl_buf origins;    /* a struct origin per message in nl.out */
	lua_Integer next_element; /* to go on with in another message; 0: none left */
};

struct verb {
	const char *name;
	uint16_t flags;
	enum { ADD, DEL, DESTROY, FLUSH } what;
};

static const struct verb verbs[] = {
	{ "add", NLM_F_CREATE, ADD },
	{ "create", NLM_F_CREATE | NLM_F_EXCL, ADD },
	{ "insert", NLM_F_CREATE, ADD },
	{ "replace", NLM_F_CREATE | NLM_F_REPLACE, ADD },
	{ "del", 0, DEL },
	{ "destroy", 0, DESTROY },
	{ "flush", 0, FLUSH },
};

static const char *const element_names[] = { "family", "table", "set", "key", NULL };
static const char *const list_names[] = { "family", "table", "set", NULL };
static const char *const replace_names[] = { "handle", NULL };

static const struct attr_spec generation_rows[] = {
	{ ROW("id", NFTA_GEN_ID, BE32) },
};

static const struct attr_table generation_table = ATTR_TABLE("generation", generation_rows,
							     sizeof(struct nfgenmsg));


/*** Arguments ***/

static struct nft *check_open(lua_State *L)
{
	struct nft *h = luaL_checkudata(L, 1, HANDLE);

	if (h->nl.fd < 0)
		luaL_error(L, "the nft handle is closed");
	return h;
}


static int timeout_arg(lua_State *L, int arg)
{
	lua_Integer ms = luaL_optinteger(L, arg, DEFAULT_TIMEOUT_MS);

	luaL_argcheck(L, ms >= 0 && ms <= INT32_MAX, arg, "not a time in milliseconds");
	return (int)ms;
}


static _Noreturn void unknown_word(lua_State *L, const char *what, const char *word,
				   const char *const *names)
{
	const char *near = nearest_word(word, names);

	if (near)
		luaL_error(L, "unknown %s '%s' (did you mean '%s'?)", what, word, near);
	luaL_error(L, "unknown %s '%s'", what, word);
	__builtin_unreachable();
}


static const struct verb *verb_of(lua_State *L, const char *word)
{
	const char *names[ARRAY_SIZE(verbs) + 1] = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		names[i] = verbs[i].name;
		if (!strcmp(names[i], word))
			return &verbs[i];
	}
	unknown_word(L, "verb", word, names);
}


static const struct nft_object *object_of(lua_State *L, const char *word)
{
	const char *names[16] = { 0 };

	for (size_t i = 0; i < nft_object_count && i < ARRAY_SIZE(names) - 1; i++) {
		names[i] = nft_objects[i].name;
		if (!strcmp(names[i], word))
			return &nft_objects[i];
	}
	unknown_word(L, "object", word, names);
}


static bool has_key(lua_State *L, int idx, const char *key, size_t len)
{
	bool found;

	lua_pushlstring(L, key, len);
	found = lua_rawget(L, idx) != LUA_TNIL;
	lua_pop(L, 1);
	return found;
}


/* Raise unless the table at `idx` has every key of `needs`, one of "a|b". */
static void check_needs(lua_State *L, int idx, const char *const *needs, const char *verb,
			const char *object, lua_Integer nth)
{
	for (; *needs; needs++) {
		const char *bar = strchr(*needs, '|');
		size_t len = bar ? (size_t)(bar - *needs) : strlen(*needs);

		if (has_key(L, idx, *needs, len) ||
		    (bar && has_key(L, idx, bar + 1, strlen(bar + 1))))
			continue;
		if (nth)
			luaL_error(L, "request %I: %s %s needs '%s'", (LUAI_UACINT)nth, verb,
				   object, *needs);
		luaL_error(L, "%s %s needs '%s'", verb, object, *needs);
	}
}


/*** Building a batch ***/

static void check_room(lua_State *L, long err)
{
	if (err < 0)
		luaL_error(L, "batch: %s", strerror((int)-err));
}


/* Begin a message and note where it came from. */
static size_t begin(lua_State *L, struct nft *h, uint16_t type, uint16_t flags,
		    const struct origin *origin)
{
	struct origin noted = *origin;
	long at = nl_begin(&h->nl.out, type, flags, 0);

	check_room(L, at);
	check_room(L, nl_buf_reserve(&h->origins, sizeof noted));
	noted.at = (size_t)at;
	memcpy(h->origins.data + h->origins.len, &noted, sizeof noted);
	h->origins.len += sizeof noted;
	return (size_t)at;
}


/* The messages that hold a batch together; the first may ask for a generation of the rule set. */
static void put_frame(lua_State *L, struct nft *h, uint16_t type, lua_Integer generation)
{
	static const struct origin frame = { 0 };
	struct nfgenmsg header = { .nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0,
				   .res_id = htons(NFNL_SUBSYS_NFTABLES) };
	size_t at = begin(L, h, type, 0, &frame);
	struct nl_buf *buf = &h->nl.out;
	uint32_t id = htonl((uint32_t)generation);

	check_room(L, nl_buf_reserve(buf, sizeof header));
	memcpy(buf->data + buf->len, &header, sizeof header);
	buf->len += sizeof header;
	if (generation >= 0)
		check_room(L, nl_put(buf, NFNL_BATCH_GENID, &id, sizeof id));
	nl_end(buf, at);
}


static uint16_t message_type(const struct nft_object *object, const struct verb *verb)
{
	const uint8_t types[] = {
		[ADD] = object->add, [DEL] = object->del, [DESTROY] = object->destroy,
		[FLUSH] = object->emptied_by,
	};

	return (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | types[verb->what]);
}


/* Append the messages of one entry, whose attributes are at `idx`. */
static void put_object(lua_State *L, struct nft *h, const struct verb *verb,
		       const struct nft_object *object, int idx, lua_Integer nth)
{
	struct origin origin = { .entry = nth, .table = object->table };
	uint16_t flags = verb->flags;

	if (verb->what == FLUSH) {
		if (!object->flush)
			luaL_error(L, "request %I: nothing to flush in a %s", (LUAI_UACINT)nth,
				   object->name);
		origin.table = object->flush;
		check_needs(L, idx, object->flush_names, verb->name, object->name, nth);
	} else {
		check_needs(L, idx, verb->what == ADD ? object->needs : object->names, verb->name,
			    object->name, nth);
	}
	if (object->add == NFT_MSG_NEWRULE && !strcmp(verb->name, "replace"))
		check_needs(L, idx, replace_names, verb->name, object->name, nth);
	if (object->add == NFT_MSG_NEWRULE && (!strcmp(verb->name, "add") ||
					       !strcmp(verb->name, "create")))
		flags |= NLM_F_APPEND;

	h->next_element = 1;
	do {
		size_t at;

		origin.element = object->in_list ? h->next_element : 0;
		at = begin(L, h, message_type(object, verb), flags, &origin);
		if (!object->in_list)
			h->next_element = 0;
		attr_encode_nth(L, &h->nl.out, idx, origin.table, nth);
		nl_end(&h->nl.out, at);
	} while (h->next_element);
}


/* Whether an entry asks for elements and has none: the kernel would take it to mean all. */
static bool empty_list(lua_State *L, const struct nft_object *object, int idx)
{
	bool empty;

	if (!object->in_list)
		return false;
	lua_pushliteral(L, "elements");
	lua_rawget(L, idx);
	empty = lua_istable(L, -1) && lua_rawlen(L, -1) == 0;
	lua_pop(L, 1);
	return empty;
}


/* Append entry `nth` of the batch, { verb, object, attributes }. */
static void put_entry(lua_State *L, struct nft *h, int batch, lua_Integer nth)
{
	int top = lua_gettop(L), entry = top + 1;
	const struct nft_object *object;
	const struct verb *verb;

	if (lua_rawgeti(L, batch, nth) != LUA_TTABLE)
		luaL_error(L, "request %I: expected { verb, object, attributes }",
			   (LUAI_UACINT)nth);
	for (int i = 1; i <= 3; i++)
		if (lua_rawgeti(L, entry, i) != (i < 3 ? LUA_TSTRING : LUA_TTABLE))
			luaL_error(L, "request %I: expected { verb, object, attributes }",
				   (LUAI_UACINT)nth);
	verb = verb_of(L, lua_tostring(L, entry + 1));
	object = object_of(L, lua_tostring(L, entry + 2));
	if (!empty_list(L, object, entry + 3))
		put_object(L, h, verb, object, entry + 3, nth);
	lua_settop(L, top);
}


/* The attribute behind `attr` in a nest; NULL: the first, and at the end. */
static const struct nlattr *next_in(const struct nlattr *nest, const struct nlattr *attr)
{
	const uint8_t *end = (const uint8_t *)nest + nest->nla_len;
	const uint8_t *next = (const uint8_t *)nest + NL_ATTR_HDR;

	if (attr)
		next = (const uint8_t *)attr + NL_PAD(attr->nla_len);
	attr = (const struct nlattr *)(const void *)next;
	return next < end && mnl_attr_ok(attr, (int)(end - next)) ? attr : NULL;
}


/* As many elements as one message holds; the next one is noted for the message after it. */
static void elements_encode(struct attr_out *out, const struct attr_spec *spec, int idx)
{
	struct nft *h = (struct nft *)(void *)((uint8_t *)out->buf - offsetof(struct nft, nl.out));
	size_t at = attr_nest(out, spec->type);
	lua_Integer i, count;

	if (lua_type(out->L, idx) != LUA_TTABLE)
		attr_error(out, spec, "expected a list, got a %s", luaL_typename(out->L, idx));
	count = (lua_Integer)lua_rawlen(out->L, idx);
	for (i = h->next_element; i <= count && out->buf->len - at < LIST_BYTES; i++) {
		lua_rawgeti(out->L, idx, i);
		nft_put_element(out, lua_gettop(out->L), i);
		lua_pop(out->L, 1);
	}
	attr_nest_end(out, at);
	h->next_element = i <= count ? i : 0;
}


static int elements_decode(struct attr_in *in, const struct attr_spec *spec,
			   const struct nlattr *list)
{
	const struct nlattr *attr = NULL;
	lua_Integer n = 0;

	(void)spec;
	lua_newtable(in->L);
	while ((attr = next_in(list, attr))) {
		attr_decode(in->L, &nft_element_table, mnl_attr_get_payload(attr),
			    mnl_attr_get_payload_len(attr));
		lua_rawseti(in->L, -2, ++n);
	}
	return 1;
}

const struct attr_hook nft_elements_hook = { elements_encode, elements_decode };


/*** Failures ***/

static const struct origin *origin_of(const struct nft *h, size_t index)
{
	return (const struct origin *)(const void *)h->origins.data + index;
}


/* Add " word" for a text or number under `key` of the table at `idx`. */
static void add_word(lua_State *L, luaL_Buffer *b, int idx, const char *key)
{
	const char *text;

	lua_pushstring(L, key);
	lua_rawget(L, idx);
	text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
	lua_pop(L, 1); /* its table keeps it */
	if (!text)
		return;
	luaL_addchar(b, ' ');
	luaL_addstring(b, text);
}


/* Push "add rule inet luacni postrouting" for the entry at `idx`. [-0, +1, m] */
static void push_title(lua_State *L, int idx)
{
	static const char *const keys[] = { "family", "table", "set", "chain", "name" };
	const char *verb, *object;
	luaL_Buffer b;
	int attrs;

	lua_rawgeti(L, idx, 1);
	lua_rawgeti(L, idx, 2);
	lua_rawgeti(L, idx, 3);
	attrs = lua_gettop(L);
	verb = lua_tostring(L, attrs - 2);
	object = lua_tostring(L, attrs - 1);
	luaL_buffinit(L, &b);
	luaL_addstring(&b, verb);
	luaL_addchar(&b, ' ');
	luaL_addstring(&b, object);
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		add_word(L, &b, attrs, keys[i]);
	luaL_pushresult(&b);
	lua_replace(L, attrs - 2);
	lua_settop(L, attrs - 2);
}


static bool ends_interval(const struct nlattr *element)
{
	const struct nlattr *attr = NULL;

	while ((attr = next_in(element, attr)))
		if (mnl_attr_get_type(attr) == NFTA_SET_ELEM_FLAGS)
			return ntohl(mnl_attr_get_u32(attr)) & NFT_SET_ELEM_INTERVAL_END;
	return false;
}


/* The element of the entry's list that the kernel objects to, or 0. */
static lua_Integer element_at(const struct nlmsghdr *msg, const struct origin *origin,
			      uint32_t offset)
{
	struct attr_in in = {
		.attrs = mnl_nlmsg_get_payload_offset(msg, sizeof(struct nfgenmsg)),
		.len = mnl_nlmsg_get_payload_len(msg) - sizeof(struct nfgenmsg),
	};
	const struct nlattr *list = attr_find(&in, NFTA_SET_ELEM_LIST_ELEMENTS), *attr = NULL;
	const uint8_t *place = (const uint8_t *)msg + offset;
	lua_Integer nth = origin->element - 1;

	if (!list)
		return 0;
	while ((attr = next_in(list, attr))) {
		nth += !ends_interval(attr);
		if (place >= (const uint8_t *)attr && place < (const uint8_t *)attr + attr->nla_len)
			return nth;
	}
	return 0;
}


/* Push " (key)" for the attribute that the kernel objects to, or "". [-0, +1, m] */
static void push_place(lua_State *L, const struct nft *h, const struct nl_failure *fail)
{
	const struct origin *origin = origin_of(h, fail->index);
	const struct nlmsghdr *msg = nl_at(&h->nl.out, origin->at);
	lua_Integer element;

	if (!fail->offset || fail->offset >= msg->nlmsg_len || !origin->table) {
		lua_pushliteral(L, "");
		return;
	}
	element = origin->element ? element_at(msg, origin, fail->offset) : 0;
	lua_pushliteral(L, " (");
	if (element)
		lua_pushfstring(L, "elements[%I]", (LUAI_UACINT)element);
	else if (!attr_locate(L, origin->table, mnl_nlmsg_get_payload(msg),
			      mnl_nlmsg_get_payload_len(msg), fail->offset - NLMSG_HDRLEN))
		lua_pushliteral(L, "?");
	lua_pushliteral(L, ")");
	lua_concat(L, 3);
}


/* Return nil, message, errno, index of the entry (nil when the batch as a whole failed). */
static int push_refusal(lua_State *L, const struct nft *h, int batch, struct nl_failure *fail)
{
	lua_Integer entry = 0;

	if (fail->index < h->origins.len / sizeof(struct origin))
		entry = origin_of(h, fail->index)->entry;
	if (!entry) {
		if (fail->error == ERESTART && !fail->text[0])
			snprintf(fail->text, sizeof fail->text, "the rule set has changed since");
		return push_nl_failure(L, fail, "nft batch");
	}
	lua_rawgeti(L, batch, entry);
	push_title(L, lua_gettop(L));
	push_place(L, h, fail);
	lua_concat(L, 2);
	push_nl_failure(L, fail, lua_tostring(L, -1));
	lua_pushinteger(L, entry);
	return 4;
}


/*** Methods ***/

/***
Change the rule set: all of the batch or nothing of it.

An entry is `{ verb, object, attributes }`. Verbs: `add` (content if there already), `create`
(must be new), `insert` (a rule at the start of its chain, or before `position`), `replace` (a rule,
by handle), `del`, `destroy` (content if absent; Linux 6.3 and later), `flush` (the rules of a table
or chain, the elements of a set). Objects: `table`, `chain`, `rule`, `set`, `map`, `element`,
`object` (named counters, quotas, limits).

A list of elements without any in it changes nothing.
@function nft:commit
@tparam table batch the entries
@int[opt=5000] timeout_ms
@int[opt] generation go ahead only if the rule set is still the one that @{nft:generation} told of
@treturn[1] boolean true
@return[2] nil
@treturn[2] string what was refused and why
@treturn[2] int errno; `EEXIST`, `ENOENT`, `EBUSY` are the kernel's, `ERESTART`: generation is over
@treturn[2] ?int index of the entry, nil when it was about the batch
@raise unknown verbs, objects and keys; values of the wrong type or out of range
@see nft:get
*/
static int nft_commit(lua_State *L)
{
	struct nft *h = check_open(L);
	int timeout_ms = timeout_arg(L, 3), err = 0;
	lua_Integer generation = luaL_optinteger(L, 4, -1);
	struct nl_failure fail;
	size_t last = 0;

	luaL_checktype(L, 2, LUA_TTABLE);
	luaL_argcheck(L, generation >= -1 && generation <= UINT32_MAX, 4, "not a generation");
	lua_settop(L, 2);
	luaL_checkstack(L, 16, "batch");
	nl_clear(&h->nl);
	nl_buf_clear(&h->origins);
	put_frame(L, h, NFNL_MSG_BATCH_BEGIN, generation);
	for (lua_Integer i = 1; i <= (lua_Integer)lua_rawlen(L, 2); i++)
		put_entry(L, h, 2, i);
	if (h->nl.out.count > 1)
		last = origin_of(h, h->nl.out.count - 1)->at;
	put_frame(L, h, NFNL_MSG_BATCH_END, -1);

	/* Refusals come unasked; one answer that is asked for tells that there was a commit. */
	if (last) {
		nl_at(&h->nl.out, last)->nlmsg_flags |= NLM_F_ACK;
		err = nl_transact(&h->nl, NL_WHOLE, timeout_ms, &fail);
	}

	if (err)
		return push_refusal(L, h, 2, &fail);
	lua_pushboolean(L, 1);
	return 1;
}


/* Ask for one object or all; the answers are in h->nl.in afterwards. */
static int ask(lua_State *L, struct nft *h, uint8_t type, uint16_t flags,
	       const struct attr_table *query, const struct attr_table *full, int idx,
	       int timeout_ms, struct nl_failure *fail)
{
	long at;

	nl_clear(&h->nl);
	at = nl_begin(&h->nl.out, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), flags, 0);
	check_room(L, at);
	attr_encode_some(L, &h->nl.out, idx, query, full);
	nl_end(&h->nl.out, (size_t)at);
	return nl_query(&h->nl, timeout_ms, fail);
}


/* Show bytes of the elements in the list at the top as values of the types asked for. */
static void type_elements(lua_State *L, const struct nft_types *key, const struct nft_types *data)
{
	static const char *const names[] = { "key", "key_end", "data" };
	int list = lua_gettop(L);
	size_t len;

	for (lua_Integer i = 1; i <= (lua_Integer)lua_rawlen(L, list); i++) {
		lua_rawgeti(L, list, i);
		for (size_t j = 0; j < ARRAY_SIZE(names); j++) {
			const struct nft_types *types = j == 2 ? data : key;

			lua_getfield(L, list + 1, names[j]);
			if (lua_type(L, -1) == LUA_TSTRING && types->count) {
				const char *bytes = lua_tolstring(L, -1, &len);

				nft_push_value(L, types, bytes, len);
				lua_setfield(L, list + 1, names[j]);
			}
			lua_settop(L, list + 1);
		}
		lua_settop(L, list);
	}
}


/* Push what one answer says; for elements, the list of them. [-0, +1, m] */
static void push_answer(lua_State *L, const struct nft_object *object, const struct nlmsghdr *msg)
{
	attr_decode(L, object->table, mnl_nlmsg_get_payload(msg), mnl_nlmsg_get_payload_len(msg));
	if (!object->in_list)
		return;
	if (lua_getfield(L, -1, "elements") != LUA_TTABLE) {
		lua_pop(L, 1);
		lua_newtable(L);
	}
	lua_replace(L, -2);
}


/* The types that a query names for the bytes of elements. */
static void types_asked(lua_State *L, const struct nft_object *object, int idx,
			struct nft_types *key, struct nft_types *data)
{
	struct attr_out out = { .L = L, .table = object->query, .idx = idx };

	*key = *data = (struct nft_types){ 0 };
	if (!object->in_list)
		return;
	nft_types_beside(&out, "key_type", key);
	nft_types_beside(&out, "data_type", data);
}


/***
Find one object by its key.

Keys: table `{ family, name }`; chain, set, map `{ family, table, name }`; rule `{ family, table,
chain, handle }`; element `{ family, table, set, key }`, with `key_type` and `data_type` for values
instead of bytes; object `{ family, table, name, type }`.
@function nft:get
@string object
@tparam table key
@int[opt=5000] timeout_ms
@treturn[1] table its attributes
@treturn[2] nil there is no such object
@return[3] nil
@treturn[3] string what went wrong
@treturn[3] int errno
*/
static int nft_get(lua_State *L)
{
	struct nft *h = check_open(L);
	const struct nft_object *object = object_of(L, luaL_checkstring(L, 2));
	int timeout_ms = timeout_arg(L, 4), err;
	struct nft_types key, data;
	const struct nlmsghdr *msg;
	struct nl_failure fail;

	luaL_checktype(L, 3, LUA_TTABLE);
	lua_settop(L, 3);
	check_needs(L, 3, object->in_list ? element_names : object->names, "get", object->name, 0);
	types_asked(L, object, 3, &key, &data);
	err = ask(L, h, object->get, 0, object->query, object->query, 3, timeout_ms, &fail);

	if (err == -ENOENT) {
		lua_pushnil(L);
		return 1;
	}
	if (err)
		return push_nl_failure(L, &fail, lua_pushfstring(L, "get %s", object->name));
	msg = nl_first(&h->nl);
	if (!msg) {
		lua_pushnil(L);
		return 1;
	}
	push_answer(L, object, msg);
	if (object->in_list) {
		type_elements(L, &key, &data);
		lua_rawgeti(L, -1, 1);
	}
	return 1;
}


/***
List objects.

Filter keys that the kernel knows are left to it (family, and of what they are part of); others are
compared here. Elements need `{ family, table, set }`; `key_type` and `data_type` give values
instead of bytes. The list is of one moment: a dump that a change ran into is repeated.
@function nft:dump
@string object
@tparam[opt] table filter
@int[opt=5000] timeout_ms
@treturn[1] {table,...} their attributes
@return[2] nil
@treturn[2] string what went wrong
@treturn[2] int errno
*/
static int nft_dump(lua_State *L)
{
	struct nft *h = check_open(L);
	const struct nft_object *object = object_of(L, luaL_checkstring(L, 2));
	int timeout_ms = timeout_arg(L, 4), err;
	struct nft_types key, data;
	struct nl_failure fail;
	lua_Integer n = 0;

	lua_settop(L, 3);
	if (lua_isnil(L, 3)) {
		lua_newtable(L);
		lua_replace(L, 3);
	}
	luaL_checktype(L, 3, LUA_TTABLE);
	if (object->in_list)
		check_needs(L, 3, list_names, "dump", object->name, 0);
	types_asked(L, object, 3, &key, &data);
	err = ask(L, h, object->get, NLM_F_DUMP, object->query, object->table, 3, timeout_ms,
		  &fail);

	if (err)
		return push_nl_failure(L, &fail, lua_pushfstring(L, "dump %s", object->name));
	lua_newtable(L);
	for (const struct nlmsghdr *msg = nl_first(&h->nl); msg; msg = nl_next(&h->nl, msg)) {
		push_answer(L, object, msg);
		if (!object->in_list) {
			if (attr_match(L, 5, 3))
				lua_rawseti(L, 4, ++n);
			lua_settop(L, 4);
			continue;
		}
		type_elements(L, &key, &data);
		for (lua_Integer i = 1; i <= (lua_Integer)lua_rawlen(L, 5); i++) {
			lua_rawgeti(L, 5, i);
			lua_rawseti(L, 4, ++n);
		}
		lua_settop(L, 4);
	}
	return 1;
}


/***
The generation of the rule set: a number that changes with every change.
@function nft:generation
@int[opt=5000] timeout_ms
@treturn[1] int
@return[2] nil
@treturn[2] string what went wrong
@treturn[2] int errno
*/
static int nft_generation(lua_State *L)
{
	struct nft *h = check_open(L);
	int timeout_ms = timeout_arg(L, 2), err;
	struct nl_failure fail;
	const struct nlmsghdr *msg;

	lua_settop(L, 1);
	lua_newtable(L);
	err = ask(L, h, NFT_MSG_GETGEN, 0, &generation_table, &generation_table, 2, timeout_ms,
		  &fail);

	if (err)
		return push_nl_failure(L, &fail, "get generation");
	msg = nl_first(&h->nl);
	if (!msg)
		return push_failure(L, ENODATA, "get generation");
	attr_decode(L, &generation_table, mnl_nlmsg_get_payload(msg),
		    mnl_nlmsg_get_payload_len(msg));
	lua_getfield(L, -1, "id");
	return 1;
}


/***
The keys of an object, for people: a list of { key, kind, words, min, max, readonly, when }.
@function nft:keys
@string object or "expression"
@treturn {table,...}
*/
static int nft_keys(lua_State *L)
{
	const char *word = luaL_checkstring(L, 2);

	attr_describe(L, !strcmp(word, "expression") ? &nft_expression_table
						     : object_of(L, word)->table);
	return 1;
}


/***
The socket's descriptor, for tests.
@function nft:fd
@treturn int -1 when closed
*/
static int nft_fd(lua_State *L)
{
	const struct nft *h = luaL_checkudata(L, 1, HANDLE);

	lua_pushinteger(L, h->nl.fd);
	return 1;
}


/***
Close the handle; closing twice is fine.
@function nft:close
*/
static int nft_close(lua_State *L)
{
	struct nft *h = luaL_checkudata(L, 1, HANDLE);

	nl_close(&h->nl);
	nl_buf_free(&h->origins);
	return 0;
}


static int nft_tostring(lua_State *L)
{
	const struct nft *h = luaL_checkudata(L, 1, HANDLE);

	lua_pushfstring(L, "nft handle (%s)", h->nl.fd < 0 ? "closed" : "open");
	return 1;
}


/***
Open a handle on the rule set of a network namespace.

It goes on talking to that namespace whatever the process does afterwards.
@function nft
@param[opt] ns a namespace object or the path of one; none: the process's own
@treturn[1] nft
@return[2] nil
@treturn[2] string what went wrong
@treturn[2] int errno
*/
static int nft_open(lua_State *L)
{
	struct nl_place place = netns_place_arg(L, 1);
	struct nft *h = lua_newuserdatauv(L, sizeof *h, 0);
	int err;

	*h = (struct nft){ 0 };
	nl_init(&h->nl);
	luaL_setmetatable(L, HANDLE);

	err = nl_open(&h->nl, NETLINK_NETFILTER, &place);

	return err ? push_failure(L, err, "open nftables") : 1;
}


int luaopen_netlink_nft(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{ "commit", nft_commit }, { "get", nft_get },   { "dump", nft_dump },
		{ "generation", nft_generation }, { "keys", nft_keys }, { "fd", nft_fd },
		{ "close", nft_close },   { NULL, NULL },
	};
	static const luaL_Reg meta[] = {
		{ "__gc", nft_close },
		{ "__close", nft_close },
		{ "__tostring", nft_tostring },
		{ NULL, NULL },
	};

	new_handle_type(L, HANDLE, methods, meta);
	lua_pushcfunction(L, nft_open);
	return 1;
}
