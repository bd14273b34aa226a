package proxy

import (
	"crypto/rand"
	"os"
	"strings"
	"testing"

	"tlswrap/proxy/begin"
	"tlswrap/proxy/session"
	"tlswrap/proxy/session/sessiontest"
	"tlswrap/proxy/wire"
)

func TestAUserHasNoMoreSessionsThanTheMost(t *testing.T) {
	w, address := startWorker(t, "default = \"pass\"\n")
	u := w.user(uint32(os.Geteuid()))
	var some []wire.Token
	w.mu.Lock()
	for range session.MostSessions {
		var token wire.Token
		rand.Read(token[:])
		w.runs[token] = &run{Session: sessiontest.New(t, u, nil)}
		some = append(some, token)
	}
	w.mu.Unlock()
	var token wire.Token
	rand.Read(token[:])
	if _, err := begin.Greet(address, anybody, begin.Hello{Token: token, Stderr: os.Stderr, Quiet: true}); err == nil || !strings.Contains(err.Error(), "4096 sessions") {
		t.Errorf("got %v", err)
	}
	w.mu.Lock()
	delete(w.runs, some[0])
	w.mu.Unlock()
	if _, err := begin.Greet(address, anybody, begin.Hello{Token: token, Stderr: os.Stderr, Quiet: true}); err != nil {
		t.Errorf("with room: %v", err)
	}
}
