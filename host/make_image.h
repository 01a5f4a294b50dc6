/* SPDX-License-Identifier: MIT */
/* Making the stored state, see image.h. */
#ifndef HOST_MAKE_IMAGE_H
#define HOST_MAKE_IMAGE_H

/* Build time: fill a state and write the section's bytes to a file. An exit status. */
int image_make(const char *path);

#endif
