/* SPDX-License-Identifier: MIT */
/*
 * spawn, a Lua module: run a command in a network namespace and wait for it, with no shell or
 * other program in between; make namespaces without a program at all. Where system calls are
 * slow, starting programs is most of what a spec takes.
 */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lua.h>

extern char **environ;

enum { IN, OUT, ERR, PIPE, NETNS, PROCESS, FDS };

/* What a run holds; collected, it holds nothing any more. */
struct run {
	int fd[FDS];
};

static int run_close(lua_State *L)
{
	struct run *run = luaL_checkudata(L, 1, "spawn.run");

	for (int i = 0; i < FDS; i++) {
		if (run->fd[i] >= 0)
			close(run->fd[i]);
		run->fd[i] = -1;
	}
	return 0;
}

static struct run *run_new(lua_State *L)
{
	struct run *run = lua_newuserdatauv(L, sizeof(*run), 0);

	memset(run->fd, 0xff, sizeof(run->fd));
	if (luaL_newmetatable(L, "spawn.run")) {
		lua_pushcfunction(L, run_close);
		lua_setfield(L, -2, "__gc");
		lua_pushcfunction(L, run_close);
		lua_setfield(L, -2, "__close");
	}
	lua_setmetatable(L, -2);
	lua_toclose(L, -1);
	return run;
}

/* This process's environment; what a sanitizer preloads is for the interpreter alone. */
static char **own_env(lua_State *L)
{
	size_t count = 0, kept = 0;
	char **list;

	while (environ[count])
		count++;
	list = lua_newuserdatauv(L, (count + 1) * sizeof(*list), 0);
	for (size_t i = 0; i < count; i++)
		if (strncmp(environ[i], "LD_PRELOAD=", 11) != 0)
			list[kept++] = environ[i];
	list[kept] = NULL;
	return list;
}

/* A list of strings, kept by Lua, as exec takes it. */
static char **words(lua_State *L, int index)
{
	lua_Integer count = luaL_len(L, index);
	char **list = lua_newuserdatauv(L, ((size_t)count + 1) * sizeof(*list), 0);

	for (lua_Integer i = 0; i < count; i++) {
		if (lua_rawgeti(L, index, i + 1) != LUA_TSTRING)
			luaL_error(L, "word %d is no string", (int)i + 1);
		list[i] = (char *)(uintptr_t)lua_tostring(L, -1);
		lua_pop(L, 1);
	}
	list[count] = NULL;
	return list;
}

static bool open_all(struct run *run, const char *input, size_t length, const char *netns)
{
	int ends[2];

	run->fd[IN] = input ? memfd_create("in", MFD_CLOEXEC) : open("/dev/null", O_RDWR | O_CLOEXEC);
	if (run->fd[IN] < 0 || (input && (write(run->fd[IN], input, length) != (ssize_t)length ||
					  lseek(run->fd[IN], 0, SEEK_SET) < 0)))
		return false;
	run->fd[ERR] = memfd_create("err", MFD_CLOEXEC);
	if (run->fd[ERR] < 0 || pipe2(ends, O_CLOEXEC) < 0)
		return false;
	run->fd[PIPE] = ends[0];
	run->fd[OUT] = ends[1];
	if (netns)
		run->fd[NETNS] = open(netns, O_RDONLY | O_CLOEXEC);
	return !netns || run->fd[NETNS] >= 0;
}

/* The child has the memory of its parent, which waits until the exec. */
static pid_t start(const struct run *run, char **argv, char **env)
{
	pid_t pid = vfork();

	if (pid != 0)
		return pid;
	setpgid(0, 0);
	if (run->fd[NETNS] >= 0 && setns(run->fd[NETNS], CLONE_NEWNET) < 0)
		_exit(125);
	for (int i = IN; i <= ERR; i++)
		if (dup2(run->fd[i], i) < 0)
			_exit(125);
	execvpe(argv[0], argv, env);
	_exit(errno == ENOENT ? 127 : 126);
}

static bool ready(int fd, long long until)
{
	struct pollfd poller = { .fd = fd, .events = POLLIN };
	struct timespec now;
	long long left;

	clock_gettime(CLOCK_MONOTONIC, &now);
	left = until - now.tv_sec * 1000LL - now.tv_nsec / 1000000;
	return left > 0 && poll(&poller, 1, (int)left) != 0;
}

