/* SPDX-License-Identifier: MIT */
/*
 * killat: run a command and kill it, with everything it started, at the entry
 * of its n-th system call that changes something; or let that call fail. The
 * call is not carried out. A netlink message that only asks changes nothing.
 *
 *	killat [-d] [-a] [-w USEC] [-o REPORT] N COMMAND [ARG...]
 *	killat -e ERRNO [-s CALL] [-o REPORT] N COMMAND [ARG...]
 *
 * Standard streams and environment go through. N = 0 never kills. With -d only
 * descendants of the command count and only they are killed. With -a every call
 * counts, whether it changes something or not. With -w the call is carried out,
 * and the kill comes so many microseconds after its beginning.
 *
 * With -e (a name, such as EIO) the call gives this error, and the command goes on.
 * Every call counts that can fail in a way that a program has to mind, from the
 * beginning of our own main() on, which looks at the standard descriptors first: what
 * the loader does is not ours. Children count until they become another program. With
 * -s only calls of that name do.
 *
 * The report is one line: "killed N NAME", "failed N NAME STATUS" or "finished CALLS
 * STATUS"; with -d, STATUS comes after NAME.
 *
 * Exit: 100 the command came to its end first, 101 it was killed, 102 trouble. With -e:
 * the command's own status.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <linux/ptrace.h>
#include <linux/rtnetlink.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

enum { FINISHED = 100, KILLED = 101, TROUBLE = 102 };

/* Which argument, if any, decides whether a call counts. */
enum when { ALWAYS, OPEN_FLAGS, SHARED_MAP };

static const struct rule {
	long number;
	const char *name;
	enum when when;
	unsigned int arg;
} rules[] = {
#define CALL(call) { SYS_##call, #call, ALWAYS, 0 }
#ifdef SYS_open
	{ SYS_open, "open", OPEN_FLAGS, 1 },
	CALL(creat), CALL(link), CALL(unlink), CALL(rename), CALL(mkdir), CALL(rmdir),
	CALL(symlink), CALL(mknod), CALL(chmod), CALL(fork), CALL(vfork),
#endif
	{ SYS_openat, "openat", OPEN_FLAGS, 2 },
	{ SYS_mmap, "mmap", SHARED_MAP, 3 },
	CALL(sendmsg), CALL(sendto), CALL(sendmmsg),
	CALL(write), CALL(pwrite64), CALL(writev), CALL(pwritev), CALL(pwritev2),
	CALL(openat2), CALL(linkat), CALL(unlinkat), CALL(renameat), CALL(renameat2),
	CALL(mkdirat), CALL(symlinkat), CALL(mknodat), CALL(truncate), CALL(ftruncate),
	CALL(fallocate), CALL(utimensat), CALL(fchmod), CALL(fchmodat), CALL(fchown),
	CALL(fchownat), CALL(fsetxattr), CALL(setxattr), CALL(copy_file_range),
	CALL(sendfile), CALL(splice), CALL(msync), CALL(mount), CALL(umount2),
	CALL(move_mount), CALL(unshare), CALL(execve), CALL(execveat), CALL(clone),
	CALL(clone3),
#undef CALL
};

/* Calls that cannot fail, whose failure nobody can mind, or that ask for memory (alloc_fail.c). */
static const long sure[] = {
	SYS_brk, SYS_munmap, SYS_mprotect, SYS_madvise, SYS_exit, SYS_exit_group, SYS_close,
	SYS_close_range, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn,
	SYS_restart_syscall, SYS_setitimer, SYS_clock_gettime, SYS_getpid, SYS_gettid,
	SYS_getuid, SYS_geteuid, SYS_setsid, SYS_umask, SYS_futex,
#ifdef SYS_alarm
	SYS_alarm, SYS_time,
#endif
};

struct call {
	long number;
	unsigned long long args[6];
};

