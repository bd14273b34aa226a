package record

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"hash"
)

// suite is what a cipher suite says about records.
type suite struct {
	hash    func() hash.Hash // of the key schedule
	aead    func(key []byte) (cipher.AEAD, error)
	keyLen  int
	fixedIV int // bytes of a TLS 1.2 nonce that are not in the record
}

var (
	aes128 = suite{sha256.New, newGCM, 16, 4}
	aes256 = suite{sha512.New384, newGCM, 32, 4}
)

// suites are those that this package can take over. A connection with another one stays
// with crypto/tls: one of CBC mode, which is of the past, or of ChaCha20-Poly1305, which
// the standard library has for itself alone.
var suites = map[uint16]*suite{
	tls.TLS_AES_128_GCM_SHA256: &aes128,
	tls.TLS_AES_256_GCM_SHA384: &aes256,

	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:   &aes128,
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256: &aes128,
	tls.TLS_RSA_WITH_AES_128_GCM_SHA256:         &aes128,
	tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384:   &aes256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384: &aes256,
	tls.TLS_RSA_WITH_AES_256_GCM_SHA384:         &aes256,
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
