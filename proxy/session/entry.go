package session

import (
	"crypto/rand"
	"encoding/binary"
	"maps"
	"slices"
	"time"

	"tlswrap/proxy/names"
	"tlswrap/proxy/wire"
)

// Entry is what a session's programs can ask about by its number: a connection, one that has ended a
// moment ago, a listener. Its methods may be called from any goroutine.
type Entry interface {
	// Verdict says how setting it up has ended, under the flags of the request.
	Verdict(flags uint16) wire.Reply
	// Settled is closed when Verdict does not answer any more that setting it up goes on.
	Settled() <-chan struct{}
	// Lend returns a descriptor of its TCP socket, the caller's to close, or -1 where there is none.
	Lend() int
	// Waiting is how many bytes its program has written that are not on their way yet.
	Waiting() int
	// Restart ends it and returns its TCP socket, disconnected, the caller's to close; or -1.
	Restart() int
	// Hurry sees to it that it does not go on for ever: nobody is left in the session.
	Hurry(until time.Time)
}

// AlreadySettled is Settled of what is not set up.
var AlreadySettled <-chan struct{} = past

// NewID is what an entry is called.
func NewID() uint64 {
	var id [8]byte
	rand.Read(id[:])
	return binary.NativeEndian.Uint64(id[:])
}

// Enter lets e be found by its number. It is whole.
func (s *Session) Enter(id uint64, e Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries[id] = e
}

// Find returns what is called id, or nil. The numbers are no secret (ss -x shows them), so those
// of other sessions are not found.
func (s *Session) Find(id uint64) Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.entries[id]
}

// Forget drops what is called id, if it is still there.
func (s *Session) Forget(id uint64) {
	s.mu.Lock()
	delete(s.entries, id)
	s.mu.Unlock()
	s.owner.Freed()
}

// orphanTime is how long what a program wrote may take to be sent once it has closed
// its end and no process of its session is left: as long as the kernel gives a TCP
// socket that nobody holds (tcp(7), tcp_orphan_retries).
const orphanTime = time.Minute

// hurry sees to it that a server which does not read keeps no worker alive.
func (s *Session) hurry() {
	s.mu.Lock()
	all := slices.Collect(maps.Values(s.entries))
	s.mu.Unlock()
	until := time.Now().Add(orphanTime)
	for _, e := range all {
		e.Hurry(until)
	}
}

// Pass lets the program make its native call, to addrs, and others like it without asking, as long as
// it can tell that this worker lives.
func (s *Session) Pass(c *wire.Call, addrs ...wire.Addr) {
	r := wire.Reply{Answer: wire.AnswerPass, Addrs: addrs}
	if life, err := names.LifeFile(); err == nil && s.Map.FD >= 0 {
		c.Send(r, s.Map.FD, life)
	} else {
		c.Send(r)
	}
}
