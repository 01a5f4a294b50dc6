/* SPDX-License-Identifier: MIT */
/*
 * The functions of libm that Lua refers to, loaded when a script first calls one. A network
 * script never does, and each library the program is linked with costs every start some 60 us.
 * (Debian's static libm needs a static libc, which libmnl rules out.)
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

#include "report.h"

/* The linker takes these for libm's own, so they are declared here and not by math.h. */
#define ONE(name) double name(double x);
#define TWO(name) double name(double x, double y);
#include "libm_functions.h"
#undef ONE
#undef TWO

static void *find(const char *name)
{
	static void *libm;
	void *function = NULL;

	if (!libm)
		libm = dlopen("libm.so.6", RTLD_LAZY | RTLD_LOCAL);
	if (libm)
		function = dlsym(libm, name);
	if (!function) {
		report_error(REPORT_INTERNAL, "cannot load libm.so.6", dlerror());
		_exit(1);
	}

	return function;
}

#define ONE(name) \
	double name(double x) \
	{ \
		static double (*real)(double); \
		if (!real) \
			*(void **)&real = find(#name); \
		return real(x); \
	}
#define TWO(name) \
	double name(double x, double y) \
	{ \
		static double (*real)(double, double); \
		if (!real) \
			*(void **)&real = find(#name); \
		return real(x, y); \
	}
#include "libm_functions.h"
