package fdio

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// IdleAfter is how long nothing has to come before a wait ends in ErrIdle, at least: it takes up to twice as long.
const IdleAfter = 2 * time.Second

// ErrIdle is why a wait has ended in which nothing has come for a while. It is a timeout as net.Error has them:
// whoever gets it may wait again.
var ErrIdle error = idleError{}

type idleError struct{}

func (idleError) Error() string   { return "nothing has come for a while" }
func (idleError) Timeout() bool   { return true }
func (idleError) Temporary() bool { return true }

// patience ends waits in ErrIdle by the deadline for reading, where nobody else has set one. That costs a timer
// every IdleAfter, and nothing for what comes in between.
type patience struct {
	mu    sync.Mutex  // held while the deadline is set
	bound bool        // the deadline is somebody else's
	ours  atomic.Bool // the deadline is ours
	busy  bool        // something has come since it was set; the reader's
}

// SetReadDeadline ends reads that wait at t, with os.ErrDeadlineExceeded; the zero time is none.
func (s *Socket) SetReadDeadline(t time.Time) error {
	s.patience.mu.Lock()
	defer s.patience.mu.Unlock()
	s.patience.bound = !t.IsZero()
	s.patience.ours.Store(false)
	return s.File.SetReadDeadline(t)
}

// SetDeadline is SetReadDeadline and SetWriteDeadline.
func (s *Socket) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// begin sets our deadline, unless there is one.
func (p *patience) begin(f *os.File) {
	if p.ours.Load() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.bound {
		p.busy = false
		p.ours.Store(true)
		f.SetReadDeadline(time.Now().Add(IdleAfter))
	}
}

// end takes our deadline away, and reports whether it was still there.
func (p *patience) end(f *os.File) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ours.CompareAndSwap(true, false) {
		return false
	}
	f.SetReadDeadline(time.Time{})
	return true
}

// ReadWith is WhenReadable with a call that is used again.
func (s *Socket) ReadWith(c Call) error { return s.read(c, false) }

// ReadUnlessIdle is ReadWith that ends in ErrIdle where nothing comes for a while, and nobody has set a deadline.
func (s *Socket) ReadUnlessIdle(c Call) error { return s.read(c, true) }

// read makes the call until it is done. After a wait that has begun with our deadline it is made again, since a
// deadline that somebody has put in the place of ours meanwhile may be still to come.
func (s *Socket) read(c Call, unlessIdle bool) error {
	p := &s.patience
	for {
		if unlessIdle {
			p.begin(s.File)
		}
		ours := p.ours.Load()
		err := s.raw.Read(c)
		if err == nil {
			p.busy = true
			return nil
		}
		if !ours || !errors.Is(err, os.ErrDeadlineExceeded) {
			return s.sort(err)
		}
		if p.end(s.File) && unlessIdle && !p.busy {
			return ErrIdle
		}
	}
}
