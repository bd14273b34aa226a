package libtls

import (
	"encoding/binary"
	"errors"
)

// settings is a struct tw_tls_settings, with what its numbers stand for.
type settings struct {
	flags     flag
	protocols uint32
	depth     int
	lifetime  int // seconds
	things    [things][]byte
	tickets   [][]byte
	keypairs  []keypair
}

type keypair struct{ cert, key, staple []byte }

func (s settings) has(f flag) bool { return s.flags&f != 0 }

func (st *Store) parse(b []byte) (settings, error) {
	var s settings
	ne := binary.NativeEndian
	if len(b) < settingsHeader {
		return s, errors.New("short settings")
	}
	s.flags, s.protocols = flag(ne.Uint32(b)), ne.Uint32(b[4:])
	s.depth, s.lifetime = int(int32(ne.Uint32(b[8:]))), int(int32(ne.Uint32(b[12:])))
	at := 16
	var err error
	next := func() []byte {
		data, e := st.bytes(ne.Uint64(b[at:]))
		if err == nil {
			err = e
		}
		at += 8
		return data
	}
	for i := range s.things {
		s.things[i] = next()
	}
	for range ticketKeys {
		if key := next(); key != nil {
			s.tickets = append(s.tickets, key)
		}
	}
	count := int(ne.Uint32(b[at:]))
	at += 8
	if len(b) != settingsHeader+count*keypairLen {
		return s, errors.New("settings do not fit")
	}
	for range count {
		s.keypairs = append(s.keypairs, keypair{next(), next(), next()})
	}
	return s, err
}
