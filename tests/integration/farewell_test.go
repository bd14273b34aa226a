package integration

import (
	"crypto/tls"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// farewell is a program that has a connection, and when it is told to end says something on that and on a
// new one.
const farewell = `import signal, socket, sys, time
dial = lambda: socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
def say(s):
    s.sendall(b"bye\n")
    return s.recv(10)
s = dial()
def end(*_):
    time.sleep(0.5)
    print(say(s), say(dial()), flush=True)
    sys.exit(3)
for n in (signal.SIGTERM, signal.SIGHUP): signal.signal(n, end)
print("ready", flush=True)
while True: signal.pause()`

// A service manager tells all processes of a service at once.
func TestProgramThatIsToldToEndWithItsWorkerSaysItsFarewell(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP} {
		s := serveTLS(t, "db.example.test", echo)
		r := s.wrapped().start(t, python, "-c", farewell, s.host, s.portString())
		eventually(t, "the program runs", 20*time.Second, func() bool { return r.stdout.String() == "ready\n" })
		syscall.Kill(workerOf(t, s.hostport()), sig)
		r.cmd.Process.Signal(sig)
		<-r.done
		if got, want := r.stdout.String(), "ready\nb'bye\\n' b'bye\\n'\n"; got != want || status(r.cmd) != 3 {
			t.Errorf("%v: status %d, stdout: %q, want %q, stderr: %q", sig, status(r.cmd), got, want, r.stderr)
		}
		mustEnd(t, s.hostport())
	}
}

// When a service's main process has ended, what is left is told to end, and may have been told before.
func TestWorkerThatIsToldToEndSendsWhatAProgramHasLeft(t *testing.T) {
	for _, before := range []bool{false, true} {
		const size = 3 << 20
		got := make(chan int, 1)
		gone := make(chan struct{})
		s := serveTLS(t, "db.example.test", func(string) func(net.Conn) {
			return func(c net.Conn) {
				c.(*tls.Conn).Handshake()
				<-gone
				time.Sleep(500 * time.Millisecond) // a slow server: what is to be sent waits as long in the worker
				n, err := io.Copy(io.Discard, c)
				if err != nil {
					n = -1
				}
				got <- int(n)
			}
		})
		r := s.wrapped().start(t, python, "-c", `import socket, sys, signal
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
print("ready", flush=True)
signal.signal(signal.SIGTERM, lambda *_: (s.setblocking(False), sys.exit(0)))
sys.stdin.readline()
sent = 0
s.setblocking(False)
try:
    while sent < 3 << 20: sent += s.send(b"x" * 65536)
except BlockingIOError: pass
print(sent, flush=True)`, s.host, s.portString())
		eventually(t, "the program is connected", 20*time.Second, func() bool { return r.stdout.String() == "ready\n" })
		worker := workerOf(t, s.hostport())
		if before {
			syscall.Kill(worker, syscall.SIGTERM)
		}
		r.stdin.Write([]byte("\n"))
		<-r.done
		syscall.Kill(worker, syscall.SIGTERM)
		close(gone)
		want := 0
		for _, c := range r.stdout.String()[len("ready\n"):] {
			if c >= '0' && c <= '9' {
				want = 10*want + int(c-'0')
			}
		}
		if n := <-got; n != want || n == 0 {
			t.Errorf("told before: %v: the server got %d bytes, and the program has sent %d of %d; stderr: %q", before, n, want, size, r.stderr)
		}
		mustEnd(t, s.hostport())
	}
}

func TestSecondSignalEndsAWorkerAtOnce(t *testing.T) {
	s := serveTLS(t, "db.example.test", echo)
	r := s.wrapped().start(t, python, "-c", farewell, s.host, s.portString())
	eventually(t, "the program runs", 20*time.Second, func() bool { return r.stdout.String() == "ready\n" })
	worker := workerOf(t, s.hostport())
	syscall.Kill(worker, syscall.SIGTERM)
	time.Sleep(500 * time.Millisecond) // nothing shows that it stays but time
	if now := workerOf(t, s.hostport()); now != worker {
		t.Errorf("another worker: %d, not %d", now, worker)
	}
	syscall.Kill(worker, syscall.SIGTERM)
	mustEnd(t, s.hostport())
}
