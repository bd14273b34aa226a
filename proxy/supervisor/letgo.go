package supervisor

import "sync"

// accepts are the calls that wait for a client, each with a copy of what its program listens on. A program
// listens as long as there is one, and so a thread that has ended must not be what it waits for.
type accepts struct {
	mu  sync.Mutex
	all map[*acceptance]struct{}
}

type acceptance struct {
	look chan chan struct{} // takes what is to be closed once the call knows that its thread still waits
	over chan struct{}      // closed when the call has no copy any more
}

// begin notes that a call waits, which calls end when it has closed its copy.
func (s *accepts) begin(c *call) (end func()) {
	a := &acceptance{look: make(chan chan struct{}), over: make(chan struct{})}
	c.look = a.look
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = make(map[*acceptance]struct{})
	}
	s.all[a] = struct{}{}
	return func() {
		close(a.over)
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.all, a)
	}
}

// LetGo has the calls that wait for a client look whether their threads still do, as they do by themselves
// once a second. When it returns there are no copies for those that did not, when it was called.
func (f *Front) LetGo() {
	f.accepting.mu.Lock()
	var all []*acceptance
	for a := range f.accepting.all {
		all = append(all, a)
	}
	f.accepting.mu.Unlock()
	for _, a := range all {
		looked := make(chan struct{})
		select {
		case a.look <- looked:
			select {
			case <-looked:
			case <-a.over:
			}
		case <-a.over:
		}
	}
}
