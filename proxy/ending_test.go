package proxy

import (
	"strings"
	"testing"

	"tlswrap/proxy/wire"
)

func newEnds(u *user) *libtlsState { return newLibtlsState(&Worker{}, u) }

func TestOfAnEndedConnectionTheEndIsKept(t *testing.T) {
	u := &user{ends: crowd{most: mostEndsOfUser}}
	l := newEnds(u)
	for id, how := range []ending{{true, "unexpected EOF"}, {false, strings.Repeat("long ", wire.TlsTextMost)}, {}} {
		l.remember(&stream{id: uint64(id), last: how})
		l.ended(uint64(id), how)
		if l.stream(uint64(id)) != nil {
			t.Errorf("%d is there as a whole", id)
		}
	}
	if got := l.howItEnded(0); got != (ending{true, "unexpected EOF"}) {
		t.Errorf("got %v", got)
	}
	if got := l.howItEnded(1); got.truncated || len(got.reason) != wire.TlsTextMost {
		t.Errorf("got %v, with %d bytes", got.truncated, len(got.reason))
	}
	if l.knows(2) || !l.knows(1) {
		t.Error("what ended well is kept, or what broke is not")
	}
	// Nobody can tell: it is not said that all was there.
	if got := l.howItEnded(2); !got.truncated {
		t.Errorf("got %v", got)
	}
	l.close()
	l.ended(3, ending{true, "unexpected EOF"})
	if len(l.ends) != 0 || l.recent.all.Len() != 0 || u.ends.all.Len() != 0 {
		t.Errorf("after the session %d, %d and %d ends are kept", len(l.ends), l.recent.all.Len(), u.ends.all.Len())
	}
}

func TestEndsAreBounded(t *testing.T) {
	u := &user{ends: crowd{most: mostEndsOfUser}}
	how := ending{false, "Broken pipe"}
	var all []*libtlsState
	for range 8 {
		l := newEnds(u)
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
		if len(l.ends) != mostEnds || l.recent.all.Len() != mostEnds {
			t.Errorf("a session keeps %d ends, of %d", len(l.ends), l.recent.all.Len())
		}
	}
	kept := 0
	for _, l := range all {
		kept += len(l.ends)
	}
	if kept != mostEndsOfUser || u.ends.all.Len() != mostEndsOfUser {
		t.Errorf("a user keeps %d ends, of %d", kept, u.ends.all.Len())
	}
	if last := all[len(all)-1]; last.howItEnded(mostEnds-1) != how {
		t.Error("the last is not kept")
	}
	for _, l := range all {
		l.close()
	}
	if n := u.ends.all.Len(); n != 0 {
		t.Errorf("%d are kept when all is over", n)
	}
}