/* Whether a type of message of rtnetlink, nf_tables or connection tracking asks. */
static bool asks(unsigned int type)
{
	static const unsigned char gets[] = {
		NFT_MSG_GETTABLE, NFT_MSG_GETCHAIN, NFT_MSG_GETRULE, NFT_MSG_GETSET,
		NFT_MSG_GETSETELEM, NFT_MSG_GETGEN, NFT_MSG_GETOBJ, NFT_MSG_GETFLOWTABLE,
	};

	if (NFNL_SUBSYS_ID(type) == NFNL_SUBSYS_NFTABLES) {
		for (size_t i = 0; i < ARRAY_SIZE(gets); i++)
			if (NFNL_MSG_TYPE(type) == gets[i])
				return true;
		return false;
	}
	if (NFNL_SUBSYS_ID(type) == NFNL_SUBSYS_CTNETLINK)
		return NFNL_MSG_TYPE(type) == IPCTNL_MSG_CT_GET;
	/* From RTM_BASE on, of four in a row the third one asks. */
	return type > RTM_BASE && type < RTM_MAX && (type - RTM_BASE) % 4 == 2;
}

/* Whether a sendto() has one question in it, and nothing else. */
static bool is_question(pid_t pid, const struct call *call)
{
	struct nlmsghdr head;
	struct iovec own = { &head, sizeof(head) };
	struct iovec other = { (void *)(uintptr_t)call->args[1], sizeof(head) };

	if (call->number != SYS_sendto || call->args[2] < sizeof(head) ||
	    process_vm_readv(pid, &own, 1, &other, 1, 0) != sizeof(head))
		return false;
	return head.nlmsg_len == call->args[2] && asks(head.nlmsg_type) &&
		(head.nlmsg_flags & ~(NLM_F_DUMP | NLM_F_ACK)) == NLM_F_REQUEST;
}

static const char *counted(const struct call *call)
{
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		const struct rule *rule = &rules[i];
		unsigned long long arg = call->args[rule->arg];

		if (call->number != rule->number)
			continue;
		switch (rule->when) {
		case ALWAYS:
			return rule->name;
		case OPEN_FLAGS:
			return arg & (O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY))
				? rule->name : NULL;
		case SHARED_MAP:
			return arg & MAP_SHARED && call->args[2] & PROT_WRITE
				? rule->name : NULL;
		}
	}
	return NULL;
}

static bool can_fail(const struct call *call)
{
	for (size_t i = 0; i < ARRAY_SIZE(sure); i++)
		if (call->number == sure[i])
			return false;
	return call->number != SYS_mmap || !(call->args[3] & MAP_ANONYMOUS);
}

/* Names of calls that change nothing, for the report. */
static const struct {
	long number;
	const char *name;
} looks[] = {
#define CALL(call) { SYS_##call, #call }
	CALL(read), CALL(pread64), CALL(newfstatat), CALL(fstat), CALL(statx), CALL(fstatfs),
	CALL(statfs), CALL(readlinkat), CALL(getdents64), CALL(faccessat), CALL(fgetxattr),
	CALL(fcntl), CALL(flock), CALL(lseek), CALL(ioctl), CALL(socket), CALL(bind),
	CALL(setsockopt), CALL(getsockopt), CALL(recvmsg), CALL(recvmmsg), CALL(setns),
	CALL(getrandom), CALL(pipe2), CALL(wait4), CALL(ppoll), CALL(chdir),
#ifdef SYS_poll
	CALL(poll), CALL(readlink), CALL(access), CALL(stat), CALL(lstat),
#endif
#undef CALL
};

static const char *name_of(const struct call *call)
{
	static char number[24];

	for (size_t i = 0; i < ARRAY_SIZE(rules); i++)
		if (rules[i].number == call->number)
			return rules[i].name;
	for (size_t i = 0; i < ARRAY_SIZE(looks); i++)
		if (looks[i].number == call->number)
			return looks[i].name;
	snprintf(number, sizeof(number), "call%ld", call->number);
	return number;
}

/*
 * Whether a process stands at the entry of a call, and of which. A kernel that
 * cannot tell (user-mode Linux) has its registers read instead: at the entry the
 * result is set to ENOSYS beforehand.
 */
static bool at_entry(pid_t pid, struct call *call)
{
	struct ptrace_syscall_info info;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info) > 0) {
		if (info.op != PTRACE_SYSCALL_INFO_ENTRY)
			return false;
		call->number = (long)info.entry.nr;
		for (size_t i = 0; i < ARRAY_SIZE(call->args); i++)
			call->args[i] = info.entry.args[i];
		return true;
	}
