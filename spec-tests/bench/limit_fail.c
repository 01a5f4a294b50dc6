/* SPDX-License-Identifier: MIT */
/* How the limit program ends when something fails. */
#include "limit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Noreturn void give_up(const char *what, int err)
{
	printf("{ \"code\": 999, \"msg\": \"%s: %s\" }", what, strerror(err));
	exit(1);
}

void check(const char *what, int rc)
{
	if (rc < 0)
		give_up(what, -rc);
}
