package libtls_test

import (
	"regexp"
	"strings"
	"testing"
)

const goodPair = "s.keypair=@host.pem+@host.key c.ca=@ca.pem "

// comparisons are what pair.c is asked; "@" stands for the folder of certificates.
var comparisons = map[string]string{
	"plain":                  goodPair,
	"rsa":                    "s.keypair=@rsa.pem+@rsa.key c.ca=@ca.pem",
	"from memory":            "s.cert_mem=@host.pem s.key_mem=@host.key c.ca_mem=@ca.pem",
	"keypair from memory":    "s.keypair_mem=@host.pem+@host.key c.ca_mem=@ca.pem",
	"chain":                  "s.keypair=@chained.pem+@chained.key c.ca=@ca.pem",
	"long chain":             "s.keypair=@deeper.pem+@deeper.key c.ca=@ca.pem",
	"wrong name":             goodPair + "name=other.test",
	"wrong name, unverified": goodPair + "name=other.test c.noverifyname",
	"no name":                goodPair + "name=",
	"no name, unverified":    goodPair + "name= c.noverifyname",
	"dot at the end":         goodPair + "name=host.test.",
	"wildcard":               goodPair + "name=a.wild.test",
	"address":                goodPair + "name=127.0.0.1",
	"common name":            "s.keypair=@cn.pem+@cn.key c.ca=@ca.pem name=cn.test",
	"wildcard of a tld":      "s.keypair=@tld.pem+@tld.key c.ca=@ca.pem",
	"unknown root":           "s.keypair=@host.pem+@host.key c.ca=@otherca.pem",
	"self-signed":            "s.keypair=@self.pem+@self.key c.ca=@otherca.pem",
	"self-signed, trusted":   "s.keypair=@self.pem+@self.key c.ca=@self.pem",
	"missing intermediate":   "s.cert_mem=@host.pem s.key_mem=@host.key c.ca=@between.pem",
	"unverified chain":       "s.keypair=@self.pem+@self.key c.noverifycert",
	"unverified chain, name": "s.keypair=@self.pem+@self.key c.noverifycert name=other.test",
	"verified again":         "s.keypair=@self.pem+@self.key c.noverifycert c.verify c.ca=@ca.pem",
	"expired":                "s.keypair=@expired.pem+@expired.key c.ca=@ca.pem",
	"expired, no time":       "s.keypair=@expired.pem+@expired.key c.ca=@ca.pem c.noverifytime",
	"expired root":           "s.keypair=@underold.pem+@underold.key c.ca=@oldca.pem",
	"expired root, no time":  "s.keypair=@underold.pem+@underold.key c.ca=@oldca.pem c.noverifytime",
	"future":                 "s.keypair=@future.pem+@future.key c.ca=@ca.pem",
	"expired and unknown":    "s.keypair=@expired.pem+@expired.key c.ca=@otherca.pem",
	"name of nothing":        goodPair + `name=""`,
	"nothing, unverified":    goodPair + `name="" c.noverifyname`,
	"name of a dot":          goodPair + "name=.",
	"dot, unverified":        goodPair + "name=. c.noverifyname",
	"long name":              goodPair + "c.noverifyname name=" + strings.Repeat("a", 255),
	"name that is too long":  goodPair + "c.noverifyname name=" + strings.Repeat("a", 256),
	"mapped address":         goodPair + "name=::ffff:127.0.0.1",
	"mapped as common name":  "s.keypair=@mapped.pem+@mapped.key c.ca=@ca.pem name=::ffff:127.0.0.1",
	"address, common name":   "s.keypair=@mapped.pem+@mapped.key c.ca=@ca.pem name=127.0.0.1",
	"late, no name":          goodPair + "name=other.test late.c.noverifyname",
	"late, name":             goodPair + "name=other.test c.noverifyname late.c.verify",
	"late, no certificate":   "s.keypair=@self.pem+@self.key c.ca=@ca.pem late.c.noverifycert",
	"late, certificate":      "s.keypair=@self.pem+@self.key c.noverifycert late.c.verify",
	"late, no time":          "s.keypair=@expired.pem+@expired.key c.ca=@ca.pem late.c.noverifytime",
	"late, staple required":  goodPair + "late.require_stapling",
	"late, staple and time":  "s.keypair=@host.pem+@host.key s.staple=@revoked.ocsp c.ca=@ca.pem late.c.noverifytime",
	"late, staple unlooked":  "s.keypair=@host.pem+@host.key s.staple=@revoked.ocsp c.ca=@ca.pem late.c.noverifycert",
	"late, server verifies":  goodPair + "s.verify_client s.ca=@otherca.pem s.noverifycert late.s.verify c.keypair=@client.pem+@client.key c.protocols=tlsv1.2",
	"late, server lenient":   goodPair + "s.verify_client s.ca=@otherca.pem late.s.noverifycert c.keypair=@client.pem+@client.key c.protocols=tlsv1.2",
	"late, client required":  goodPair + "s.ca=@ca.pem late.s.verify_client c.protocols=tlsv1.2",
	"late, depth":            "s.keypair=@deeper.pem+@deeper.key c.ca=@ca.pem late.c.depth=1",
	"anchor between":         "s.keypair=@chained.pem+@chained.key c.ca=@between.pem",
	"anchor above":           "s.keypair=@deeper.pem+@deeper.key c.ca=@deep.pem",
	"anchor is the leaf":     "s.keypair=@host.pem+@host.key c.ca=@host.pem",
	"anchor for a client":    goodPair + "s.verify_client s.ca=@client.pem c.keypair=@client.pem+@client.key c.protocols=tlsv1.2",
	"weak key":               "s.keypair=@weak.pem+@weak.key c.ca=@ca.pem",
	"weak key of a client":   goodPair + "s.verify_client s.ca=@ca.pem c.keypair=@weak.pem+@weak.key c.protocols=tlsv1.2",
	"weak key, allowed":      "s.keypair=@weak.pem+@weak.key c.ca=@ca.pem s.ciphers=HIGH@SECLEVEL=1 c.ciphers=HIGH@SECLEVEL=1",
	"weak key, one allows":   "s.keypair=@weak.pem+@weak.key c.ca=@ca.pem s.ciphers=HIGH@SECLEVEL=0",
	"weak key, unverified":   "s.keypair=@weak.pem+@weak.key c.noverifycert s.ciphers=HIGH@SECLEVEL=0",
	"weak authority":         "s.keypair=@underweak.pem+@underweak.key c.ca=@weakca.pem",
	"sha-1":                  "s.keypair=@sha1.pem+@sha1.key c.ca=@ca.pem s.ciphers=HIGH@SECLEVEL=0",
	"sha-1 of the server":    "s.keypair=@sha1.pem+@sha1.key c.ca=@ca.pem",
	"critical extension":     "s.keypair=@critical.pem+@critical.key c.ca=@ca.pem",
	"critical above":         "s.keypair=@undercritical.pem+@undercritical.key c.ca=@criticalca.pem",
	"negative serial":        "s.keypair=@negative.pem+@negative.key c.ca=@ca.pem",
	"bytes behind the ca":    "s.keypair=@host.pem+@host.key c.ca=@trailingca.pem",
	"any purpose":            "s.keypair=@any.pem+@any.key c.ca=@ca.pem",
	"any purpose, too":       "s.keypair=@anytoo.pem+@anytoo.key c.ca=@ca.pem",
	"any purpose above":      "s.keypair=@underany.pem+@underany.key c.ca=@ca.pem",
	"no right to sign":       "s.keypair=@undermute.pem+@undermute.key c.ca=@ca.pem",
	"signed by a leaf":       "s.keypair=@underleaf.pem+@underleaf.key c.ca=@ca.pem",
	"path too long":          "s.keypair=@underlong.pem+@underlong.key c.ca=@ca.pem",
	"staple required, name":  goodPair + "c.require_stapling c.noverifycert",
	"stapled, unverified":    "s.keypair=@host.pem+@host.key s.staple=@revoked.ocsp c.noverifycert",
	"stapled, no time":       "s.keypair=@host.pem+@host.key s.staple=@revoked.ocsp c.ca=@ca.pem c.noverifytime",
	"stapled, wrong name":    "s.keypair=@host.pem+@host.key s.staple=@good.ocsp c.ca=@ca.pem name=other.test",
	"gated purpose":          "s.keypair=@gated.pem+@gated.key c.ca=@ca.pem",
	"usage":                  "s.keypair=@signer.pem+@signer.key c.ca=@ca.pem",
	"purpose":                "s.keypair=@purpose.pem+@purpose.key c.ca=@ca.pem",
	"depth 0":                "s.keypair=@host.pem+@host.key c.ca=@ca.pem c.depth=0",
	"depth too small":        "s.keypair=@deeper.pem+@deeper.key c.ca=@ca.pem c.depth=1",
	"revocation list":        goodPair + "c.crl=@empty.crl",
	"list from memory":       goodPair + "c.crl_mem=@empty.crl",
	"revoked":                goodPair + "c.crl=@revoked.crl",
	"old list":               goodPair + "c.crl=@old.crl",
	"list of version 1":      goodPair + "c.crl=@first.crl",
	"revoked by version 1":   goodPair + "c.crl=@firstrevoked.crl",
	"list of authorities":    goodPair + "c.crl=@authorities.crl",
	"list of attributes":     goodPair + "c.crl=@attributes.crl",
	"list of some reasons":   goodPair + "c.crl=@reasons.crl",
	"list, indirect":         goodPair + "c.crl=@indirect.crl",
	"list of a partition":    goodPair + "c.crl=@partition.crl",
	"list with a condition":  goodPair + "c.crl=@critical.crl",
	"list of another":        "s.keypair=@chained.pem+@chained.key c.ca=@ca.pem c.crl=@empty.crl",
	"alpn":                   goodPair + "s.alpn=h2,http/1.1 c.alpn=http/1.1,h2",
	"alpn of one side":       goodPair + "s.alpn=h2",
	"alpn without common":    goodPair + "s.alpn=a,b c.alpn=c",
	"alpn, 1.2":              goodPair + "s.alpn=a,b c.alpn=c c.protocols=tlsv1.2",
	"tls 1.2":                goodPair + "c.protocols=tlsv1.2",
	"tls 1.2 server":         goodPair + "s.protocols=tlsv1.2",
	"no common version":      goodPair + "s.protocols=tlsv1.3 c.protocols=tlsv1.2",
	"no version":             goodPair + "c.protocols=tlsv1.2,!tlsv1.2",
	"cipher":                 goodPair + "s.protocols=tlsv1.2 c.ciphers=ECDHE-ECDSA-CHACHA20-POLY1305",
	"server's cipher":        goodPair + "c.protocols=tlsv1.2 s.ciphers=ECDHE-ECDSA-AES128-GCM-SHA256",
	"compat":                 goodPair + "c.ciphers=compat s.ciphers=legacy",
	"curves":                 goodPair + "c.curves=secp384r1,X25519 s.curve=P-384",
	"dhe":                    goodPair + "s.dhe=auto s.prefer_client c.prefer_server",
	"sni":                    goodPair + "s.add=@second.pem+@second.key name=second.test",
	"sni by wildcard":        goodPair + "s.add_mem=@second.pem+@second.key name=x.second.test",
	"sni of nobody":          goodPair + "s.add=@second.pem+@second.key name=third.test",
	"client certificate":     goodPair + "s.verify_client s.ca=@ca.pem c.keypair=@client.pem+@client.key",
	"client's of another":    goodPair + "s.verify_client s.ca=@otherca.pem c.keypair=@client.pem+@client.key c.protocols=tlsv1.2",
	"client without":         goodPair + "s.verify_client s.ca=@ca.pem c.protocols=tlsv1.2",
	"client optional":        goodPair + "s.verify_client_optional s.ca=@ca.pem",
	"client optional, given": goodPair + "s.verify_client_optional s.ca=@ca.pem c.keypair=@client.pem+@client.key",
	"client unverified":      goodPair + "s.verify_client s.noverifycert c.keypair=@self.pem+@self.key",
	"client revoked":         goodPair + "s.verify_client s.ca=@ca.pem s.crl=@revoked.crl c.keypair=@client.pem+@client.key c.protocols=tlsv1.2",
	"stapled":                "s.keypair=@host.pem+@host.key+@good.ocsp c.ca=@ca.pem c.require_stapling",
	"stapled from memory":    "s.keypair_mem=@host.pem+@host.key+@good.ocsp c.ca=@ca.pem",
	"stapled alone":          goodPair + "s.staple_mem=@good.ocsp c.require_stapling",
	"stapled, revoked":       "s.keypair=@host.pem+@host.key s.staple=@revoked.ocsp c.ca=@ca.pem",
	"stapled, unknown":       "s.keypair=@host.pem+@host.key s.staple=@unknown.ocsp c.ca=@ca.pem",
	"stapled by sni":         "s.keypair=@second.pem+@second.key s.add=@host.pem+@host.key+@good.ocsp c.ca=@ca.pem",
	"stapled by sni, memory": "s.keypair=@second.pem+@second.key s.add_mem=@host.pem+@host.key+@good.ocsp c.ca=@ca.pem c.require_stapling",
	"staple required":        goodPair + "c.require_stapling",
	"response":               goodPair + "ocsp=@good.ocsp",
	"response, revoked":      goodPair + "ocsp=@revoked.ocsp",
	"response, junk":         goodPair + "ocsp=@junk",
	"keys cleared":           goodPair + "clear_after",
	"keys cleared before":    goodPair + "s.clear_keys",
	"no keypair":             "c.ca=@ca.pem",
	"key of another":         "s.keypair=@host.pem+@self.key",
	"key is junk":            "s.keypair=@host.pem+@junk",
	"key is encrypted":       "s.keypair=@host.pem+@pkcs8.key",
	"key of before, too":     "s.keypair=@host.pem+@traditional.key",
	"certificate is junk":    "s.cert=@junk",
	"certificate is missing": "s.cert=@missing s.key=@missing",
	"certificate is empty":   "s.keypair=@empty+@host.key",
	"ca is missing":          "c.ca=@missing c.crl=@missing s.staple=@missing s.keypair=@host.pem+@host.key",
	"ca is junk":             goodPair + "c.ca=@junk",
	"crl is junk":            goodPair + "c.crl=@junk",
	"ca path":                "s.keypair=@host.pem+@host.key c.ca_path=@.",
	"ca path with hashes":    "s.keypair=@host.pem+@host.key c.ca_path=@hashed",
	"ca path of later":       "s.keypair=@host.pem+@host.key c.ca_path=hashed c.chdir=@.",
	"ca path of before":      "s.keypair=@host.pem+@host.key c.chdir=@. c.ca_path=hashed c.chdir=/",
	"ca path, unverified":    "s.keypair=@self.pem+@self.key c.noverifycert c.ca_path=@hashed",
	"ca path and file":       "s.keypair=@host.pem+@host.key c.ca_path=@missing c.ca=@ca.pem",
	"ca path that is not":    "s.keypair=@host.pem+@host.key c.ca_path=@missing",
	"words":                  "c.ciphers=NO-SUCH-CIPHER c.curve=NO-SUCH-CURVE c.curves=auto c.dhe=some c.alpn=a,,b c.curve=P-256,P-384",
	"more words":             "c.curve=auto c.curve=none c.ciphers=secure c.ciphers=INSECURE c.alpn=a c.curves=P-256:X25519",
	"words of nothing":       "c.ciphers= c.alpn= c.curves= c.curve= c.curves=P-256,,X25519 c.curve=default c.curve=NONE c.curves=p-256 c.curves=P-256:X25519",
	"cipher strings":         "c.ciphers=HIGH@SECLEVEL=2 c.ciphers=ECDHE+AESGCM:!SHA384 c.ciphers=CBC c.ciphers=SSLv3 c.ciphers=FS c.ciphers=ecdhe-rsa-aes128-gcm-sha256 c.ciphers=TLS_AES_128_GCM_SHA256 c.ciphers=HIGH:nonsense",
	"cipher string, used":    goodPair + "c.protocols=tlsv1.2 c.ciphers=ALL:!AESGCM:!CHACHA20:!SHA1 s.ciphers=HIGH",
	"protocols":              "c.protocols=all c.protocols=default c.protocols=all,!tlsv1.0 c.protocols=!tlsv1.3 c.protocols=tlsv1.2:tlsv1.3 c.protocols= c.protocols=tlsv9 c.protocols=TLSv1.2",
	"sessions":               "s.lifetime=3 s.lifetime=86401 s.lifetime=-1 s.lifetime=0 s.lifetime=7200 s.id=123456789012345678901234567890123 s.id=x s.ticket=1+48 s.ticket=1+48 s.ticket=2+48 s.ticket=1+48 s.ticket=3+47",
	"ticket keys":            "s.ticket=0+48 s.ticket=1+48 s.ticket=1+48+1 s.ticket=2+48 s.ticket=1+48+1",
	"tickets":                goodPair + "s.lifetime=7200 s.ticket=1+48",
}

