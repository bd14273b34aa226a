#include "tls_int.h"
int pump_new(struct tls *ctx, tls_read_cb read_cb, tls_write_cb write_cb, void *arg) {(void)read_cb;(void)write_cb;(void)arg; return set_error(ctx,"not yet");}
void pump_free(struct tls *ctx){(void)ctx;}
int pump_handshake(struct tls *ctx){(void)ctx;return -1;}
ssize_t pump_read(struct tls *ctx, void *buf, size_t len){(void)ctx;(void)buf;(void)len;return -1;}
ssize_t pump_write(struct tls *ctx, const void *buf, size_t len){(void)ctx;(void)buf;(void)len;return -1;}
int pump_close(struct tls *ctx){(void)ctx;return -1;}
