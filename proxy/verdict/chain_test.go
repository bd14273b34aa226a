package verdict

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// made is a certificate with its key, to be signed with or presented.
type made struct {
	*x509.Certificate
	key crypto.Signer
}

// certify makes a certificate by issuer, or by itself where issuer has no key; change may be nil.
func certify(t *testing.T, name string, issuer made, change func(*x509.Certificate)) made {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return certifyKey(t, name, key, issuer, change)
}

func certifyKey(t *testing.T, name string, key crypto.Signer, issuer made, change func(*x509.Certificate)) made {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if name == "db.example.test" {
		template.IsCA, template.KeyUsage, template.DNSNames = false, x509.KeyUsageDigitalSignature, []string{name}
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	if change != nil {
		change(template)
	}
	if issuer.key == nil {
		issuer = made{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.Certificate, key.Public(), issuer.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made{cert, key}
}

// shake lets a client verify a server's chain, or with mutual the server a client's, and returns the error.
func shake(t *testing.T, root made, mutual bool, sent ...made) error {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(root.Certificate)
	chain := tls.Certificate{PrivateKey: sent[0].key}
	for _, c := range sent {
		chain.Certificate = append(chain.Certificate, c.Raw)
	}
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	server := tls.Server(there, &tls.Config{Certificates: []tls.Certificate{chain}, MaxVersion: tls.VersionTLS12})
	client := tls.Client(here, &tls.Config{RootCAs: pool, ServerName: "db.example.test"})
	if mutual {
		server = tls.Server(there, &tls.Config{Certificates: []tls.Certificate{chain}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MaxVersion: tls.VersionTLS12})
		client = tls.Client(here, &tls.Config{InsecureSkipVerify: true,
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &chain, nil }})
		go func() { client.Handshake(); here.Close() }()
		return server.Handshake()
	}
	go func() { server.Handshake(); there.Close() }()
	return client.Handshake()
}

func TestASentenceNamesTheTrueCauseOfARefusedChain(t *testing.T) {
	unknownExtension := func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
	}
	noAuthority := func(c *x509.Certificate) { c.IsCA = false }
	noSigning := func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }
	past := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-9*time.Hour), time.Now().Add(-3*time.Hour)
	}
	future := func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }
	weak := func(c *x509.Certificate) { c.SignatureAlgorithm = x509.ECDSAWithSHA1 }
	narrow := func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"other.test"} }
	short := func(c *x509.Certificate) { c.MaxPathLenZero = true }
	clients := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }
	type change = func(*x509.Certificate)
	for _, c := range []struct {
		name                     string
		root, between, low, leaf change
		want                     string
	}{
		{"the leaf by SHA-1", nil, nil, nil, weak, "certificate is signed with SHA-1 (ECDSA-SHA1), which is not safe any more"},
		{"the intermediate by SHA-1", nil, nil, weak, nil, `the issuer's certificate "CN=low" is signed with SHA-1 (ECDSA-SHA1), which is not safe any more`},
		{"an intermediate that is no authority", nil, nil, noAuthority, nil, `the issuer's certificate "CN=low" may not sign other certificates (its basic constraints do not make it an authority)`},
		{"an intermediate without the right", nil, noSigning, nil, nil, `the issuer's certificate "CN=between" may not sign other certificates (its key usage does not say so)`},
		{"a root that is no authority", noAuthority, nil, nil, nil, `the trusted root "CN=root" may not sign other certificates (its basic constraints do not make it an authority)`},
		{"a root without the right", noSigning, nil, nil, nil, `the trusted root "CN=root" may not sign other certificates (its key usage does not say so)`},
		{"an unknown extension of the leaf's", nil, nil, nil, unknownExtension, "certificate has the critical extension 1.2.3.4, which is not known here"},
		{"an unknown extension of an intermediate's", nil, nil, unknownExtension, nil, `the issuer's certificate "CN=low" has the critical extension 1.2.3.4, which is not known here`},
		{"an unknown extension of the root's", unknownExtension, nil, nil, nil, "the trusted root has a critical extension that is not known here"},
		{"an expired intermediate", nil, past, nil, nil, `the issuer's certificate "CN=between" expired 3 hours ago, on `},
		{"an intermediate of tomorrow", nil, nil, future, nil, `the issuer's certificate "CN=low" is not valid before `},
		{"an expired root", past, nil, nil, nil, `the trusted root "CN=root" expired 3 hours ago, on `},
		{"names that an authority may not vouch for", nil, narrow, nil, nil, `the issuer's certificate "CN=between" may not vouch for what this one is for (name constraints): DNS name "db.example.test" is not permitted`},
		{"a path that is too long", nil, short, nil, nil, `the issuer's certificate "CN=between" allows no other authority below it, and the chain has more (path length)`},
		{"a leaf for clients", nil, nil, nil, clients, "certificate is not for TLS servers (its extended key usage does not say so)"},
		{"an intermediate for clients", nil, nil, clients, nil, `the issuer's certificate "CN=low" is not for TLS servers (its extended key usage does not say so)`},
	} {
		root := certify(t, "root", made{}, c.root)
		between := certify(t, "between", root, c.between)
		low := certify(t, "low", between, c.low)
		leaf := certify(t, "db.example.test", low, c.leaf)
		err := shake(t, root, false, leaf, low, between)
		a := Attempt{Name: "db.example.test", Now: time.Now()}
		if err == nil || !strings.HasPrefix(a.Explain(err).Reason, c.want) {
			t.Errorf("%s: got %v\nfor %v, want %s", c.name, a.Explain(err), err, c.want)
		}
	}
}