// known are the differences between OpenSSL and crypto/tls that LIBTLS says cannot be avoided:
// what TLS 1.3 chooses, and the text of an alert and of OpenSSL's own errors.
var known = []struct {
	what *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`cipher (TLS_|ECDHE-)\S+ strength \d+`), "cipher $1"},
	{regexp.MustCompile(`(handshake|read|write) failed: [^A\n]*\n`), "$1 failed\n"},
	{regexp.MustCompile(`(handshake|read|write) failed: error:0A000[0-3].*`), "$1 failed"},
	{regexp.MustCompile(`(failed to load certificate): error:.*`), "$1"},
	// After a success tls_error is not for reading: libretls leaves a word of its search for OCSP.
	{regexp.MustCompile(`(connect: 0|again: -1) .*`), "$1"},
	// LibreSSL's sentence, where OpenSSL finds it out earlier.
	{regexp.MustCompile(`(?m)failed to load private key|private/public key mismatch|failed to load certificate$`), "private/public key mismatch"},
	{regexp.MustCompile(`(unable to parse OCSP response): Success`), "$1"},
	// A key that OpenSSL would read, or ask for a password: ours says why it does not.
	{regexp.MustCompile(`(failed to read private key): .*`), "$1"},
	// Of a handshake that has failed, in libretls alone.
	{regexp.MustCompile(`close: -1 shutdown failed: .*`), "close: 0 (none)"},
}

