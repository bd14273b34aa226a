package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"tlswrap/tests/testkit"
)

// The client's connections go by the relay, and end as they would without it: a client that reads to the end is told of it.
func TestTheRelayPassesOnWhatIsDivertedToIt(t *testing.T) {
	testkit.Need(t, "cc")
	server, err := testkit.Serve("127.0.0.1:0", nil, func(conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\nas asked\n")
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), commandTime)
	defer cancel()
	l := &lab{ctx: ctx, dir: t.TempDir(), effort: effort{connect: 100 * time.Millisecond}}
	defer l.close()
	l.ports.Plain = int(server.Port())
	for _, step := range []func() error{l.compileClient, l.startRelay} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	loop := l.relayed(l.loop(l.ports.Plain)...)
	v, err := l.countConnections(noneResume, loop)()
	if err != nil || v[0] <= 0 {
		t.Fatalf("%v connections a second: %v", v, err)
	}
	l.relay.stop()
	if _, err := l.run(loop...); err == nil || !strings.Contains(err.Error(), "Connection refused") {
		t.Errorf("without the relay: %v", err)
	}
}

func TestAProcesssTimeIsThatOfAllOfItsThreads(t *testing.T) {
	own := func() float64 {
		var r syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
			t.Fatal(err)
		}
		return time.Duration(r.Utime.Nano() + r.Stime.Nano()).Seconds()
	}
	for began := own(); own() < began+0.05; { // seconds of work
	}
	const tolerance = 0.02
	least := own() - tolerance
	if v, err := processorTime(os.Getpid()); err != nil || v < least || v > own()+tolerance {
		t.Errorf("%v s (%v), want %v", v, err, least+tolerance)
	}
	const beyond = 1<<22 + 1 // the largest number of a process (proc_sys_kernel(5))
	if v, err := processorTime(beyond); err == nil {
		t.Errorf("%v s of no process", v)
	}
}

func TestAWorkIsLeftOutWhereItsCommandFails(t *testing.T) {
	for _, c := range []struct {
		needs []string
		good  bool
	}{
		{nil, true},
		{[]string{"true"}, true},
		{[]string{"false"}, false},
		{[]string{"/nonexistent/strace"}, false},
	} {
		if err := (&work{needs: c.needs}).possible(t.Context()); (err == nil) != c.good {
			t.Errorf("%q: %v", c.needs, err)
		}
	}
}
