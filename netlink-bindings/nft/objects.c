/* SPDX-License-Identifier: MIT */
/*
 * The objects of nf_tables: a row per key, and which messages make, find and remove them.
 */

#include "nft/rows.h"

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <net/if.h>

#define HEADER sizeof(struct nfgenmsg)
#define FAMILY \
	{ "family", ATTR_FIELD(struct nfgenmsg, nfgen_family), .kind = ATTR_U8, \
	  .words = &nft_families }
#define OBJECT_TYPES .flags = ATTR_NUMBER, .words = &nft_object_types
#define KEYS(...) (const char *const[]){ __VA_ARGS__, NULL }

static const struct attr_word families[] = {
	{ "inet", NFPROTO_INET },     { "ip", NFPROTO_IPV4 },       { "ip6", NFPROTO_IPV6 },
	{ "arp", NFPROTO_ARP },       { "netdev", NFPROTO_NETDEV }, { "bridge", NFPROTO_BRIDGE },
	{ "unspec", NFPROTO_UNSPEC },
};

const struct attr_words nft_families = { families, ARRAY_SIZE(families) };

/* Types of user data, which is type, length, value: where the program nft looks for comments. */
static const uint8_t comment_plain = 0, comment_of_set = 7;

#define COMMENT(attr_) \
	{ ROW("comment", attr_, HOOK), .hook = &nft_comment_hook, .data = &comment_plain }

/* In linux/netfilter/nf_tables.h since 6.3. */
enum {
	MSG_DESTROYTABLE = 26,
	MSG_DESTROYCHAIN,
	MSG_DESTROYRULE,
	MSG_DESTROYSET,
	MSG_DESTROYSETELEM,
	MSG_DESTROYOBJ,
};

/*** Tables ***/

static const struct attr_word table_flags[] = {
	{ "dormant", NFT_TABLE_F_DORMANT },
	{ "owner", NFT_TABLE_F_OWNER },
	{ "persist", 4 },
};

static const struct attr_row table_rows[] = {
	FAMILY,
	NFT_NAME("name", NFTA_TABLE_NAME),
	{ ROW("flags", NFTA_TABLE_FLAGS, BE32), NFT_BITS(table_flags) },
	{ ROW("handle", NFTA_TABLE_HANDLE, BE64) },
	{ ROW("use", NFTA_TABLE_USE, BE32), .flags = ATTR_READONLY },
	{ ROW("owner", NFTA_TABLE_OWNER, BE32), .flags = ATTR_READONLY },
	COMMENT(NFTA_TABLE_USERDATA),
};

static const struct attr_row table_query_rows[] = {
	FAMILY,
	NFT_NAME("name", NFTA_TABLE_NAME),
	{ ROW("handle", NFTA_TABLE_HANDLE, BE64) },
};

static const struct attr_row table_flush_rows[] = {
	FAMILY,
	NFT_NAME("name", NFTA_RULE_TABLE),
};

/*** Chains ***/

static const struct attr_row device_row = {
	ROW(NULL, NFTA_DEVICE_NAME, STRING), .min = 1, .max = IFNAMSIZ - 1,
};

static const struct attr_row hook_rows[] = {
	{ ROW("hook", NFTA_HOOK_HOOKNUM, HOOK), .hook = &nft_hook_hook },
	{ ROW("priority", NFTA_HOOK_PRIORITY, BE32), .min = INT32_MIN, .max = INT32_MAX },
	{ ROW("device", NFTA_HOOK_DEV, STRING), .min = 1, .max = IFNAMSIZ - 1 },
	{ ROW("devices", NFTA_HOOK_DEVS, LIST), .each = &device_row },
};

static const struct attr_table hook_table = ATTR_TABLE("hook", hook_rows, 0);

static const struct attr_word policies[] = {
	{ "drop", NF_DROP },
	{ "accept", NF_ACCEPT },
};

static const struct attr_word chain_flags[] = {
	{ "base", NFT_CHAIN_BASE },
	{ "offload", NFT_CHAIN_HW_OFFLOAD },
	{ "binding", NFT_CHAIN_BINDING },
};

