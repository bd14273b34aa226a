package engine

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
)

// The peer stays who it is: what the program was told of it holds for the connection's life.
func TestAnotherCertificateAfterRenegotiation(t *testing.T) {
	presents := func(der string) tls.ConnectionState {
		return tls.ConnectionState{PeerCertificates: []*x509.Certificate{{Raw: []byte(der)}}}
	}
	c := &Conn{config: &Config{}}
	for i, test := range []struct {
		der  string
		good bool
	}{{"one", true}, {"one", true}, {"another", false}} {
		if err := c.verify(presents(test.der)); (err == nil) != test.good {
			t.Errorf("handshake %d: %v", i, err)
		}
	}
}
