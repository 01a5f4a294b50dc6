/* SPDX-License-Identifier: MIT */
/*
 * Progress of what takes over a second: one line on the terminal of standard error, which is written over,
 * and removed before anything else is written. No Lua in here.
 */
#ifndef HOST_PROGRESS_H
#define HOST_PROGRESS_H

/*
 * Say what is being done from now on; NULL: nothing any more. It is shown if standard error is a terminal and
 * NO_COLOR is not set, when a second has passed since the first call.
 */
void progress_say(const char *text);

/* Take the line away, and show none until progress_go_on(). Both are cheap where nothing is shown. */
void progress_pause(void);
void progress_go_on(void);

#endif
