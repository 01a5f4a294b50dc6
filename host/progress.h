/* SPDX-License-Identifier: MIT */
/*
 * What takes over a second says how far it is: one line on the terminal of standard error, written over and
 * over, and away before anything else is written. No Lua in here.
 */
#ifndef HOST_PROGRESS_H
#define HOST_PROGRESS_H

/*
 * Say what is being done from now on. It is shown when a second has passed since something was said first, if
 * standard error is a terminal and NO_COLOR is not set; NULL: nothing any more.
 */
void progress_say(const char *text);

/* Take the line away, and show none until progress_go_on(). Both are cheap where nothing is shown. */
void progress_pause(void);
void progress_go_on(void);

#endif
