package trust

import (
	"crypto/tls"
	"slices"
	"sync"

	"tlswrap/rules"
)

// legacySuites are what crypto/tls still has and does not offer, with what a rule's allow_legacy has to say
// for each. RC4 is not among them (RFC 7465).
var legacySuites = map[uint16][]string{
	tls.TLS_RSA_WITH_AES_128_GCM_SHA256:         {rules.LegacyRSA},
	tls.TLS_RSA_WITH_AES_256_GCM_SHA384:         {rules.LegacyRSA},
	tls.TLS_RSA_WITH_AES_128_CBC_SHA:            {rules.LegacyRSA},
	tls.TLS_RSA_WITH_AES_256_CBC_SHA:            {rules.LegacyRSA},
	tls.TLS_RSA_WITH_AES_128_CBC_SHA256:         {rules.LegacyRSA, rules.LegacyCBCSHA256},
	tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA:           {rules.LegacyRSA, rules.Legacy3DES},
	tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA:     {rules.Legacy3DES},
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256: {rules.LegacyCBCSHA256},
	tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256:   {rules.LegacyCBCSHA256},
}

// safeSuites are what crypto/tls takes for safe. The caller may append to it.
var safeSuites = sync.OnceValue(func() []uint16 {
	var suites []uint16
	for _, s := range tls.CipherSuites() {
		suites = append(suites, s.ID)
	}
	return slices.Clip(suites)
})

// cipherSuites are what a rule offers: what crypto/tls takes for safe, and what the rule allows beside. It is
// always a list, so that GODEBUG, which is of the whole worker, adds nothing. crypto/tls orders it.
func cipherSuites(allowed []string) []uint16 {
	suites := safeSuites()
	for id, needs := range legacySuites {
		if !slices.ContainsFunc(needs, func(word string) bool { return !slices.Contains(allowed, word) }) {
			suites = append(suites, id)
		}
	}
	return suites
}

// Weaknesses are what a connection has that is not safe any more and that its rule has let in, in words for
// people, with the keys that did.
func Weaknesses(st tls.ConnectionState) (what, keys []string) {
	if st.Version < tls.VersionTLS12 {
		what, keys = append(what, tls.VersionName(st.Version)), append(keys, "min_version")
	}
	if needs := legacySuites[st.CipherSuite]; len(needs) > 0 {
		what, keys = append(what, needs...), append(keys, "allow_legacy")
	}
	return what, keys
}
