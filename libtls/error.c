/* Configurations and contexts keep a sentence about what has failed, for whoever asks. */
#include "tls_int.h"

void error_clear(struct error *error)
{
	free(error->text);
	error->text = NULL;
	error->code = TLS_ERROR_UNKNOWN;
}

/* Writes format into memory of malloc's. */
__attribute__((format(printf, 1, 0))) static char *print(const char *format, va_list list)
{
	va_list again;
	va_copy(again, list);
	int n = vsnprintf(NULL, 0, format, again);
	va_end(again);
	char *text = n < 0 ? NULL : malloc((size_t)n + 1);
	if (text)
		vsnprintf(text, (size_t)n + 1, format, list);
	return text;
}

__attribute__((format(printf, 1, 2))) static char *print_list(const char *format, ...)
{
	va_list list;
	va_start(list, format);
	char *text = print(format, list);
	va_end(list);
	return text;
}

void error_vset(struct error *error, int code, int errno_value, const char *format, va_list list)
{
	/* First the new one: an argument may be the old. */
	char *text = print(format, list);
	if (text && errno_value) {
		char *longer = print_list("%s: %s", text, strerror(errno_value));
		free(text);
		text = longer;
	}
	error_clear(error);
	error->text = text;
	error->code = code;
}

int error_set(struct error *error, int code, int errno_value, const char *format, ...)
{
	va_list list;
	va_start(list, format);
	error_vset(error, code, errno_value, format, list);
	va_end(list);
	return -1;
}

int set_error(struct tls *ctx, const char *format, ...)
{
	va_list list;
	va_start(list, format);
	error_vset(&ctx->error, TLS_ERROR_UNKNOWN, 0, format, list);
	va_end(list);
	return -1;
}

int set_error_errno(struct tls *ctx, int errno_value, const char *format, ...)
{
	va_list list;
	va_start(list, format);
	error_vset(&ctx->error, TLS_ERROR_UNKNOWN, errno_value, format, list);
	va_end(list);
	return -1;
}

const char *tls_error(struct tls *ctx)
{
	if (ctx->role == SERVER && ctx->built) {
		char *left = __atomic_exchange_n(&ctx->built->error, NULL, __ATOMIC_ACQ_REL);
		if (left) {
			error_clear(&ctx->error);
			ctx->error.text = left;
		}
	}
	return ctx->error.text;
}

int tls_error_code(struct tls *ctx)
{
	return ctx->error.code;
}

int config_fail(struct tls_config *config, const char *format, const char *argument)
{
	struct error *error = &config->error;
	return error_set(error, TLS_ERROR_UNKNOWN, 0, format, argument);
}

const char *tls_config_error(struct tls_config *config)
{
	return config->error.text;
}

int tls_config_error_code(struct tls_config *config)
{
	return config->error.code;
}
