package engine

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ---- versions ----

type versions struct{ least, most uint16 }

// versionsOf reads TLS_PROTOCOL_* bits. A mask with a hole is what OpenSSL makes of one: the
// lowest run without.
func versionsOf(mask uint32) versions {
	bits := []struct {
		bit     uint32
		version uint16
	}{{2, tls.VersionTLS10}, {4, tls.VersionTLS11}, {8, tls.VersionTLS12}, {16, tls.VersionTLS13}}
	var v versions
	for _, b := range bits {
		switch {
		case mask&b.bit == 0:
			if v.least != 0 {
				return v
			}
		case v.least == 0:
			v = versions{b.version, b.version}
		default:
			v.most = b.version
		}
	}
	if v.least == 0 {
		return versions{tls.VersionTLS13, tls.VersionTLS10} // none, which 0 does not say to crypto/tls
	}
	return v
}

var versionNames = map[uint16]string{
	tls.VersionTLS10: "TLSv1", tls.VersionTLS11: "TLSv1.1", tls.VersionTLS12: "TLSv1.2", tls.VersionTLS13: "TLSv1.3",
}

// ---- cipher suites ----

// suite is one of crypto/tls's, and what OpenSSL says of it.
type suite struct {
	id       uint16
	name     string
	strength int
	words    string // that cipher strings have for it
}

// has tells whether word is one of the suite's.
func (s suite) has(word string) bool {
	return slices.Contains(strings.Fields(s.words), word)
}

// suites are crypto/tls's of up to TLS 1.2, the best first.
var suites = []suite{
	{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "ECDHE-ECDSA-AES256-GCM-SHA384", 256, "TLSv1.2 ECDHE aECDSA ECDSA AES AES256 AESGCM AEAD HIGH"},
	{tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, "ECDHE-RSA-AES256-GCM-SHA384", 256, "TLSv1.2 ECDHE aRSA AES AES256 AESGCM AEAD HIGH"},
	{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-ECDSA-CHACHA20-POLY1305", 256, "TLSv1.2 ECDHE aECDSA ECDSA CHACHA20 AEAD HIGH"},
	{tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-RSA-CHACHA20-POLY1305", 256, "TLSv1.2 ECDHE aRSA CHACHA20 AEAD HIGH"},
	{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "ECDHE-ECDSA-AES128-GCM-SHA256", 128, "TLSv1.2 ECDHE aECDSA ECDSA AES AES128 AESGCM AEAD HIGH"},
	{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, "ECDHE-RSA-AES128-GCM-SHA256", 128, "TLSv1.2 ECDHE aRSA AES AES128 AESGCM AEAD HIGH"},
	{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256, "ECDHE-ECDSA-AES128-SHA256", 128, "CBC TLSv1.2 ECDHE aECDSA ECDSA AES AES128 HIGH SHA256"},
	{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256, "ECDHE-RSA-AES128-SHA256", 128, "CBC TLSv1.2 ECDHE aRSA AES AES128 HIGH SHA256"},
	{tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, "ECDHE-ECDSA-AES256-SHA", 256, "CBC TLSv1 ECDHE aECDSA ECDSA AES AES256 HIGH SHA SHA1"},
	{tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, "ECDHE-RSA-AES256-SHA", 256, "CBC TLSv1 ECDHE aRSA AES AES256 HIGH SHA SHA1"},
	{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, "ECDHE-ECDSA-AES128-SHA", 128, "CBC TLSv1 ECDHE aECDSA ECDSA AES AES128 HIGH SHA SHA1"},
	{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, "ECDHE-RSA-AES128-SHA", 128, "CBC TLSv1 ECDHE aRSA AES AES128 HIGH SHA SHA1"},
	{tls.TLS_RSA_WITH_AES_256_GCM_SHA384, "AES256-GCM-SHA384", 256, "TLSv1.2 kRSA RSA aRSA AES AES256 AESGCM AEAD HIGH"},
	{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, "AES128-GCM-SHA256", 128, "TLSv1.2 kRSA RSA aRSA AES AES128 AESGCM AEAD HIGH"},
	{tls.TLS_RSA_WITH_AES_128_CBC_SHA256, "AES128-SHA256", 128, "CBC TLSv1.2 kRSA RSA aRSA AES AES128 HIGH SHA256"},
	{tls.TLS_RSA_WITH_AES_256_CBC_SHA, "AES256-SHA", 256, "CBC SSLv3 kRSA RSA aRSA AES AES256 HIGH SHA SHA1"},
	{tls.TLS_RSA_WITH_AES_128_CBC_SHA, "AES128-SHA", 128, "CBC SSLv3 kRSA RSA aRSA AES AES128 HIGH SHA SHA1"},
	{tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA, "ECDHE-RSA-DES-CBC3-SHA", 112, "CBC TLSv1 ECDHE aRSA 3DES MEDIUM SHA SHA1"},
	{tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA, "DES-CBC3-SHA", 112, "CBC SSLv3 kRSA RSA aRSA 3DES MEDIUM SHA SHA1"},
	{tls.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA, "ECDHE-ECDSA-RC4-SHA", 128, "TLSv1 ECDHE aECDSA ECDSA RC4 MEDIUM SHA SHA1"},
	{tls.TLS_ECDHE_RSA_WITH_RC4_128_SHA, "ECDHE-RSA-RC4-SHA", 128, "TLSv1 ECDHE aRSA RC4 MEDIUM SHA SHA1"},
	{tls.TLS_RSA_WITH_RC4_128_SHA, "RC4-SHA", 128, "SSLv3 kRSA RSA aRSA RC4 MEDIUM SHA SHA1"},
}

// suites13 are those of TLS 1.3, which nobody chooses among.
var suites13 = []suite{
	{tls.TLS_AES_128_GCM_SHA256, "TLS_AES_128_GCM_SHA256", 128, ""},
	{tls.TLS_AES_256_GCM_SHA384, "TLS_AES_256_GCM_SHA384", 256, ""},
	{tls.TLS_CHACHA20_POLY1305_SHA256, "TLS_CHACHA20_POLY1305_SHA256", 256, ""},
}

// findSuite returns what is known of a suite; the zero one where it is nothing.
func findSuite(id uint16) suite {
	for _, list := range [][]suite{suites, suites13} {
		for _, s := range list {
			if s.id == id {
				return s
			}
		}
	}
	return suite{}
}

// cipherChoice is a cipher string's meaning for up to TLS 1.2. No suites are crypto/tls's own
// choice, which is that of "secure".
type cipherChoice struct {
	suites []uint16
	level  int // OpenSSL's security level, of what certificates have to be like
}

// usualLevel is what Debian builds OpenSSL with.
const usualLevel = 2

// aliases are libtls's words for cipher strings.
var aliases = map[string]string{
	"default": "", "secure": "",
	"compat": "HIGH:!aNULL", "legacy": "HIGH:MEDIUM:!aNULL", "insecure": "ALL", "all": "ALL",
}

// parseCiphers reads a word of libtls's or an OpenSSL cipher string (ciphers(1)); nil is the
// default. The order does not matter: crypto/tls has its own.
func parseCiphers(s []byte) (cipherChoice, error) {
	text, ok := aliases[strings.ToLower(string(s))]
	switch {
	case s == nil || ok && text == "":
		return cipherChoice{level: usualLevel}, nil
	case !ok:
		text = string(s)
	}
	level := usualLevel
	var chosen, killed []uint16
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune(":, ;", r) }) {
		word, order, _ := strings.Cut(word, "@")
		if digit, ok := strings.CutPrefix(order, "SECLEVEL="); ok && len(digit) == 1 && digit[0] >= '0' && digit[0] <= '5' {
			level = int(digit[0] - '0')
		}
		if word == "" {
			continue // @STRENGTH, @SECLEVEL=n
		}
		op := word[0]
		if strings.ContainsRune("!-+", rune(op)) {
			word = word[1:]
		}
		var found []uint16
		for _, s := range suites {
			if s.matches(word) {
				found = append(found, s.id)
			}
		}
		switch op {
		case '+':
		case '!':
			killed = append(killed, found...)
			fallthrough
		case '-':
			chosen = slices.DeleteFunc(chosen, func(id uint16) bool { return slices.Contains(found, id) })
		default:
			for _, id := range found {
				if !slices.Contains(chosen, id) && !slices.Contains(killed, id) {
					chosen = append(chosen, id)
				}
			}
		}
	}
	if len(chosen) == 0 {
		return cipherChoice{}, fmt.Errorf("no ciphers for '%s'", s)
	}
	return cipherChoice{chosen, level}, nil
}

