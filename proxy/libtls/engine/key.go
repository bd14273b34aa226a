package engine

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/pbkdf2"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
)

// UnsupportedKey says why a private key that is there cannot be used.
type UnsupportedKey string

func (e UnsupportedKey) Error() string { return string(e) }

const (
	keyKind      = UnsupportedKey("its kind is not supported: crypto/tls has RSA, ECDSA with NIST's curves, and Ed25519")
	keyEncrypted = UnsupportedKey("it is encrypted: tls_load_file takes a password")
	keyScrypt    = UnsupportedKey("it is encrypted with scrypt, which Go's standard library does not have: openssl pkcs8 -topk8 writes it with PBKDF2")
	keyCipher    = UnsupportedKey("the way it is encrypted is not supported: openssl pkcs8 -topk8 writes it with PBKDF2 and AES")
)

// parseKey reads the first private key of a PEM file. The error is libtls's sentence.
func parseKey(data []byte) (crypto.Signer, error) {
	const unread = "failed to read private key"
	for block := range blocks(data) {
		key, err := parseKeyBlock(block)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", unread, err)
		}
		if key != nil {
			return key, nil
		}
	}
	return nil, errors.New(unread)
}

func parseKeyBlock(block *pem.Block) (crypto.Signer, error) {
	var (
		key any
		err error
	)
	//lint:ignore SA1019 the format is weak, and what such files are in
	if x509.IsEncryptedPEMBlock(block) {
		return nil, keyEncrypted
	}
	switch block.Type {
	case "ENCRYPTED PRIVATE KEY":
		return nil, keyEncrypted
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, nil // parameters, certificates
	}
	if err != nil {
		return nil, keyKind // or damaged, which crypto/x509 does not tell apart
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return k, nil
	case *ecdsa.PrivateKey:
		return k, nil
	case ed25519.PrivateKey:
		return k, nil
	}
	return nil, keyKind
}

// Decrypt reads the private key of a PEM file, which may be encrypted with password, and returns
// it as a PKCS #8 PEM that is not.
func Decrypt(data, password []byte) ([]byte, error) {
	for block := range blocks(data) {
		plain, err := decryptBlock(block, password)
		if err != nil {
			return nil, err
		}
		key, err := parseKeyBlock(plain)
		if err != nil && plain != block {
			err = errors.New("wrong password") // that left a good padding by chance
		}
		if err != nil {
			return nil, err
		}
		if key == nil {
			continue
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, err
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
	}
	return nil, errors.New("no private key")
}

func decryptBlock(block *pem.Block, password []byte) (*pem.Block, error) {
	if block.Type == "ENCRYPTED PRIVATE KEY" {
		der, err := decryptPKCS8(block.Bytes, password)
		return &pem.Block{Type: "PRIVATE KEY", Bytes: der}, err
	}
	//lint:ignore SA1019 the format is weak, and what such files are in
	if !x509.IsEncryptedPEMBlock(block) {
		return block, nil
	}
	//lint:ignore SA1019 as above
	der, err := x509.DecryptPEMBlock(block, password)
	return &pem.Block{Type: block.Type, Bytes: der}, err
}

// PKCS #8 with PBES2 (RFC 8018, section 6.2), which is what OpenSSL writes.
type encryptedKey struct {
	Algorithm struct {
		ID     asn1.ObjectIdentifier
		Params struct {
			Derivation struct {
				ID     asn1.ObjectIdentifier
				Params asn1.RawValue
			}
			Scheme struct {
				ID asn1.ObjectIdentifier
				IV []byte
			}
		}
	}
	Data []byte
}

type pbkdf2Params struct {
	Salt       []byte
	Iterations int
	Length     int                      `asn1:"optional"`
	PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
}

var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidScrypt = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11591, 4, 11} // RFC 7914, section 7
)

var keyCiphers = map[string]struct {
	size int
	make func([]byte) (cipher.Block, error)
}{
	"2.16.840.1.101.3.4.1.2":  {16, aes.NewCipher},
	"2.16.840.1.101.3.4.1.22": {24, aes.NewCipher},
	"2.16.840.1.101.3.4.1.42": {32, aes.NewCipher},
	"1.2.840.113549.3.7":      {24, des.NewTripleDESCipher},
}

var keyHashes = map[string]func() hash.Hash{
	"": sha1.New, "1.2.840.113549.2.7": sha1.New, "1.2.840.113549.2.9": sha256.New,
	"1.2.840.113549.2.10": sha512.New384, "1.2.840.113549.2.11": sha512.New,
}

// mostIterations keeps a hostile file from keeping the worker busy.
const mostIterations = 50_000_000

func decryptPKCS8(der, password []byte) ([]byte, error) {
	var k encryptedKey
	if _, err := asn1.Unmarshal(der, &k); err != nil {
		return nil, err
	}
	p := k.Algorithm.Params
	var d pbkdf2Params
	switch {
	case p.Derivation.ID.Equal(oidScrypt):
		return nil, keyScrypt
	case !k.Algorithm.ID.Equal(oidPBES2), !p.Derivation.ID.Equal(oidPBKDF2):
		return nil, keyCipher
	}
	if _, err := asn1.Unmarshal(p.Derivation.Params.FullBytes, &d); err != nil {
		return nil, err
	}
	scheme, ok := keyCiphers[p.Scheme.ID.String()]
	sum := keyHashes[d.PRF.Algorithm.String()]
	if !ok || sum == nil || d.Iterations < 1 || d.Iterations > mostIterations {
		return nil, keyCipher
	}
	key, err := pbkdf2.Key(sum, string(password), d.Salt, d.Iterations, scheme.size)
	if err != nil {
		return nil, err
	}
	b, err := scheme.make(key)
	if err != nil {
		return nil, err
	}
	n := b.BlockSize()
	if len(p.Scheme.IV) != n || len(k.Data) == 0 || len(k.Data)%n != 0 {
		return nil, errors.New("encrypted private key of a wrong length")
	}
	plain := make([]byte, len(k.Data))
	cipher.NewCBCDecrypter(b, p.Scheme.IV).CryptBlocks(plain, k.Data)
	pad := int(plain[len(plain)-1])
	if pad < 1 || pad > n {
		return nil, errors.New("wrong password")
	}
	return plain[:len(plain)-pad], nil
}
