package trust

import (
	"crypto/tls"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"tlswrap/rules"
	"tlswrap/tests/testkit"
)

// Clients of a [[listen]] have to have keys as long as servers' are.
func TestAClientsShortKeyIsRefusedUnlessTheListenTakesIt(t *testing.T) {
	dir := t.TempDir()
	root, err := testkit.NewAuthority("root")
	if err != nil {
		t.Fatal(err)
	}
	server, err := root.Issue(testkit.Leaf{Names: []string{"db.test"}})
	if err != nil {
		t.Fatal(err)
	}
	client, err := root.Issue(testkit.Leaf{CommonName: "a client", RSABits: 1024, ClientOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := server.WriteFiles(dir, "server"); err != nil {
		t.Fatal(err)
	}
	if err := root.WriteFile(filepath.Join(dir, "root.pem")); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"":                    "the client's certificate has an RSA key of 1024 bits, and at least 2048 are demanded (min_rsa_bits = 1024 accepts it)",
		"min_rsa_bits = 1024": "",
	} {
		policy, err := rules.Parse(filepath.Join(dir, "rules.toml"), fmt.Appendf(nil,
			"[[listen]]\nport = 1\ncert_file = \"server.pem\"\nkey_file = \"server.key\"\nclient_auth = \"require\"\nclient_ca_file = \"root.pem\"\n%s\n", key))
		if err != nil {
			t.Fatal(err)
		}
		service := newService(policy.Listens[0])
		if service.Broken != nil {
			t.Fatal(service.Broken)
		}
		here, there := connected(t)
		go func() {
			defer there.Close()
			tls.Client(there, &tls.Config{RootCAs: root.Pool(), ServerName: "db.test", Certificates: []tls.Certificate{client.TLS()}, MaxVersion: tls.VersionTLS12}).Handshake()
		}()
		err = tls.Server(here, service.Config).Handshake()
		here.Close()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", key, err, want)
		}
	}
}

// connected returns the two ends of a connection, which has buffers.
func connected(t *testing.T) (server, client net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err == nil {
		server, err = l.Accept()
	}
	if err != nil {
		t.Fatal(err)
	}
	return server, client
}

// What is not safe is offered by the rule that says so, and by nothing else.
func TestNothingOffersLegacyCiphersButARule(t *testing.T) {
	t.Setenv("GODEBUG", "tlsrsakex=1,tls3des=1")
	for _, id := range cipherSuites(nil) {
		if legacySuites[id] != nil {
			t.Errorf("%s is offered", tls.CipherSuiteName(id))
		}
	}
	offered := 0
	for _, id := range cipherSuites(rules.LegacyCiphers) {
		if legacySuites[id] != nil {
			offered++
		}
	}
	if offered != len(legacySuites) {
		t.Errorf("%d of %d are offered that all words together allow", offered, len(legacySuites))
	}
}
