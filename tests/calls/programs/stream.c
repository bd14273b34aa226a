/* The bytes, their order and their end. */
#include "check.h"

#include <pthread.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <sys/wait.h>

#define SUM_START 14695981039346656037ull /* FNV-1a */

static uint64_t sum_of(uint64_t sum, const unsigned char *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		sum = (sum ^ b[i]) * 1099511628211ull;
	return sum;
}

/* Reads until the end of the data, or until something else than more data comes. */
static ssize_t read_all(int fd, char *b, size_t size, size_t *have)
{
	ssize_t n;
	for (*have = 0; *have < size; *have += (size_t)n) {
		n = read(fd, b + *have, size - *have);
		if (n <= 0)
			return n;
	}
	FAIL("too much came");
}

static void ends_with(int fd, const char *words)
{
	char got[128];
	size_t n;
	EQUAL(read_all(fd, got, sizeof got, &n), 0);
	if (n != strlen(words) || memcmp(got, words, n) != 0)
		FAIL("got %.*s, want %s", (int)n, got, words);
}

static void says(int fd, const char *words) { EQUAL(send(fd, words, strlen(words), MSG_NOSIGNAL), strlen(words)); }

static void shut_writing_then_read_the_rest(void)
{
	int fd = connected("SINK");
	char want[64];
	says(fd, "all of this\n");
	OK(shutdown(fd, SHUT_WR));
	FAILS(send(fd, "x", 1, MSG_NOSIGNAL), EPIPE);
	snprintf(want, sizeof want, "12 %016llx\n", (unsigned long long)sum_of(SUM_START, (const unsigned char *)"all of this\n", 12));
	ends_with(fd, want);
	EQUAL(read(fd, want, 1), 0);
	if (strcmp(ask("ended SINK"), "eof") != 0)
		FAIL("the server saw no end");
}

static void server_ends_and_writing_goes_on(void)
{
	int fd = connected("HALF");
	char line[64];
	says(fd, "first\n");
	ends_with(fd, "that is all\n");
	EQUAL(poll_now(fd, POLLIN | POLLOUT | POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP);
	for (int i = 0; i < 100; i++)
		says(fd, "and more\n");
	close(fd);
	snprintf(line, sizeof line, "%s", ask("got HALF"));
	if (strncmp(line, "906 ", 4) != 0)
		FAIL("the server got %s", line);
	if (strcmp(ask("ended HALF"), "eof") != 0)
		FAIL("the server saw no end");
}

static void shut_reading_and_writing_goes_on(void)
{
	int fd = connected("SINK");
	char byte;
	OK(shutdown(fd, SHUT_RD));
	EQUAL(read(fd, &byte, 1), 0);
	says(fd, "still heard\n");
	OK(shutdown(fd, SHUT_WR));
	if (strncmp(ask("got SINK"), "12 ", 3) != 0)
		FAIL("the server did not get it");
}

static void cut_off_is_a_reset_after_the_data(void)
{
	int fd = connected("CUT");
	char got[128];
	size_t n;
	says(fd, "hello\n");
	FAILS(read_all(fd, got, sizeof got, &n), ECONNRESET);
	EQUAL(n, strlen("cut off after this\n"));
	EQUAL(read(fd, got, 1), 0);
}

static void writing_to_a_server_that_left_fails(void)
{
	int fd = connected("HALF");
	char got[16];
	says(fd, "first\n");
	ends_with(fd, "that is all\n");
	OK(shutdown(fd, SHUT_WR)); /* and now the server closes */
	ask("ended HALF");
	FAILS(send(fd, "x", 1, MSG_NOSIGNAL), EPIPE);
	EQUAL(read(fd, got, sizeof got), 0);
}

static void exit_right_after_write_loses_nothing(void)
{
	enum { SIZE = 100000, ROUNDS = 100 };
	static unsigned char data[SIZE];
	char want[64];
	for (int i = 0; i < SIZE; i++)
		data[i] = (unsigned char)(i * 7);
	snprintf(want, sizeof want, "%d %016llx", SIZE, (unsigned long long)sum_of(SUM_START, data, SIZE));
	for (int round = 1; round <= ROUNDS; round++) {
		pid_t child = fork();
		if (child == 0) {
			int fd = connected("SINK");
			EQUAL(write(fd, data, SIZE), SIZE);
			_exit(0);
		}
		int status;
		EQUAL(waitpid(child, &status, 0), child);
		EQUAL(status, 0);
		const char *got = ask("got SINK %d", round);
		if (strcmp(got, want) != 0)
			FAIL("round %d: the server got %s, want %s", round, got, want);
	}
}

static void close_with_linger_0_resets(void)
{
	int fd = connected("SINK");
	struct linger now = {1, 0};
	says(fd, "x\n");
	OK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now));
	close(fd);
	if (strcmp(ask("ended SINK"), "reset") != 0)
		FAIL("the server saw %s", ask("ended SINK"));
}

