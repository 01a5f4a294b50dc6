// SPDX-License-Identifier: MIT
// Asks ptrace() what user-mode-linux asks it, of a child of its own that has 1 in all registers of
// SSE, and prints each answer: see spec-tests/other_kernels_spec.lua.
//   xstate_try LENGTH     bytes of extended state to set; 0: all there are
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { XMM_AT = 160, MASK_AT = 512, TILES = 1 << 18 };

static long words[2] = { -1, 7 };
static _Alignas(64) char state[64 << 10];

static long registers(enum __ptrace_request request, pid_t child, size_t length)
{
	struct iovec bytes = { state, length };
	const long answer = ptrace(request, child, (void *)NT_X86_XSTATE, &bytes);
	return answer < 0 ? -errno : (long)bytes.iov_len;
}

static void peek(pid_t child, const char *what, enum __ptrace_request request, const void *at)
{
	errno = ENODEV;
	const long word = ptrace(request, child, at, NULL);
	printf("%s %ld errno %d\n", what, word, errno);
}

int main(int argc, char **argv)
{
	const size_t asked = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
	const pid_t child = fork();
	if (child < 0) return 1;
	if (child == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0) _exit(1);
		__asm__ volatile("movq %0, %%xmm0" : : "r"(1L) : "xmm0");
		raise(SIGSTOP);
		_exit(0);
	}
	if (waitpid(child, NULL, 0) != child) return 1;

	peek(child, "peek", PTRACE_PEEKDATA, words);
	peek(child, "peek", PTRACE_PEEKDATA, words + 1);
	peek(child, "peek nowhere", PTRACE_PEEKDATA, NULL);
	printf("poke %ld", ptrace(PTRACE_POKEDATA, child, words + 1, (void *)9L));
	peek(child, " then", PTRACE_PEEKDATA, words + 1);

	const long whole = registers(PTRACE_GETREGSET, child, sizeof state);
	printf("whole %ld\n", whole);
	if (whole <= 0) return 1;
	uint64_t mask = 0, mark = 5, seen = 0;
	const size_t length = asked ? asked : (size_t)whole;
	memcpy(&mask, state + MASK_AT, sizeof mask);
	if (length < (size_t)whole) mask |= TILES; // what a processor with AMX may tell of
	memcpy(state + MASK_AT, &mask, sizeof mask);
	memcpy(state + XMM_AT, &mark, sizeof mark);
	const long answer = registers(PTRACE_SETREGSET, child, length);
	printf("set %s\n", answer < 0 ? strerror((int)-answer) : "done");

	memset(state, 0, sizeof state);
	if (registers(PTRACE_GETREGSET, child, sizeof state) != whole) return 1;
	memcpy(&seen, state + XMM_AT, sizeof seen);
	memcpy(&mask, state + MASK_AT, sizeof mask);
	printf("register %lu, tiles %s\n", (unsigned long)seen, mask & TILES ? "in use" : "not in use");
	kill(child, SIGKILL);
	return 0;
}