/* Until the end of the output and of the command, or the time is up. */
static bool gather(lua_State *L, struct run *run, pid_t pid, long long until)
{
	char bytes[8192];
	luaL_Buffer out;
	ssize_t got = 1;

	luaL_buffinit(L, &out);
	while (got > 0 && ready(run->fd[PIPE], until)) {
		got = read(run->fd[PIPE], bytes, sizeof(bytes));
		luaL_addlstring(&out, bytes, got > 0 ? (size_t)got : 0);
	}
	luaL_pushresult(&out);
	if (got > 0)
		return false;
	run->fd[PROCESS] = pidfd_open(pid, 0);
	return run->fd[PROCESS] >= 0 && ready(run->fd[PROCESS], until);
}

static int push_errors(lua_State *L, int fd)
{
	off_t length = lseek(fd, 0, SEEK_END);
	luaL_Buffer err;
	ssize_t got = pread(fd, luaL_buffinitsize(L, &err, (size_t)length), (size_t)length, 0);

	luaL_pushresultsize(&err, got > 0 ? (size_t)got : 0);
	return 1;
}

/***
 * Run a command and wait for it.
 * @function run
 * @tparam {string,...} argv the program, looked for in PATH, and its arguments
 * @tparam[opt] {string,...} env "NAME=value" entries, instead of this process's
 * @tparam[opt] string netns path of the network namespace to run in
 * @tparam[opt] string input what it reads
 * @tparam[opt=60] number seconds it may take; it is killed then, with all it started
 * @treturn string its output
 * @treturn integer exit status; 128 + n: ended by signal n; 125: not started; 126, 127: no program
 * @treturn string what it said on stderr
 * @raise when there are no descriptors or processes, or no such namespace
 */
static int spawn_run(lua_State *L)
{
	size_t length = 0;
	const char *netns = luaL_optstring(L, 3, NULL), *input = luaL_optlstring(L, 4, NULL, &length);
	lua_Number seconds = luaL_optnumber(L, 5, 60);
	char **argv = words(L, 1), **env = lua_isnoneornil(L, 2) ? own_env(L) : words(L, 2);
	struct run *run = run_new(L);
	struct timespec now;
	int status;
	pid_t pid;

	if (!open_all(run, input, length, netns))
		return luaL_error(L, "%s: %s", netns ? netns : argv[0], strerror(errno));
	pid = start(run, argv, env);
	if (pid < 0)
		return luaL_error(L, "%s: %s", argv[0], strerror(errno));
	close(run->fd[OUT]);
	run->fd[OUT] = -1;
	clock_gettime(CLOCK_MONOTONIC, &now);
	if (!gather(L, run, pid, now.tv_sec * 1000LL + (long long)(seconds * 1000)))
		kill(-pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	lua_pushinteger(L, WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
	push_errors(L, run->fd[ERR]);
	return 3;
}

/* `ip link set lo up`, and down again when `down`. */
static bool lo_up(bool down)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool good = sock >= 0 && ioctl(sock, SIOCSIFFLAGS, &request) == 0;

	request.ifr_flags = 0;
	good = good && (!down || ioctl(sock, SIOCSIFFLAGS, &request) == 0);
	close(sock);
	return good;
}

static pid_t make_netns(const char *path, const char *lo)
{
	pid_t pid = vfork();

	if (pid != 0)
		return pid;
	if (unshare(CLONE_NEWNET) < 0 || (lo && !lo_up(strcmp(lo, "down") == 0)) ||
	    mount("/proc/self/ns/net", path, "none", MS_BIND, NULL) < 0)
		_exit(1);
	_exit(0);
}

/***
 * Make a network namespace with a name, as `ip netns add` does in a process of its own.
 * @function add_netns
 * @tparam string path where to: /run/netns/NAME
 * @tparam[opt] string lo "up": its link lo is up; "down": it was up, so that it has its addresses
 * @raise when there is something of that name, or the kernel refuses
 */
static int spawn_add_netns(lua_State *L)
{
	const char *path = luaL_checkstring(L, 1), *lo = luaL_optstring(L, 2, NULL);
	int status = -1, fd = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0);
	pid_t pid = fd < 0 ? -1 : make_netns(path, lo);

	if (fd >= 0)
		close(fd);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (status != 0)
		return luaL_error(L, "%s: no namespace: %s", path, fd < 0 ? strerror(errno) : "refused");
	return 0;
}

