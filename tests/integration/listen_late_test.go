package integration

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// waits reports whether a process waits in a system call for a client.
func waits(t *testing.T, pid int) bool {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", pid))
	if err != nil {
		t.Fatal(err)
	}
	number, _, _ := strings.Cut(string(text), " ")
	for _, call := range []int{syscall.SYS_ACCEPT, syscall.SYS_ACCEPT4, syscall.SYS_SELECT, syscall.SYS_PSELECT6} {
		if number == fmt.Sprint(call) {
			return true
		}
	}
	return false
}

// plain connects without TLS, and returns what the server says.
func (s *served) plain(t *testing.T) string {
	t.Helper()
	conn, err := net.Dial("tcp", "127.0.0.1:"+s.portString())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	conn.Write([]byte("no TLS at all\n"))
	said, err := io.ReadAll(conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("neither an answer nor an end")
	}
	return string(said)
}

// A program that waits for a client when a rule comes into force lets nobody in without TLS.
func TestRuleThatComesWhileAProgramAccepts(t *testing.T) {
	for _, how := range []string{"wait", "poll", "children"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s := serveUnder(t, "")
			rule, err := os.ReadFile(s.rules)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(s.dir, "late.toml")
			err = os.WriteFile(file, []byte("[[rule]]\nhost = \"db.example.test\"\nport = 1\n"), 0o644)
			if err == nil { // what is older than a moment is read once
				err = os.Chtimes(file, time.Time{}, time.Now().Add(-time.Hour))
			}
			if err != nil {
				t.Fatal(err)
			}
			socket, worker := sharedWorker(t, nil, "--rules", file)
			s.running = wrapped{flags: []string{"--worker", socket}}.start(t, "/usr/bin/python3", testFile(t, "serve_late.py"), s.portString(), how)
			s.listens(t)
			if said := s.plain(t); said != "hello\n" {
				t.Fatalf("before there is a rule the server says %q", said)
			}
			eventually(t, "the program waits", 20*time.Second, func() bool { return waits(t, s.cmd.Process.Pid) })

			if err := os.WriteFile(file+".next", rule, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(file+".next", file); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the rule is in force", 20*time.Second, func() bool {
				return strings.Contains(worker.stderr.String(), "rules reloaded")
			})
			for n := range 10 {
				if said := s.plain(t); strings.Contains(said, "hello") {
					t.Errorf("client %d without TLS is served", n)
				}
			}
			eventually(t, "a client with TLS is served", 20*time.Second, func() bool {
				conn, err := tls.Dial("tcp", "127.0.0.1:"+s.portString(), &tls.Config{RootCAs: lab.root.Pool(), ServerName: s.host})
				if err != nil {
					return false
				}
				defer conn.Close()
				said, _ := bufio.NewReader(conn).ReadString('\n')
				return said == "hello\n"
			})
		})
	}
}

// Once a program has closed what it listened on, no client gets through a handshake.
func TestClosedListenerLetsNobodyIn(t *testing.T) {
	t.Parallel()
	s := serveUnder(t, "")
	s.start(t, "/usr/bin/python3", testFile(t, "serve_late.py"), s.portString(), "close")
	for n := 1; n <= 10; n++ {
		eventually(t, "the server listens", 20*time.Second, func() bool { return strings.Count(s.stdout.String(), "listening") == n })
		if conn, err := s.dial(t, nil); err != nil {
			t.Fatal(err)
		} else {
			conn.Close()
		}
		fmt.Fprintln(s.stdin)
		eventually(t, "the server closes", 20*time.Second, func() bool { return strings.Count(s.stdout.String(), "closed") == n })
		for range 3 {
			conn, err := tls.Dial("tcp", "127.0.0.1:"+s.portString(), &tls.Config{RootCAs: lab.root.Pool(), ServerName: s.host})
			if err == nil {
				conn.Close()
				t.Error("a client was let in")
			} else if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
				t.Error(err)
			}
		}
		fmt.Fprintln(s.stdin)
	}
}
