/* SPDX-License-Identifier: MIT */
/***
@submodule netlink
*/
/*
 * What the kernel tells everybody of changes, read for one question: may something be gone, or another? Asked
 * of this namespace and of those that it knows by number, as it does where a link has its other end or its
 * master here.
 */

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include <linux/neighbour.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include "bindings.h"
#include "nl/nl.h"
#include "nl/push.h"
#include "ns/ns.h"

#define LOSSES_HANDLE "netlink.losses"
#define PATIENCE_MS 1000

enum { ROUTE, NETFILTER, SOCKETS };

/* What was last told of a qdisc: which one, and what it is like, as hashes. */
struct seen {
	uint32_t which, what;
};

#define SEEN 4096

struct losses {
	struct nl nl[SOCKETS];
	struct seen seen[SEEN];
};

static const int protocols[SOCKETS] = { NETLINK_ROUTE, NETLINK_NETFILTER };

static const unsigned int groups[SOCKETS][12] = {
	{ RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_TC, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE,
	  RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV6_RULE,
	  RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF },
	{ NFNLGRP_NFTABLES },
};

/* What nf_tables says when something goes; chains and tables that are new may be old ones that changed. */
static bool is_loss_of_rules(const struct nlmsghdr *msg)
{
	if (NFNL_SUBSYS_ID(msg->nlmsg_type) != NFNL_SUBSYS_NFTABLES)
		return false;
	switch (NFNL_MSG_TYPE(msg->nlmsg_type)) {
	case NFT_MSG_DELTABLE:
	case NFT_MSG_DELCHAIN:
	case NFT_MSG_DELRULE:
	case NFT_MSG_DELSET:
	case NFT_MSG_DELSETELEM:
	case NFT_MSG_DELOBJ:
	case NFT_MSG_DELFLOWTABLE:
		return true;
	}
	return false;
}

/*
 * What a bridge has learnt comes and goes by itself; an entry that was made does not. (Of a neighbour that
 * was made, the message that it is gone does not say so.)
 */
static bool is_lasting(const struct nlmsghdr *msg)
{
	const struct ndmsg *neigh = mnl_nlmsg_get_payload(msg);

	return mnl_nlmsg_get_payload_len(msg) >= sizeof *neigh && neigh->ndm_family == AF_BRIDGE &&
	       neigh->ndm_state & (NUD_PERMANENT | NUD_NOARP);
}

/* FNV-1a */
static uint32_t add_to_hash(uint32_t hash, const void *bytes, size_t len)
{
	for (const unsigned char *b = bytes; len; len--)
		hash = (hash ^ *b++) * 16777619;
	return hash;
}

/* What else is told of a qdisc is counted by it. */
static int add_setting(const struct nlattr *attr, void *hash)
{
	if (mnl_attr_get_type(attr) == TCA_KIND || mnl_attr_get_type(attr) == TCA_OPTIONS)
		*(uint32_t *)hash = add_to_hash(*(uint32_t *)hash, attr, attr->nla_len);
	return MNL_CB_OK;
}

/*
 * The kernel tells everybody of a qdisc also when somebody has only asked for it, as each repair does: so it
 * is a change only where it is told of as another one than before.
 */
static bool is_changed(struct seen *list, const struct nlmsghdr *msg)
{
	const struct tcmsg *tc = mnl_nlmsg_get_payload(msg);
	const uint32_t start = 2166136261;
	struct seen now = { .which = start, .what = start }, *before;
	bool same;

	if (mnl_nlmsg_get_payload_len(msg) < sizeof *tc)
		return true;
	/* As an answer it has no parent. */
	now.which = add_to_hash(now.which, &tc->tcm_ifindex, sizeof tc->tcm_ifindex);
	now.which = add_to_hash(now.which, &tc->tcm_handle, sizeof tc->tcm_handle);
	mnl_attr_parse(msg, sizeof *tc, add_setting, &now.what);
	before = &list[now.which % SEEN];
	same = before->which == now.which && before->what == now.what;
	*before = now;
	return !same;
}

static bool is_loss(struct losses *l, const struct nlmsghdr *msg, int protocol)
{
	if (protocol == NETLINK_NETFILTER)
		return is_loss_of_rules(msg);
	switch (msg->nlmsg_type) {
	case RTM_NEWQDISC:
		return is_changed(l->seen, msg);
	case RTM_NEWLINK:
	case RTM_NEWNETCONF:
	case RTM_DELLINK:
	case RTM_DELADDR:
	case RTM_DELROUTE:
	case RTM_DELRULE:
	case RTM_DELQDISC:
	case RTM_DELTCLASS:
	case RTM_DELTFILTER:
		return true;
	case RTM_NEWROUTE:
		return msg->nlmsg_flags & NLM_F_REPLACE;
	case RTM_DELNEIGH:
		return is_lasting(msg);
	}
	return false;
}

