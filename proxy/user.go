package proxy

import (
	"container/list"
	"fmt"
	"sync"

	"tlswrap/proxy/libtls"
)

// What the programs of one user can have of a worker at the same time, so that others who use
// it have theirs. Sessions and listeners are refused beyond; of handshakes the oldest ends, and of
// ends and failures the oldest is forgotten.
const (
	mostSessions   = 4096
	mostListeners  = 1024
	mostHandshakes = 4 * maxHandshakes // that programs do not know of, of clients of all listeners
	mostEndsOfUser = 4 * mostEnds      // that are remembered, of libtls connections of all sessions
	mostFailed     = 4096              // connections that did not come to be, and that are remembered
)

var errManySessions = fmt.Errorf("it has %d sessions of this user already, which is the most", mostSessions)

// user is one whose programs the worker serves.
type user struct {
	handshakes crowd
	ends       crowd // of libtls connections
	failed     crowd // connections, each with its socket
	shares     libtls.Shares
}

// user finds a user, or makes it: those who may begin sessions are few.
func (w *Worker) user(uid uint32) *user {
	w.mu.Lock()
	defer w.mu.Unlock()
	u := w.users[uid]
	if u == nil {
		u = &user{handshakes: crowd{most: mostHandshakes}, ends: crowd{most: mostEndsOfUser},
			failed: crowd{most: mostFailed}}
		w.users[uid] = u
	}
	return u
}

// crowd is what goes on or is kept for a time, the oldest first. Beyond most the oldest has to go.
type crowd struct {
	most int
	mu   sync.Mutex
	all  list.List // of *member
}

// member is one of a crowd.
type member struct {
	expel func()        // is called where it has to go
	place *list.Element // nil: it had to go
}

// enter adds one. expel may be called by then.
func (c *crowd) enter(expel func()) *member {
	m := &member{expel: expel}
	var oldest *member
	c.mu.Lock()
	m.place = c.all.PushBack(m)
	if c.all.Len() > c.most {
		oldest = c.all.Remove(c.all.Front()).(*member)
		oldest.place = nil
	}
	c.mu.Unlock()
	if oldest != nil {
		oldest.expel()
	}
	return m
}

// leave removes one, and reports whether it was let.
func (c *crowd) leave(m *member) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.place == nil {
		return false
	}
	c.all.Remove(m.place)
	m.place = nil
	return true
}
