/* SPDX-License-Identifier: MIT */
/***
@submodule netlink.nft
*/
/*
 * One atomic batch of changes to nf_tables: entries become messages, a long list of elements
 * several of them, and a refusal is traced back to the entry, the key and the element it is about.
 */

#include "nft/nft.h"

#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "nl/push.h"

enum { LIST_BYTES = 60 * 1024 }; /* of elements in one attribute, which ends at 64 KiB */

/* What a message of the batch was made from. */
struct origin {
	lua_Integer entry;   /* of the batch; 0: its frame */
	lua_Integer element; /* the first of its list */
	const struct attr_table *table;
	size_t at; /* of the message */
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

static const char *const replace_names[] = { "handle", NULL };

static const struct verb *verb_of(lua_State *L, const char *word)
{
	const char *names[ARRAY_SIZE(verbs) + 1] = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		names[i] = verbs[i].name;
		if (!strcmp(names[i], word))
			return &verbs[i];
	}
	nft_unknown_word(L, "verb", word, names);
}

/*** Building ***/

/* Begin a message and note where it came from. */
static size_t begin(lua_State *L, struct nft *h, uint16_t type, uint16_t flags,
		    const struct origin *origin)
{
	struct origin noted = *origin;
	long at = nl_begin(&h->nl.out, type, flags, 0);

	nft_check_room(L, at);
	nft_check_room(L, nl_buf_reserve(&h->origins, sizeof noted));
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

	nft_check_room(L, nl_buf_reserve(buf, sizeof header));
	memcpy(buf->data + buf->len, &header, sizeof header);
	buf->len += sizeof header;
	if (generation >= 0)
		nft_check_room(L, nl_put(buf, NFNL_BATCH_GENID, &id, sizeof id));
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
		nft_check_needs(L, idx, object->flush_names, verb->name, object->name, nth);
	} else {
		nft_check_needs(L, idx, verb->what == ADD ? object->needs : object->names,
				verb->name, object->name, nth);
	}
	if (object->add == NFT_MSG_NEWRULE && !strcmp(verb->name, "replace"))
		nft_check_needs(L, idx, replace_names, verb->name, object->name, nth);
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
	h->deletes |= verb->what != ADD || verb->flags & NLM_F_REPLACE;
	object = nft_object_of(L, lua_tostring(L, entry + 2));
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
static void elements_encode(struct attr_out *out, const struct attr_row *row, int idx)
{
	struct nft *h = (struct nft *)(void *)((uint8_t *)out->buf - offsetof(struct nft, nl.out));
	size_t at = attr_nest(out, row->type);
	lua_Integer i, count, most;

	if (lua_type(out->L, idx) != LUA_TTABLE)
		attr_error(out, row, "expected a list, got a %s", luaL_typename(out->L, idx));
	count = (lua_Integer)lua_rawlen(out->L, idx);
	if (h->at_once && count > h->next_element + h->at_once - 1)
		most = h->next_element + h->at_once - 1;
	else
		most = count;
	for (i = h->next_element; i <= most && out->buf->len - at < LIST_BYTES; i++) {
		lua_rawgeti(out->L, idx, i);
		nft_put_element(out, lua_gettop(out->L), i);
		lua_pop(out->L, 1);
	}
	attr_nest_end(out, at);
	h->next_element = i <= count ? i : 0;
}

static int elements_decode(struct attr_in *in, const struct attr_row *row,
			   const struct nlattr *list)
{
	const struct nlattr *attr = NULL;
	lua_Integer n = 0;

	(void)row;
	lua_newtable(in->L);
	while ((attr = next_in(list, attr))) {
		attr_decode_below(in, &nft_element_table, mnl_attr_get_payload(attr),
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

/*** Committing ***/

/***
Change the rule set: all of the batch or nothing of it.

An entry is `{ verb, object, attributes }`. Verbs: `add` (content if there already), `create`
(must be new), `insert` (a rule at the start of its chain, or before `position`), `replace` (a rule,
by handle), `del`, `destroy` (content if absent; Linux 6.3 and later), `flush` (the rules of a table
or chain, the elements of a set). Objects: `table`, `chain`, `rule`, `set`, `map`, `element`,
`object` (named counters, quotas, limits).

Elements are `{ key =, [key_end], [data], [comment], [timeout], [flags] }`. A key is bytes, or a
value of the `key_type` beside the list, or `{ type = value }`; data likewise, or `{ verdict =,
chain = }`. With `interval = true` beside the list a key may be a prefix, or go up to `key_end`. A
list without any elements changes nothing.

A refusal takes 4 to 20 ms, which the kernel spends waiting for RCU: do not try what can be asked.
@function nft:commit
@tparam table batch the entries
@int[opt=5000] timeout_ms for the answer; what the kernel has begun it finishes
@int[opt] generation go ahead only if the rule set is still the one that @{nft:generation} told of
@treturn[1] boolean true
@return[2] nil
@treturn[2] string what was refused and why
@treturn[2] int errno; `EEXIST`, `ENOENT`, `EBUSY` are the kernel's, `ERESTART`: generation is over
@treturn[2] ?int index of the entry, nil when it was about the batch
@raise unknown verbs, objects and keys; values of the wrong type or out of range
@see nft:get
*/
int nft_commit(lua_State *L)
{
	struct nft *h = nft_check(L);
	int timeout_ms = nft_timeout_arg(L, 3), err = 0;
	lua_Integer generation = luaL_optinteger(L, 4, -1);
	struct nl_failure fail;
	size_t last = 0;

	luaL_checktype(L, 2, LUA_TTABLE);
	luaL_argcheck(L, generation >= -1 && generation <= UINT32_MAX, 4, "not a generation");
	lua_settop(L, 2);
	luaL_checkstack(L, 16, "batch");
	nl_clear(&h->nl);
	nl_buf_clear(&h->origins);
	h->deletes = false;
	h->at_once = 0;
	put_frame(L, h, NFNL_MSG_BATCH_BEGIN, generation);
	for (lua_Integer i = 1; i <= (lua_Integer)lua_rawlen(L, 2); i++)
		put_entry(L, h, 2, i);
	if (h->nl.out.count > 1)
		last = origin_of(h, h->nl.out.count - 1)->at;
	put_frame(L, h, NFNL_MSG_BATCH_END, -1);

	/* Refusals come unasked; one answer that is asked for tells that there was a commit. */
	if (last) {
		nl_at(&h->nl.out, last)->nlmsg_flags |= NLM_F_ACK;
		if (h->deletes)
			nl_note_slow(&h->nl);
		err = nl_transact(&h->nl, NL_WHOLE, timeout_ms, &fail);
	}

	if (err)
		return push_refusal(L, h, 2, &fail);
	lua_pushboolean(L, 1);
	return 1;
}
