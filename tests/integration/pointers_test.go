package integration

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"tlswrap/tests/testkit"
)

// Memory that cannot be read or written is EFAULT, as it is to the kernel, and not the end of the
// program: what the program prints is what it prints alone.
func TestPointersToNowhereAreEFAULT(t *testing.T) {
	t.Parallel()
	program := compile(t, "pointers.c")
	alone := wrapped{bare: true}.run(t, program).must(t).stdout
	if got := anyRule().run(t, program).must(t).stdout; got != alone {
		t.Errorf("the program says\n%s, and alone\n%s", got, alone)
	}
}

func TestPointersToNowhereOnAConnectionAreEFAULT(t *testing.T) {
	t.Parallel()
	program := compile(t, "pointers.c")
	plain, err := testkit.Serve("127.0.0.1:0", nil, testkit.Echo)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(plain.Close)
	alone := wrapped{bare: true}.run(t, program, "connect", "127.0.0.1", fmt.Sprint(plain.Port())).must(t).stdout
	s := serveTLS(t, "db.example.test", echo)
	w := s.wrapped()
	w.flags = append(w.flags, "--tls", s.host+":1")
	if e := w.run(t, program, "connect", s.host, s.portString()); e.stdout != alone || e.status != 0 {
		t.Errorf("the program ends with %d and says\n%s, and alone\n%s", e.status, e.stdout, alone)
	}
}

// A client whose address cannot be told to the program is let go, as the kernel does.
func TestPointersToNowhereOnAListenerAreEFAULT(t *testing.T) {
	t.Parallel()
	program := compile(t, "pointers.c")
	// clients connects, one after the other, until the program ends, and returns what it said.
	clients := func(r *running, dial func() (net.Conn, error)) string {
		eventually(t, "the program listens", 20*time.Second, func() bool { return strings.Contains(r.stdout.String(), "listening\n") })
		for {
			select {
			case <-r.done:
				return r.stdout.String()
			default:
			}
			conn, err := dial()
			if err != nil {
				continue // it does not listen any more
			}
			conn.SetDeadline(time.Now().Add(20 * time.Second))
			n, err := io.Copy(io.Discard, conn)
			if conn.Close(); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("the client read %d bytes, %v", n, err)
			}
		}
	}
	port := closedPort(t)
	alone := clients(wrapped{bare: true}.start(t, program, "listen", port), func() (net.Conn, error) {
		return net.Dial("tcp", "127.0.0.1:"+port)
	})
	s := serveUnder(t, "")
	s.running = wrapped{flags: []string{"--rules", s.rules}, dir: s.dir}.start(t, program, "listen", s.portString())
	if got := clients(s.running, func() (net.Conn, error) {
		return tls.Dial("tcp", "127.0.0.1:"+s.portString(), &tls.Config{RootCAs: lab.root.Pool(), ServerName: s.host})
	}); got != alone {
		t.Errorf("the program says\n%s, and alone\n%s", got, alone)
	}
}

// What a program is started with is read once, so that it fits where it was to go.
func TestEnvironmentThatAThreadChanges(t *testing.T) {
	t.Parallel()
	if e := anyRule().run(t, compile(t, "pointers.c"), "change").must(t); e.stdout != "" {
		t.Errorf("the program says %s", e.stdout)
	}
}
