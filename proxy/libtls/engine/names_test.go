package engine

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"tlswrap/tests/testkit"
)

var now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func certificate(t *testing.T, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: now.AddDate(1, 0, 0)}
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestHostsMatchAsLibtlsMatchesThem(t *testing.T) {
	for _, test := range []struct {
		pattern, host string
		want          bool
	}{
		{"www.example.com", "www.example.com", true},
		{"WWW.example.com", "www.EXAMPLE.com", true},
		{"\u212a.example.com", "k.example.com", false}, // the Kelvin sign
		{"www.example.com", "example.com", false},
		{"*.example.com", "www.example.com", true},
		{"*.example.com", "a.b.example.com", false},
		{"*.example.com", "example.com", false},
		{"*.example.com", ".example.com", false},
		{"*.com", "example.com", false},
		{"*.", "example.", false},
		{"*", "example", false},
		{"*.com.", "example.com.", false},
		{"*..com", "example..com", false},
		{"w*.example.com", "www.example.com", false},
		{"*.example.com", "www", false},
		{"*.example.com", "www.", false},
		{"", "example.com", false},
	} {
		if got := matchHost(test.pattern, test.host); got != test.want {
			t.Errorf("%q for %q: %t, want %t", test.pattern, test.host, got, test.want)
		}
	}
}

func TestNamesOfCertificates(t *testing.T) {
	named := func(cn string, dns ...string) *x509.Certificate {
		return certificate(t, func(c *x509.Certificate) { c.Subject.CommonName, c.DNSNames = cn, dns })
	}
	address := certificate(t, func(c *x509.Certificate) {
		c.IPAddresses = []net.IP{net.ParseIP("192.0.2.1"), net.ParseIP("2001:db8::1")}
	})
	twoNames := certificate(t, func(c *x509.Certificate) {
		c.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: oidCommonName, Value: "a.test"}, {Type: oidCommonName, Value: "b.test"}}
	})
	raw := func(value []byte) *x509.Certificate {
		return certificate(t, func(c *x509.Certificate) {
			san, err := asn1.Marshal([]asn1.RawValue{{Class: 2, Tag: sanDNS, Bytes: value}})
			if err != nil {
				t.Fatal(err)
			}
			c.ExtraExtensions = []pkix.Extension{{Id: oidSAN, Value: san}}
		})
	}
	for name, test := range map[string]struct {
		cert        *x509.Certificate
		name        string
		always      bool
		want, wrong bool
	}{
		"alternative":                {named("x.test", "host.test"), "host.test", false, true, false},
		"common name beside another": {named("x.test", "host.test"), "x.test", false, false, false},
		"the same in 2014":           {named("x.test", "host.test"), "x.test", true, true, false},
		"common name":                {named("x.test"), "x.test", false, true, false},
		"address as common name":     {named("192.0.2.1"), "192.0.2.1", false, true, false},
		"another address":            {named("192.0.2.1"), "192.0.2.2", false, false, false},
		"address":                    {address, "192.0.2.1", false, true, false},
		"address of six":             {address, "2001:db8::1", false, true, false},
		"address, other":             {address, "192.0.2.2", false, false, false},
		"wildcard for an address":    {named("", "*.0.2.1"), "192.0.2.1", false, false, false},
		"two common names":           {twoNames, "a.test", false, false, true},
		"none":                       {named(""), "x.test", false, false, false},
		"NUL in a common name":       {named("x.test\x00.evil"), "x.test", false, false, true},
		"NUL in an alternative":      {raw([]byte("x.test\x00.evil")), "x.test", false, false, true},
		"alternative of a blank":     {raw([]byte(" ")), "x.test", false, false, true},
	} {
		got, err := matchName(test.cert, test.name, test.always)
		if got != test.want || (err != nil) != test.wrong {
			t.Errorf("%s: %t, %v", name, got, err)
		}
	}
}

