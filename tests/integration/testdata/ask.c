/* ask HOW HOST PORT MARKER: looks HOST up by a DNS question of its own, and gets /fixed?MARKER from the first
 * address. HOW is the way that the question takes: sendto, sendmsg, sendmmsg, connect, tcp. The name server is
 * /etc/resolv.conf's. The answer must come from whom was asked. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static unsigned char message[65536];

static void fails(const char *call)
{
	perror(call);
	exit(1);
}

static struct sockaddr_in server(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(53)};
	char line[256], text[64];
	FILE *f = fopen("/etc/resolv.conf", "r");
	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "nameserver %63s", text) == 1 && inet_pton(AF_INET, text, &a.sin_addr) == 1)
			return a;
	fails("/etc/resolv.conf");
	return a;
}

/* A question for an A record (RFC 1035, section 4). */
static size_t question(const char *host)
{
	static const unsigned char head[] = {0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0};
	size_t n = sizeof head;
	memcpy(message, head, n);
	while (*host) {
		size_t label = strcspn(host, ".");
		message[n++] = (unsigned char)label;
		memcpy(message + n, host, label);
		n += label;
		host += label + (host[label] == '.');
	}
	static const unsigned char tail[] = {0, 0, 1, 0, 1};
	memcpy(message + n, tail, sizeof tail);
	return n + sizeof tail;
}

static size_t by_tcp(const struct sockaddr_in *to, size_t n)
{
	unsigned char length[2] = {(unsigned char)(n >> 8), (unsigned char)n};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, (const struct sockaddr *)to, sizeof *to) < 0)
		fails("connect to the name server");
	if (write(fd, length, 2) != 2 || write(fd, message, n) != (ssize_t)n)
		fails("write");
	if (recv(fd, length, 2, MSG_WAITALL) != 2)
		fails("recv");
	n = (size_t)length[0] << 8 | length[1];
	if (recv(fd, message, n, MSG_WAITALL) != (ssize_t)n)
		fails("recv");
	return n;
}

static size_t by_udp(const char *how, struct sockaddr_in *to, size_t n)
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in from = {0}, peer = {0};
	socklen_t size = sizeof from, peer_size = sizeof peer;
	struct iovec iov = {message, n};
	struct mmsghdr m = {.msg_hdr = {.msg_name = to, .msg_namelen = sizeof *to, .msg_iov = &iov, .msg_iovlen = 1}};
	struct timeval patience = {10, 0};
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	ssize_t sent = -1;
	if (!strcmp(how, "sendto"))
		sent = sendto(fd, message, n, 0, (struct sockaddr *)to, sizeof *to);
	else if (!strcmp(how, "sendmsg"))
		sent = sendmsg(fd, &m.msg_hdr, 0);
	else if (!strcmp(how, "sendmmsg"))
		sent = sendmmsg(fd, &m, 1, 0) == 1 ? (ssize_t)m.msg_len : -1;
	else if (connect(fd, (struct sockaddr *)to, sizeof *to) < 0)
		fails("connect to the name server");
	else if (getpeername(fd, (struct sockaddr *)&peer, &peer_size) < 0 || peer.sin_addr.s_addr != to->sin_addr.s_addr)
		fails("getpeername");
	else
		sent = send(fd, message, n, 0);
	if (sent != (ssize_t)n)
		fails(how);
	ssize_t got = recvfrom(fd, message, sizeof message, 0, (struct sockaddr *)&from, &size);
	if (got < 12)
		fails("recvfrom");
	if (from.sin_addr.s_addr != to->sin_addr.s_addr || from.sin_port != to->sin_port) {
		fprintf(stderr, "the answer is from %s:%d\n", inet_ntoa(from.sin_addr), ntohs(from.sin_port));
		exit(1);
	}
	return (size_t)got;
}

static struct in_addr address(size_t n)
{
	struct in_addr a;
	if (message[0] != 0x12 || message[1] != 0x34 || (message[3] & 15) != 0) {
		fprintf(stderr, "the answer's code is %d\n", message[3] & 15);
		exit(1);
	}
	size_t at = 12, answers = (size_t)message[6] << 8 | message[7];
	while (message[at])
		at += message[at] + 1u;
	at += 5;
	while (answers-- > 0 && at + 12 <= n) {
		if (message[at] >= 0xc0)
			at += 2;
		else {
			while (message[at])
				at += message[at] + 1u;
			at++;
		}
		size_t length = (size_t)message[at + 8] << 8 | message[at + 9];
		if (message[at + 1] == 1 && length == 4) {
			memcpy(&a, message + at + 10, 4);
			return a;
		}
		at += 10 + length;
	}
	fprintf(stderr, "no address in %zu bytes%s\n", n, message[2] & 2 ? ", truncated" : "");
	exit(1);
}

int main(int argc, char **argv)
{
	if (argc != 5)
		return 2;
	struct sockaddr_in at = server(), to = {.sin_family = AF_INET};
	size_t n = question(argv[2]);
	n = strcmp(argv[1], "tcp") ? by_udp(argv[1], &at, n) : by_tcp(&at, n);
	to.sin_addr = address(n);
	to.sin_port = htons((uint16_t)atoi(argv[3]));
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
		fails("connect");
	char text[4096];
	int length = snprintf(text, sizeof text, "GET /fixed?%s HTTP/1.0\r\n\r\n", argv[4]);
	if (send(fd, text, (size_t)length, MSG_NOSIGNAL) != length)
		fails("send");
	ssize_t have = 0, part;
	while ((part = recv(fd, text + have, sizeof text - 1 - (size_t)have, 0)) > 0)
		have += part;
	if (part < 0)
		fails("recv");
	text[have] = '\0';
	const char *body = strstr(text, "\r\n\r\n");
	fputs(body ? body + 4 : text, stdout);
	return 0;
}
