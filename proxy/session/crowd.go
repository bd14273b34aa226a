package session

import (
	"container/list"
	"sync"
	"time"
)

// Crowd is what goes on or is kept for a time, the oldest first. Beyond Most the oldest has to go.
type Crowd struct {
	Most   int
	mu     sync.Mutex
	all    list.List // of *Member
	closed bool      // nobody may stay
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
	c.mu.Lock()
	m.place = c.all.PushBack(m)
	most := c.Most
	if c.closed {
		most = 0
	}
	oldest := c.beyond(most)
	c.mu.Unlock()
	for _, m := range oldest {
		m.expel()
	}
	return m
}

// beyond takes out those that are too many, the oldest first. The caller holds mu.
func (c *Crowd) beyond(most int) (gone []*Member) {
	for c.all.Len() > most {
		m := c.all.Remove(c.all.Front()).(*Member)
		m.place = nil
		gone = append(gone, m)
	}
	return gone
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

// Close has all go, and whoever enters later.
func (c *Crowd) Close() {
	c.mu.Lock()
	c.closed = true
	all := c.beyond(0)
	c.mu.Unlock()
	for _, m := range all {
		m.expel()
	}
}

// KeepFailed is how long a connection that has failed or broken, or how one has ended, is remembered for a
// program that asks, or connects again.
const KeepFailed = 30 * time.Second

// kept is something that is over, and that is remembered.
type kept struct {
	mu     sync.Mutex
	forget func()   // nil: it has been called
	leave  []func() // ends what may still end it
}

// Keep has forget called, once, when something that is over has been remembered for KeepFailed, or has to
// go from one of the crowds before.
func Keep(forget func(), in ...*Crowd) {
	k := &kept{forget: forget}
	for _, c := range in {
		if k.over() {
			return // and nobody else has to go for it
		}
		m := c.Enter(k.end)
		k.also(func() { c.Leave(m) })
	}
	timer := time.AfterFunc(KeepFailed, k.end)
	k.also(func() { timer.Stop() })
}

func (k *kept) over() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.forget == nil
}

// also has leave called with the end, or now where that was.
func (k *kept) also(leave func()) {
	k.mu.Lock()
	over := k.forget == nil
	if !over {
		k.leave = append(k.leave, leave)
	}
	k.mu.Unlock()
	if over {
		leave()
	}
}

func (k *kept) end() {
	k.mu.Lock()
	forget, leave := k.forget, k.leave
	k.forget, k.leave = nil, nil
	k.mu.Unlock()
	if forget == nil {
		return
	}
	for _, f := range leave {
		f()
	}
	forget()
}

// KeepBroken has forget called for a connection with a socket that has failed or broken, when nobody is left
// who may ask about it, or when it has to go for a later one.
func (s *Session) KeepBroken(forget func()) {
	Keep(forget, &s.broken, &s.User.Failed, s.User.AllFailed)
}
