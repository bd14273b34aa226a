package proxy

import (
	"container/list"
	"fmt"
	"sync"
)

// What the programs of one user can have of a worker at the same time, so that others who use
// it have theirs. Sessions and listeners are refused beyond; of handshakes the oldest ends.
const (
	mostSessions   = 4096
	mostListeners  = 1024
	mostHandshakes = 4 * maxHandshakes // that programs do not know of, of clients of all listeners
)

var errManySessions = fmt.Errorf("it has %d sessions of this user already, which is the most", mostSessions)

// user is one whose programs the worker serves.
type user struct{ handshakes crowd }

// user finds a user, or makes it: those who may begin sessions are few.
func (w *Worker) user(uid uint32) *user {
	w.mu.Lock()
	defer w.mu.Unlock()
	u := w.users[uid]
	if u == nil {
		u = &user{crowd{most: mostHandshakes}}
		w.users[uid] = u
	}
	return u
}

// crowd is handshakes that go on, the oldest first. Beyond most the oldest ends.
type crowd struct {
	most int
	mu   sync.Mutex
	all  list.List // of *member
}

// member is one of a crowd.
type member struct {
	up    *upstream
	place *list.Element // nil: it had to go
}

// enter notes that a handshake goes on.
func (c *crowd) enter(up *upstream) *member {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := &member{up: up}
	m.place = c.all.PushBack(m)
	if c.all.Len() > c.most {
		oldest := c.all.Remove(c.all.Front()).(*member)
		oldest.place = nil
		oldest.up.SetDeadline(past)
	}
	return m
}

// leave notes that a handshake has ended, and reports whether it was let.
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
