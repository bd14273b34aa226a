/* pointers: what the calls that look at memory of the program's say about memory that cannot be
 * read, or ends with its page. Prints the same alone and under tlswrap. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static void say(const char *what, long r)
{
	printf("%s: %s\n", what, r < 0 ? strerrorname_np(errno) : "done");
}

int main(void)
{
	char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *none = (char *)-1, *end = pages + 4096;
	int datagrams = socket(AF_INET, SOCK_DGRAM, 0), stream = socket(AF_INET, SOCK_STREAM, 0);
	int receiver = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof here;
	mprotect(end, 4096, PROT_NONE);
	if (bind(receiver, (struct sockaddr *)&here, len) < 0 ||
	    getsockname(receiver, (struct sockaddr *)&here, &len) < 0)
		return 1;
	memcpy(end - sizeof here, &here, sizeof here);
	struct sockaddr *whole = (struct sockaddr *)(end - sizeof here);
	struct sockaddr *cut = (struct sockaddr *)(end - sizeof here + 4);

	say("sendto, nowhere", sendto(datagrams, "x", 1, 0, (struct sockaddr *)none, len));
	say("sendto, to the end", sendto(datagrams, "x", 1, 0, whole, len));
	say("sendto, beyond", sendto(datagrams, "x", 1, 0, cut, len));
	say("sendto, no socket", sendto(0, "x", 1, 0, (struct sockaddr *)none, len));

	struct iovec data = {"x", 1};
	struct msghdr m = {.msg_iov = &data, .msg_iovlen = 1, .msg_name = none, .msg_namelen = len};
	say("sendmsg, nowhere", sendmsg(datagrams, &m, 0));
	m.msg_name = whole;
	say("sendmsg, to the end", sendmsg(datagrams, &m, 0));
	m.msg_name = cut;
	say("sendmsg, beyond", sendmsg(datagrams, &m, 0));
	say("sendmsg, no message", sendmsg(datagrams, (struct msghdr *)none, 0));
	say("sendmsg, a message beyond", sendmsg(datagrams, (struct msghdr *)(end - 8), 0));
	say("sendmmsg, no messages", sendmmsg(datagrams, (struct mmsghdr *)none, 2, 0));

	say("connect, nowhere", connect(stream, (struct sockaddr *)none, len));
	say("connect, beyond", connect(stream, cut, len));
	say("connect, no address", connect(stream, NULL, len));
	say("connect, fast, beyond", sendto(stream, "x", 1, MSG_FASTOPEN, cut, len));
	say("connect, to the end", connect(datagrams, whole, len));
	return 0;
}
