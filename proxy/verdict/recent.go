package verdict

import (
	"context"
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
	// mostRecent is how many there are.
	mostRecent = 256
)

// Recent are verdicts of the last moment, each by the question that it answers: whom was to be connected to,
// and by what rules. The zero value has none. Its methods may be called from any goroutine.
type Recent[Q comparable] struct {
	mu sync.Mutex
	of map[Q]*recent
}

// recent is a verdict, and the process that was told of it last.
type recent struct {
	failure *Failure
	stands  bool // the next one is not tried
	until   time.Time
	pid     int32
}

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

// Note notes that f has answered q, and reports whether the process pid has yet to be told: what was
// recalled, and it was told of last, is no news.
func (v *Recent[Q]) Note(q Q, f *Failure, pid int32) (news bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	last, now := v.of[q], time.Now()
	if last != nil && last.failure == f {
		news = last.pid != pid
		last.pid = pid
		return news
	}
	again := last != nil && !now.After(last.until) && *last.failure == *f
	if (f.ofCertificate() || f.Errno == unix.EPROTO) && (last != nil || v.room()) {
		v.of[q] = &recent{f, f.ofCertificate() || again, now.Add(recallTime), pid}
	}
	return true
}

// room makes room for one more, and reports whether there is any.
func (v *Recent[Q]) room() bool {
	if v.of == nil {
		v.of = make(map[Q]*recent)
	}
	if len(v.of) < mostRecent {
		return true
	}
	now := time.Now()
	for q, r := range v.of {
		if now.After(r.until) {
			delete(v.of, q)
		}
	}
	return len(v.of) < mostRecent
}
