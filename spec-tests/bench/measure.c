/* SPDX-License-Identifier: MIT */
/*
 * Runs plugins as a runtime would and says what they took. It is small and linked statically,
 * because a process inherits the peak memory of the one that started it. Reads a plan from
 * standard input, one command a line, words separated by blanks:
 *
 *     set NAME VALUE                        an environment variable of the plugins
 *     node PATH                             enter this network namespace
 *     config FILE                           what the plugins read
 *     chain FILE                            what the plugins of a chain read: one a line, its type and the
 *                                           members of its configuration. PROGRAM of a run is then their
 *                                           folder, and COUNT is 1. Ends with the next `config`
 *     fill DIRECTORY A.B FIRST COUNT        leases A.B.x.y of other containers, as host-local's
 *     settle MILLISECONDS                   rest between two runs
 *     do PROGRAM ARG..                      something that does not count, and may fail
 *     run LABEL FIRST COUNT PROGRAM ARG..   COUNT calls at once, for containers cFIRST, ..
 *     count LABEL FIRST COUNT PROGRAM ARG.. the same, and counts the processes started
 *
 * A call ends when the process is gone and its output has come to an end. For each run it writes
 * `one LABEL WALL RSS` a call (microseconds, KiB) and `all LABEL COUNT WALL CPU SETTLED PROCESSES`,
 * where CPU is of all processes, also of those that outlive the call, and SETTLED the time until
 * the last of these was gone.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/acct.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WORDS = 16, CALLS = 256 };

static const char account[] = "/run/bench-account";

enum { PLUGINS = 8, TEXT = 65536 };

struct call {
	pid_t pid;
	int out;
	long long started;
	long long wall;
	long rss;
	char said[TEXT];
};

struct run {
	char *words[WORDS];
	int first, count;
	int counted;
	long long cpu;
};

static const char *config = "/dev/null";

/* The plugins of a chain, and what its ADD has answered last. */
static struct {
	char text[TEXT];
	const char *type[PLUGINS], *members[PLUGINS];
	int count;
	char result[TEXT];
} chain;

static struct timespec settle = { .tv_nsec = 10000000 };

static _Noreturn void give_up(const char *what)
{
	fprintf(stderr, "measure: %s: %s\n", what, strerror(errno));
	exit(1);
}

static long long now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000LL + ts.tv_nsec / 1000;
}

static long long cpu_of(const struct rusage *usage)
{
	return (usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1000000LL +
	       usage->ru_utime.tv_usec + usage->ru_stime.tv_usec;
}

static void name_container(int number)
{
	char id[32], netns[64];

	snprintf(id, sizeof(id), "c%d", number);
	snprintf(netns, sizeof(netns), "/run/netns/pod%d", number);
	setenv("CNI_CONTAINERID", id, 1);
	setenv("CNI_NETNS", netns, 1);
}

/* Starts a program that reads `in`, and closes that. */
static void start(struct call *call, char *const *argv, int in)
{
	int out[2];

	if (in < 0 || pipe2(out, O_CLOEXEC) < 0)
		give_up(argv[0]);
	call->out = out[0];
	call->started = now();
	call->pid = vfork();
	if (call->pid < 0)
		give_up("vfork");
	if (call->pid == 0) {
		dup2(in, STDIN_FILENO);
		dup2(out[1], STDOUT_FILENO);
		execv(argv[0], argv);
		_exit(127);
	}
	close(in);
	close(out[1]);
}

static void finish(struct call *call, int status, const struct rusage *usage)
{
	size_t used = 0;
	ssize_t len;

	while ((len = read(call->out, call->said + used, sizeof(call->said) - 1 - used)) > 0)
		used += (size_t)len;
	call->said[used] = '\0';
	call->wall = now() - call->started;
	call->rss = usage->ru_maxrss;
	close(call->out);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		fprintf(stderr, "measure: status 0x%x: %s\n", (unsigned int)status, call->said);
		exit(1);
	}
}

static struct call *find(struct call *calls, int count, pid_t pid)
{
	int i;

	for (i = 0; i < count; i++)
		if (calls[i].pid == pid)
			return &calls[i];
	return NULL;
}

/* Every process the calls left behind becomes a child of this one: see main(). */
static void reap(struct run *run, struct call *calls, int running)
{
	struct rusage usage;
	struct call *call;
	int status;
	pid_t pid;

	while (running != 0) {
		pid = wait4(-1, &status, 0, &usage);
		if (pid < 0 && errno == ECHILD)
			return;
		if (pid < 0)
			give_up("wait4");
		run->cpu += cpu_of(&usage);
		call = find(calls, run->count, pid);
		if (!call)
			continue;
		finish(call, status, &usage);
		running--;
	}
}

static long processes(void)
{
	struct stat st;
	int known = stat(account, &st) == 0;

	/* Asked first: to end the accounting adds a record of this process. */
	if (acct(NULL) < 0 || !known)
		return -1;
	return (long)((size_t)st.st_size / sizeof(struct acct_v3));
}

static void count_processes(void)
{
	int fd = open(account, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0)
		give_up(account);
	close(fd);
	/* A kernel without accounting: the count is then -1. */
	(void)acct(account);
}