static const struct attr_row chain_rows[] = {
	FAMILY,
	NFT_NAME("table", NFTA_CHAIN_TABLE),
	NFT_NAME("name", NFTA_CHAIN_NAME),
	{ ROW("handle", NFTA_CHAIN_HANDLE, BE64) },
	{ ROW("type", NFTA_CHAIN_TYPE, STRING), .min = 1, .max = 31 },
	{ ROW(NULL, NFTA_CHAIN_HOOK, FLAT), .table = &hook_table },
	{ ROW("policy", NFTA_CHAIN_POLICY, BE32), NFT_WORDS(policies) },
	{ ROW("flags", NFTA_CHAIN_FLAGS, BE32), NFT_BITS(chain_flags) },
	{ ROW("id", NFTA_CHAIN_ID, BE32), .flags = ATTR_WRITEONLY },
	{ ROW("use", NFTA_CHAIN_USE, BE32), .flags = ATTR_READONLY },
	COMMENT(NFTA_CHAIN_USERDATA),
};

static const struct attr_row chain_query_rows[] = {
	FAMILY,
	NFT_NAME("table", NFTA_CHAIN_TABLE),
	NFT_NAME("name", NFTA_CHAIN_NAME),
	{ ROW("handle", NFTA_CHAIN_HANDLE, BE64) },
};

static const struct attr_row chain_flush_rows[] = {
	FAMILY,
	NFT_NAME("table", NFTA_RULE_TABLE),
	NFT_NAME("name", NFTA_RULE_CHAIN),
};

/*** Rules ***/

static const struct attr_row rule_rows[] = {
	FAMILY,
	NFT_NAME("table", NFTA_RULE_TABLE),
	NFT_NAME("chain", NFTA_RULE_CHAIN),
	{ ROW("chain_id", NFTA_RULE_CHAIN_ID, BE32), .flags = ATTR_WRITEONLY },
	{ ROW("handle", NFTA_RULE_HANDLE, BE64) },
	{ ROW("position", NFTA_RULE_POSITION, BE64) },
	{ ROW("id", NFTA_RULE_ID, BE32), .flags = ATTR_WRITEONLY },
	{ ROW("position_id", NFTA_RULE_POSITION_ID, BE32), .flags = ATTR_WRITEONLY },
	{ ROW("exprs", NFTA_RULE_EXPRESSIONS, LIST), .each = &nft_expression_row },
	COMMENT(NFTA_RULE_USERDATA),
};

static const struct attr_row rule_query_rows[] = {
	FAMILY,
	NFT_NAME("table", NFTA_RULE_TABLE),
	NFT_NAME("chain", NFTA_RULE_CHAIN),
	{ ROW("handle", NFTA_RULE_HANDLE, BE64) },
};

/*** Sets and maps ***/

static const struct attr_word set_policies[] = {
	{ "performance", NFT_SET_POL_PERFORMANCE },
	{ "memory", NFT_SET_POL_MEMORY },
};

static const struct attr_row set_rows[] = {
	FAMILY,
	NFT_NAME("table", NFTA_SET_TABLE),
	NFT_NAME("name", NFTA_SET_NAME),
	{ ROW("handle", NFTA_SET_HANDLE, BE64) },
	{ ROW("key_type", NFTA_SET_KEY_TYPE, HOOK), .hook = &nft_set_type_hook },
	{ ROW("data_type", NFTA_SET_DATA_TYPE, HOOK), .hook = &nft_set_data_hook },
	{ ROW("object_type", NFTA_SET_OBJ_TYPE, BE32), OBJECT_TYPES },
	{ ROW("flags", NFTA_SET_FLAGS, HOOK), .hook = &nft_set_flags_hook },
	{ ROW("size", NFTA_SET_DESC, HOOK), .hook = &nft_set_size_hook },
	{ ROW("id", NFTA_SET_ID, BE32), .flags = ATTR_WRITEONLY },
	{ ROW("timeout", NFTA_SET_TIMEOUT, BE64) },
	{ ROW("gc_interval", NFTA_SET_GC_INTERVAL, BE32) },
	{ ROW("policy", NFTA_SET_POLICY, BE32), NFT_WORDS(set_policies) },
	{ ROW("comment", NFTA_SET_USERDATA, HOOK), .hook = &nft_set_comment_hook,
	  .data = &comment_of_set },
};

