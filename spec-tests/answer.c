/* SPDX-License-Identifier: MIT */
/*
 * answer DEVICE NAME [QUEUES]
 *
 * Open a tap link as a virtual machine's monitor does (DEVICE: the tun device; QUEUES: 1), say "open"
 * and be a machine behind it: whoever is asked for by ARP is here, and answers a ping. What it may
 * not open is its exit status 1, and said on standard error.
 */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define MOST 8

static const uint8_t own_mac[6] = { 0x0a, 0, 0, 0, 0, 0xa5 };

static void fail(const char *what)
{
	fprintf(stderr, "answer: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int open_queue(const char *device, const char *name, int several)
{
	struct ifreq request = { .ifr_flags =
				     (short)(IFF_TAP | IFF_NO_PI | (several ? IFF_MULTI_QUEUE : 0)) };
	int fd = open(device, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		fail(device);
	strncpy(request.ifr_name, name, IFNAMSIZ - 1);
	if (ioctl(fd, TUNSETIFF, &request) < 0)
		fail(name);
	return fd;
}

static void swap(uint8_t *a, uint8_t *b, size_t len)
{
	uint8_t kept[6];

	memcpy(kept, a, len);
	memcpy(a, b, len);
	memcpy(b, kept, len);
}

/* Turns a question into its answer, in place. 0: it was none that we answer. */
static int answer(uint8_t *frame, ssize_t len)
{
	uint8_t *packet = frame + 14;
	int arp = len >= 42 && frame[12] == 8 && frame[13] == 6 && packet[7] == 1;
	int echo = len >= 42 && frame[12] == 8 && frame[13] == 0 && packet[0] == 0x45 &&
		   packet[9] == 1 && packet[20] == 8;

	if (!arp && !echo)
		return 0;
	memcpy(frame, frame + 6, 6);
	memcpy(frame + 6, own_mac, 6);
	if (arp) {
		packet[7] = 2;
		swap(packet + 8, packet + 18, 6);
		swap(packet + 14, packet + 24, 4);
		memcpy(packet + 8, own_mac, 6);
		return 1;
	}
	swap(packet + 12, packet + 16, 4);
	packet[20] = 0;
	/* The type was 8 and is 0: the sum, in ones' complement, grows by that. */
	unsigned int sum = ((unsigned int)packet[22] << 8 | packet[23]) + 0x0800;
	sum = (sum & 0xffff) + (sum >> 16);
	packet[22] = (uint8_t)(sum >> 8);
	packet[23] = (uint8_t)sum;
	return 1;
}

int main(int argc, char **argv)
{
	struct pollfd queues[MOST];
	int count = argc > 3 ? atoi(argv[3]) : 1;

	if (argc < 3 || count < 1 || count > MOST) {
		fputs("answer DEVICE NAME [QUEUES]\n", stderr);
		return 125;
	}
	for (int i = 0; i < count; i++) {
		queues[i].fd = open_queue(argv[1], argv[2], count > 1);
		queues[i].events = POLLIN;
	}
	puts("open");
	fflush(stdout);
	while (poll(queues, (nfds_t)count, -1) > 0) {
		for (int i = 0; i < count; i++) {
			uint8_t frame[2048];
			ssize_t len = queues[i].revents ? read(queues[i].fd, frame, sizeof frame) : 0;

			if (len < 0)
				fail("read");
			if (len > 0 && answer(frame, len) && write(queues[i].fd, frame, (size_t)len) < 0)
				fail("write");
		}
	}
	return 0;
}
