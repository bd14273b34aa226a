/* The map tells what a synthetic address stands for, or else the worker does. */
#include "shim.h"

#include <string.h>

long address_resolve(struct tw_addr *addr, char *name)
{
	struct tw_request request;
	struct tw_reply reply;
	if (!name && map_resolve(addr))
		return 0;
	request_init(&request, TW_ADDRESS);
	request.flags = name ? 0 : TW_DESTINATION;
	request.count = 1;
	request.addrs[0] = *addr;
	long r = control_ask(&request, -1, &reply, NULL);
	if (r < 0)
		return r;
	if (reply.answer != TW_ANSWER_ADDRS || reply.count != 1)
		return -EHOSTUNREACH;
	*addr = reply.addrs[0];
	if (name)
		memcpy(name, reply.name, TW_NAME_SIZE);
	return 0;
}
