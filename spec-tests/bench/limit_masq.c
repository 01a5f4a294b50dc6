/* SPDX-License-Identifier: MIT */
/*
 * Masquerading of the limit program: one verdict map from pod address to the chain of its subnet,
 * so that an attachment is one element, added or deleted in one batch. Table, chains and rules are
 * made by the first attachment that finds them missing.
 */
#include "limit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdio.h>
#include <string.h>

static const char table_name[] = "luacni";
static const char map_name[] = "masq4";
static const char hook_chain[] = "postrouting";

enum {
	TYPE_IPV4_ADDR = 7,
	TYPE_VERDICT = 0xffffff00,
	OFFSET_SADDR = 12,
	OFFSET_DADDR = 16,
	PRIORITY_SRCNAT = 100,
};

static struct nlmsghdr *nft_request(struct nl *nl, uint16_t type, uint16_t flags)
{
	struct nlmsghdr *nlh;
	struct nfgenmsg *head;
	int border = type == NFNL_MSG_BATCH_BEGIN || type == NFNL_MSG_BATCH_END;

	if (!border)
		type |= NFNL_SUBSYS_NFTABLES << 8;
	nlh = nl_request(nl, type, flags);
	head = mnl_nlmsg_put_extra_header(nlh, sizeof(*head));
	head->nfgen_family = border ? AF_UNSPEC : NFPROTO_INET;
	head->version = NFNETLINK_V0;
	head->res_id = htons(border ? NFNL_SUBSYS_NFTABLES : 0);
	return nlh;
}

static void put_data(struct nlmsghdr *nlh, uint16_t type, const void *data, size_t len)
{
	struct nlattr *nest = mnl_attr_nest_start(nlh, type);

	mnl_attr_put(nlh, NFTA_DATA_VALUE, len, data);
	mnl_attr_nest_end(nlh, nest);
}

static void put_verdict(struct nlmsghdr *nlh, uint16_t type, int code, const char *chain)
{
	struct nlattr *data = mnl_attr_nest_start(nlh, type);
	struct nlattr *verdict = mnl_attr_nest_start(nlh, NFTA_DATA_VERDICT);

	mnl_attr_put_u32(nlh, NFTA_VERDICT_CODE, htonl((uint32_t)code));
	if (chain)
		mnl_attr_put_strz(nlh, NFTA_VERDICT_CHAIN, chain);
	mnl_attr_nest_end(nlh, verdict);
	mnl_attr_nest_end(nlh, data);
}

static void put_element(struct nl *nl, uint16_t type, uint16_t flags, struct in_addr address,
			const char *chain)
{
	struct nlmsghdr *nlh = nft_request(nl, type, flags);
	struct nlattr *list, *element;

	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_TABLE, table_name);
	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_SET, map_name);
	list = mnl_attr_nest_start(nlh, NFTA_SET_ELEM_LIST_ELEMENTS);
	element = mnl_attr_nest_start(nlh, NFTA_LIST_ELEM);
	put_data(nlh, NFTA_SET_ELEM_KEY, &address, sizeof(address));
	if (chain)
		put_verdict(nlh, NFTA_SET_ELEM_DATA, NFT_GOTO, chain);
	mnl_attr_nest_end(nlh, element);
	mnl_attr_nest_end(nlh, list);
}

/* One expression inside a rule: its nest, its name, and the nest of its own attributes. */
struct expr {
	struct nlattr *outer, *inner;
};

static struct expr expr_start(struct nlmsghdr *nlh, const char *name)
{
	struct expr expr = { .outer = mnl_attr_nest_start(nlh, NFTA_LIST_ELEM) };

	mnl_attr_put_strz(nlh, NFTA_EXPR_NAME, name);
	expr.inner = mnl_attr_nest_start(nlh, NFTA_EXPR_DATA);
	return expr;
}

static void expr_end(struct nlmsghdr *nlh, struct expr expr)
{
	mnl_attr_nest_end(nlh, expr.inner);
	mnl_attr_nest_end(nlh, expr.outer);
}

static void put_cmp(struct nlmsghdr *nlh, const void *data, size_t len)
{
	struct expr expr = expr_start(nlh, "cmp");

	mnl_attr_put_u32(nlh, NFTA_CMP_SREG, htonl(NFT_REG_1));
	mnl_attr_put_u32(nlh, NFTA_CMP_OP, htonl(NFT_CMP_EQ));
	put_data(nlh, NFTA_CMP_DATA, data, len);
	expr_end(nlh, expr);
}

