/*
 * The control protocol's messages are sent and received here, with the descriptors that they
 * carry (unix(7)).
 */
#include "shim.h"

#include <string.h>

union descriptor_message {
	struct cmsghdr header;
	char space[CMSG_SPACE(MOST_DESCRIPTORS * sizeof(int))];
};

long message_send(int control, const void *data, size_t size, const int *fds, int count)
{
	struct iovec iov = {(void *)(uintptr_t)data, size};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	union descriptor_message with;
	if (count > 0) {
		size_t bytes = (size_t)count * sizeof(int);
		memset(&with, 0, sizeof with);
		msg.msg_control = with.space;
		msg.msg_controllen = CMSG_SPACE(bytes);
		with.header.cmsg_level = SOL_SOCKET;
		with.header.cmsg_type = SCM_RIGHTS;
		with.header.cmsg_len = CMSG_LEN(bytes);
		memcpy(CMSG_DATA(&with.header), fds, bytes);
	}
	long n;
	do
		n = SYS(SYS_sendmsg, control, &msg, MSG_NOSIGNAL);
	while (n == -EINTR);
	return n;
}

long message_receive(int control, void *data, size_t size, int *got, int *second)
{
	struct iovec iov = {data, size};
	union descriptor_message with;
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = with.space};
	/* An end is believed the second time: the worker may send and close between the
	 * kernel's looks at the queue and at the end (__skb_wait_for_more_packets). */
	long n;
	int ends = 0;
	do {
		msg.msg_controllen = CMSG_LEN((second ? 2 : 1) * sizeof(int));
		n = SYS(SYS_recvmsg, control, &msg, MSG_CMSG_CLOEXEC);
	} while (n == -EINTR || (n == 0 && ends++ == 0));
	*got = -1;
	if (second)
		*second = -1;
	if (n >= 0 && msg.msg_controllen >= CMSG_LEN(sizeof(int)) &&
	    with.header.cmsg_type == SCM_RIGHTS) {
		memcpy(got, CMSG_DATA(&with.header), sizeof *got);
		if (second && with.header.cmsg_len >= CMSG_LEN(2 * sizeof(int)))
			memcpy(second, CMSG_DATA(&with.header) + sizeof *got, sizeof *second);
	}
	return n;
}