/***
 * Take a namespace's name away, and it with the last process in it.
 * @function del_netns
 * @tparam string path /run/netns/NAME
 * @treturn boolean whether it was there
 */
static int spawn_del_netns(lua_State *L)
{
	const char *path = luaL_checkstring(L, 1);

	umount2(path, MNT_DETACH);
	lua_pushboolean(L, unlink(path) == 0);
	return 1;
}

/* What a function says in another namespace: 0 for true; 1: false; 2: it could not say. */
static int in_netns(const char *netns, int (*what)(void *), void *with)
{
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), there = open(netns, O_RDONLY | O_CLOEXEC);
	int status = 2;

	if (home >= 0 && there >= 0 && setns(there, CLONE_NEWNET) == 0) {
		status = what(with);
		if (setns(home, CLONE_NEWNET) < 0)
			abort();
	}
	close(home);
	close(there);
	return status;
}

/* To all nodes: here is a router, for as long as can be, and its prefix, on the link. */
static int advertise(void *link)
{
	struct {
		struct nd_router_advert head;
		struct nd_opt_prefix_info prefix;
	} ra = {
		.head.nd_ra_type = ND_ROUTER_ADVERT, .head.nd_ra_router_lifetime = htons(9000),
		.prefix.nd_opt_pi_type = ND_OPT_PREFIX_INFORMATION, .prefix.nd_opt_pi_len = 4,
		.prefix.nd_opt_pi_prefix_len = 64,
		.prefix.nd_opt_pi_flags_reserved = ND_OPT_PI_FLAG_ONLINK,
		.prefix.nd_opt_pi_valid_time = 0xffffffff,
		.prefix.nd_opt_pi_preferred_time = 0xffffffff,
	};
	struct sockaddr_in6 all = { .sin6_family = AF_INET6, .sin6_scope_id = if_nametoindex(link) };
	int sock = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMPV6), hops = 255;
	bool sent;

	inet_pton(AF_INET6, "ff02::1", &all.sin6_addr);
	inet_pton(AF_INET6, "2001:db8:5::", &ra.prefix.nd_opt_pi_prefix);
	sent = sock >= 0 &&
	       setsockopt(sock, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &hops, sizeof(hops)) == 0 &&
	       sendto(sock, &ra, sizeof(ra), 0, (struct sockaddr *)&all, sizeof(all)) == sizeof(ra);
	close(sock);
	return sent ? 0 : 2;
}

/***
 * Advertise a router on a link, as radvd would, once.
 * @function advertise
 * @tparam string netns path of the router's namespace
 * @tparam string link its link, which has a link-local address
 * @raise when that cannot be
 */
static int spawn_advertise(lua_State *L)
{
	const char *netns = luaL_checkstring(L, 1), *link = luaL_checkstring(L, 2);

	if (in_netns(netns, advertise, (void *)(uintptr_t)link) != 0)
		return luaL_error(L, "%s: nothing can be advertised on %s", netns, link);
	return 0;
}

static unsigned short checksum(const unsigned short *word, size_t words)
{
	unsigned int sum = 0;

	while (words--)
		sum += *word++;
	sum = (sum >> 16) + (sum & 0xffff);
	return (unsigned short)~(sum + (sum >> 16));
}

/* Echo requests are sent until one comes back: the first may be lost while a neighbour is looked for. */
static int echo(int sock, const void *request, size_t size, const struct sockaddr *to, socklen_t length,
		size_t skip, unsigned char wanted)
{
	unsigned char reply[512];

	for (int tries = 0; tries < 4; tries++) {
		struct pollfd poller = { .fd = sock, .events = POLLIN };

		if (sendto(sock, request, size, 0, to, length) < 0)
			return 1;
		while (poll(&poller, 1, 100 << tries) > 0) {
			ssize_t got = recv(sock, reply, sizeof(reply), 0);

			if (got >= (ssize_t)(skip + size) && reply[skip] == wanted &&
			    memcmp(reply + skip + 4, (const char *)request + 4, size - 4) == 0)
				return 0;
		}
	}
	return 1;
}

