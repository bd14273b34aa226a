package starttls

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/pem"
	"sync"
)

// mysqlPassword stands in for a server that wants the password itself, to keep its hash. A
// program without TLS asks such a server for an RSA key and encrypts the password; a server
// under TLS does not know that question and takes what it reads for the password
// (caching_sha2_password_authenticate in MySQL). So the program gets a key from here, and
// the server the password.
type mysqlPassword struct {
	plugin string // the method that is in use
	nonce  []byte
	asks   byte // what the program may ask for the key with now; 0 is nothing
	given  bool // the program has the key, and encrypts with it next
}

// Questions for the server's key.
const (
	mysqlAskSHA256  = 1 // in sha256_password
	mysqlAskCaching = 2 // in caching_sha2_password
)

// fromServer looks at what the server says.
func (p *mysqlPassword) fromServer(payload []byte) {
	const fullAuthentication = 4
	p.asks, p.given = 0, false
	switch {
	case payload[0] == mysqlAuthSwitch:
		plugin, nonce, _ := bytes.Cut(payload[1:], []byte{0})
		p.plugin, p.nonce = string(plugin), bytes.Clone(nonce)
		if p.plugin == "sha256_password" {
			p.asks = mysqlAskSHA256
		}
	case p.plugin == "caching_sha2_password" && bytes.Equal(payload, []byte{mysqlMoreData, fullAuthentication}):
		p.asks = mysqlAskCaching
	}
}

// fromProgram takes a packet of the program's, and returns what the server gets in its place,
// or, where answer is not nil, what the program reads instead.
func (p *mysqlPassword) fromProgram(payload []byte) (toServer, answer []byte, err error) {
	asks, given := p.asks, p.given
	p.asks, p.given = 0, false
	switch {
	case given:
		toServer, err = p.decrypt(payload)
		return toServer, nil, err
	case asks != 0 && bytes.Equal(payload, []byte{asks}):
		key, err := mysqlPublicKey()
		if err != nil {
			return nil, nil, err
		}
		p.given = true
		return nil, append([]byte{mysqlMoreData}, key...), nil
	case asks == mysqlAskCaching && !bytes.HasSuffix(payload, []byte{0}):
		return nil, nil, errorf("the program has a key of the server's and encrypts its password, which the server does not expect under TLS: have it ask for the key (get-server-public-key)")
	}
	return payload, nil, nil
}

// decrypt returns the password, with the NUL at its end. It was mixed with the nonce first
// (xor_string in MySQL).
func (p *mysqlPassword) decrypt(b []byte) ([]byte, error) {
	const nonceLen = 20
	key, err := mysqlKey()
	if err != nil {
		return nil, err
	}
	password, err := rsa.DecryptOAEP(sha1.New(), nil, key, b, nil)
	if err != nil || len(p.nonce) < nonceLen {
		return nil, errorf("the program did not encrypt its password as it should")
	}
	for i := range password {
		password[i] ^= p.nonce[i%nonceLen]
	}
	return password, nil
}

// mysqlKey is nobody's secret but the worker's, and protects nothing: it is on the way from
// the program to the worker.
var mysqlKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func mysqlPublicKey() ([]byte, error) {
	key, err := mysqlKey()
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), err
}
