package libtls

import (
	"log/slog"
	"strings"
	"testing"

	"tlswrap/proxy/session"
	"tlswrap/proxy/session/sessiontest"
	"tlswrap/proxy/wire"
)

func newEnds(t *testing.T, u *session.User) *State {
	return NewFront(slog.New(slog.DiscardHandler)).NewState(sessiontest.New(t, u, nil))
}

func TestOfAnEndedConnectionTheEndIsKept(t *testing.T) {
	u := session.NewUser(session.NewFailed())
	l := newEnds(t, u)
	for id, how := range []ending{{true, "unexpected EOF"}, {false, strings.Repeat("long ", wire.TLSTextMost)}, {}} {
		l.Enter(uint64(id), &stream{id: uint64(id), last: how})
		l.ended(uint64(id), how)
		if _, whole := l.Find(uint64(id)).(*stream); whole {
			t.Errorf("%d is there as a whole", id)
		}
	}
	if got := l.howItEnded(0); got != (ending{true, "unexpected EOF"}) {
		t.Errorf("got %v", got)
	}
	if got := l.howItEnded(1); got.truncated || len(got.reason) != wire.TLSTextMost {
		t.Errorf("got %v, with %d bytes", got.truncated, len(got.reason))
	}
	if l.Find(2) != nil || l.Find(1) == nil {
		t.Error("what ended well is kept, or what broke is not")
	}
	// Nobody can tell: it is not said that all was there.
	if got := l.howItEnded(2); !got.truncated {
		t.Errorf("got %v", got)
	}
	l.Close()
	l.ended(3, ending{true, "unexpected EOF"})
	if l.Find(0) != nil || l.Find(1) != nil || l.Find(3) != nil || l.recent.Len() != 0 || u.Ends.Len() != 0 {
		t.Errorf("after the session ends are found, or %d and %d are kept", l.recent.Len(), u.Ends.Len())
	}
}

// found is how many of the ends are found that TestEndsAreBounded makes.
func found(l *State) (n int) {
	for half := range uint64(2) {
		for i := range uint64(mostEnds) {
			if l.Find(half<<32+i) != nil {
				n++
			}
		}
	}
	return n
}

func TestEndsAreBounded(t *testing.T) {
	u := session.NewUser(session.NewFailed())
	how := ending{false, "Broken pipe"}
	var all []*State
	for range 8 {
		l := newEnds(t, u)
		all = append(all, l)
		done := make(chan struct{})
		for half := range 2 { // at once
			go func() {
				for i := range uint64(mostEnds) {
					l.ended(uint64(half)<<32+i, how)
				}
				done <- struct{}{}
			}()
		}
		<-done
		<-done
		// One that has to go as it comes may have pushed another out.
		if found := found(l); found > mostEnds || found < mostEnds-2 || l.recent.Len() != found {
			t.Errorf("a session keeps %d ends, of %d", found, l.recent.Len())
		}
	}
	kept := 0
	for _, l := range all {
		kept += found(l)
	}
	if kept > u.Ends.Most || kept < u.Ends.Most-2*len(all) || u.Ends.Len() != kept {
		t.Errorf("a user keeps %d ends, of %d", kept, u.Ends.Len())
	}
	if last := all[len(all)-1]; last.howItEnded(mostEnds-1) != how && last.howItEnded(1<<32+mostEnds-1) != how {
		t.Error("the last is not kept")
	}
	for _, l := range all {
		l.Close()
	}
	if n := u.Ends.Len(); n != 0 {
		t.Errorf("%d are kept when all is over", n)
	}
}