/* Each of another id: what address translation did for the one before it, it would do again. */
static int ping(void *address)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	struct sockaddr_in6 to6 = { .sin6_family = AF_INET6 };
	static unsigned short count;
	struct icmphdr request = { .type = ICMP_ECHO, .un.echo.id = (unsigned short)(getpid() + ++count) };
	struct icmp6_hdr request6 = { .icmp6_type = ICMP6_ECHO_REQUEST };
	bool four = inet_pton(AF_INET, address, &to.sin_addr) == 1;
	int sock, status;

	if (!four && inet_pton(AF_INET6, address, &to6.sin6_addr) != 1)
		return 2;
	sock = socket(four ? AF_INET : AF_INET6, SOCK_RAW | SOCK_CLOEXEC, four ? IPPROTO_ICMP : IPPROTO_ICMPV6);
	if (sock < 0)
		return 2;
	request.checksum = checksum((const void *)&request, sizeof(request) / 2);
	request6.icmp6_id = request.un.echo.id;
	status = four ? echo(sock, &request, sizeof(request), (void *)&to, sizeof(to), 20, ICMP_ECHOREPLY) :
			echo(sock, &request6, sizeof(request6), (void *)&to6, sizeof(to6), 0, ICMP6_ECHO_REPLY);
	close(sock);
	return status;
}

static int read_cookie(void *cookie)
{
	socklen_t size = sizeof(uint64_t);
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool good = sock >= 0 && getsockopt(sock, SOL_SOCKET, SO_NETNS_COOKIE, cookie, &size) == 0;

	close(sock);
	return good ? 0 : 2;
}

/***
 * What tells a namespace from every other, also from later ones that get its inode's number.
 * @function cookie
 * @tparam string netns path
 * @treturn ?integer nil when the path names none
 */
static int spawn_cookie(lua_State *L)
{
	uint64_t cookie = 0;

	if (in_netns(luaL_checkstring(L, 1), read_cookie, &cookie) != 0)
		return 0;
	lua_pushinteger(L, (lua_Integer)cookie);
	return 1;
}

struct setting {
	const char *path, *value;
	char before[64];
};

static int set(void *with)
{
	struct setting *setting = with;
	int fd = open(setting->path, O_RDWR | O_CLOEXEC);
	ssize_t got = read(fd, setting->before, sizeof(setting->before) - 1);
	bool good = got > 0 && pwrite(fd, setting->value, strlen(setting->value), 0) > 0;

	close(fd);
	return good ? 0 : 2;
}

/***
 * Whether an address answers, without a program: within two seconds at the latest, and mostly at once.
 * @function pings
 * @tparam string netns path of the namespace that asks
 * @tparam string address
 * @treturn boolean
 * @raise when it could not ask
 */
static int spawn_pings(lua_State *L)
{
	const char *netns = luaL_checkstring(L, 1), *address = luaL_checkstring(L, 2);
	int status = in_netns(netns, ping, (void *)(uintptr_t)address);

	if (status > 1)
		return luaL_error(L, "%s: cannot ping %s", netns, address);
	lua_pushboolean(L, status == 0);
	return 1;
}

/***
 * Change a setting of a namespace.
 * @function sysctl
 * @tparam string netns path of the namespace
 * @tparam string name below /proc/sys, as in "net/ipv4/ip_forward"
 * @tparam string value
 * @treturn string what it was
 * @raise when there is no such thing
 */
static int spawn_sysctl(lua_State *L)
{
	struct setting setting = { .value = luaL_checkstring(L, 3) };
	const char *netns = luaL_checkstring(L, 1);

	setting.path = lua_pushfstring(L, "/proc/sys/%s", luaL_checkstring(L, 2));
	if (in_netns(netns, set, &setting) != 0)
		return luaL_error(L, "%s: %s cannot be set", netns, setting.path);
	lua_pushstring(L, setting.before);
	return 1;
}

int luaopen_spawn(lua_State *L);

int luaopen_spawn(lua_State *L)
{
	lua_newtable(L);
	lua_pushcfunction(L, spawn_run);
	lua_setfield(L, -2, "run");
	lua_pushcfunction(L, spawn_add_netns);
	lua_setfield(L, -2, "add_netns");
	lua_pushcfunction(L, spawn_del_netns);
	lua_setfield(L, -2, "del_netns");
	lua_pushcfunction(L, spawn_advertise);
	lua_setfield(L, -2, "advertise");
	lua_pushcfunction(L, spawn_cookie);
	lua_setfield(L, -2, "cookie");
	lua_pushcfunction(L, spawn_pings);
	lua_setfield(L, -2, "pings");
	lua_pushcfunction(L, spawn_sysctl);
	lua_setfield(L, -2, "sysctl");
	return 1;
}
