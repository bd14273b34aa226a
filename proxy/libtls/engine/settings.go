package engine

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
)

// settings is a struct tw_tls_settings, with what its numbers stand for.
type settings struct {
	flags     flag
	protocols uint32
	depth     int
	lifetime  int // seconds
	sessionID []byte
	from      *sources // nil once the configuration is made
	held      []*share // all of them
}

// sources is what a configuration is made of. nil is what was not set.
type sources struct {
	things   [things]*share
	tickets  []*share
	keypairs []keypair
}

type keypair struct{ cert, key, staple *share }

func (s settings) has(f flag) bool { return s.flags&f != 0 }

// bytes are what was loaded, or nil where nothing was.
func (s *share) bytes() []byte {
	if s == nil {
		return nil
	}
	b, _ := s.value.([]byte)
	return b
}

// name is a share's sum, or nothing for what was not set.
func (s *share) name() []byte {
	if s == nil {
		return nil
	}
	return s.sum[:]
}

// parse holds what the settings name, also where it fails: the caller releases held.
func (st *Store) parse(b []byte) (settings, error) {
	s := settings{from: &sources{}}
	ne := binary.NativeEndian
	if len(b) < settingsHeader {
		return s, errors.New("short settings")
	}
	s.flags, s.protocols = flag(ne.Uint32(b)), ne.Uint32(b[4:])
	s.depth, s.lifetime = int(int32(ne.Uint32(b[8:]))), int(int32(ne.Uint32(b[12:])))
	at := settingsNumbers
	var err error
	next := func() *share {
		number := ne.Uint64(b[at:])
		at += 8
		if number == 0 {
			return nil
		}
		sh, e := st.share(number)
		if e == nil {
			s.held = append(s.held, sh)
			if _, isBytes := sh.value.([]byte); !isBytes {
				sh, e = nil, errors.New("tlswrap's worker does not know what was loaded")
			}
		}
		if err == nil {
			err = e
		}
		return sh
	}
	for i := range s.from.things {
		s.from.things[i] = next()
	}
	s.sessionID = append([]byte(nil), s.from.things[kindSessionID].bytes()...)
	for range ticketKeys {
		if key := next(); key != nil {
			s.from.tickets = append(s.from.tickets, key)
		}
	}
	count := int(ne.Uint32(b[at:]))
	at += 8
	if len(b) != settingsHeader+count*keypairLen {
		return s, errors.New("settings do not fit")
	}
	for range count {
		s.from.keypairs = append(s.from.keypairs, keypair{next(), next(), next()})
	}
	return s, err
}

// sum names the configuration of these settings, b as they came. A server's is shared with nobody:
// it has ticket keys of its own.
func (s settings) sum(b []byte) sum {
	if s.has(flagServer) {
		var own sum
		rand.Read(own[:])
		return own
	}
	parts := [][]byte{b[:settingsNumbers]}
	for _, thing := range s.from.things {
		parts = append(parts, thing.name())
	}
	for _, pair := range s.from.keypairs {
		parts = append(parts, pair.cert.name(), pair.key.name(), pair.staple.name())
	}
	return sumOf("configuration", parts...)
}
