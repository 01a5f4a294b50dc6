/* SPDX-License-Identifier: MIT */
/*
 * collide SEED LENGTH COUNT: strings of letters and digits, one a line, that Lua 5.4 puts into one
 * place of any table of up to 65,536, when its seed is SEED.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

static uint32_t more(uint32_t hash, char c)
{
	return hash ^ ((hash << 5) + (hash >> 2) + (uint8_t)c);
}

int main(int argc, char **argv)
{
	enum { FREE = 4, LONGEST = 127 };
	const uint16_t place = 4711;
	uint32_t seed, number = 0;
	size_t len;
	long count;
	char s[LONGEST + 1] = "";

	if (argc != 4)
		return 2;
	seed = (uint32_t)strtoul(argv[1], NULL, 10);
	len = strtoul(argv[2], NULL, 10);
	count = strtol(argv[3], NULL, 10);
	if (len < FREE + 2 || len > LONGEST)
		return 2;
	/* The last character is hashed first: the first is solved for, three are tried, the rest count. */
	for (; count > 0; number++) {
		uint32_t n = number, tail = seed ^ (uint32_t)len;

		for (size_t i = len - 1; i >= FREE; i--, n /= 62) {
			s[i] = letters[n % 62];
			tail = more(tail, s[i]);
		}
		for (uint32_t try = 0; try < 62 * 62 * 62 && count > 0; try++) {
			uint32_t hash = tail;
			uint16_t c;

			for (int i = FREE - 1, rest = (int)try; i > 0; i--, rest /= 62)
				hash = more(hash, s[i] = letters[rest % 62]);
			c = (uint16_t)((place ^ hash) - (hash << 5) - (hash >> 2));
			if (!c || c > 127 || !strchr(letters, c))
				continue;
			s[0] = (char)c;
			puts(s);
			count--;
		}
	}
	return 0;
}
