package libtls_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tlswrap/tests/testkit"
)

// pki is a folder of certificates, keys, lists and OCSP responses.
type pki struct{ dir string }

func (p *pki) path(name string) string { return filepath.Join(p.dir, name) }

type issued struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newPKI(dir string) (*pki, error) {
	p := &pki{dir}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	now := time.Now()
	day := 24 * time.Hour
	var failed error
	serial := int64(100)
	issue := func(name string, by *issued, change func(*x509.Certificate), chain ...*issued) *issued {
		serial++
		t := &x509.Certificate{
			SerialNumber: big.NewInt(serial), NotBefore: now.Add(-day), NotAfter: now.Add(day),
			Subject:  pkix.Name{Country: []string{"XX"}, Organization: []string{"Größe"}, CommonName: name + ".test"},
			KeyUsage: x509.KeyUsageDigitalSignature, DNSNames: []string{"host.test", "*.wild.test"},
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		}
		change(t)
		key, err := p.newKey(name)
		parent, signer := t, key
		if by != nil {
			parent, signer = by.cert, by.key
		}
		var der []byte
		if err == nil {
			der, err = x509.CreateCertificate(rand.Reader, t, parent, key.Public(), signer)
		}
		if err == nil {
			t, err = x509.ParseCertificate(der)
		}
		if err != nil {
			failed = fmt.Errorf("%s: %w", name, err)
			return &issued{t, key}
		}
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		for _, c := range chain {
			text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.cert.Raw})...)
		}
		failed = firstError(failed, os.WriteFile(p.path(name+".pem"), text, 0o644), p.writeKey(name, key))
		return &issued{t, key}
	}
	authority := func(t *x509.Certificate) {
		t.IsCA, t.BasicConstraintsValid = true, true
		t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature
		t.DNSNames, t.IPAddresses = nil, nil
	}
	same := func(*x509.Certificate) {}
	ca := issue("ca", nil, authority)
	issue("otherca", nil, authority)
	between := issue("between", ca, authority)
	deep := issue("deep", between, authority)
	oldca := issue("oldca", nil, func(t *x509.Certificate) {
		authority(t)
		t.NotBefore, t.NotAfter = now.Add(-3*day), now.Add(-2*day)
	})
	issue("underold", oldca, same, oldca)
	host := issue("host", ca, func(t *x509.Certificate) { t.OCSPServer = []string{"http://ocsp.test/"} })
	issue("rsa", ca, same)
	issue("chained", between, same, between)
	issue("deeper", deep, same, deep, between)
	issue("second", ca, func(t *x509.Certificate) { t.DNSNames = []string{"second.test", "*.second.test"} })
	issue("cn", ca, func(t *x509.Certificate) { t.DNSNames, t.IPAddresses = nil, nil })
	issue("tld", ca, func(t *x509.Certificate) { t.DNSNames = []string{"*.test"} })
	issue("expired", ca, func(t *x509.Certificate) { t.NotBefore, t.NotAfter = now.Add(-3*day), now.Add(-2*day) })
	issue("future", ca, func(t *x509.Certificate) { t.NotBefore, t.NotAfter = now.Add(2*day), now.Add(3*day) })
	issue("self", nil, same)
	client := issue("client", ca, func(t *x509.Certificate) { t.DNSNames = nil })
	issue("weak", ca, same)
	weakca := issue("weakca", nil, authority)
	issue("underweak", weakca, same)
	issue("any", ca, func(t *x509.Certificate) { t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} })
	issue("anytoo", ca, func(t *x509.Certificate) {
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny, x509.ExtKeyUsageServerAuth}
	})
	issue("gated", ca, func(t *x509.Certificate) {
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageNetscapeServerGatedCrypto}
	})
	issue("signer", ca, func(t *x509.Certificate) { t.KeyUsage = x509.KeyUsageCertSign })
	anyca := issue("anyca", ca, func(t *x509.Certificate) {
		authority(t)
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	})
	issue("underany", anyca, same, anyca)
	mute := issue("mute", ca, func(t *x509.Certificate) { authority(t); t.KeyUsage = x509.KeyUsageDigitalSignature })
	issue("undermute", mute, same, mute)
	issue("underleaf", host, same, host)
	short := issue("short", ca, func(t *x509.Certificate) { authority(t); t.MaxPathLenZero = true })
	long := issue("long", short, authority)
	issue("underlong", long, same, long, short)
	issue("critical", ca, func(t *x509.Certificate) {
		t.ExtraExtensions = []pkix.Extension{{Id: []int{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: true, Value: []byte{5, 0}}}
	})
	issue("undercritical", issue("criticalca", nil, func(t *x509.Certificate) {
		authority(t)
		t.ExtraExtensions = []pkix.Extension{{Id: []int{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: true, Value: []byte{5, 0}}}
	}), same)
	issue("mapped", ca, func(t *x509.Certificate) { t.DNSNames, t.IPAddresses = nil, nil; t.Subject.CommonName = "127.0.0.1" })
	issue("purpose", ca, func(t *x509.Certificate) { t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} })

	list := func(name string, revoked []x509.RevocationListEntry, until time.Time, extensions ...pkix.Extension) {
		der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
			Number: big.NewInt(1), ThisUpdate: now.Add(-2 * day), NextUpdate: until, RevokedCertificateEntries: revoked,
			ExtraExtensions: extensions,
		}, ca.cert, ca.key)
		if err == nil {
			err = os.WriteFile(p.path(name), pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}), 0o644)
		}
		failed = firstError(failed, err)
	}
	list("empty.crl", nil, now.Add(day))
	list("old.crl", nil, now.Add(-day))
	list("revoked.crl", []x509.RevocationListEntry{
		{SerialNumber: host.cert.SerialNumber, RevocationTime: now.Add(-day)},
		{SerialNumber: client.cert.SerialNumber, RevocationTime: now.Add(-day)},
	}, now.Add(day))
	issuing := func(scope ...byte) pkix.Extension { // an IssuingDistributionPoint
		return pkix.Extension{Id: []int{2, 5, 29, 28}, Critical: true, Value: append([]byte{0x30, byte(len(scope))}, scope...)}
	}
	list("authorities.crl", nil, now.Add(day), issuing(0x82, 1, 0xff))
	list("attributes.crl", nil, now.Add(day), issuing(0x85, 1, 0xff))
	list("reasons.crl", nil, now.Add(day), issuing(0x83, 2, 4, 0x70))
	list("indirect.crl", nil, now.Add(day), issuing(0x84, 1, 0xff))
	list("partition.crl", nil, now.Add(day), issuing(append([]byte{0xa0, 17, 0xa0, 15, 0x86, 13}, "http://list.x"...)...))
	list("critical.crl", nil, now.Add(day), pkix.Extension{Id: []int{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: true, Value: []byte{5, 0}})
	list("delta.crl", nil, now.Add(day), pkix.Extension{Id: []int{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}})
	failed = firstError(failed,
		os.WriteFile(p.path("junk"), []byte("this is no certificate\n"), 0o644), os.WriteFile(p.path("empty"), nil, 0o644))
	if failed != nil {
		return nil, failed
	}
	return p, firstError(p.makeResponses(host), p.makeFirstVersion(host),
		testkit.Tool("mkdir", p.path("hashed")), testkit.Tool("cp", p.path("ca.pem"), p.path("otherca.pem"), p.path("hashed")),
		testkit.Tool("openssl", "rehash", p.path("hashed")), testkit.Tool("mkfifo", p.path("hashed/00000000.0")), // nobody writes there
		testkit.Tool("openssl", "pkcs8", "-topk8", "-in", p.path("host.key"), "-passout", "pass:secret", "-out", p.path("pkcs8.key")),
		testkit.Tool("openssl", "pkcs8", "-topk8", "-scrypt", "-in", p.path("host.key"), "-passout", "pass:secret", "-out", p.path("scrypt.key")),
		p.openssl("sha1", "-sha1"), p.openssl("negative", "-set_serial", "-12345"),
		p.trail("ca", "trailingca"),
		testkit.Tool("openssl", "genpkey", "-algorithm", "ED448", "-out", p.path("ed448.key")),
		testkit.Tool("openssl", "pkey", "-traditional", "-aes256", "-in", p.path("host.key"), "-passout", "pass:secret", "-out", p.path("traditional.key")))
}

