/* SPDX-License-Identifier: MIT */
/* The nf_tables handle: nft/nft.c (ask), nft/batch.c (change), nft/flows.c (tracked flows). */
#ifndef NETLINK_BINDINGS_NFT_NFT_H
#define NETLINK_BINDINGS_NFT_NFT_H

#include <lua.h>

#include "nft/rows.h"
#include "nl/nl.h"

struct nft {
	struct nl nl;
	struct nl_buf origins;    /* a struct origin per message in nl.out, see nft/batch.c */
	lua_Integer next_element; /* to go on with in another message; 0: none left */
	lua_Integer at_once;      /* elements in a message at most; 0: as many as there is room for */
	bool deletes;             /* whether the batch does */
};

/* The open handle at argument 1; raises when it is closed. */
struct nft *nft_check(lua_State *L);
int nft_timeout_arg(lua_State *L, int arg);
const struct nft_object *nft_object_of(lua_State *L, const char *word);
_Noreturn void nft_unknown_word(lua_State *L, const char *what, const char *word,
				const char *const *names);

/* Raise unless the table at `idx` has every key of `needs`, one of "a|b". nth: request, or 0. */
void nft_check_needs(lua_State *L, int idx, const char *const *needs, const char *verb,
		     const char *object, lua_Integer nth);

/* Raise for a negative errno of a buffer. */
void nft_check_room(lua_State *L, long err);

int nft_commit(lua_State *L);
int nft_flows(lua_State *L);
int nft_forget(lua_State *L);

#endif