/* Read all that has come. 1: there was a loss, 0: none; -errno. */
static int take(struct losses *l, struct nl *nl)
{
	int err, found = 0;

	while (!(err = nl_receive(nl, 0)) || err == -ENOBUFS) {
		/* What was dropped may have been anything. */
		found |= err == -ENOBUFS;
		for (const struct nlmsghdr *msg = err ? NULL : nl_first(nl); msg; msg = nl_next(nl, msg))
			found |= is_loss(l, msg, nl->protocol);
	}
	return err == -ETIMEDOUT ? found : err;
}

static int wait_for_loss(struct losses *l, int64_t deadline)
{
	for (;;) {
		struct pollfd p[SOCKETS];
		int found = 0;

		for (int i = 0; i < SOCKETS; i++)
			p[i] = (struct pollfd){ .fd = l->nl[i].fd, .events = POLLIN };
		if (poll(p, SOCKETS, nl_ms_left(deadline)) < 0)
			return errno == EINTR ? 0 : -errno;
		for (int i = 0; i < SOCKETS; i++) {
			int got = l->nl[i].fd < 0 ? 0 : take(l, &l->nl[i]);

			if (got < 0)
				return got;
			found |= got;
		}
		if (found || !nl_ms_left(deadline))
			return found;
	}
}

static int open_losses(struct losses *l, const struct nl_place *place)
{
	int err = 0;

	for (int i = 0; !err && i < SOCKETS; i++) {
		err = nl_open(&l->nl[i], protocols[i], place);
		if (i == NETFILTER && err == -EPROTONOSUPPORT)
			return 0; /* no nf_tables, no rules to lose */
		/* Without it there is this namespace to hear of. */
		if (!err)
			setsockopt(l->nl[i].fd, SOL_NETLINK, NETLINK_LISTEN_ALL_NSID,
				   &(int){ 1 }, sizeof(int));
		for (const unsigned int *group = groups[i]; !err && *group; group++)
			err = nl_subscribe(&l->nl[i], *group);
	}
	return err;
}

/***
Wait until something may be gone, or another: a link, an address, a route, a rule, an entry of a bridge
that was made, traffic control, forwarding, something of nf_tables. All that has come by then is read.
@function losses:wait
@tparam[opt=1000] integer timeout_ms
@treturn[1] boolean false: nothing was; or a signal came
@return[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
static int losses_wait(lua_State *L)
{
	struct losses *l = luaL_checkudata(L, 1, LOSSES_HANDLE);
	lua_Integer ms = luaL_optinteger(L, 2, PATIENCE_MS);
	int found;

	luaL_argcheck(L, l->nl[ROUTE].fd >= 0, 1, "it is closed");
	luaL_argcheck(L, ms >= 0 && ms <= INT32_MAX, 2, "not a number of milliseconds");
	found = wait_for_loss(l, nl_deadline((int)ms));
	if (found < 0)
		return push_failure(L, found, "listen");
	lua_pushboolean(L, found);
	return 1;
}

/***
Listen no more; twice is fine.
@function losses:close
*/
static int losses_close(lua_State *L)
{
	struct losses *l = luaL_checkudata(L, 1, LOSSES_HANDLE);

	for (int i = 0; i < SOCKETS; i++)
		nl_close(&l->nl[i]);
	return 0;
}

/***
Listen, from now on, to what the kernel tells of changes in a namespace, and in others that this one knows:
NETLINK_LISTEN_ALL_NSID of netlink(7).
@function losses
@param[opt] where the namespace: an object or a path, by default ours
@treturn[1] losses
@return[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
static int losses_open(lua_State *L)
{
	struct nl_place place = netns_place_arg(L, 1);
	struct losses *l = lua_newuserdatauv(L, sizeof *l, 0);
	int err;

	for (int i = 0; i < SOCKETS; i++)
		nl_init(&l->nl[i]);
	memset(l->seen, 0, sizeof l->seen);
	luaL_setmetatable(L, LOSSES_HANDLE);
	err = open_losses(l, &place);
	return err ? push_failure(L, err, "listen to changes") : 1;
}

int luaopen_netlink_losses(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{ "wait", losses_wait },
		{ "close", losses_close },
		{ NULL, NULL },
	};
	static const luaL_Reg meta[] = {
		{ "__gc", losses_close },
		{ "__close", losses_close },
		{ NULL, NULL },
	};

	new_handle_type(L, LOSSES_HANDLE, methods, meta);
	lua_pushcfunction(L, losses_open);
	return 1;
}