#ifdef __x86_64__
	struct user_regs_struct regs;

	if (ptrace(PTRACE_GETREGS, pid, NULL, &regs) < 0 || (long)regs.rax != -ENOSYS)
		return false;
	*call = (struct call){ (long)regs.orig_rax,
		{ regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9 } };
	return true;
#else
	return false;
#endif
}

/* At the entry: no such call. At the exit: this result. False where it is not known how. */
static bool divert(pid_t pid, int error)
{
#ifdef __x86_64__
	struct user_regs_struct regs;

	if (ptrace(PTRACE_GETREGS, pid, NULL, &regs) < 0)
		return false;
	if (error)
		regs.rax = (unsigned long long)-(long long)error;
	else
		regs.orig_rax = (unsigned long long)-1;
	return ptrace(PTRACE_SETREGS, pid, NULL, &regs) == 0;
#else
	(void)pid, (void)error;
	return false;
#endif
}

static struct process {
	pid_t pid;
	bool other;	/* a child that has become another program */
} *traced;
static size_t traced_count, traced_room;

static struct process *find(pid_t pid)
{
	for (size_t i = 0; i < traced_count; i++)
		if (traced[i].pid == pid)
			return &traced[i];
	return NULL;
}

static int remember(pid_t pid)
{
	if (find(pid))
		return 0;
	if (traced_count == traced_room) {
		size_t room = traced_room ? 2 * traced_room : 16;
		struct process *more = realloc(traced, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		traced = more;
		traced_room = room;
	}
	traced[traced_count++] = (struct process){ .pid = pid };
	return 0;
}

static void forget(pid_t pid)
{
	for (size_t i = 0; i < traced_count; i++)
		if (traced[i].pid == pid)
			traced[i] = traced[--traced_count];
}

/* Kill everything traced but `spare` (0: nothing is spared). */
static void kill_tree(pid_t spare)
{
	for (size_t i = 0; i < traced_count; i++)
		if (traced[i].pid != spare)
			kill(traced[i].pid, SIGKILL);
}

static int start(char **argv, pid_t *pid)
{
	int gate[2];

	if (pipe2(gate, O_CLOEXEC) < 0)
		return -errno;
	*pid = fork();
	if (*pid < 0)
		return -errno;
	if (*pid == 0) {
		char go;

		close(gate[1]);
		if (read(gate[0], &go, 1) != 1)
			_exit(TROUBLE);
		execvp(argv[0], argv);
		fprintf(stderr, "killat: %s: %s\n", argv[0], strerror(errno));
		_exit(127);
	}
	close(gate[0]);
	if (ptrace(PTRACE_SEIZE, *pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL |
		   PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
		   PTRACE_O_TRACEEXEC) < 0 ||
	    ptrace(PTRACE_INTERRUPT, *pid, NULL, NULL) < 0)
		return -errno;
	if (write(gate[1], "", 1) != 1)
		return -errno;
	close(gate[1]);
	return 0;
}

struct run {
	unsigned long at;		/* kill at this call, 0: never */
	bool descendants;		/* count and kill only descendants */
	bool all;			/* every call counts */
	long wait_us;			/* let the call begin, and kill then; -1: do not */
	const char *only;		/* with an error: the name of the calls that count */
	int error;			/* what the call fails with; 0: kill */
	pid_t root;
	bool begun;			/* the command itself is running */
	bool counting;			/* with an error: its main() is */
	unsigned long calls;
	const char *killed_in;
	char failed_in[24];
	pid_t failing;			/* at its next stop the call's result is set */
	int root_status;
};

/* Look at one stop; true when the moment to kill has come. */
static bool look(struct run *run, pid_t pid)
{
	struct call call;
	const char *name;

	if (!run->begun || run->killed_in || (run->descendants && pid == run->root))
		return false;
	if (!at_entry(pid, &call))
		return false;
	name = is_question(pid, &call) ? NULL : counted(&call);
	if (!name && run->all)
		name = "call";
	if (!name || ++run->calls != run->at)
		return false;
	run->killed_in = name;
	return true;
}

/* The same with an error to give, at each stop for a call. False when it cannot be given. */
static bool look_and_fail(struct run *run, pid_t pid)
{
	struct call call;

	if (pid == run->failing) {
		run->failing = 0;
		return divert(pid, run->error);
	}
	if (!run->begun || run->failed_in[0] || find(pid)->other || !at_entry(pid, &call))
		return true;
	if (!run->counting) {
		run->counting = call.number == SYS_fcntl && call.args[1] == F_GETFD;
		return true;
	}
	if (!can_fail(&call) || (run->only && strcmp(run->only, name_of(&call)) != 0) ||
	    ++run->calls != run->at)
		return true;
	snprintf(run->failed_in, sizeof(run->failed_in), "%s", name_of(&call));
	run->failing = pid;
	return divert(pid, 0);
}

static int follow(struct run *run)
{
	for (;;) {
		int status, event, signal = 0;
		pid_t pid = waitpid(-1, &status, __WALL);

		if (pid < 0)
			return errno == ECHILD ? 0 : -errno;
		if (!WIFSTOPPED(status)) {
			if (pid == run->root)
				run->root_status = status;
			forget(pid);
			continue;
		}
		if (remember(pid) < 0)
			return -ENOMEM;
		event = status >> 16;
		if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
			if (run->error) {
				if (!look_and_fail(run, pid))
					return -ENOTSUP;
			} else if (look(run, pid)) {
				if (run->wait_us >= 0) {
					ptrace(PTRACE_SYSCALL, pid, NULL, 0);
					usleep((useconds_t)run->wait_us);
				}
				kill_tree(run->descendants ? run->root : 0);
			}
		} else if (event == PTRACE_EVENT_EXEC) {
			run->begun = true;
			if (run->error && pid == run->root && !run->failed_in[0]) {
				run->counting = false;
				run->calls = 0;
			}
			find(pid)->other = pid != run->root;
		} else if (!event) {
			signal = WSTOPSIG(status);
		}
		/* A child born while the tree was being killed dies too. */
		if (run->killed_in && !(run->descendants && pid == run->root))
			kill(pid, SIGKILL);
		if (ptrace(PTRACE_SYSCALL, pid, NULL, signal) < 0 && errno != ESRCH)
			return -errno;
	}
}