/* A file with the configuration of a plugin of the chain. */
static int chain_config(const char *members)
{
	int fd = memfd_create("config", MFD_CLOEXEC);
	const char *prev = chain.result[0] ? ",\"prevResult\":" : "";

	if (fd < 0 || dprintf(fd, "{%s%s%s}", members, prev, chain.result) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		give_up("a chain's configuration");
	return fd;
}

/* One plugin after the other, as runtimes do it: DEL in the other order, with what ADD has answered last. */
static void run_chain(struct run *run, struct call *call)
{
	bool is_add = strcmp(getenv("CNI_COMMAND"), "ADD") == 0;
	long long began = now();

	if (is_add)
		chain.result[0] = '\0';
	for (int i = 0; i < chain.count; i++) {
		int nth = is_add ? i : chain.count - 1 - i;
		char path[512], *argv[] = { path, NULL };

		snprintf(path, sizeof(path), "%s/%s", run->words[4], chain.type[nth]);
		start(call, argv, chain_config(chain.members[nth]));
		reap(run, call, 1);
		if (is_add)
			memcpy(chain.result, call->said, sizeof(chain.result));
	}
	call->wall = now() - began;
}

static void do_run(struct run *run)
{
	static struct call calls[CALLS];
	long long began, wall, settled;
	int i;

	run->first = atoi(run->words[2]);
	run->count = atoi(run->words[3]);
	if (run->count < 1 || run->count > CALLS)
		give_up("too many calls");
	if (run->counted)
		count_processes();
	began = now();
	for (i = 0; i < run->count; i++) {
		name_container(run->first + i);
		if (chain.count)
			run_chain(run, &calls[i]);
		else
			start(&calls[i], run->words + 4, open(config, O_RDONLY | O_CLOEXEC));
	}
	if (!chain.count)
		reap(run, calls, run->count);
	wall = now() - began;
	reap(run, calls, -1);
	settled = now() - began;
	for (i = 0; i < run->count; i++)
		printf("one %s %lld %ld\n", run->words[1], calls[i].wall, calls[i].rss);
	printf("all %s %d %lld %lld %lld %ld\n", run->words[1], run->count, wall, run->cpu,
	       settled, run->counted ? processes() : -1);
	nanosleep(&settle, NULL);
}

static void write_file(int dir, const char *name, const char *content)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, content, strlen(content)) < 0)
		give_up(name);
	close(fd);
}

static void fill(char **words)
{
	int dir = open(words[1], O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	int first = atoi(words[3]), count = atoi(words[4]), i;
	char name[32], content[128];

	if (dir < 0)
		give_up(words[1]);
	for (i = first; i < first + count; i++) {
		snprintf(name, sizeof(name), "%s.%d.%d", words[2], i >> 8, i & 255);
		snprintf(content, sizeof(content), "%064x\r\neth0", (unsigned int)i * 2654435761u);
		write_file(dir, name, content);
	}
	write_file(dir, "last_reserved_ip.0", name);
	close(dir);
}

static void do_aside(char **words)
{
	int quiet = open("/dev/null", O_RDWR | O_CLOEXEC), status;
	pid_t pid = vfork();

	if (pid == 0) {
		dup2(quiet, STDOUT_FILENO);
		dup2(quiet, STDERR_FILENO);
		execvp(words[1], words + 1);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || (WIFEXITED(status) && WEXITSTATUS(status) == 127))
		give_up(words[1]);
	close(quiet);
	nanosleep(&settle, NULL);
}

static void enter(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
		give_up(path);
	close(fd);
}

static void read_chain(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len = fd < 0 ? -1 : read(fd, chain.text, sizeof(chain.text) - 1);

	if (len < 0)
		give_up(path);
	close(fd);
	chain.text[len] = '\0';
	chain.count = 0;
	for (char *line = strtok(chain.text, "\n"); line && chain.count < PLUGINS; line = strtok(NULL, "\n")) {
		char *blank = strchr(line, ' ');

		if (!blank)
			give_up(line);
		*blank = '\0';
		chain.type[chain.count] = line;
		chain.members[chain.count++] = blank + 1;
	}
}

static int split(char *line, char **words)
{
	char *save = NULL, *word = strtok_r(line, " \n", &save);
	int count = 0;

	while (word && count < WORDS - 1) {
		words[count++] = word;
		word = strtok_r(NULL, " \n", &save);
	}
	words[count] = NULL;
	return count;
}

static void obey(struct run *run, int count)
{
	char **words = run->words;

	if (strcmp(words[0], "set") == 0 && count == 3) {
		setenv(words[1], words[2], 1);
	} else if (strcmp(words[0], "node") == 0 && count == 2) {
		enter(words[1]);
	} else if (strcmp(words[0], "config") == 0 && count == 2) {
		config = strdup(words[1]);
		chain.count = 0;
	} else if (strcmp(words[0], "chain") == 0 && count == 2) {
		read_chain(words[1]);
	} else if (strcmp(words[0], "fill") == 0 && count == 5) {
		fill(words);
	} else if (strcmp(words[0], "settle") == 0 && count == 2) {
		settle.tv_nsec = atol(words[1]) * 1000000;
	} else if (strcmp(words[0], "do") == 0 && count > 1) {
		do_aside(words);
	} else if ((strcmp(words[0], "run") == 0 || strcmp(words[0], "count") == 0) && count > 4) {
		run->counted = words[0][0] == 'c';
		do_run(run);
	} else {
		errno = EINVAL;
		give_up(words[0]);
	}
}

int main(void)
{
	char line[1024];
	int count;

	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
		give_up("prctl");
	setvbuf(stdout, NULL, _IOLBF, 0);
	while (fgets(line, sizeof(line), stdin)) {
		struct run run = { 0 };

		count = split(line, run.words);
		if (count > 0)
			obey(&run, count);
	}
	return 0;
}
