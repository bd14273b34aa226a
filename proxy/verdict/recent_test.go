package verdict

import (
	"context"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A program that tries in a circle is told once that its verdict is remembered, each process of it, and in any order.
func TestARecalledVerdictIsToldOnce(t *testing.T) {
	var v Recent[string]
	f := Failf(unix.EKEYREJECTED, "wrong name")
	if got := v.Note("q", f, 1); got != New {
		t.Errorf("the first time: %v", got)
	}
	for i, want := range []News{Recalled, Recalled, Told, Told, Told} {
		pid := int32(1 + i%2)
		if r := v.Recall(context.Background(), "q"); r != f {
			t.Fatalf("recalled %v", r)
		}
		if got := v.Note("q", f, pid); got != want {
			t.Errorf("time %d: %v, want %v", i+1, got, want)
		}
	}
	if v.Recall(context.Background(), "another") != nil {
		t.Error("another question has the same answer")
	}
	if again := Failf(unix.EKEYREJECTED, "wrong name"); v.Note("q", again, 1) != New || v.Note("q", again, 1) != Told {
		t.Error("the same verdict of another handshake is no news, or is told to be remembered once more")
	}
	if said := f.Recalled().Reason; !strings.HasPrefix(said, "wrong name (remembered for 1s") {
		t.Errorf("it says %q", said)
	}
}

func TestVerdictsThatAreOverAreLetGo(t *testing.T) {
	var v Recent[int]
	for q := range 2 * mostRecent {
		v.Note(q, Failf(unix.EKEYREJECTED, "wrong name"), 1)
	}
	size := func() int {
		v.mu.Lock()
		defer v.mu.Unlock()
		return len(v.of)
	}
	if n := size(); n != mostRecent {
		t.Errorf("%d are kept, of %d", n, mostRecent)
	}
	for limit := time.Now().Add(20 * time.Second); size() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%d are never let go", size())
		}
	}
}
