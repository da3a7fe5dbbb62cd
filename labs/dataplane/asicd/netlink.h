/* SPDX-License-Identifier: Apache-2.0 */
/* One question to the kernel, and its answer. */
#ifndef RAILBED_NETLINK_H
#define RAILBED_NETLINK_H

#include <linux/rtnetlink.h>
#include <stddef.h>

#include "asicd.h"

struct message {
	struct nlmsghdr header;
	union {
		struct tcmsg tc;
		struct ifinfomsg link;
	};
	char attributes[1024];
};

void message_begin(struct message *message, int type, int flags);
struct rtattr *message_put(struct message *message, int type, const void *data, size_t size);
void message_end(struct message *message, struct rtattr *nest);
int message_ask(int route, struct message *message);
int message_answer(int route, struct message *question, char *answer, size_t size);
const struct rtattr *attribute_find(const struct rtattr *at, int left, int type);
int link_attributes(const struct namespace *ns, const struct port *port, char *answer, size_t size,
		    const struct rtattr **first, int *left);

#endif
