/*
 * server CERT KEY [clear]: a blocking libtls server on a loopback port that it prints. It greets
 * each client with the client's own line, and says goodbye to those that say "quit".
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <tls.h>
#include <unistd.h>

static void die(const char *what, const char *why)
{
	printf("%s: %s\n", what, why ? why : "?");
	exit(1);
}

int main(int argc, char **argv)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof at;
	struct tls_config *config = tls_config_new();
	struct tls *listener = tls_server();
	if (argc < 3 || tls_config_set_keypair_file(config, argv[1], argv[2]) < 0)
		die("keypair", tls_config_error(config));
	if (tls_configure(listener, config) < 0)
		die("configure", tls_error(listener));
	if (argc > 3)
		tls_config_clear_keys(config);
	tls_config_free(config);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(fd, (struct sockaddr *)&at, sizeof at) < 0 || listen(fd, 64) < 0 ||
	    getsockname(fd, (struct sockaddr *)&at, &len) < 0)
		die("listen", "no port");
	printf("%d\n", ntohs(at.sin_port));
	fflush(stdout);
	for (int quit = 0; !quit;) {
		struct tls *ctx;
		char line[256];
		int s = accept(fd, NULL, NULL);
		if (tls_accept_socket(listener, &ctx, s) < 0)
			die("accept", tls_error(listener));
		ssize_t n = tls_read(ctx, line, sizeof line);
		if (n < 0)
			fprintf(stderr, "%s\n", tls_error(ctx));
		if (n > 0)
			tls_write(ctx, line, (size_t)n);
		quit = n >= 4 && memcmp(line, "quit", 4) == 0;
		tls_close(ctx);
		tls_free(ctx);
		close(s);
	}
	tls_free(listener);
	return 0;
}
