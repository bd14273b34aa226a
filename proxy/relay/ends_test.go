package relay

import (
	"log/slog"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/channel"
	"tlswrap/proxy/upstream"
	"tlswrap/proxy/verdict"
)

// Where one direction panics, the other has ended before anybody goes on, whichever it is.
func TestAPanicEndsBothDirections(t *testing.T) {
	for _, down := range []bool{false, true} {
		pr, p, err := channel.New("", true)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(p)
		ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(ends[1])
		up, err := upstream.New(ends[0])
		if err != nil {
			t.Fatal(err)
		}
		ch := &Ends{Channel: pr, Upstream: up, Log: slog.New(slog.DiscardHandler), Broken: func(*verdict.Failure) {}}
		ended := false
		wait := func(wait func() error) *verdict.Failure {
			wait()
			ended = true
			return nil
		}
		reading := func() error { _, err := up.Read(make([]byte, 1)); return err }
		listening := func() error { _, _, err := pr.Next(); return err }
		if down {
			// It reads the reset byte first.
			ch.bothWays(func() *verdict.Failure { panic("x") }, func(<-chan struct{}) *verdict.Failure { listening(); return wait(listening) })
		} else {
			f := ch.bothWays(func() *verdict.Failure { return wait(reading) }, func(<-chan struct{}) *verdict.Failure { panic("x") })
			if f == nil || !strings.Contains(f.Reason, "internal error: x") {
				t.Errorf("it ends with %v", f)
			}
		}
		if !ended {
			t.Error("the other direction goes on")
		}
		up.Close()
		pr.Close()
	}
}
