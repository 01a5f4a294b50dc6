/* SPDX-License-Identifier: MIT */
/*
 * Masquerading of the limit program: a set of pod addresses and one rule a subnet, so that an
 * attachment is one element, added or deleted in one batch. Table, chain, set and rule are made by
 * the first attachment that finds them missing.
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
static const char hook_chain[] = "postrouting";

enum {
	TYPE_IPV4_ADDR = 7,
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

static void put_element(struct nl *nl, uint16_t type, uint16_t flags, struct in_addr address,
			const char *set)
{
	struct nlmsghdr *nlh = nft_request(nl, type, flags);
	struct nlattr *list, *element;

	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_TABLE, table_name);
	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_SET, set);
	list = mnl_attr_nest_start(nlh, NFTA_SET_ELEM_LIST_ELEMENTS);
	element = mnl_attr_nest_start(nlh, NFTA_LIST_ELEM);
	put_data(nlh, NFTA_SET_ELEM_KEY, &address, sizeof(address));
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

static void put_cmp(struct nlmsghdr *nlh, uint32_t op, const void *data, size_t len)
{
	struct expr expr = expr_start(nlh, "cmp");

	mnl_attr_put_u32(nlh, NFTA_CMP_SREG, htonl(NFT_REG_1));
	mnl_attr_put_u32(nlh, NFTA_CMP_OP, htonl(op));
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

/* meta nfproto ipv4 ip saddr @SET ip daddr != NETWORK/LEN masquerade */
static void put_rule(struct nl *nl, const char *set, uint32_t network, uint32_t mask)
{
	struct nlmsghdr *nlh = nft_request(nl, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
	const uint8_t ipv4 = NFPROTO_IPV4;
	const uint32_t zero = 0;
	struct nlattr *list;
	struct expr expr;

	mnl_attr_put_strz(nlh, NFTA_RULE_TABLE, table_name);
	mnl_attr_put_strz(nlh, NFTA_RULE_CHAIN, hook_chain);
	list = mnl_attr_nest_start(nlh, NFTA_RULE_EXPRESSIONS);
	expr = expr_start(nlh, "meta");
	mnl_attr_put_u32(nlh, NFTA_META_DREG, htonl(NFT_REG_1));
	mnl_attr_put_u32(nlh, NFTA_META_KEY, htonl(NFT_META_NFPROTO));
	expr_end(nlh, expr);
	put_cmp(nlh, NFT_CMP_EQ, &ipv4, sizeof(ipv4));
	put_address(nlh, OFFSET_SADDR);
	expr = expr_start(nlh, "lookup");
	mnl_attr_put_strz(nlh, NFTA_LOOKUP_SET, set);
	mnl_attr_put_u32(nlh, NFTA_LOOKUP_SREG, htonl(NFT_REG_1));
	expr_end(nlh, expr);
	put_address(nlh, OFFSET_DADDR);
	expr = expr_start(nlh, "bitwise");
	mnl_attr_put_u32(nlh, NFTA_BITWISE_SREG, htonl(NFT_REG_1));
	mnl_attr_put_u32(nlh, NFTA_BITWISE_DREG, htonl(NFT_REG_1));
	mnl_attr_put_u32(nlh, NFTA_BITWISE_LEN, htonl(sizeof(mask)));
	put_data(nlh, NFTA_BITWISE_MASK, &mask, sizeof(mask));
	put_data(nlh, NFTA_BITWISE_XOR, &zero, sizeof(zero));
	expr_end(nlh, expr);
	put_cmp(nlh, NFT_CMP_NEQ, &network, sizeof(network));
	expr_end(nlh, expr_start(nlh, "masq"));
	mnl_attr_nest_end(nlh, list);
}

static void put_subnet(struct nl *nl, const char *set, uint32_t network, uint32_t mask)
{
	struct nlmsghdr *nlh = nft_request(nl, NFT_MSG_NEWSET, NLM_F_CREATE);

	mnl_attr_put_strz(nlh, NFTA_SET_TABLE, table_name);
	mnl_attr_put_strz(nlh, NFTA_SET_NAME, set);
	mnl_attr_put_u32(nlh, NFTA_SET_ID, htonl(1));
	mnl_attr_put_u32(nlh, NFTA_SET_KEY_TYPE, htonl(TYPE_IPV4_ADDR));
	mnl_attr_put_u32(nlh, NFTA_SET_KEY_LEN, htonl(sizeof(struct in_addr)));
	put_rule(nl, set, network, mask);
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
}

/* Everything between BEGIN and END is one transaction; the kernel acks the element alone. */
static int commit(struct nl *nl)
{
	nft_request(nl, NFNL_MSG_BATCH_END, 0);
	return nl_exchange(nl, NULL, NULL);
}

static void name_set(char *set, size_t room, const struct subnet *subnet, uint32_t *ret_mask)
{
	uint32_t mask = htonl(UINT32_MAX << (32 - subnet->len));
	struct in_addr network = { .s_addr = subnet->gateway.s_addr & mask };
	char text[INET_ADDRSTRLEN];

	snprintf(set, room, "masq_%s/%u", inet_ntop(AF_INET, &network, text, sizeof(text)),
		 subnet->len);
	*ret_mask = mask;
}

int masq_add(struct nl *nl, const struct subnet *subnet, struct in_addr address)
{
	char set[40];
	int missing, rc = -ENOENT;
	uint32_t mask;

	name_set(set, sizeof(set), subnet, &mask);
	for (missing = 0; rc == -ENOENT && missing < 3; missing++) {
		nft_request(nl, NFNL_MSG_BATCH_BEGIN, 0);
		if (missing == 2)
			put_base(nl);
		if (missing >= 1)
			put_subnet(nl, set, subnet->gateway.s_addr & mask, mask);
		put_element(nl, NFT_MSG_NEWSETELEM, NLM_F_ACK | NLM_F_CREATE, address, set);
		rc = commit(nl);
	}
	return rc;
}

int masq_del(struct nl *nl, const struct subnet *subnet, struct in_addr address)
{
	char set[40];
	uint32_t mask;
	int rc;

	name_set(set, sizeof(set), subnet, &mask);
	nft_request(nl, NFNL_MSG_BATCH_BEGIN, 0);
	put_element(nl, NFT_MSG_DELSETELEM, NLM_F_ACK, address, set);
	rc = commit(nl);
	return rc == -ENOENT ? 0 : rc;
}
