// Package libtls is what a program that is linked to libtls, or to its ancestor ressl, gets
// its TLS from: certificates, keys and configurations that the program has only numbers
// for, and connections that verify and report as libtls does. It knows nothing of sockets.
package libtls

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"sync"
)

// Store holds what the programs of one session have given. The zero value is empty. Its methods
// may be called from any goroutine.
type Store struct {
	mu   sync.Mutex
	last uint64
	held map[uint64]any // []byte, or *Config
	size int            // of all that was loaded, in bytes
}

// Most is the largest thing that Load takes, in bytes. A session has mostBytes in mostThings.
const (
	Most       = 64 << 20
	mostBytes  = 4 * Most
	mostThings = 1 << 16
)

// Load keeps data, which becomes the store's. The error is libtls's sentence.
func (s *Store) Load(kind Kind, data []byte) (uint64, error) {
	switch kind {
	case kindCert:
		if _, err := parseChain(data); err != nil {
			return 0, errors.New("failed to load certificate: " + err.Error())
		}
	case kindCiphers:
		if _, err := parseCiphers(data); err != nil {
			return 0, err
		}
	case kindCurves:
		if _, err := parseCurves(data); err != nil {
			return 0, err
		}
	case kindALPN:
		if _, err := parseALPN(data); err != nil {
			return 0, err
		}
	}
	return s.hold(data, len(data))
}

// Build makes a configuration of settings, a struct tw_tls_settings.
func (s *Store) Build(settings []byte) (uint64, error) {
	parsed, err := s.parse(settings)
	if err != nil {
		return 0, err
	}
	c, err := newConfig(parsed)
	if err != nil {
		return 0, err
	}
	return s.hold(c, 0)
}

// Config finds a configuration that Build has made.
func (s *Store) Config(number uint64) (*Config, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.held[number].(*Config); ok {
		return c, nil
	}
	return nil, errors.New("tlswrap's worker does not know this configuration")
}

// Drop forgets a number. Configurations and connections that were made of it go on.
func (s *Store) Drop(number uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if data, ok := s.held[number].([]byte); ok {
		s.size -= len(data)
	}
	delete(s.held, number)
}

func (s *Store) hold(v any, size int) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == nil {
		// A program may have numbers of another worker's, which must not be taken for ours.
		var first [8]byte
		rand.Read(first[:])
		s.last = binary.NativeEndian.Uint64(first[:]) >> 1
		s.held = make(map[uint64]any)
	}
	if len(s.held) >= mostThings || s.size+size > mostBytes {
		return 0, errors.New("tlswrap's worker holds too much for this run already")
	}
	s.last++
	s.held[s.last] = v
	s.size += size
	return s.last, nil
}

func (s *Store) bytes(number uint64) ([]byte, error) {
	if number == 0 {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if b, ok := s.held[number].([]byte); ok {
		return b, nil
	}
	return nil, errors.New("tlswrap's worker does not know what was loaded")
}