static const struct attr_row set_query_rows[] = {
	FAMILY,
	NFT_NAME("table", NFTA_SET_TABLE),
	NFT_NAME("name", NFTA_SET_NAME),
	{ ROW("handle", NFTA_SET_HANDLE, BE64) },
};

static const struct attr_row set_flush_rows[] = {
	FAMILY,
	NFT_NAME("table", NFTA_SET_ELEM_LIST_TABLE),
	NFT_NAME("name", NFTA_SET_ELEM_LIST_SET),
};

/*** Elements ***/

static const struct attr_word element_flags[] = {
	{ "interval_end", NFT_SET_ELEM_INTERVAL_END },
	{ "catchall", NFT_SET_ELEM_CATCHALL },
};

static const struct attr_row element_rows[] = {
	{ ROW("key", NFTA_SET_ELEM_KEY, HOOK), .hook = &nft_key_hook },
	{ ROW("key_end", NFTA_SET_ELEM_KEY_END, HOOK), .hook = &nft_key_end_hook },
	{ ROW("data", NFTA_SET_ELEM_DATA, HOOK), .hook = &nft_element_data_hook },
	NFT_NAME("object", NFTA_SET_ELEM_OBJREF),
	{ ROW("flags", NFTA_SET_ELEM_FLAGS, BE32), NFT_BITS(element_flags) },
	{ ROW("timeout", NFTA_SET_ELEM_TIMEOUT, BE64) },
	{ ROW("expiration", NFTA_SET_ELEM_EXPIRATION, BE64) },
	COMMENT(NFTA_SET_ELEM_USERDATA),
};

const struct attr_table nft_element_table = ATTR_TABLE("element", element_rows, 0);

/* What all elements of one message share. */
#define OF_SET \
	FAMILY, \
	NFT_NAME("table", NFTA_SET_ELEM_LIST_TABLE), \
	NFT_NAME("set", NFTA_SET_ELEM_LIST_SET), \
	{ ROW("key_type", ATTR_WHOLE, HOOK), .hook = &nft_type_hook }, \
	{ ROW("data_type", ATTR_WHOLE, HOOK), .hook = &nft_type_hook }, \
	{ ROW("interval", ATTR_WHOLE, HOOK), .hook = &nft_boolean_hook }

static const struct attr_row list_rows[] = {
	OF_SET,
	{ ROW("set_id", NFTA_SET_ELEM_LIST_SET_ID, BE32), .flags = ATTR_WRITEONLY },
	{ ROW("elements", NFTA_SET_ELEM_LIST_ELEMENTS, HOOK), .hook = &nft_elements_hook },
};

static const struct attr_row list_query_rows[] = {
	OF_SET,
	{ ROW("key", NFTA_SET_ELEM_LIST_ELEMENTS, HOOK), .hook = &nft_one_key_hook },
};

/*** Stateful objects ***/

static const struct attr_case stateful[] = {
	{ "counter", &nft_counter_table },
	{ "quota", &nft_quota_table },
	{ "limit", &nft_limit_table },
	{ "connlimit", &nft_connlimit_table },
};

static const struct attr_switch by_type = { "type", stateful, ARRAY_SIZE(stateful), NULL };

static const struct attr_row object_rows[] = {
	FAMILY,
	NFT_NAME("table", NFTA_OBJ_TABLE),
	NFT_NAME("name", NFTA_OBJ_NAME),
	{ ROW("type", NFTA_OBJ_TYPE, BE32), OBJECT_TYPES },
	{ ROW("handle", NFTA_OBJ_HANDLE, BE64) },
	{ ROW("data", NFTA_OBJ_DATA, NEST), .choose = &by_type },
	{ ROW("use", NFTA_OBJ_USE, BE32), .flags = ATTR_READONLY },
	COMMENT(NFTA_OBJ_USERDATA),
};

static const struct attr_row object_query_rows[] = {
	FAMILY,
	NFT_NAME("table", NFTA_OBJ_TABLE),
	NFT_NAME("name", NFTA_OBJ_NAME),
	{ ROW("type", NFTA_OBJ_TYPE, BE32), OBJECT_TYPES },
};

/*** Messages ***/

