/* SPDX-License-Identifier: MIT */
/* Leases of the limit program in host-local's format, and the record that tells DEL its own. */
#include "limit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char networks[] = "/var/lib/cni/networks";

enum { OWNER_ROOM = 300 };

static int open_leases(const struct call *call, int *lock)
{
	char path[256];
	int dir;

	snprintf(path, sizeof(path), "%s/%s", networks, call->network);
	dir = open(path, O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 && errno == ENOENT) {
		mkdir(networks, 0755);
		mkdir(path, 0755);
		dir = open(path, O_DIRECTORY | O_CLOEXEC);
	}
	*lock = openat(dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (*lock < 0 || flock(*lock, LOCK_EX) < 0)
		give_up(path, errno);
	return dir;
}

static int owner(const struct call *call, char *text)
{
	return snprintf(text, OWNER_ROOM, "%s\r\n%s", call->id, call->ifname);
}

/* The first free address after the one given last, at the earliest the one after the network's. */
void take_lease(struct call *call)
{
	uint32_t host_mask = UINT32_MAX >> call->subnet.len;
	uint32_t network = ntohl(call->subnet.gateway.s_addr) & ~host_mask;
	char text[INET_ADDRSTRLEN], content[OWNER_ROOM];
	uint32_t offset = 0, tries;
	int lock, dir = open_leases(call, &lock);
	int last = openat(dir, "last_reserved_ip.0", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	int file = openat(dir, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
	ssize_t len = pread(last, text, sizeof(text) - 1, 0);

	text[len > 0 ? len : 0] = '\0';
	if (inet_pton(AF_INET, text, &call->address) == 1)
		offset = ntohl(call->address.s_addr) & host_mask;
	len = owner(call, content);
	if (file < 0 || write(file, content, (size_t)len) != len)
		give_up("lease", errno);
	for (tries = 0; tries < host_mask; tries++) {
		offset = offset + 1 >= host_mask ? 1 : offset + 1;
		call->address.s_addr = htonl(network + offset);
		if (call->address.s_addr == call->subnet.gateway.s_addr)
			continue;
		inet_ntop(AF_INET, &call->address, text, sizeof(text));
		if (linkat(file, "", dir, text, AT_EMPTY_PATH) == 0)
			break;
		if (errno != EEXIST)
			give_up("lease", errno);
	}
	if (tries == host_mask)
		give_up("lease", EADDRNOTAVAIL);
	len = (ssize_t)strlen(text);
	if (pwrite(last, text, (size_t)len, 0) != len || ftruncate(last, len) < 0)
		give_up("last_reserved_ip.0", errno);
	close(lock);
}

void free_lease(const struct call *call)
{
	char text[INET_ADDRSTRLEN], mine[OWNER_ROOM], found[OWNER_ROOM];
	int lock, file, dir = open_leases(call, &lock);
	ssize_t len;

	inet_ntop(AF_INET, &call->address, text, sizeof(text));
	file = openat(dir, text, O_RDONLY | O_CLOEXEC);
	len = file < 0 ? 0 : read(file, found, sizeof(found));
	if (len > 0 && len == owner(call, mine) && memcmp(found, mine, (size_t)len) == 0)
		unlinkat(dir, text, 0);
	close(lock);
}

/* What DEL must know, and what makes a second ADD of the same attachment fail. */
void write_record(struct call *call)
{
	int fd = open(call->record, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0 && errno == ENOENT) {
		mkdir("/run/limit", 0700);
		fd = open(call->record, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	}
	if (fd < 0 || write(fd, &call->address, sizeof(call->address)) < 0)
		give_up(call->record, errno);
	close(fd);
}

bool read_record(struct call *call)
{
	int fd = open(call->record, O_RDONLY | O_CLOEXEC);
	ssize_t len;

	if (fd < 0)
		return false;
	len = read(fd, &call->address, sizeof(call->address));
	close(fd);
	return len == sizeof(call->address);
}