func TestProtocolsWithAHole(t *testing.T) {
	for mask, want := range map[uint32]versions{
		0x18: {tls.VersionTLS12, tls.VersionTLS13}, 0x1e: {tls.VersionTLS10, tls.VersionTLS13},
		0: {tls.VersionTLS13, tls.VersionTLS10}, 0x0a: {tls.VersionTLS10, tls.VersionTLS10}, 0x10: {tls.VersionTLS13, tls.VersionTLS13},
	} {
		if got := versionsOf(mask); got != want {
			t.Errorf("%#x: %v, want %v", mask, got, want)
		}
	}
}

func TestCipherStrings(t *testing.T) {
	for _, s := range []string{"secure", "DEFAULT", "compat", "Legacy", "insecure", "all", "HIGH:!aNULL", "ECDHE+AESGCM",
		"ECDHE-RSA-AES256-GCM-SHA384", "AES128-SHA", "EECDH:@STRENGTH", "TLSv1.2+AESGCM+ECDHE"} {
		if _, err := parseCiphers([]byte(s)); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"NO", "DHE-RSA-AES256-GCM-SHA384", "CAMELLIA", "TLS_AES_128_GCM_SHA256", "ALL:!ALL", "aNULL"} {
		if c, err := parseCiphers([]byte(s)); err == nil {
			t.Errorf("%q: %v", s, c)
		} else if err.Error() != "no ciphers for '"+s+"'" {
			t.Error(err)
		}
	}
	c, err := parseCiphers([]byte("ECDHE:-SHA1:!CHACHA20"))
	if err != nil || slices.Contains(c.suites, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256) ||
		slices.Contains(c.suites, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA) || !slices.Contains(c.suites, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256) {
		t.Errorf("%v, %v", c.suites, err)
	}
	// Every suite of crypto/tls has a name of OpenSSL's.
	for _, list := range [][]*tls.CipherSuite{tls.CipherSuites(), tls.InsecureCipherSuites()} {
		for _, s := range list {
			if findSuite(s.ID).name == "" {
				t.Errorf("%s has no name", s.Name)
			}
		}
	}
}

// A cipher string leaves the suites that it leaves in OpenSSL, but for those that Debian's has not.
func TestCipherStringsAsOpenSSL(t *testing.T) {
	testkit.Need(t, "openssl")
	for _, s := range []string{"HIGH", "ALL", "HIGH:!aNULL", "ECDHE+AESGCM:!SHA384", "EECDH", "AES256", "AES128:-RSA",
		"AESGCM+ECDSA", "CHACHA20", "kRSA", "RSA", "aRSA", "aECDSA", "TLSv1.2", "TLSv1", "SSLv3", "SHA", "SHA1", "SHA256",
		"CBC", "DEFAULT:!RSA", "ALL:!COMPLEMENTOFDEFAULT", "HIGH@SECLEVEL=1", "HIGH:@STRENGTH", "!ECDHE:ECDHE:AES", "ECDHE:-ECDHE:AES128-SHA",
		"HIGH !SHA", "HIGH,!SHA", "HIGH;!SHA", "HIGH:+AES", "AES128-SHA256:nonsense"} {
		out, err := exec.Command("openssl", "ciphers", s).Output()
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		c, err := parseCiphers([]byte(s))
		if err != nil {
			t.Error(err)
		}
		theirs := strings.Split(strings.TrimSpace(string(out)), ":")
		for _, suite := range suites {
			weak := strings.Contains(suite.name, "RC4") || strings.Contains(suite.name, "DES")
			if ours := slices.Contains(c.suites, suite.id); !weak && ours != slices.Contains(theirs, suite.name) {
				t.Errorf("%q: %s: %t", s, suite.name, ours)
			}
		}
	}
}

func TestNamesOnOneLine(t *testing.T) {
	cert := certificate(t, func(c *x509.Certificate) {
		c.Subject = pkix.Name{Country: []string{"XX"}, Organization: []string{"A\tB"}, CommonName: "é"}
	})
	if got, want := oneLine(cert.RawSubject), `/C=XX/O=A\x09B/CN=\xC3\xA9`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
