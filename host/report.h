/* SPDX-License-Identifier: MIT */
/*
 * Errors that must come out when Lua no longer can say them. Nothing here allocates, so it may be
 * called from a signal handler and without memory.
 */
#ifndef HOST_REPORT_H
#define HOST_REPORT_H

#include <stddef.h>

#define REPORT_INTERNAL 999

/* Set once: true when a runtime called us, which wants an error object on stdout; false: a person did. */
extern int report_to_runtime;

/* Write a CNI error object to stdout, or for a person one line to stderr. No details: "". */
void report_error(unsigned code, const char *msg, const char *details);

/* Write all of a text to a descriptor. 0 or -errno. */
int report_text(int fd, const char *text, size_t len);

#endif
