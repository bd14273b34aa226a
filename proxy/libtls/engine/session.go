package engine

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"io"
	"time"
)

// ---- servers: tickets ----

// loadTickets turns tickets on where there is a lifetime. They are for this server's own
// session id and no older than that, whatever keys they were made with.
func (c *Config) loadTickets() {
	if c.lifetime == 0 {
		c.server.SessionTicketsDisabled = true
		return
	}
	var keys [][32]byte
	for _, key := range c.from.tickets {
		keys = append(keys, sha256.Sum256(key.bytes()))
	}
	if keys != nil {
		c.server.SetSessionTicketKeys(keys)
	}
	c.server.WrapSession = func(state tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
		session.Extra = append(session.Extra, c.ticketExtra(time.Now()))
		return c.server.EncryptTicket(state, session)
	}
	c.server.UnwrapSession = func(ticket []byte, state tls.ConnectionState) (*tls.SessionState, error) {
		session, err := c.server.DecryptTicket(ticket, state)
		if err != nil || session == nil {
			return nil, err
		}
		for _, extra := range session.Extra {
			if c.ticketGood(extra, time.Now()) {
				return session, nil
			}
		}
		return nil, nil
	}
}

func (c *Config) ticketExtra(now time.Time) []byte {
	return append(binary.BigEndian.AppendUint64([]byte("tlswrap"), uint64(now.Unix())), c.sessionID...)
}

func (c *Config) ticketGood(extra []byte, now time.Time) bool {
	rest, ok := bytes.CutPrefix(extra, []byte("tlswrap"))
	if !ok || len(rest) < 8 || !bytes.Equal(rest[8:], c.sessionID) {
		return false
	}
	age := now.Unix() - int64(binary.BigEndian.Uint64(rest))
	return age >= 0 && age <= int64(c.lifetime)
}

// ---- clients: the file of a TLS session ----

// SessionFile is a program's file for one TLS session.
type SessionFile interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
}

// sessionFile is a tls.ClientSessionCache of one TLS session, in the program's file. What is in it
// counts for the same name and the same trust alone.
type sessionFile struct {
	file     SessionFile
	identity [sha256.Size]byte
	fresh    *tls.ClientSessionState
}

const (
	sessionType = "TLSWRAP SESSION"
	mostSession = 1 << 20
)

func (s *sessionFile) Get(string) (*tls.ClientSessionState, bool) {
	b := make([]byte, mostSession)
	n, _ := s.file.ReadAt(b, 0)
	block, _ := pem.Decode(b[:n])
	if block == nil || block.Type != sessionType || len(block.Bytes) < sha256.Size+4 || !bytes.Equal(block.Bytes[:sha256.Size], s.identity[:]) {
		return nil, false
	}
	rest := block.Bytes[sha256.Size:]
	ticketLen := int(binary.BigEndian.Uint32(rest))
	rest = rest[4:]
	if ticketLen > len(rest) {
		return nil, false
	}
	state, err := tls.ParseSessionState(rest[ticketLen:])
	if err != nil {
		return nil, false
	}
	session, err := tls.NewResumptionState(rest[:ticketLen], state)
	return session, err == nil
}

func (s *sessionFile) Put(_ string, session *tls.ClientSessionState) { s.fresh = session }

// write replaces the file after a good handshake. TLS 1.3 sends its tickets later than that,
// and libtls does not wait for them.
func (s *sessionFile) write() error {
	if s.fresh == nil {
		return nil
	}
	ticket, state, err := s.fresh.ResumptionState()
	if err != nil || state == nil {
		return err
	}
	data, err := state.Bytes()
	if err != nil {
		return err
	}
	b := bytes.Clone(s.identity[:])
	b = binary.BigEndian.AppendUint32(b, uint32(len(ticket)))
	b = append(append(b, ticket...), data...)
	if s.file.Truncate(0) != nil {
		return errors.New("failed to truncate session file")
	}
	if _, err := s.file.WriteAt(pem.EncodeToMemory(&pem.Block{Type: sessionType, Bytes: b}), 0); err != nil {
		return errors.New("failed to write session file")
	}
	return nil
}
