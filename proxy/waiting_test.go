package proxy

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/begin"
)

// gathered is a client's connection that says nothing after its first words before it is told to: the end of a
// handshake and what follows it then come together.
type gathered struct {
	net.Conn
	begun bool
	later []byte
}

func (g *gathered) Write(b []byte) (int, error) {
	if !g.begun {
		g.begun = true
		return g.Conn.Write(b)
	}
	g.later = append(g.later, b...)
	return len(b), nil
}

// Clients for which a program has no time yet cost about what they have said, and no buffer each.
func TestClientsThatWaitHoldNoBuffers(t *testing.T) {
	lab := newFaultLab(t)
	token, leave, err := (&handshakeLab{worker: lab.worker, address: lab.address}).begin()
	if err != nil {
		t.Fatal(err)
	}
	defer leave()
	l, err := net.Listen("tcp", faultListen)
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.(*net.TCPListener).File() // becomes the queue, from which nobody accepts
	l.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Listen(int(f.Fd()), 1); err != nil { // so that the queue is full with the second
		t.Fatal(err)
	}
	if covered, err := begin.Serve(begin.Reached{Address: lab.address, UID: uint32(os.Geteuid()), Token: token}, int(f.Fd()), false); err != nil || !covered {
		t.Fatalf("listen: %v, %v", covered, err)
	}
	const clients, most = 200, 32 << 10 // bytes for each, of which a buffer has 64 KiB
	before := heap()
	for _, words := range [][]string{{"a word"}, {"a word", "and half of another"}} {
		t.Run(fmt.Sprint(len(words)), func(t *testing.T) {
			accepted := strings.Count(lab.log.String(), "msg=accepted")
			for range clients {
				lab.sayAtOnce(t, words)
			}
			each := 0
			for limit := time.Now().Add(10 * time.Second); time.Now().Before(limit); time.Sleep(10 * time.Millisecond) {
				if strings.Count(lab.log.String(), "msg=accepted") < accepted+clients {
					continue
				}
				if each = (heap() - before) / clients; each < most {
					break
				}
			}
			if each <= 0 || each > most {
				t.Errorf("a client that waits has %d bytes", each)
			}
			before = heap()
		})
	}
}

// sayAtOnce has a client say words with the end of its handshake, the last of several but for its end.
func (lab *faultLab) sayAtOnce(t *testing.T, words []string) {
	t.Helper()
	tcp, err := net.Dial("tcp", faultListen)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tcp.Close() })
	g := &gathered{Conn: tcp}
	client := tls.Client(g, lab.config)
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	for _, w := range words {
		if _, err := client.Write([]byte(w)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tcp.Write(g.later[:len(g.later)-(len(words)-1)]); err != nil {
		t.Fatal(err)
	}
}

// heap is how many bytes are in use.
func heap() int {
	var m runtime.MemStats
	for range 3 { // the pool of buffers lets go of its own with the second
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
