// SPDX-License-Identifier: MIT
// Preloaded into the second kernel (spec-tests/second-kernel): a ptrace() that takes the registers
// of an older processor. User-mode-linux 6.1 sets 2,696 bytes of extended state, all that processors
// had when it was written; a kernel whose processor has more (AMX) refuses what is not the whole of
// it, with EFAULT. Then these bytes go over the beginning of the whole, and components that were not
// known then start afresh.
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

// The header behind the oldest 512 bytes begins with the mask of components that are in use. Known:
// x87, SSE, AVX and the three of AVX-512.
enum { MASK_AT = 512, HEADER_END = 576, KNOWN = 0xe7 };

static long set_all_of(pid_t pid, void *type, const struct iovec *part)
{
	static _Alignas(64) char whole[64 << 10]; // its callers' stacks have less
	struct iovec all = { whole, sizeof whole };
	if (syscall(SYS_ptrace, PTRACE_GETREGSET, pid, type, &all) < 0) return -1;
	if (part->iov_len >= all.iov_len || part->iov_len < HEADER_END) return errno = EFAULT, -1;
	uint64_t mask;
	memcpy(whole, part->iov_base, part->iov_len);
	memcpy(&mask, whole + MASK_AT, sizeof mask);
	mask &= KNOWN;
	memcpy(whole + MASK_AT, &mask, sizeof mask);
	return syscall(SYS_ptrace, PTRACE_SETREGSET, pid, type, &all);
}

long ptrace(enum __ptrace_request request, ...)
{
	va_list rest;
	va_start(rest, request);
	const pid_t pid = va_arg(rest, pid_t);
	void *const addr = va_arg(rest, void *);
	void *const data = va_arg(rest, void *);
	va_end(rest);
	// The library's peeks return what the system call stores.
	const int peeks = request >= PTRACE_PEEKTEXT && request <= PTRACE_PEEKUSER;
	long word = 0;
	const long answer = syscall(SYS_ptrace, request, pid, addr, peeks ? &word : data);
	if (answer < 0 && errno == EFAULT && request == PTRACE_SETREGSET &&
	    addr == (void *)NT_X86_XSTATE) // NOLINT: a number, as ptrace takes it
		return set_all_of(pid, addr, data);
	if (answer < 0 || !peeks) return answer;
	return errno = 0, word;
}