func TestASentenceTellsReissuedRootsFromUnknownOnes(t *testing.T) {
	root, stranger := certify(t, "root", made{}, nil), certify(t, "stranger", made{}, nil)
	reissued := certify(t, "root", made{}, nil)
	leaf, low := certify(t, "db.example.test", root, nil), certify(t, "low", root, nil)
	below := certify(t, "db.example.test", low, nil)
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	shortRoot := certifyKey(t, "short", short, made{}, nil)
	for _, c := range []struct {
		name string
		root made
		sent []made
		want string
	}{
		{"a reissued root", reissued, []made{leaf}, `certificate is signed by another key than that of the trusted root "CN=root", which has its issuer's name`},
		{"a reissued root that was sent along", reissued, []made{leaf, root}, `the issuer's certificate "CN=root" is signed by another key than that of the trusted root "CN=root", which has its issuer's name`},
		{"a reissued root above an intermediate", reissued, []made{below, low}, `the issuer's certificate "CN=low" is signed by another key than that of the trusted root "CN=root"`},
		{"an unknown root", stranger, []made{leaf}, `certificate is issued by "CN=root", which is neither a trusted root nor sent along by the server (ca_file in the rule, or --ca, would trust it)`},
		{"an unknown root above an intermediate", stranger, []made{below, low}, `the issuer's certificate "CN=low" is issued by "CN=root", which is neither`},
		{"an unknown root that was sent along", stranger, []made{leaf, root}, `certificate chain ends in "CN=root", which is not a trusted root (ca_file in the rule, or --ca, would trust it)`},
		{"nothing trusted", shortRoot, []made{certify(t, "db.example.test", made{}, nil)}, "certificate is self-signed (CN=db.example.test) and not trusted (ca_file in the rule, or --ca, would trust it)"},
	} {
		err := shake(t, c.root, false, c.sent...)
		a := Attempt{Name: "db.example.test", Now: time.Now()}
		if got := a.Explain(err); err == nil || got.Errno != unix.EKEYREJECTED || !strings.HasPrefix(got.Reason, c.want) {
			t.Errorf("%s: got %v\nfor %v, want %s", c.name, got, err, c.want)
		}
	}
}

func TestASentenceAboutAClientsChainNamesTheTrueCauseToo(t *testing.T) {
	root := certify(t, "root", made{}, nil)
	reissued := certify(t, "root", made{}, nil)
	servers := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }
	for want, err := range map[string]error{
		`the client's certificate is signed by another key than that of the trusted root "CN=root"`:                    shake(t, reissued, true, certify(t, "db.example.test", root, nil)),
		"the client's certificate is not for TLS clients (its extended key usage does not say so)":                     shake(t, root, true, certify(t, "db.example.test", root, servers)),
		`the client's certificate is self-signed (CN=db.example.test) and not trusted (client_ca_file would trust it)`: shake(t, root, true, certify(t, "db.example.test", made{}, nil)),
	} {
		if err == nil || !strings.HasPrefix(Client(err, nil, time.Second).Reason, want) {
			t.Errorf("got %v\nfor %v, want %s", Client(err, nil, time.Second), err, want)
		}
	}
}

// An address that came without a name may be one of a host that the certificate is for.
func TestACertificateForANameTellsHowAnAddressIsVerified(t *testing.T) {
	root := certify(t, "root", made{}, nil)
	leaf := certify(t, "db.example.test", root, nil)
	for nameless, want := range map[bool]string{
		false: "certificate is for db.example.test, not 10.0.0.1",
		true:  `certificate is for db.example.test, not 10.0.0.1; the program came with an address and no name: server_name = "db.example.test" in a rule for the address would verify that name, if it is meant`,
	} {
		a := Attempt{Name: "10.0.0.1", Nameless: nameless}
		if got := a.Explain(errors.Join(leaf.VerifyHostname("10.0.0.1"))); got.Reason != want {
			t.Errorf("got %s\nwant %s", got, want)
		}
	}
}

// A certificate that has signed itself is not told from one that is trusted and has the same name by what that may do.
func TestASelfSignedCertificateIsNotATrustedOneOfTheSameName(t *testing.T) {
	noAuthority := func(c *x509.Certificate) { c.IsCA = false }
	trusted := certify(t, "db.example.test", made{}, noAuthority)
	err := shake(t, trusted, false, certify(t, "db.example.test", made{}, nil))
	a := Attempt{Name: "db.example.test", Now: time.Now()}
	const want = `is signed by another key than that of the trusted root "CN=db.example.test", which has its issuer's name`
	if got := a.Explain(err); err == nil || !strings.Contains(got.Reason, want) {
		t.Errorf("got %v\nfor %v, want %q", got, err, want)
	}
}
