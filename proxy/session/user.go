package session

import (
	"container/list"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// What the programs of one user can have of a worker at the same time, so that others who use
// it have theirs. Sessions and listeners are refused beyond; of handshakes the oldest ends, and of
// ends and failures the oldest is forgotten.
const (
	MostSessions   = 4096
	MostListeners  = 1024
	MostHandshakes = 4096     // that programs do not know of, of clients of all listeners
	mostEndsOfUser = 4 * 4096 // that are remembered, of libtls connections of all sessions
	mostFailed     = 4096     // connections that did not come to be, or that broke, and that are remembered
)

// KeepFailed is how long a connection that has failed or broken, or how one has ended, is remembered for a
// program that asks, or connects again.
const KeepFailed = 30 * time.Second

// Keep has forget called for a connection after that time, or when it has to go for a later one.
func (u *User) Keep(forget func()) {
	var left atomic.Pointer[func()] // what the timer, which may go on, is not to keep alive
	left.Store(&forget)
	end := func() {
		if f := left.Swap(nil); f != nil {
			(*f)()
		}
	}
	kept := u.Failed.Enter(end)
	time.AfterFunc(KeepFailed, func() {
		if u.Failed.Leave(kept) {
			end()
		}
	})
}

// ErrManySessions refuses a session.
var ErrManySessions = fmt.Errorf("it has %d sessions of this user already, which is the most", MostSessions)

// User is one whose programs the worker serves.
type User struct {
	Handshakes Crowd
	Ends       Crowd // of libtls connections
	Failed     Crowd // connections, each with its socket
}

// NewUser makes one who has nothing yet.
func NewUser() *User {
	return &User{Handshakes: Crowd{Most: MostHandshakes}, Ends: Crowd{Most: mostEndsOfUser}, Failed: Crowd{Most: mostFailed}}
}

// Crowd is what goes on or is kept for a time, the oldest first. Beyond Most the oldest has to go.
type Crowd struct {
	Most int
	mu   sync.Mutex
	all  list.List // of *Member
}

// Member is one of a crowd.
type Member struct {
	expel func()        // is called where it has to go
	place *list.Element // nil: it had to go
}

// Len is how many there are.
func (c *Crowd) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all.Len()
}

// Enter adds one. expel may be called by then.
func (c *Crowd) Enter(expel func()) *Member {
	m := &Member{expel: expel}
	var oldest *Member
	c.mu.Lock()
	m.place = c.all.PushBack(m)
	if c.all.Len() > c.Most {
		oldest = c.all.Remove(c.all.Front()).(*Member)
		oldest.place = nil
	}
	c.mu.Unlock()
	if oldest != nil {
		oldest.expel()
	}
	return m
}

// Expel has all go that are there.
func (c *Crowd) Expel() {
	c.mu.Lock()
	var all []*Member
	for c.all.Len() > 0 {
		m := c.all.Remove(c.all.Front()).(*Member)
		m.place = nil
		all = append(all, m)
	}
	c.mu.Unlock()
	for _, m := range all {
		m.expel()
	}
}

// Leave removes one, and reports whether it was let.
func (c *Crowd) Leave(m *Member) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.place == nil {
		return false
	}
	c.all.Remove(m.place)
	m.place = nil
	return true
}