static int exit_status(const struct run *run)
{
	int status = run->root_status;

	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void report(const char *path, const struct run *run)
{
	FILE *f = path ? fopen(path, "w") : NULL;
	int status = exit_status(run);

	if (!f)
		return;
	if (run->failed_in[0])
		fprintf(f, "failed %lu %s %d\n", run->calls, run->failed_in, status);
	else if (!run->killed_in)
		fprintf(f, "finished %lu %d\n", run->calls, status);
	else if (run->descendants)
		fprintf(f, "killed %lu %s %d\n", run->calls, run->killed_in, status);
	else
		fprintf(f, "killed %lu %s\n", run->calls, run->killed_in);
	fclose(f);
}

static int error_named(const char *name)
{
	for (int error = 1; error < 200; error++) {
		const char *known_as = strerrorname_np(error);

		if (known_as && !strcmp(known_as, name))
			return error;
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct run run = { .wait_us = -1 };
	const char *path = NULL;
	char *end;
	int opt, err;

	while ((opt = getopt(argc, argv, "+dae:s:w:o:")) != -1) {
		if (opt == 'd')
			run.descendants = true;
		else if (opt == 'a')
			run.all = true;
		else if (opt == 'w')
			run.wait_us = strtol(optarg, NULL, 10);
		else if (opt == 'e' && error_named(optarg))
			run.error = error_named(optarg);
		else if (opt == 's')
			run.only = optarg;
		else if (opt == 'o')
			path = optarg;
		else
			return TROUBLE;
	}
	if (argc - optind < 2) {
		fprintf(stderr, "usage: killat [-d] [-a] [-e ERRNO [-s CALL]] [-w USEC] [-o REPORT] N COMMAND [ARG...]\n");
		return TROUBLE;
	}
	run.at = strtoul(argv[optind], &end, 10);
	if (*end) {
		fprintf(stderr, "killat: %s is not a number\n", argv[optind]);
		return TROUBLE;
	}
	err = start(argv + optind + 1, &run.root);
	if (!err)
		err = remember(run.root);
	if (!err)
		err = follow(&run);
	if (err) {
		fprintf(stderr, "killat: %s\n", strerror(-err));
		kill_tree(0);
		return TROUBLE;
	}
	report(path, &run);
	free(traced);
	if (run.error)
		return exit_status(&run);
	return run.killed_in ? KILLED : FINISHED;
}
