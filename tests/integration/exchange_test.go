package integration

import (
	"regexp"
	"strings"
	"testing"
)

// A connection has TCP_NODELAY from the beginning, so that a program which sets it asks the worker nothing, unless it has
// cleared it before. What it reads is what it has set.
func TestSettingNodelayTakesNoExchange(t *testing.T) {
	s := serveTLS(t, "db.example.test", echo)
	w, file := s.wrapped().traced(t)
	const script = `
import os, socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def asked(): return open(os.environ["TLSWRAP_TRACE"]).read().count("ask op=upstream")
nodelay = socket.IPPROTO_TCP, socket.TCP_NODELAY
s.setsockopt(*nodelay, 1)
print(asked())
for on in 1, 0, 1:
	s.setsockopt(*nodelay, on)
	print(s.getsockopt(*nodelay), end=" ")
child = os.fork()
if child == 0:
	s.setsockopt(*nodelay, 0)
	os._exit(0)
os.waitpid(child, 0)
s.setsockopt(*nodelay, 1)
print(s.getsockopt(*nodelay))
for value in b"", b"\1":
	try: s.setsockopt(*nodelay, value)
	except OSError as e: print(e.strerror)
`
	got := w.run(t, python, "-c", script, s.host, s.portString()).must(t).stdout
	if want := "0\n1 0 1 1\nInvalid argument\nInvalid argument\n"; got != want {
		t.Errorf("the program has %q, want %q", got, want)
	}
	if text := readFile(t, file); !strings.Contains(text, "ask op=upstream") {
		t.Errorf("clearing it asked nothing:\n%s", text)
	}
}

// A connect takes two descriptors for a moment. A program that has one is told so, and one that has two connects.
func TestConnectWithoutADescriptorToSpareSaysSo(t *testing.T) {
	s := serveTLS(t, "db.example.test", echo)
	const script = `
import errno, os, resource, socket, sys
to = socket.getaddrinfo(sys.argv[1], int(sys.argv[2]))[0][4]
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
s, held = socket.socket(), []
try:
	while True: held.append(os.dup(0))
except OSError: pass
os.close(held.pop())
try: s.connect(to)
except OSError as e: print(errno.errorcode[e.errno])
os.close(held.pop())
s.connect(to)
s.sendall(b"x\n")
print(s.recv(2))
`
	e := s.wrapped().run(t, python, "-c", script, s.host, s.portString())
	if e.status != 0 || e.stdout != "EMFILE\nb'x\\n'\n" {
		t.Errorf("status %d, and the program has %q", e.status, e.stdout)
	}
	if !regexp.MustCompile(`db\.example\.test:\d+: the program could not make another socket: too many open files`).MatchString(e.stderr) {
		t.Errorf("nobody is told why: %q", e.stderr)
	}
}

// A socket that was taken out of an epoll set and put into another one is found there by a connect.
func TestConnectFindsTheEpollSetThatASocketIsIn(t *testing.T) {
	s := serveTLS(t, "db.example.test", echo)
	const script = `
import select, socket, sys
to = socket.getaddrinfo(sys.argv[1], int(sys.argv[2]))[0][4]
s, first, number = socket.socket(), select.epoll(), 0
s.setblocking(False)
def connected(sets):
	global s
	s.connect_ex(to)
	print([[(fd == s.fileno(), e == select.EPOLLOUT) for fd, e in found.poll(20)] for found in sets])
	s.close()
	s = socket.socket()
	s.setblocking(False)
first.register(s, select.EPOLLOUT)
first.unregister(s)
first.register(s, select.EPOLLOUT)
connected([first])
second = select.epoll()
first.register(s, select.EPOLLOUT)
second.register(s, select.EPOLLOUT)
first.unregister(s)
connected([second])
second.register(s, select.EPOLLOUT)
second.unregister(s)
first.register(s, select.EPOLLOUT)
connected([first])
`
	got := s.wrapped().run(t, python, "-c", script, s.host, s.portString()).must(t).stdout
	if want := strings.Repeat("[[(True, True)]]\n", 3); got != want {
		t.Errorf("the program has %q, want %q", got, want)
	}
}