/* ---- A program that leaves, and leaves bytes unread: RFC 2525, section 2.17 ---- */

/* A connection on which the server has said something, and reads nothing. */
static int unread(void)
{
	int fd = connected("DEAF");
	wait_for(fd, POLLIN);
	return fd;
}

static int unread_and_stalled(void)
{
	static const char data[64 << 10];
	int fd = unread();
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	do
		while (send(fd, data, sizeof data, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
			;
	while (OK(poll(&p, 1, 200)) > 0);
	return fd;
}

static void the_server_is_reset(void)
{
	const char *how = ask("ended DEAF");
	if (strcmp(how, "reset") != 0)
		FAIL("the server saw: %s", how);
}

static void closing_with_bytes_unread_resets(void)
{
	close(unread());
	the_server_is_reset();
}

static void closing_with_bytes_unread_resets_after_shutdown(void)
{
	int fd = unread();
	OK(shutdown(fd, SHUT_WR));
	close(fd);
	the_server_is_reset();
}

static void closing_a_stalled_upload_resets(void)
{
	close(unread_and_stalled());
	the_server_is_reset();
}

static void closing_a_stalled_upload_resets_after_shutdown(void)
{
	int fd = unread_and_stalled();
	OK(shutdown(fd, SHUT_WR));
	close(fd);
	the_server_is_reset();
}

static void exiting_from_a_stalled_upload_resets(void)
{
	pid_t child = fork();
	if (child == 0) {
		unread_and_stalled();
		_exit(0);
	}
	EQUAL(waitpid(child, NULL, 0), child);
	the_server_is_reset();
}

/* ---- Both ways at once, in pieces of all sizes ---- */

enum { BULK = 50 << 20 };
static uint64_t sent_sum;

static unsigned next(unsigned *x) { return *x = *x * 1103515245 + 12345, *x >> 8; }

static void *send_bulk(void *at)
{
	static unsigned char data[96 << 10];
	int fd = *(int *)at;
	unsigned x = 1;
	for (size_t i = 0; i < sizeof data; i++)
		data[i] = (unsigned char)next(&x);
	char line[32];
	int n = snprintf(line, sizeof line, "%d\n", BULK);
	EQUAL(write(fd, line, (size_t)n), n);
	sent_sum = sum_of(SUM_START, (unsigned char *)line, (size_t)n);
	for (size_t left = BULK; left > 0;) {
		size_t from = next(&x) % 4096;
		size_t size = 1 + next(&x) % (sizeof data - from);
		if (size > left)
			size = left;
		struct iovec iov[3] = {{data + from, size / 3},
		                       {data + from + size / 3, size / 3},
		                       {data + from + size / 3 * 2, size - size / 3 * 2}};
		ssize_t done = next(&x) % 2 ? writev(fd, iov, 3) : write(fd, data + from, size);
		CHECK(done > 0);
		sent_sum = sum_of(sent_sum, data + from, (size_t)done);
		left -= (size_t)done;
	}
	OK(shutdown(fd, SHUT_WR));
	return NULL;
}

/* What pattern in servers_test.go makes. */
static void receive_bulk(int fd)
{
	static unsigned char data[96 << 10], peeked[64];
	uint32_t want = 0;
	unsigned x = 2;
	for (size_t have = 0; have < BULK;) {
		size_t size = 1 + next(&x) % sizeof data, looked = 0;
		if (size > BULK - have)
			size = BULK - have;
		if (next(&x) % 4 == 0)
			looked = (size_t)OK(recv(fd, peeked, size < sizeof peeked ? size : sizeof peeked, MSG_PEEK));
		struct iovec iov[2] = {{data, size / 2}, {data + size / 2, size - size / 2}};
		ssize_t n = next(&x) % 2 ? readv(fd, iov, 2) : read(fd, data, size);
		CHECK(n > 0);
		CHECK(memcmp(data, peeked, looked < (size_t)n ? looked : (size_t)n) == 0);
		for (ssize_t i = 0; i < n; i++) {
			want = want * 1664525 + 1013904223;
			if (data[i] != want >> 24)
				FAIL("byte %zu is wrong", have + (size_t)i);
		}
		have += (size_t)n;
	}
}

static void bulk_both_ways(void)
{
	int fd = connected("DUPLEX");
	pthread_t thread;
	char want[64];
	EQUAL(pthread_create(&thread, NULL, send_bulk, &fd), 0);
	receive_bulk(fd);
	EQUAL(pthread_join(thread, NULL), 0);
	snprintf(want, sizeof want, "%d %016llx\n", BULK + 9, (unsigned long long)sent_sum);
	ends_with(fd, want);
}

/* ---- Other ways to read and write ---- */

static void peek_leaves_the_data(void)
{
	int fd = connected("ECHO");
	char got[8] = {0};
	says(fd, "abc\n");
	wait_for(fd, POLLIN);
	EQUAL(recv(fd, got, 2, MSG_PEEK), 2);
	EQUAL(recv(fd, got, 4, MSG_PEEK | MSG_DONTWAIT), 4);
	EQUAL(recv(fd, got, 4, MSG_WAITALL), 4);
	CHECK(memcmp(got, "abc\n", 4) == 0);
	FAILS(recv(fd, got, 1, MSG_DONTWAIT), EAGAIN);
}

static void sendfile_and_splice(void)
{
	enum { SIZE = 300000 };
	static unsigned char data[SIZE], got[SIZE];
	for (int i = 0; i < SIZE; i++)
		data[i] = (unsigned char)(i * 13);
	FILE *f = tmpfile();
	CHECK(f && fwrite(data, 1, SIZE, f) == SIZE && fflush(f) == 0);
	int fd = connected("ECHO"), pipes[2];
	OK(pipe(pipes));
	off_t at = 0;
	size_t have = 0;
	while (at < SIZE / 2)
		CHECK(sendfile(fd, fileno(f), &at, (size_t)(SIZE / 2 - at)) > 0);
	while (have < SIZE / 2) {
		ssize_t n = splice(fd, NULL, pipes[1], NULL, SIZE / 2 - have, 0);
		CHECK(n > 0);
		for (ssize_t r; n > 0; n -= r, have += (size_t)r)
			CHECK((r = read(pipes[0], got + have, (size_t)n)) > 0);
	}
	while (at < SIZE) {
		loff_t from = at;
		ssize_t n = splice(fileno(f), &from, pipes[1], NULL, 60000, 0);
		CHECK(n > 0);
		at += n;
		for (ssize_t r; n > 0; n -= r)
			CHECK((r = splice(pipes[0], NULL, fd, NULL, (size_t)n, SPLICE_F_MORE)) > 0);
	}
	while (have < SIZE) {
		ssize_t n = read(fd, got + have, SIZE - have);
		CHECK(n > 0);
		have += (size_t)n;
	}
	CHECK(memcmp(data, got, SIZE) == 0);
}

static void recvfrom_gives_no_address(void)
{
	int fd = connected("ECHO");
	struct sockaddr_storage from;
	socklen_t len = sizeof from;
	char byte;
	says(fd, "x");
	EQUAL(recvfrom(fd, &byte, 1, 0, (struct sockaddr *)&from, &len), 1);
	EQUAL(len, 0);
}

/* tcp_sendmsg looks at no address, but for MSG_FASTOPEN. */
static void an_address_with_sendto_is_ignored(void)
{
	int fd = connected("ECHO");
	struct sockaddr_in a = ip4("ECHO");
	char byte;
	EQUAL(sendto(fd, "x", 1, 0, (struct sockaddr *)&a, sizeof a), 1);
	EQUAL(recv(fd, &byte, 1, 0), 1);
	struct iovec iov = {&byte, 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	m.msg_name = &a;
	m.msg_namelen = sizeof a;
	EQUAL(sendmsg(fd, &m, 0), 1);
	EQUAL(recv(fd, &byte, 1, 0), 1);
}

static void urgent_data_stops_nothing(void)
{
	int fd = connected("ECHO");
	char got[8];
	says(fd, "a");
	EQUAL(recv(fd, got, 1, 0), 1);
	EQUAL(send(fd, "b", 1, MSG_OOB), 1);
	says(fd, "c");
	do
		EQUAL(recv(fd, got, 1, 0), 1);
	while (got[0] == 'b');
	EQUAL(got[0], 'c');
	ECHOES(fd);
}

static void the_error_queue_is_empty(void)
{
	int fd = connected("ECHO");
	char line[8], space[64];
	EQUAL(send(fd, "hello\n", 6, 0), 6);
	wait_for(fd, POLLIN);
	struct iovec part = {line, sizeof line};
	struct mmsghdr m = {.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space}};
	FAILS(recv(fd, line, sizeof line, MSG_ERRQUEUE), EAGAIN);
	FAILS(recvfrom(fd, line, sizeof line, MSG_ERRQUEUE, NULL, NULL), EAGAIN);
	FAILS(recvmsg(fd, &m.msg_hdr, MSG_ERRQUEUE | MSG_DONTWAIT), EAGAIN);
	FAILS(recvmmsg(fd, &m, 1, MSG_ERRQUEUE, NULL), EAGAIN);
	EQUAL(recv(fd, line, sizeof line, 0), 6);
	EQUAL(memcmp(line, "hello\n", 6), 0);
}

/* With MSG_TRUNC what comes is dropped, and no memory written to (tcp(7)). */
static void what_is_cut_off_is_dropped(void)
{
	int fd = connected("ECHO");
	char line[8] = "", one[2] = "ab", *volatile nowhere = NULL;
	EQUAL(send(fd, "1234567\n", 8, 0), 8);
	wait_for(fd, POLLIN);
	EQUAL(recv(fd, nowhere, 1, MSG_TRUNC), 1);
	EQUAL(recv(fd, one, 1, MSG_TRUNC), 1);
	struct iovec part = {one, 1};
	struct mmsghdr m = {.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1}};
	EQUAL(recvmsg(fd, &m.msg_hdr, MSG_TRUNC), 1);
	EQUAL(recvmmsg(fd, &m, 1, MSG_TRUNC, NULL), 1);
	EQUAL(m.msg_len, 1);
	EQUAL(memcmp(one, "ab", 2), 0);
	EQUAL(recv(fd, line, sizeof line, 0), 4);
	EQUAL(memcmp(line, "567\n", 4), 0);
}

static void no_sender_is_named(void)
{
	int fd = connected("ECHO");
	struct sockaddr_storage from;
	socklen_t len = sizeof from;
	char line[8];
	EQUAL(send(fd, "1\n", 2, 0), 2);
	wait_for(fd, POLLIN);
	EQUAL(recvfrom(fd, line, sizeof line, 0, (struct sockaddr *)&from, &len), 2);
	EQUAL(len, 0);
}

const struct test tests[] = {
	{"shut_writing_then_read_the_rest", BOTH, shut_writing_then_read_the_rest},
	{"server_ends_and_writing_goes_on", BOTH, server_ends_and_writing_goes_on},
	{"shut_reading_and_writing_goes_on", BOTH, shut_reading_and_writing_goes_on},
	{"cut_off_is_a_reset_after_the_data", BOTH, cut_off_is_a_reset_after_the_data},
	{"writing_to_a_server_that_left_fails", BOTH, writing_to_a_server_that_left_fails},
	{"exit_right_after_write_loses_nothing", BOTH_ONCE, exit_right_after_write_loses_nothing},
	{"close_with_linger_0_resets", BOTH, close_with_linger_0_resets},
	{"closing_with_bytes_unread_resets", BOTH, closing_with_bytes_unread_resets},
	{"closing_with_bytes_unread_resets_after_shutdown", BOTH,
	 closing_with_bytes_unread_resets_after_shutdown},
	{"closing_a_stalled_upload_resets", BOTH_ONCE, closing_a_stalled_upload_resets},
	{"closing_a_stalled_upload_resets_after_shutdown", BOTH_ONCE,
	 closing_a_stalled_upload_resets_after_shutdown},
	{"exiting_from_a_stalled_upload_resets", BOTH_ONCE, exiting_from_a_stalled_upload_resets},
	{"bulk_both_ways", BOTH_ONCE, bulk_both_ways},
	{"peek_leaves_the_data", BOTH, peek_leaves_the_data},
	{"sendfile_and_splice", BOTH, sendfile_and_splice},
	{"recvfrom_gives_no_address", BOTH, recvfrom_gives_no_address},
	{"an_address_with_sendto_is_ignored", BOTH, an_address_with_sendto_is_ignored},
	{"urgent_data_stops_nothing", BOTH, urgent_data_stops_nothing},
	{"the_error_queue_is_empty", BOTH, the_error_queue_is_empty},
	{"what_is_cut_off_is_dropped", BOTH, what_is_cut_off_is_dropped},
	{"no_sender_is_named", BOTH, no_sender_is_named},
	{0},
};
