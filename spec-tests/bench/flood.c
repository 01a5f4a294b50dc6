/* SPDX-License-Identifier: MIT */
/*
 * Sends small datagrams as a machine on a wire would, frame by frame, and says what each took:
 *
 *     flood LINK MAC FROM TO PORT COUNT FLOWS FIRST
 *
 *     flood sink PORT
 *
 * By LINK to MAC, from the address FROM to TO and its PORT; COUNT of them, from FLOWS source ports in turn,
 * the first of which is FIRST. The kernel works on a frame that goes into a veth pair in the name of who sends
 * it, through to the socket that it is for. It prints the nanoseconds of the processor that one takes. A sink
 * is such a socket, until it is killed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 32, PAYLOAD = 18 };

struct frame {
	struct ethhdr eth;
	struct iphdr ip;
	struct udphdr udp;
	char payload[PAYLOAD];
} __attribute__((packed));

static _Noreturn void give_up(const char *what)
{
	fprintf(stderr, "flood: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint16_t checksum(const void *header)
{
	const unsigned char *bytes = header;
	uint32_t sum = 0;

	for (size_t i = 0; i < sizeof(struct iphdr); i += 2)
		sum += (uint32_t)(bytes[i] << 8 | bytes[i + 1]);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static void build(struct frame *frame, char **words)
{
	unsigned int mac[ETH_ALEN];

	*frame = (struct frame){ 0 };
	if (sscanf(words[2], "%x:%x:%x:%x:%x:%x", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4], &mac[5]) != 6)
		give_up(words[2]);
	for (int i = 0; i < ETH_ALEN; i++)
		frame->eth.h_dest[i] = (unsigned char)mac[i];
	frame->eth.h_source[0] = 2;
	frame->eth.h_proto = htons(ETH_P_IP);
	frame->ip = (struct iphdr){ .version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP };
	frame->ip.tot_len = htons(sizeof(*frame) - sizeof(frame->eth));
	frame->ip.saddr = inet_addr(words[3]);
	frame->ip.daddr = inet_addr(words[4]);
	frame->ip.check = checksum((const char *)frame + sizeof(frame->eth));
	frame->udp.dest = htons((uint16_t)atoi(words[5]));
	frame->udp.len = htons(sizeof(frame->udp) + PAYLOAD);
}

static double cpu_ns(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return 1e9 * (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       1e3 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static _Noreturn void sink(int port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
		give_up("sink");
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	static struct frame frames[BATCH];
	static struct iovec iov[BATCH];
	static struct mmsghdr messages[BATCH];
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_halen = ETH_ALEN };
	int fd = socket(AF_PACKET, SOCK_RAW, 0), on = 1;
	long count, flows, first, sent = 0;
	double began;

	if (argc == 3 && strcmp(argv[1], "sink") == 0)
		sink(atoi(argv[2]));
	if (argc != 9 || fd < 0)
		give_up("usage: flood LINK MAC FROM TO PORT COUNT FLOWS FIRST");
	to.sll_ifindex = (int)if_nametoindex(argv[1]);
	setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof(on));
	count = atol(argv[6]);
	flows = atol(argv[7]);
	first = atol(argv[8]);
	for (int i = 0; i < BATCH; i++) {
		build(&frames[i], argv);
		iov[i] = (struct iovec){ &frames[i], sizeof(frames[i]) };
		messages[i].msg_hdr = (struct msghdr){ .msg_name = &to, .msg_namelen = sizeof(to),
						       .msg_iov = &iov[i], .msg_iovlen = 1 };
	}
	began = cpu_ns();
	while (sent < count) {
		for (int i = 0; i < BATCH; i++)
			frames[i].udp.source = htons((uint16_t)(first + (sent + i) % flows));
		if (sendmmsg(fd, messages, BATCH, 0) != BATCH)
			give_up("sendmmsg");
		sent += BATCH;
	}
	printf("%.0f\n", (cpu_ns() - began) / (double)sent);
	return 0;
}