// openssl has a certificate like host made that crypto/x509 does not make.
func (p *pki) openssl(name string, args ...string) error {
	extensions, request := p.path(name+".ext"), p.path(name+".csr")
	args = append([]string{"x509", "-req", "-days", "1", "-in", request, "-CA", p.path("ca.pem"), "-CAkey", p.path("ca.key"),
		"-extfile", extensions, "-out", p.path(name + ".pem")}, args...)
	return firstError(os.WriteFile(extensions, []byte("subjectAltName=DNS:host.test\n"), 0o644),
		testkit.Tool("openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", p.path(name+".key"), "-subj", "/CN=host.test", "-out", request),
		testkit.Tool("openssl", args...))
}

// trail makes a copy of a certificate with bytes behind it.
func (p *pki) trail(from, name string) error {
	text, err := os.ReadFile(p.path(from + ".pem"))
	if err != nil {
		return err
	}
	key, err := os.ReadFile(p.path(from + ".key"))
	block, _ := pem.Decode(text)
	block.Bytes = append(block.Bytes, 5, 0, 5, 0)
	return firstError(err, os.WriteFile(p.path(name+".key"), key, 0o600), os.WriteFile(p.path(name+".pem"), pem.EncodeToMemory(block), 0o644))
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *pki) newKey(name string) (crypto.Signer, error) {
	if strings.HasPrefix(name, "weak") {
		return rsa.GenerateKey(rand.Reader, 1024)
	}
	if name == "rsa" || name == "second" {
		return rsa.GenerateKey(rand.Reader, 2048)
	}
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

func (p *pki) writeKey(name string, key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(p.path(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

// makeResponses has openssl say how host is: good, revoked, and unknown, and in a week that has
// passed.
func (p *pki) makeResponses(host *issued) error {
	states := map[string]string{
		"good":    "V\t991231235959Z\t\t%X\tunknown\t/CN=host.test\n",
		"revoked": "R\t991231235959Z\t260101000000Z,keyCompromise\t%X\tunknown\t/CN=host.test\n",
		"unknown": "",
	}
	for state, line := range states {
		if line != "" {
			line = fmt.Sprintf(line, host.cert.SerialNumber)
		}
		index := p.path(state + ".index")
		if err := os.WriteFile(index, []byte(line), 0o644); err != nil {
			return err
		}
		if err := testkit.Tool("openssl", "ocsp", "-index", index, "-CA", p.path("ca.pem"), "-rsigner", p.path("ca.pem"),
			"-rkey", p.path("ca.key"), "-issuer", p.path("ca.pem"), "-cert", p.path("host.pem"), "-no_nonce", "-ndays", "3",
			"-respout", p.path(state+".ocsp")); err != nil {
			return err
		}
	}
	return nil
}

// makeFirstVersion has openssl make lists by the system's own configuration, as it says for version 1: an empty
// one, and one that host is on.
func (p *pki) makeFirstVersion(host *issued) error {
	config, err := os.ReadFile("/etc/ssl/openssl.cnf")
	if err != nil {
		return err
	}
	config = bytes.ReplaceAll(config, []byte("\ncrlnumber"), []byte("\n#crlnumber"))
	at := p.path("authority")
	index := filepath.Join(at, "demoCA", "index.txt")
	line := fmt.Sprintf("R\t991231235959Z\t260101000000Z\t%X\tunknown\t/CN=host.test\n", host.cert.SerialNumber)
	generate := func(name string) error {
		return testkit.Tool("sh", "-c", `cd "$1" && openssl ca -config openssl.cnf -gencrl -keyfile ../ca.key -cert ../ca.pem -out "../$2"`, "sh", at, name)
	}
	err = firstError(os.MkdirAll(filepath.Dir(index), 0o755), os.WriteFile(filepath.Join(at, "openssl.cnf"), config, 0o644))
	return firstError(err, os.WriteFile(index, nil, 0o644), generate("first.crl"),
		os.WriteFile(index, []byte(line), 0o644), generate("firstrevoked.crl"))
}
