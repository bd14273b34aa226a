package verdict

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A program that does not know a verdict's errno may take it for "go on" and connect again at once, for as
// long as it runs. For a moment it gets the same verdict without another handshake. Who ends a handshake may be
// about to start, or busy, and take the next one: that is a verdict when it has come twice in a row.

const (
	// recallTime is how long a verdict stands.
	recallTime = time.Second
	// recallPause is how long one takes that was recalled: a program that asks in a circle waits a little.
	recallPause = 50 * time.Millisecond
	// sameTime is how long after the next one may be one more of the same circle.
	sameTime = time.Second
	// mostRecent is how many there are, and mostTold how many processes of each are known to have been told.
	mostRecent = 256
	mostTold   = 256
)

// Recent are verdicts of the last moment, each by the question that it answers: whom was to be connected to, from
// where, and by what rules. The zero value has none. Its methods may be called from any goroutine.
type Recent[Q comparable] struct {
	mu      sync.Mutex
	of      map[Q]*recent
	sweeper *time.Timer // lets those go that are over; nil while there are none
}

// recent is a verdict.
type recent struct {
	failure *Failure
	stands  bool // the next one is not tried
	until   time.Time
	told    map[int32]struct{} // processes that were told that it was recalled
}

// News is what is to be said of a failure.
type News int

const (
	New      News = iota // all of it
	Recalled             // that it was recalled, which the process has not been told yet
	Told                 // nothing
)

// Recall returns the failure that answered q just now, or nil. It waits a little then, or until ctx is done.
func (v *Recent[Q]) Recall(ctx context.Context, q Q) *Failure {
	v.mu.Lock()
	r := v.of[q]
	if r == nil || !r.stands || time.Now().After(r.until) {
		v.mu.Unlock()
		return nil
	}
	v.mu.Unlock()
	pause := time.NewTimer(recallPause)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
	}
	return r.failure
}

// Note notes that f has answered q, and returns what the process pid has yet to be told of it.
func (v *Recent[Q]) Note(q Q, f *Failure, pid int32) News {
	v.mu.Lock()
	defer v.mu.Unlock()
	last, now := v.of[q], time.Now()
	if last != nil && last.failure == f {
		return last.tell(pid)
	}
	same := last != nil && *last.failure == *f
	again := same && !now.After(last.until)
	if (f.ofCertificate() || f.Errno == unix.EPROTO) && (last != nil || v.room()) {
		r := &recent{f, f.ofCertificate() || again, now.Add(recallTime), make(map[int32]struct{})}
		if same {
			r.told = last.told // it is one circle
		}
		v.of[q] = r
	}
	return New
}

// tell returns what a process has yet to be told of a verdict that was recalled.
func (r *recent) tell(pid int32) News {
	if _, told := r.told[pid]; told || len(r.told) == mostTold {
		return Told
	}
	r.told[pid] = struct{}{}
	return Recalled
}

// Recalled is f with a sentence that says so.
func (f *Failure) Recalled() *Failure {
	g := *f
	g.Reason += fmt.Sprintf(" (remembered for %v, in which the program tries again and again)", recallTime)
	return &g
}

// room makes room for one more, and reports whether there is any.
func (v *Recent[Q]) room() bool {
	if v.of == nil {
		v.of = make(map[Q]*recent)
	}
	if v.sweeper == nil {
		v.sweeper = time.AfterFunc(recallTime+sameTime, v.sweep)
	}
	if len(v.of) == mostRecent {
		v.letGo(0)
	}
	return len(v.of) < mostRecent
}

// letGo lets those go that have been over for a time.
func (v *Recent[Q]) letGo(since time.Duration) {
	now := time.Now()
	for q, r := range v.of {
		if now.After(r.until.Add(since)) {
			delete(v.of, q)
		}
	}
}

// sweep looks after that until there are none.
func (v *Recent[Q]) sweep() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.letGo(sameTime)
	v.sweeper = nil
	if len(v.of) > 0 {
		v.sweeper = time.AfterFunc(recallTime+sameTime, v.sweep)
	}
}
