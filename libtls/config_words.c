/* Versions, ciphers, curves and ALPN are chosen by words. */
#include "tls_int.h"

int tls_config_set_protocols(struct tls_config *config, uint32_t protocols)
{
	config->protocols = protocols;
	config_changed(config);
	return 0;
}

int tls_config_set_ciphers(struct tls_config *config, const char *ciphers)
{
	return config_put_string(config, TW_TLS_CIPHERS, ciphers);
}

int tls_config_set_alpn(struct tls_config *config, const char *alpn)
{
	return config_put_string(config, TW_TLS_ALPN, alpn);
}

/* Whether two words are the same, in any case. */
static bool same(const char *a, const char *b)
{
	for (; *a && *b; a++, b++) {
		char x = *a >= 'A' && *a <= 'Z' ? (char)(*a | 0x20) : *a;
		if (x != *b)
			return false;
	}
	return !*a && !*b;
}

/* crypto/tls has no finite-field groups: the words are taken, and change nothing. */
int tls_config_set_dheparams(struct tls_config *config, const char *params)
{
	if (!params || same(params, "none") || same(params, "auto") || same(params, "legacy"))
		return 0;
	return config_fail(config, "invalid dhe param '%s'", params);
}

int tls_config_set_ecdhecurves(struct tls_config *config, const char *curves)
{
	if (!curves || same(curves, "default"))
		return config_put_string(config, TW_TLS_CURVES, NULL);
	return config_put_string(config, TW_TLS_CURVES, curves);
}

int tls_config_set_ecdhecurve(struct tls_config *config, const char *curve)
{
	if (!curve || same(curve, "none") || same(curve, "auto") || same(curve, "default"))
		return config_put_string(config, TW_TLS_CURVES, NULL);
	for (const char *c = curve; *c; c++) {
		if (*c == ',' || *c == ':')
			return config_fail(config, "invalid ecdhe curve '%s'", curve);
	}
	return config_put_string(config, TW_TLS_CURVES, curve);
}

/* Reads one word of a protocol string: its bits, or 0. */
static uint32_t protocol_word(const char *word, size_t size)
{
	static const struct {
		const char *name;
		uint32_t bits;
	} words[] = {
		{"all", TLS_PROTOCOLS_ALL},           {"legacy", TLS_PROTOCOLS_ALL},
		{"default", TLS_PROTOCOLS_DEFAULT},   {"secure", TLS_PROTOCOLS_DEFAULT},
		{"tlsv1", TLS_PROTOCOL_TLSv1},        {"tlsv1.0", TLS_PROTOCOL_TLSv1_0},
		{"tlsv1.1", TLS_PROTOCOL_TLSv1_1},    {"tlsv1.2", TLS_PROTOCOL_TLSv1_2},
		{"tlsv1.3", TLS_PROTOCOL_TLSv1_3},
	};
	char copy[16];
	if (size >= sizeof copy)
		return 0;
	memcpy(copy, word, size);
	copy[size] = '\0';
	for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
		if (same(copy, words[i].name))
			return words[i].bits;
	}
	return 0;
}

static bool blank(char c)
{
	return c == ' ' || c == '\t';
}

int tls_config_parse_protocols(uint32_t *protocols, const char *protostr)
{
	uint32_t result = 0;
	if (!protostr) {
		*protocols = TLS_PROTOCOLS_DEFAULT;
		return 0;
	}
	for (const char *s = protostr;; s++) {
		while (blank(*s))
			s++;
		bool remove = *s == '!';
		if (remove && result == 0)
			result = TLS_PROTOCOLS_ALL;
		s += remove;
		while (remove && blank(*s))
			s++;
		size_t n = 0;
		while (s[n] && s[n] != ',' && s[n] != ':')
			n++;
		size_t word = n;
		while (word && blank(s[word - 1]))
			word--;
		uint32_t bits = protocol_word(s, word);
		if (!bits)
			return -1;
		result = remove ? result & ~bits : result | bits;
		s += n;
		if (!*s)
			break;
	}
	*protocols = result;
	return 0;
}
