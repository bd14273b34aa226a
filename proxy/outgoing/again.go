package outgoing

import (
	"context"
	"sync"
	"time"

	"tlswrap/proxy/trust"
	"tlswrap/proxy/verdict"
	"tlswrap/proxy/wire"
	"tlswrap/rules"
)

// A program that does not know a verdict's errno may take it for "go on" and connect again at once, for as
// long as it runs. For a moment it gets the same verdict without another handshake.

const (
	// recallTime is how long a verdict stands.
	recallTime = time.Second
	// recallPause is how long one takes that was recalled: a program that asks in a circle waits a little.
	recallPause = 50 * time.Millisecond
	// mostVerdicts is how many targets of a session's have one.
	mostVerdicts = 256
)

// question is what a verdict answers: the same question later has other keys where the rules have
// changed.
type question struct {
	name  string
	to    wire.Addr
	rule  *rules.Rule
	trust *trust.Trust
}

// recent is a verdict, and the process that was told of it last.
type recent struct {
	failure *verdict.Failure
	until   time.Time
	pid     int32
}

// verdicts are a session's of the last moment.
type verdicts struct {
	mu sync.Mutex
	of map[question]*recent
}

func (c *Conn) question() question {
	return question{c.verifiedName(), c.Target.Addr, c.Decision.Rule, c.trust}
}

// recall returns the failure in which the same connection has just ended, or nil. It waits a little then, or
// until ctx is done.
func (c *Conn) recall(ctx context.Context) *verdict.Failure {
	if c.explains() {
		return nil
	}
	v := &c.state.recent
	v.mu.Lock()
	r := v.of[c.question()]
	v.mu.Unlock()
	if r == nil || time.Now().After(r.until) {
		return nil
	}
	pause := time.NewTimer(recallPause)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
	}
	c.recalled = r
	return r.failure
}

// news notes f, in which c's setup has ended, and reports whether a person has to be told of it: what was
// recalled, and this process has had before, is none.
func (c *Conn) news(f *verdict.Failure) bool {
	v := &c.state.recent
	v.mu.Lock()
	defer v.mu.Unlock()
	if r := c.recalled; r != nil {
		known := r.pid == c.pid
		r.pid = c.pid
		return !known
	}
	if f.OfServer() && v.room() {
		v.of[c.question()] = &recent{f, time.Now().Add(recallTime), c.pid}
	}
	return true
}

// room makes room for one more, and reports whether there is any.
func (v *verdicts) room() bool {
	if v.of == nil {
		v.of = make(map[question]*recent)
	}
	if len(v.of) < mostVerdicts {
		return true
	}
	now := time.Now()
	for q, r := range v.of {
		if now.After(r.until) {
			delete(v.of, q)
		}
	}
	return len(v.of) < mostVerdicts
}
