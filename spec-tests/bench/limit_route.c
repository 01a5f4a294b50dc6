/* SPDX-License-Identifier: MIT */
/* Addresses, routes, and forwarding. */
#include "limit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

void put_addr(struct nl *nl, int index, struct in_addr address, uint8_t len, uint32_t flags)
{
	struct nlmsghdr *nlh =
		nl_request(nl, RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
	struct ifaddrmsg *head = mnl_nlmsg_put_extra_header(nlh, sizeof(*head));

	head->ifa_family = AF_INET;
	head->ifa_prefixlen = len;
	head->ifa_index = (uint32_t)index;
	mnl_attr_put_u32(nlh, IFA_LOCAL, address.s_addr);
	mnl_attr_put_u32(nlh, IFA_ADDRESS, address.s_addr);
	if (len < 31)
		mnl_attr_put_u32(nlh, IFA_BROADCAST, address.s_addr | htonl(UINT32_MAX >> len));
	if (flags)
		mnl_attr_put_u32(nlh, IFA_FLAGS, flags);
}

/* Without a gateway the destination is on the link. What it returns may still be changed. */
struct rtmsg *put_route(struct nl *nl, int index, struct in_addr to, uint8_t len,
			struct in_addr gateway, struct in_addr source)
{
	struct nlmsghdr *nlh =
		nl_request(nl, RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
	struct rtmsg *head = mnl_nlmsg_put_extra_header(nlh, sizeof(*head));

	head->rtm_family = AF_INET;
	head->rtm_dst_len = len;
	head->rtm_table = RT_TABLE_MAIN;
	head->rtm_protocol = RTPROT_BOOT;
	head->rtm_scope = gateway.s_addr ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
	head->rtm_type = RTN_UNICAST;
	mnl_attr_put_u32(nlh, RTA_OIF, (uint32_t)index);
	if (len)
		mnl_attr_put_u32(nlh, RTA_DST, to.s_addr);
	if (gateway.s_addr)
		mnl_attr_put_u32(nlh, RTA_GATEWAY, gateway.s_addr);
	if (source.s_addr)
		mnl_attr_put_u32(nlh, RTA_PREFSRC, source.s_addr);
	return head;
}

void put_default_route(struct nl *nl, int index, struct in_addr gateway)
{
	put_route(nl, index, (struct in_addr){ 0 }, 0, gateway, (struct in_addr){ 0 });
}

void forward(void)
{
	int fd = open("/proc/sys/net/ipv4/ip_forward", O_RDWR | O_CLOEXEC);
	char now = 0;

	if (fd < 0 || pread(fd, &now, 1, 0) != 1)
		give_up("ip_forward", errno);
	if (now != '1' && pwrite(fd, "1", 1, 0) != 1)
		give_up("ip_forward", errno);
	close(fd);
}
