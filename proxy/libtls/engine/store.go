// Package engine is what a program that is linked to libtls, or to its ancestor ressl, gets its TLS from:
// certificates, private keys and configurations that the program has only numbers for, and connections
// that verify and report as libtls does. It knows nothing of sockets; package libtls does, and alone
// calls it.
//
// What is equal is there once for all sessions of a user (Shares): bytes, pools of CA certificates, pairs
// of certificate and key, and whole configurations of clients, each found by a SHA-256 over all that it
// is made of. Numbers, configurations and connections are counted as its holders, and the last one takes
// it away. A server's configuration is its own, since it makes ticket keys; its parts are shared.
//
// Verification is libtls's: its names, its depth, revocation lists for every certificate of a chain, OCSP
// responses, and the name after the handshake. crypto/tls is told not to verify, and asks in
// VerifyConnection, also when a TLS session is resumed. Lists are read here, since crypto/x509 refuses
// version 1 and does not ask what a list covers; which one counts is decided as in OpenSSL. A server
// that negotiates anew has its way, as with libtls, but may not become another: the name was looked at
// once. Over callbacks it is refused, since a write would wait for records that only a read asks for.
//
// It is larger than others because it does what libtls and the parts of OpenSSL under it do, in their
// words: keys and responses in DER, revocation, names of ciphers and of people.
package engine

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"sync"
)

// Store holds what the programs of one session have numbers for. Its methods may be called from
// any goroutine.
type Store struct {
	shares *Shares

	mu     sync.Mutex
	last   uint64
	held   map[uint64]*share
	closed bool
}

// NewStore makes an empty store of a user's.
func NewStore(shares *Shares) *Store {
	// A program may have numbers of another worker's, which must not be taken for ours.
	var first [8]byte
	rand.Read(first[:])
	return &Store{shares: shares, last: binary.NativeEndian.Uint64(first[:]) >> 1, held: make(map[uint64]*share)}
}

// Most is the largest thing that Load takes, in bytes. A session has numbers for mostThings.
const (
	Most       = 64 << 20
	mostThings = 1 << 16
)

// Load keeps data, which becomes the store's. The error is libtls's sentence.
func (s *Store) Load(kind Kind, data []byte) (uint64, error) {
	loaded, err := s.shares.get(sumOf("loaded", []byte{byte(kind)}, data), len(data), func(sh *share) error {
		sh.value = data
		if kind == kindKey || kind == kindTicketKey {
			sh.secret = data
		}
		return check(kind, data)
	})
	return s.hold(loaded, err)
}

// Same reports whether two numbers stand for the same bytes.
func (s *Store) Same(a, b uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held[a] != nil && s.held[a] == s.held[b]
}

// check finds the mistakes that libtls finds when it is given something.
func check(kind Kind, data []byte) error {
	var err error
	switch kind {
	case kindCert:
		if _, err = parseChain(data); err != nil {
			err = errors.New("failed to load certificate: " + err.Error())
		}
	case kindCiphers:
		_, err = parseCiphers(data)
	case kindCurves:
		_, err = parseCurves(data)
	case kindALPN:
		_, err = parseALPN(data)
	}
	return err
}

// Build makes a configuration of settings, a struct tw_tls_settings.
func (s *Store) Build(settings []byte) (uint64, error) {
	parsed, err := s.parse(settings)
	defer func() {
		for _, sh := range parsed.held {
			s.shares.release(sh)
		}
	}()
	if err != nil {
		return 0, err
	}
	return s.hold(s.shares.get(parsed.sum(settings), 0, func(sh *share) error {
		c := &Config{settings: parsed, shares: s.shares, share: sh}
		sh.value = c
		return c.load()
	}))
}

// Config finds a configuration that Build has made. The caller has to release it.
func (s *Store) Config(number uint64) (*Config, error) {
	if sh, err := s.share(number); err == nil {
		if c, ok := sh.value.(*Config); ok {
			return c, nil
		}
		s.shares.release(sh)
	}
	return nil, errors.New("tlswrap's worker does not know this configuration")
}

// Drop forgets a number. Configurations and connections that were made of it go on.
func (s *Store) Drop(number uint64) {
	s.mu.Lock()
	sh := s.held[number]
	delete(s.held, number)
	s.mu.Unlock()
	s.shares.release(sh)
}

// Close forgets all numbers, and gives no more.
func (s *Store) Close() {
	s.mu.Lock()
	held := s.held
	s.held, s.closed = nil, true
	s.mu.Unlock()
	for _, sh := range held {
		s.shares.release(sh)
	}
}

// hold gives a share a number, which holds it from now on.
func (s *Store) hold(sh *share, err error) (uint64, error) {
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	full := s.closed || len(s.held) >= mostThings
	if !full {
		s.last++
		s.held[s.last] = sh
	}
	number := s.last
	s.mu.Unlock()
	if full {
		s.shares.release(sh)
		return 0, errors.New("tlswrap's worker holds too much for this run already")
	}
	return number, nil
}

// share finds what a number stands for. The caller has to release it.
func (s *Store) share(number uint64) (*share, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.held[number]
	if sh == nil {
		return nil, errors.New("tlswrap's worker does not know what was loaded")
	}
	s.shares.hold(sh)
	return sh, nil
}