func normal(out string) string {
	for _, k := range known {
		out = k.what.ReplaceAllString(out, k.with)
	}
	return out
}

func expand(words string) []string {
	return strings.Fields(strings.ReplaceAll(words, "@", lab.pki.dir+"/"))
}

// Every comparison prints the same with the real library and with ours, over descriptors that are
// polled, in epoll sets, over pipes, and over callbacks.
func TestCallByCall(t *testing.T) {
	program := compile(t, "pair.c", "-ltls")
	for name, words := range comparisons {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, transport := range []string{"poll", "epoll", "fds", "cbs1", "cbs512"} {
				argv := append([]string{program, transport}, expand(words)...)
				want := normal(run(t, nil, argv...))
				got := normal(run(t, nil, append([]string{lab.tlswrap}, argv...)...))
				if got != want {
					t.Fatalf("%s: %s\n%s", transport, words, difference(want, got))
				}
			}
		})
	}
}

// A delta is no complete list. OpenSSL 3.0 takes it for one, so this is not compared.
func TestDeltaList(t *testing.T) {
	for _, crl := range []string{"empty.crl", "delta.crl"} {
		out := run(t, nil, append([]string{lab.tlswrap, compile(t, "pair.c", "-ltls"), "poll"}, expand(goodPair+"c.crl=@"+crl)...)...)
		refused := strings.Contains(out, "certificate verification failed: unable to get certificate CRL")
		if refused != (crl == "delta.crl") {
			t.Errorf("%s:\n%s", crl, out)
		}
	}
}

