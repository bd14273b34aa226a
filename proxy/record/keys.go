package record

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"hash"
)

// secrets are what crypto/tls tells a key log about one connection. They are kept only
// for as long as a direction may still be taken over.
type secrets struct {
	client, server []byte // traffic secrets of TLS 1.3
	master, random []byte // master secret and client random of TLS 1.2
}

// note takes the secrets of use from a line of the key log: a label, the client random
// and a secret, the last two in hexadecimal.
func (s *secrets) note(line []byte) {
	f := bytes.Fields(line)
	if len(f) != 3 {
		return
	}
	switch string(f[0]) {
	case "CLIENT_TRAFFIC_SECRET_0":
		s.client = unhex(f[2])
	case "SERVER_TRAFFIC_SECRET_0":
		s.server = unhex(f[2])
	case "CLIENT_RANDOM":
		s.random, s.master = unhex(f[1]), unhex(f[2])
	}
}

// secretIn returns the secret of a line of the key log that has this label, or nil.
func secretIn(line []byte, label string) []byte {
	f := bytes.Fields(line)
	if len(f) != 3 || string(f[0]) != label {
		return nil
	}
	return unhex(f[2])
}

func unhex(b []byte) []byte {
	out := make([]byte, hex.DecodedLen(len(b)))
	if _, err := hex.Decode(out, b); err != nil {
		return nil
	}
	return out
}

func (s *secrets) wipe() {
	clear(s.client)
	clear(s.server)
	clear(s.master)
	*s = secrets{}
}

// newHalf13 makes the protection for records from number seq on under a traffic secret
// of TLS 1.3, of which it keeps a copy.
func newHalf13(s *suite, secret []byte, seq uint64) (*half, error) {
	h := &half{suite: s, version: tls.VersionTLS13, seq: seq}
	return h, h.use(bytes.Clone(secret))
}

// use changes to another traffic secret, which it takes over.
func (h *half) use(secret []byte) error {
	key, err := expandLabel(h.suite.hash, secret, "key", h.suite.keyLen)
	if err != nil {
		return err
	}
	iv, err := expandLabel(h.suite.hash, secret, "iv", nonceLen)
	if err != nil {
		return err
	}
	if h.aead, err = h.suite.aead(key); err != nil {
		return err
	}
	copy(h.iv[:], iv)
	clear(iv)
	clear(h.secret)
	clear(h.key)
	h.secret, h.key = secret, key
	return nil
}

// update goes on to the next generation of keys (RFC 8446, section 7.2).
func (h *half) update() error {
	next, err := expandLabel(h.suite.hash, h.secret, "traffic upd", h.suite.hash().Size())
	if err != nil {
		return err
	}
	h.seq = 0
	return h.use(next)
}

// copy is the same protection with a state of its own.
func (h *half) copy() *half {
	c := *h
	c.secret, c.key = bytes.Clone(h.secret), bytes.Clone(h.key)
	return &c
}

// wipe forgets the secrets that are ours to forget; what an AEAD holds is not.
func (h *half) wipe() {
	clear(h.secret)
	clear(h.key)
	clear(h.iv[:])
	h.aead = nil
}

// expandLabel is HKDF-Expand-Label with an empty context (RFC 8446, section 7.1).
func expandLabel(newHash func() hash.Hash, secret []byte, label string, n int) ([]byte, error) {
	const prefix = "tls13 "
	info := binary.BigEndian.AppendUint16(nil, uint16(n))
	info = append(info, byte(len(prefix)+len(label)))
	info = append(info, prefix+label...)
	info = append(info, 0)
	return hkdf.Expand(newHash, secret, string(info), n)
}

// newHalves12 makes the protection of both directions of TLS 1.2 (RFC 5246, section
// 6.3). AEADs have no MAC keys.
func newHalves12(s *suite, master, clientRandom, serverRandom []byte) (client, server *half, err error) {
	seed := append([]byte("key expansion"), serverRandom...)
	seed = append(seed, clientRandom...)
	block := prf12(s.hash, master, seed, 2*(s.keyLen+s.fixedIV))
	defer clear(block)
	keys, ivs := block[:2*s.keyLen], block[2*s.keyLen:]
	if client, err = newHalf12(s, keys[:s.keyLen], ivs[:s.fixedIV]); err != nil {
		return nil, nil, err
	}
	server, err = newHalf12(s, keys[s.keyLen:], ivs[s.fixedIV:])
	return client, server, err
}

func newHalf12(s *suite, key, iv []byte) (*half, error) {
	aead, err := s.aead(key)
	if err != nil {
		return nil, err
	}
	h := &half{suite: s, version: tls.VersionTLS12, key: bytes.Clone(key), aead: aead, explicit: nonceLen - s.fixedIV}
	copy(h.iv[:], iv)
	return h, nil
}

// prf12 is P_hash (RFC 5246, section 5). It leaves no copy of what it returns behind.
func prf12(newHash func() hash.Hash, secret, seed []byte, n int) []byte {
	mac := hmac.New(newHash, secret)
	sum := func(to []byte, parts ...[]byte) []byte {
		mac.Reset()
		for _, p := range parts {
			mac.Write(p)
		}
		return mac.Sum(to)
	}
	out := make([]byte, 0, n+mac.Size())
	for a := sum(nil, seed); len(out) < n; a = sum(nil, a) {
		out = sum(out, a, seed)
	}
	return out[:n]
}
