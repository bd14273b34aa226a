package proxy

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/begin"
	"tlswrap/proxy/wire"
	"tlswrap/rules"
)

// startWorker serves rules, given as a file's text, until the test ends.
func startWorker(t *testing.T, text string) (*Worker, string) {
	t.Helper()
	w, err := New(Config{Load: func() (*rules.Policy, error) { return rules.Parse("/rules.toml", []byte(text)) }})
	if err != nil {
		t.Fatal(err)
	}
	address := filepath.Join(t.TempDir(), "control")
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: address, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Serve: %v", err)
		}
	})
	return w, address
}

// anybody may run the worker.
func anybody(uint32) error { return nil }

// greet begins a session whose sentences can be read from the pipe.
func greet(t *testing.T, address string) (wire.Token, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	defer w.Close()
	var token wire.Token
	rand.Read(token[:])
	met, err := begin.Greet(address, anybody, begin.Hello{Token: token, Stderr: w})
	if err != nil {
		t.Fatal(err)
	}
	if met.UID != uint32(os.Geteuid()) {
		t.Errorf("the worker's user is %d", met.UID)
	}
	return token, r
}

// ask sends one message and returns what comes back, nil for a closed connection.
func ask(t *testing.T, address string, message []byte, fd int) []byte {
	t.Helper()
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: address, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	var oob []byte
	if fd >= 0 {
		oob = unix.UnixRights(fd)
	}
	if _, _, err := conn.WriteMsgUnix(message, oob, nil); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, err := conn.Read(b)
	if err != nil && err != io.EOF && !errors.Is(err, unix.ECONNRESET) {
		t.Fatal(err)
	}
	return b[:n]
}

func TestGarbageIsRefusedAndTheWorkerGoesOn(t *testing.T) {
	_, address := startWorker(t, "default = \"pass\"\n")
	token, _ := greet(t, address)
	garbage := map[string][]byte{
		"one byte":        {1},
		"noise":           []byte(strings.Repeat("\xff\x00garbage", 200)),
		"stranger":        wire.Request{Op: wire.OpConnect, Token: wire.Token{1}}.Marshal(),
		"unknown request": wire.Request{Op: 99, Token: token}.Marshal(),
		"connect to nothing": wire.Request{Op: wire.OpConnect, Token: token,
			Addrs: []wire.Addr{{IP: netip.MustParseAddr("127.0.0.1"), Port: 1}}}.Marshal(),
	}
	for name, message := range garbage {
		t.Run(name, func(t *testing.T) {
			if got := ask(t, address, message, -1); len(got) != 0 {
				t.Errorf("got an answer: %q", got)
			}
		})
	}
	ok := wire.Request{Op: wire.OpNames, Token: token, Name: "x.example", Addrs: []wire.Addr{{IP: netip.MustParseAddr("192.0.2.1")}}}
	if got := ask(t, address, ok.Marshal(), -1); len(got) != wire.ReplyHeader+wire.AddrLen {
		t.Errorf("a good request got %d bytes", len(got))
	}
}

func TestBrokenRulesLeaveTheOldOnes(t *testing.T) {
	text := "[[rule]]\nhost = \"a.example\"\naction = \"deny\"\n"
	w, err := New(Config{Load: func() (*rules.Policy, error) { return rules.Parse("/rules.toml", []byte(text)) }})
	if err != nil {
		t.Fatal(err)
	}
	text = "[[rule]]\nhost = \"b.example\"\nca_file = \"/nonexistent\"\n"
	if err := w.Reload(); err == nil || !strings.Contains(err.Error(), "/nonexistent") {
		t.Errorf("got %v", err)
	}
	if d := w.policy.Load().Rules.Decide(rules.Target{Name: "a.example", Port: 1}); d.Action != rules.Deny {
		t.Errorf("the old rule is gone: %v", d)
	}
}

func TestUnchangedRulesKeepTheirSessions(t *testing.T) {
	text := "[[rule]]\nhost = \"a.example\"\n[[rule]]\nhost = \"b.example\"\n"
	w, err := New(Config{Load: func() (*rules.Policy, error) { return rules.Parse("/rules.toml", []byte(text)) }})
	if err != nil {
		t.Fatal(err)
	}
	sessions := func(i int) any { p := w.policy.Load(); return p.Trust[p.Rules.Rules[i]].Servers }
	before := sessions(0)
	text = strings.Replace(text, "\"b.example\"", "\"b.example\"\nmin_version = \"1.3\"", 1)
	if err := w.Reload(); err != nil {
		t.Fatal(err)
	}
	if sessions(0) != before {
		t.Error("a rule that did not change lost its sessions")
	}
	if sessions(1) == before {
		t.Error("a rule that changed reuses old sessions")
	}
}

// tlswrap shows its sockets to nobody but the worker that it has met.
func TestSocketsAreShownToTheWorkersUserAlone(t *testing.T) {
	_, address := startWorker(t, "default = \"pass\"\n")
	token, _ := greet(t, address)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	met := uint32(os.Geteuid())
	if _, err := begin.Serve(begin.Reached{Address: address, UID: met, Token: token}, int(f.Fd()), false); err != nil {
		t.Errorf("the worker that was met: %v", err)
	}
	if _, err := begin.Serve(begin.Reached{Address: address, UID: met + 1, Token: token}, int(f.Fd()), false); err == nil || !strings.Contains(err.Error(), "has taken the worker's place") {
		t.Errorf("another: %v", err)
	}
}
