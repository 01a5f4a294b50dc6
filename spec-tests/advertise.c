/* SPDX-License-Identifier: MIT */
/*
 * advertise LINK [PREFIX]: one router advertisement on a link, as a router there sends it: it is a
 * default router for half an hour, and with PREFIX (a /64, its first 8 bytes in hexadecimal) the
 * network is on the link and gives addresses. LINK needs a link-local address.
 */
#include <arpa/inet.h>
#include <err.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct message {
	struct nd_router_advert advert;
	struct nd_opt_prefix_info prefix;
};

static void read_prefix(const char *digits, struct in6_addr *ret)
{
	for (size_t i = 0; i < 8; i++) {
		char byte[3] = { digits[2 * i], digits[2 * i + 1], 0 };

		ret->s6_addr[i] = (unsigned char)strtoul(byte, NULL, 16);
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_in6 all = { .sin6_family = AF_INET6 };
	struct message message = {
		.advert = { .nd_ra_type = ND_ROUTER_ADVERT, .nd_ra_router_lifetime = htons(1800) },
		.prefix = {
			.nd_opt_pi_type = ND_OPT_PREFIX_INFORMATION, .nd_opt_pi_len = 4,
			.nd_opt_pi_prefix_len = 64,
			.nd_opt_pi_flags_reserved = ND_OPT_PI_FLAG_ONLINK | ND_OPT_PI_FLAG_AUTO,
			.nd_opt_pi_valid_time = htonl(3600), .nd_opt_pi_preferred_time = htonl(3600),
		},
	};
	size_t length = sizeof message.advert;
	int sock, hops = 255, index;

	if (argc < 2 || argc > 3 || (argc == 3 && strlen(argv[2]) != 16))
		errx(2, "usage: advertise LINK [16 hexadecimal digits]");
	if (argc == 3) {
		read_prefix(argv[2], &message.prefix.nd_opt_pi_prefix);
		length = sizeof message;
	}
	index = (int)if_nametoindex(argv[1]);
	inet_pton(AF_INET6, "ff02::1", &all.sin6_addr);
	all.sin6_scope_id = (unsigned)index;
	sock = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMPV6);
	if (!index || sock < 0 ||
	    setsockopt(sock, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &hops, sizeof hops) < 0 ||
	    setsockopt(sock, IPPROTO_IPV6, IPV6_MULTICAST_IF, &index, sizeof index) < 0 ||
	    sendto(sock, &message, length, 0, (struct sockaddr *)&all, sizeof all) < 0)
		err(1, "%s", argv[1]);
	return 0;
}
