package engine

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"math/big"
	"testing"
	"time"
)

func TestAUsersSharesAreBounded(t *testing.T) {
	var shares Shares
	stores := []*Store{NewStore(&shares), NewStore(&shares)}
	big := func(i int) []byte {
		b := make([]byte, Most-shareCost)
		b[0] = byte(i)
		return b
	}
	var first uint64
	for i := range mostBytes / Most {
		n, err := stores[i%2].Load(kindCA, big(i))
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		if i == 0 {
			first = n
		}
	}
	if _, err := stores[1].Load(kindKey, []byte("x")); err == nil {
		t.Error("there is no end")
	}
	if _, err := stores[1].Load(kindCA, big(0)); err != nil {
		t.Errorf("what is there already: %v", err)
	}
	stores[0].Drop(first)
	stores[0].Drop(first)
	if _, err := stores[0].Load(kindKey, []byte("x")); err == nil {
		t.Error("what another run holds is not counted")
	}
	stores[1].Close()
	if _, err := stores[0].Load(kindKey, []byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := stores[1].Load(kindKey, []byte("x")); err == nil {
		t.Error("a run that has ended loads a key")
	}
	stores[0].Close()
	if shares.size != 0 || len(shares.held) != 0 {
		t.Errorf("%d bytes and %d shares are left", shares.size, len(shares.held))
	}
}

// A number of a key is none of a configuration, and what was dropped is nothing.
func TestNumbersOfAnotherKind(t *testing.T) {
	s := NewStore(&Shares{})
	key, err := s.Load(kindKey, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if c, err := s.Config(key); err == nil {
		t.Errorf("%v", c)
	}
	config, err := s.Build(make([]byte, settingsHeader))
	if err != nil {
		t.Fatal(err)
	}
	settings := make([]byte, settingsHeader)
	binary.NativeEndian.PutUint64(settings[settingsNumbers:], config)
	if n, err := s.Build(settings); err == nil {
		t.Errorf("a configuration of a configuration: %d", n)
	}
	s.Drop(config)
	if c, err := s.Config(config); err == nil {
		t.Errorf("%v", c)
	}
}

// newKeypair makes a certificate and its key, in PEM.
func newKeypair(t *testing.T) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "host.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
}

// client gives a store what a client is made of, each time in memory of its own, and builds it.
func client(t *testing.T, s *Store, ca, cert, key []byte) *Config {
	t.Helper()
	settings := make([]byte, settingsHeader+keypairLen)
	ne := binary.NativeEndian
	ne.PutUint32(settings, uint32(flagVerifyCert|flagVerifyName))
	ne.PutUint32(settings[settingsHeader-8:], 1)
	load := func(at int, kind Kind, data []byte) {
		n, err := s.Load(kind, bytes.Clone(data))
		if err != nil {
			t.Fatal(err)
		}
		ne.PutUint64(settings[at:], n)
	}
	load(settingsNumbers+8*int(kindCA), kindCA, ca)
	load(settingsHeader, kindCert, cert)
	load(settingsHeader+8, kindKey, key)
	n, err := s.Build(settings)
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Config(n)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Runs of one user that give the same have it once. Who gives a certificate without its key, or
// with another, gets nothing of one who has the key.
func TestEqualConfigurationsAreOne(t *testing.T) {
	var shares Shares
	one, two := NewStore(&shares), NewStore(&shares)
	cert, key := newKeypair(t)
	a := client(t, one, cert, cert, key)
	size := shares.size
	if b := client(t, two, cert, cert, key); a != b || shares.size != size {
		t.Errorf("they are two, of %d bytes with the first and %d with both", size, shares.size)
	}
	if b := client(t, two, append(bytes.Clone(cert), '\n'), cert, key); a == b || a.anchors == b.anchors {
		t.Error("one with other CA certificates is taken for the same")
	}
	_, another := newKeypair(t)
	for _, key := range [][]byte{another, nil} {
		s := NewStore(&shares)
		settings := make([]byte, settingsHeader+keypairLen)
		settings[settingsHeader-8] = 1
		for i, data := range [][]byte{cert, key} {
			if n, err := s.Load(kindCert+Kind(i), bytes.Clone(data)); err != nil {
				t.Fatal(err)
			} else {
				binary.NativeEndian.PutUint64(settings[settingsHeader+8*i:], n)
			}
		}
		if n, err := s.Build(settings); err == nil {
			t.Errorf("a certificate is used with the key %q: %d", key, n)
		}
	}
}

// A key stays while a run or a connection has it, and is wiped with the last.
func TestKeysAreWipedWithTheLastUser(t *testing.T) {
	var shares Shares
	one, two := NewStore(&shares), NewStore(&shares)
	_, key := newKeypair(t)
	given := bytes.Clone(key)
	if _, err := one.Load(kindKey, given); err != nil {
		t.Fatal(err)
	}
	again, err := two.Load(kindKey, bytes.Clone(key))
	if err != nil {
		t.Fatal(err)
	}
	one.Close()
	if !bytes.Equal(given, key) {
		t.Error("it is wiped while another run has it")
	}
	two.Drop(again)
	if bytes.ContainsFunc(given, func(r rune) bool { return r != 0 }) || shares.size != 0 {
		t.Errorf("of the key there is %q, and %d bytes are held", given, shares.size)
	}
}

func TestConnectionsHoldTheirConfiguration(t *testing.T) {
	var shares Shares
	s := NewStore(&shares)
	cert, key := newKeypair(t)
	c := client(t, s, cert, cert, key)
	s.Close()
	if shares.size == 0 {
		t.Error("it is gone before its connection")
	}
	c.Release()
	if shares.size != 0 || len(shares.held) != 0 {
		t.Errorf("%d bytes are left", shares.size)
	}
}
