package relay

import (
	"log/slog"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/channel"
	"tlswrap/proxy/upstream"
	"tlswrap/proxy/verdict"
)

// A connection that idles after it has sent takes no more memory than one that has sent nothing: of ten
// thousand, all but a few do at any time.
func TestWhatSendingNeedsIsLetGoOfWhenItHasEnded(t *testing.T) {
	const count, most = 200, 100 // connections, and bytes of one
	all := make([]*Ends, count)
	for i := range all {
		pr, p, err := channel.New("", true)
		if err != nil {
			t.Fatal(err)
		}
		ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		up, err := upstream.New(ends[0])
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			pr.Close()
			up.Close()
			unix.Close(p)
			unix.Close(ends[1])
		})
		all[i] = &Ends{Channel: pr, Upstream: up, Log: slog.New(slog.DiscardHandler), Broken: func(*verdict.Failure) {}}
	}
	send := func(e *Ends) {
		if err := e.Sending(func() error { _, err := e.Upstream.Write([]byte("words")); return err }); err != nil {
			t.Fatal(err)
		}
	}
	send(all[0]) // what is made once for all
	before := heapInUse()
	for _, e := range all[1:] {
		send(e)
	}
	if grown := (heapInUse() - before) / count; grown > most {
		t.Errorf("each takes %d bytes more", grown)
	}
	runtime.KeepAlive(all)
}

// heapInUse is how many bytes are reachable. What a sync.Pool has it keeps over one collection.
func heapInUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