static const struct attr_table table_table = ATTR_TABLE("table", table_rows, HEADER);
static const struct attr_table table_query = ATTR_TABLE("table", table_query_rows, HEADER);
static const struct attr_table table_flush = ATTR_TABLE("table", table_flush_rows, HEADER);
static const struct attr_table chain_table = ATTR_TABLE("chain", chain_rows, HEADER);
static const struct attr_table chain_query = ATTR_TABLE("chain", chain_query_rows, HEADER);
static const struct attr_table chain_flush = ATTR_TABLE("chain", chain_flush_rows, HEADER);
static const struct attr_table rule_table = ATTR_TABLE("rule", rule_rows, HEADER);
static const struct attr_table rule_query = ATTR_TABLE("rule", rule_query_rows, HEADER);
static const struct attr_table set_table = ATTR_TABLE("set", set_rows, HEADER);
static const struct attr_table set_query = ATTR_TABLE("set", set_query_rows, HEADER);
static const struct attr_table set_flush = ATTR_TABLE("set", set_flush_rows, HEADER);
static const struct attr_table list_table = ATTR_TABLE("element", list_rows, HEADER);
static const struct attr_table list_query = ATTR_TABLE("element", list_query_rows, HEADER);
static const struct attr_table object_table = ATTR_TABLE("object", object_rows, HEADER);
static const struct attr_table object_query = ATTR_TABLE("object", object_query_rows, HEADER);

#define SET_OBJECT(name_) { \
	.name = name_, .table = &set_table, .query = &set_query, .flush = &set_flush, \
	.add = NFT_MSG_NEWSET, .get = NFT_MSG_GETSET, .del = NFT_MSG_DELSET, \
	.destroy = MSG_DESTROYSET, .emptied_by = NFT_MSG_DELSETELEM, \
	.needs = KEYS("family", "table", "name", "key_type"), \
	.names = KEYS("family", "table", "name|handle"), \
	.flush_names = KEYS("family", "table", "name"), \
}

const struct nft_object nft_objects[] = {
	{
		.name = "table",
		.table = &table_table, .query = &table_query, .flush = &table_flush,
		.add = NFT_MSG_NEWTABLE, .get = NFT_MSG_GETTABLE, .del = NFT_MSG_DELTABLE,
		.destroy = MSG_DESTROYTABLE, .emptied_by = NFT_MSG_DELRULE,
		.needs = KEYS("family", "name"), .names = KEYS("family", "name|handle"),
		.flush_names = KEYS("family", "name"),
	}, {
		.name = "chain",
		.table = &chain_table, .query = &chain_query, .flush = &chain_flush,
		.add = NFT_MSG_NEWCHAIN, .get = NFT_MSG_GETCHAIN, .del = NFT_MSG_DELCHAIN,
		.destroy = MSG_DESTROYCHAIN, .emptied_by = NFT_MSG_DELRULE,
		.needs = KEYS("family", "table", "name"),
		.names = KEYS("family", "table", "name|handle"),
		.flush_names = KEYS("family", "table", "name"),
	}, {
		.name = "rule", .table = &rule_table, .query = &rule_query,
		.add = NFT_MSG_NEWRULE, .get = NFT_MSG_GETRULE, .del = NFT_MSG_DELRULE,
		.destroy = MSG_DESTROYRULE,
		.needs = KEYS("family", "table", "chain|chain_id", "exprs"),
		.names = KEYS("family", "table", "chain", "handle|id"),
	},
	SET_OBJECT("set"),
	SET_OBJECT("map"),
	{
		.name = "element", .table = &list_table, .query = &list_query, .in_list = true,
		.add = NFT_MSG_NEWSETELEM, .get = NFT_MSG_GETSETELEM, .del = NFT_MSG_DELSETELEM,
		.destroy = MSG_DESTROYSETELEM,
		.needs = KEYS("family", "table", "set", "elements"),
		.names = KEYS("family", "table", "set", "elements"),
	}, {
		.name = "object", .table = &object_table, .query = &object_query,
		.add = NFT_MSG_NEWOBJ, .get = NFT_MSG_GETOBJ, .del = NFT_MSG_DELOBJ,
		.destroy = MSG_DESTROYOBJ,
		.needs = KEYS("family", "table", "name", "type", "data"),
		.names = KEYS("family", "table", "name|handle", "type"),
	},
};

const size_t nft_object_count = ARRAY_SIZE(nft_objects);
