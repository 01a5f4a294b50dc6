/* SPDX-License-Identifier: MIT */
/* Messages and attributes as bytes in a buffer that grows. Offsets stay valid, pointers do not. */

#include "nl/internal.h"

#include <errno.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>

int nl_buf_reserve(struct nl_buf *buf, size_t more)
{
	size_t size = buf->size ? buf->size : 4096;
	uint8_t *data;

	if (more > NL_BUF_LIMIT || buf->len > NL_BUF_LIMIT - more)
		return -EMSGSIZE;
	if (buf->len + more <= buf->size)
		return 0;
	while (size < buf->len + more)
		size *= 2;
	data = realloc(buf->data, size);
	if (!data)
		return -ENOMEM;
	buf->data = data;
	buf->size = size;
	return 0;
}

void nl_buf_clear(struct nl_buf *buf)
{
	buf->len = 0;
	buf->count = 0;
}

void nl_buf_free(struct nl_buf *buf)
{
	free(buf->data);
	*buf = (struct nl_buf){ 0 };
}

long nl_begin(struct nl_buf *buf, uint16_t type, uint16_t flags, size_t header)
{
	size_t at = buf->len, len = NLMSG_HDRLEN + NL_PAD(header);
	struct nlmsghdr *msg;
	int err = nl_buf_reserve(buf, len);

	if (err)
		return err;
	memset(buf->data + at, 0, len);
	msg = nl_at(buf, at);
	msg->nlmsg_len = (uint32_t)len;
	msg->nlmsg_type = type;
	msg->nlmsg_flags = (uint16_t)(flags | NLM_F_REQUEST);
	buf->len += len;
	buf->count++;
	return (long)at;
}

int nl_end(struct nl_buf *buf, size_t at)
{
	if (at + NLMSG_HDRLEN > buf->len)
		return -EINVAL;
	nl_at(buf, at)->nlmsg_len = (uint32_t)(buf->len - at);
	return 0;
}

struct nlmsghdr *nl_at(const struct nl_buf *buf, size_t at)
{
	return (struct nlmsghdr *)(void *)(buf->data + at);
}

const struct nlmsghdr *nl_message(const void *p, size_t left)
{
	const struct nlmsghdr *msg = p;

	return left >= sizeof *msg && msg->nlmsg_len >= sizeof *msg && msg->nlmsg_len <= left ? msg
											      : NULL;
}

const struct nlattr *nl_attr(const void *attrs, size_t len, size_t at)
{
	const struct nlattr *attr;

	if (at > len || len - at < NL_ATTR_HDR)
		return NULL;
	attr = (const void *)((const uint8_t *)attrs + at);
	return attr->nla_len >= NL_ATTR_HDR && attr->nla_len <= len - at ? attr : NULL;
}

int nl_outcome(int32_t code)
{
	enum { MAX_ERRNO = 4095 };

	return code > 0 || code < -MAX_ERRNO ? EBADMSG : -code;
}

/* The kernel does not read nlmsg_pid, it knows the sender's port: so there is room for a mark. */
void nl_continue(struct nl_buf *buf, size_t at)
{
	nl_at(buf, at)->nlmsg_pid = NL_CONTINUES;
}

int nl_put(struct nl_buf *buf, uint16_t type, const void *data, size_t len)
{
	size_t padded = NL_ATTR_HDR + NL_PAD(len);
	struct nlattr *attr;
	int err;

	if (len > UINT16_MAX - NL_ATTR_HDR)
		return -EMSGSIZE;
	err = nl_buf_reserve(buf, padded);
	if (err)
		return err;
	attr = (struct nlattr *)(void *)(buf->data + buf->len);
	attr->nla_type = type;
	attr->nla_len = (uint16_t)(NL_ATTR_HDR + len);
	memset(buf->data + buf->len + padded - 4, 0, len ? 4 : 0);
	if (len)
		memcpy(buf->data + buf->len + NL_ATTR_HDR, data, len);
	buf->len += padded;
	return 0;
}

long nl_nest(struct nl_buf *buf, uint16_t type)
{
	size_t at = buf->len;
	int err = nl_put(buf, (uint16_t)(type | NLA_F_NESTED), NULL, 0);

	return err ? err : (long)at;
}

int nl_nest_end(struct nl_buf *buf, size_t at)
{
	struct nlattr *attr = (struct nlattr *)(void *)(buf->data + at);

	if (at + NL_ATTR_HDR > buf->len)
		return -EINVAL;
	if (buf->len - at > UINT16_MAX)
		return -EMSGSIZE;
	attr->nla_len = (uint16_t)(buf->len - at);
	return 0;
}