// withoutECDHE leaves the suites whose keys RSA carries.
func (c cipherChoice) withoutECDHE() cipherChoice {
	return cipherChoice{slices.DeleteFunc(slices.Clone(c.suites), func(id uint16) bool {
		return !findSuite(id).has("kRSA")
	}), c.level}
}

// matches reports whether a word of a cipher string, or several that are joined by "+", names s.
func (s suite) matches(word string) bool {
	for part := range strings.SplitSeq(word, "+") {
		switch {
		case part == s.name:
		case part == "ALL" || part == "COMPLEMENTOFALL" || part == "DEFAULT":
			if part == "COMPLEMENTOFALL" || part == "DEFAULT" && s.has("MEDIUM") {
				return false
			}
		case part == "EECDH" || part == "kECDHE" || part == "kEECDH" || part == "ECDH":
			if !s.has("ECDHE") {
				return false
			}
		case part == "CHACHA20-POLY1305" || part == "CHACHA20":
			if !s.has("CHACHA20") {
				return false
			}
		case s.has(part):
		default:
			return false
		}
	}
	return true
}

// ---- curves ----

// curve is the one of a name, and 0 where there is none.
func curve(name string) tls.CurveID {
	switch name {
	case "P-256", "prime256v1", "secp256r1":
		return tls.CurveP256
	case "P-384", "secp384r1":
		return tls.CurveP384
	case "P-521", "secp521r1":
		return tls.CurveP521
	case "X25519":
		return tls.X25519
	case "X25519MLKEM768":
		return tls.X25519MLKEM768
	case "SecP256r1MLKEM768":
		return tls.SecP256r1MLKEM768
	case "SecP384r1MLKEM1024":
		return tls.SecP384r1MLKEM1024
	}
	return 0
}

// parseCurves reads a list of names; nil is the default. crypto/tls has an order of its own.
func parseCurves(s []byte) ([]tls.CurveID, error) {
	if s == nil {
		return nil, nil
	}
	var curves []tls.CurveID
	for name := range strings.SplitSeq(strings.ReplaceAll(string(s), ":", ","), ",") {
		name = strings.TrimLeft(name, " \t")
		id := curve(name)
		if id == 0 {
			return nil, fmt.Errorf("invalid ecdhe curve '%s'", name)
		}
		curves = append(curves, id)
	}
	return curves, nil
}

// ---- ALPN ----

func parseALPN(s []byte) ([]string, error) {
	const most, mostName = 65535, 255
	if s == nil {
		return nil, nil
	}
	if len(s)+1 > most {
		return nil, errors.New("alpn too large")
	}
	names := strings.Split(string(s), ",")
	for _, n := range names {
		switch {
		case n == "":
			return nil, errors.New("alpn protocol with zero length")
		case len(n) > mostName:
			return nil, errors.New("alpn protocol too long")
		}
	}
	return names, nil
}