static void put_address(struct nlmsghdr *nlh, uint32_t offset)
{
	struct expr expr = expr_start(nlh, "payload");

	mnl_attr_put_u32(nlh, NFTA_PAYLOAD_DREG, htonl(NFT_REG_1));
	mnl_attr_put_u32(nlh, NFTA_PAYLOAD_BASE, htonl(NFT_PAYLOAD_NETWORK_HEADER));
	mnl_attr_put_u32(nlh, NFTA_PAYLOAD_OFFSET, htonl(offset));
	mnl_attr_put_u32(nlh, NFTA_PAYLOAD_LEN, htonl(sizeof(struct in_addr)));
	expr_end(nlh, expr);
}

static struct nlattr *rule_start(struct nlmsghdr *nlh, const char *chain)
{
	mnl_attr_put_strz(nlh, NFTA_RULE_TABLE, table_name);
	mnl_attr_put_strz(nlh, NFTA_RULE_CHAIN, chain);
	return mnl_attr_nest_start(nlh, NFTA_RULE_EXPRESSIONS);
}

/* meta nfproto ipv4 ip saddr vmap @masq4 */
static void put_lookup_rule(struct nl *nl)
{
	struct nlmsghdr *nlh = nft_request(nl, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
	struct nlattr *list = rule_start(nlh, hook_chain);
	const uint8_t ipv4 = NFPROTO_IPV4;
	struct expr expr;

	expr = expr_start(nlh, "meta");
	mnl_attr_put_u32(nlh, NFTA_META_DREG, htonl(NFT_REG_1));
	mnl_attr_put_u32(nlh, NFTA_META_KEY, htonl(NFT_META_NFPROTO));
	expr_end(nlh, expr);
	put_cmp(nlh, &ipv4, sizeof(ipv4));
	put_address(nlh, OFFSET_SADDR);
	expr = expr_start(nlh, "lookup");
	mnl_attr_put_strz(nlh, NFTA_LOOKUP_SET, map_name);
	mnl_attr_put_u32(nlh, NFTA_LOOKUP_SREG, htonl(NFT_REG_1));
	mnl_attr_put_u32(nlh, NFTA_LOOKUP_DREG, htonl(NFT_REG_VERDICT));
	expr_end(nlh, expr);
	mnl_attr_nest_end(nlh, list);
}

/* ip daddr NETWORK/LEN return */
static void put_return_rule(struct nl *nl, const char *chain, uint32_t network, uint32_t mask)
{
	struct nlmsghdr *nlh = nft_request(nl, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
	struct nlattr *list = rule_start(nlh, chain);
	const uint32_t zero = 0;
	struct expr expr;

	put_address(nlh, OFFSET_DADDR);
	expr = expr_start(nlh, "bitwise");
	mnl_attr_put_u32(nlh, NFTA_BITWISE_SREG, htonl(NFT_REG_1));
	mnl_attr_put_u32(nlh, NFTA_BITWISE_DREG, htonl(NFT_REG_1));
	mnl_attr_put_u32(nlh, NFTA_BITWISE_LEN, htonl(sizeof(mask)));
	put_data(nlh, NFTA_BITWISE_MASK, &mask, sizeof(mask));
	put_data(nlh, NFTA_BITWISE_XOR, &zero, sizeof(zero));
	expr_end(nlh, expr);
	network &= mask;
	put_cmp(nlh, &network, sizeof(network));
	expr = expr_start(nlh, "immediate");
	mnl_attr_put_u32(nlh, NFTA_IMMEDIATE_DREG, htonl(NFT_REG_VERDICT));
	put_verdict(nlh, NFTA_IMMEDIATE_DATA, NFT_RETURN, NULL);
	expr_end(nlh, expr);
	mnl_attr_nest_end(nlh, list);
}

static void put_masquerade_rule(struct nl *nl, const char *chain)
{
	struct nlmsghdr *nlh = nft_request(nl, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
	struct nlattr *list = rule_start(nlh, chain);

	expr_end(nlh, expr_start(nlh, "masq"));
	mnl_attr_nest_end(nlh, list);
}

static void put_subnet_chain(struct nl *nl, const struct subnet *subnet, const char *chain)
{
	struct nlmsghdr *nlh = nft_request(nl, NFT_MSG_NEWCHAIN, NLM_F_CREATE);
	uint32_t mask = htonl(UINT32_MAX << (32 - subnet->len));

	mnl_attr_put_strz(nlh, NFTA_CHAIN_TABLE, table_name);
	mnl_attr_put_strz(nlh, NFTA_CHAIN_NAME, chain);
	put_return_rule(nl, chain, subnet->gateway.s_addr, mask);
	put_return_rule(nl, chain, htonl(0xe0000000), htonl(0xf0000000));
	put_masquerade_rule(nl, chain);
}

static void put_base(struct nl *nl)
{
	struct nlmsghdr *nlh = nft_request(nl, NFT_MSG_NEWTABLE, NLM_F_CREATE);
	struct nlattr *hook;

	mnl_attr_put_strz(nlh, NFTA_TABLE_NAME, table_name);
	nlh = nft_request(nl, NFT_MSG_NEWCHAIN, NLM_F_CREATE);
	mnl_attr_put_strz(nlh, NFTA_CHAIN_TABLE, table_name);
	mnl_attr_put_strz(nlh, NFTA_CHAIN_NAME, hook_chain);
	mnl_attr_put_strz(nlh, NFTA_CHAIN_TYPE, "nat");
	hook = mnl_attr_nest_start(nlh, NFTA_CHAIN_HOOK);
	mnl_attr_put_u32(nlh, NFTA_HOOK_HOOKNUM, htonl(NF_INET_POST_ROUTING));
	mnl_attr_put_u32(nlh, NFTA_HOOK_PRIORITY, htonl(PRIORITY_SRCNAT));
	mnl_attr_nest_end(nlh, hook);
	nlh = nft_request(nl, NFT_MSG_NEWSET, NLM_F_CREATE);
	mnl_attr_put_strz(nlh, NFTA_SET_TABLE, table_name);
	mnl_attr_put_strz(nlh, NFTA_SET_NAME, map_name);
	mnl_attr_put_u32(nlh, NFTA_SET_ID, htonl(1));
	mnl_attr_put_u32(nlh, NFTA_SET_FLAGS, htonl(NFT_SET_MAP));
	mnl_attr_put_u32(nlh, NFTA_SET_KEY_TYPE, htonl(TYPE_IPV4_ADDR));
	mnl_attr_put_u32(nlh, NFTA_SET_KEY_LEN, htonl(sizeof(struct in_addr)));
	mnl_attr_put_u32(nlh, NFTA_SET_DATA_TYPE, htonl(TYPE_VERDICT));
	mnl_attr_put_u32(nlh, NFTA_SET_DATA_LEN, htonl(0));
	put_lookup_rule(nl);
}

/* Everything between BEGIN and END is one transaction; the kernel acks the element alone. */
static int commit(struct nl *nl)
{
	nft_request(nl, NFNL_MSG_BATCH_END, 0);
	return nl_exchange(nl, NULL, NULL);
}

int masq_add(struct nl *nl, const struct subnet *subnet, struct in_addr address)
{
	struct in_addr network = {
		.s_addr = subnet->gateway.s_addr & htonl(UINT32_MAX << (32 - subnet->len)),
	};
	char chain[32], text[INET_ADDRSTRLEN];
	int missing, rc = -ENOENT;

	snprintf(chain, sizeof(chain), "masq-%s-%u",
		 inet_ntop(AF_INET, &network, text, sizeof(text)), subnet->len);
	for (missing = 0; rc == -ENOENT && missing < 3; missing++) {
		nft_request(nl, NFNL_MSG_BATCH_BEGIN, 0);
		if (missing == 2)
			put_base(nl);
		if (missing >= 1)
			put_subnet_chain(nl, subnet, chain);
		put_element(nl, NFT_MSG_NEWSETELEM, NLM_F_ACK | NLM_F_CREATE, address, chain);
		rc = commit(nl);
	}
	return rc;
}

int masq_del(struct nl *nl, struct in_addr address)
{
	int rc;

	nft_request(nl, NFNL_MSG_BATCH_BEGIN, 0);
	put_element(nl, NFT_MSG_DELSETELEM, NLM_F_ACK, address, NULL);
	rc = commit(nl);
	return rc == -ENOENT ? 0 : rc;
}