// The system's roots are verified as those that are set: with the time, and without.
func TestSystemRoots(t *testing.T) {
	program := compile(t, "pair.c", "-ltls")
	for words, good := range map[string]bool{
		"s.keypair=@underold.pem+@underold.key":                false,
		"s.keypair=@underold.pem+@underold.key c.noverifytime": true,
		"s.keypair=@host.pem+@host.key c.noverifytime":         false,
	} {
		argv := append([]string{program, "poll"}, expand(words)...)
		want := normal(run(t, trusting("oldca"), argv...))
		if strings.Contains(want, "c handshake: 0") != good {
			t.Errorf("%s: the real library says\n%s", words, want)
		}
		// The program's own environment, and that of the worker, which has the system's roots.
		for _, wrap := range [][]string{{lab.tlswrap}, {lab.tlswrap, "env", "-u", "SSL_CERT_FILE", "-u", "SSL_CERT_DIR"}} {
			if got := normal(run(t, trusting("oldca"), append(wrap, argv...)...)); got != want {
				t.Errorf("%v %s:\n%s", wrap[1:], words, difference(want, got))
			}
		}
	}
}

// difference shows the lines that are not the same.
func difference(want, got string) string {
	var b strings.Builder
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		var x, y string
		if i < len(w) {
			x = w[i]
		}
		if i < len(g) {
			y = g[i]
		}
		if x != y {
			b.WriteString("real: " + x + "\nours: " + y + "\n")
		}
	}
	return b.String()
}
