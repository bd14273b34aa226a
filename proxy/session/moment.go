package session

import "sync"

// Moment is something that happens once, and that others may wait for. The zero value has not happened.
// A channel is made only for who waits: thousands of connections idle whose moments have long passed. Its
// methods may be called from any goroutine.
type Moment struct {
	mu     sync.Mutex
	passed chan struct{} // past when it has happened; nil while nobody waits
}

// past is of all that has happened.
var past = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Happen lets those go on who wait. It may be called again.
func (m *Moment) Happen() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.passed != nil && m.passed != past {
		close(m.passed)
	}
	m.passed = past
}

// Passed is closed when it has happened.
func (m *Moment) Passed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.passed == nil {
		m.passed = make(chan struct{})
	}
	return m.passed
}
