/* SPDX-License-Identifier: MIT */
/* What an ADD of the limit program answers. */
#include "limit.h"

#include <arpa/inet.h>
#include <stdio.h>

static const char *mac_text(const uint8_t *mac, char *text)
{
	snprintf(text, 18, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3],
		 mac[4], mac[5]);
	return text;
}

static void print_interfaces(const struct call *call)
{
	char mac[3][18];

	printf("    \"interfaces\": [\n"
	       "        { \"mac\": \"%s\", \"name\": \"%s\" },\n"
	       "        { \"mac\": \"%s\", \"name\": \"%s\" },\n"
	       "        { \"mac\": \"%s\", \"name\": \"%s\", \"sandbox\": \"%s\" }\n    ],\n",
	       mac_text(call->bridge.mac, mac[0]), call->bridge.name,
	       mac_text(call->host.mac, mac[1]), call->host.name,
	       mac_text(call->pod.mac, mac[2]), call->ifname, call->netns);
}

static void print_interface(const struct call *call)
{
	char mac[18];

	printf("    \"interfaces\": [\n"
	       "        { \"mac\": \"%s\", \"name\": \"%s\", \"sandbox\": \"%s\" }\n    ],\n",
	       mac_text(call->pod.mac, mac), call->ifname, call->netns);
}

void print_result(const struct call *call)
{
	char gateway[INET_ADDRSTRLEN], address[INET_ADDRSTRLEN];

	inet_ntop(AF_INET, &call->subnet.gateway, gateway, sizeof(gateway));
	inet_ntop(AF_INET, &call->address, address, sizeof(address));
	printf("{\n    \"cniVersion\": \"1.0.0\",\n");
	if (call->kind)
		print_interface(call);
	else if (!call->lease)
		print_interfaces(call);
	printf("    \"ips\": [\n        { \"address\": \"%s/%u\", \"gateway\": \"%s\"", address,
	       call->subnet.len, gateway);
	if (!call->lease)
		printf(", \"interface\": %d", call->kind ? 0 : 2);
	printf(" }\n    ]");
	if (!call->lease)
		printf(",\n    \"routes\": [\n"
		       "        { \"dst\": \"0.0.0.0/0\", \"gw\": \"%s\" }\n    ]",
		       gateway);
	printf("\n}");
}
