package integration

import "testing"

// A seccomp filter that refuses getsockopt keeps the shim from finding out that a socket is one of
// TCP. What cannot be told is refused: nothing is sent. The worker, where the kernel asks it, is under no filter.
func TestSocketThatCannotBeToldIsRefused(t *testing.T) {
	t.Parallel()
	s := serveTLS(t, "db.example.test", echo)
	e := s.wrapped().run(t, cannotTell(s)...).must(t)
	if e.stdout != "True\nsent\n" {
		t.Errorf("the program said %q", e.stdout)
	}
	w := withoutSeccomp()
	w.flags = append(w.flags, s.wrapped().flags...)
	if e := w.run(t, cannotTell(s)...); e.stdout != "True\nENETDOWN\n" {
		t.Errorf("without the kernel's help the program said %q, stderr: %q", e.stdout, e.stderr)
	}
}

// cannotTell is a program that connects twice, the second time without getsockopt.
func cannotTell(s *site) []string {
	return []string{python, "-c", `import ctypes, errno, socket, struct, sys
address = socket.getaddrinfo(sys.argv[1], int(sys.argv[2]), type=socket.SOCK_STREAM)[0][4]
first = socket.create_connection(address)
first.sendall(sys.argv[3].encode() + b"\n")
print(first.recv(1000) == sys.argv[3].encode() + b"\n")
# The number of the call; 55 is getsockopt on x86-64: EPERM, and else go on.
filter = [(0x20, 0, 0, 0), (0x15, 0, 1, 55), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in filter))
program = ctypes.create_string_buffer(struct.pack("=HxxxxxxQ", len(filter), ctypes.addressof(code)))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program) == 0 # PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP
connection = socket.socket()
try:
    connection.connect(address)
    connection.sendall(sys.argv[3].encode())
    print("sent")
except OSError as e: print(errno.errorcode[e.errno])`, s.host, s.portString(), s.marker}
}

// A program that forbids itself AF_UNIX sockets still finds names, and gets TLS for them: the kernel leads to the worker.
func TestProgramThatForbidsItselfUNIXSocketsFindsNames(t *testing.T) {
	s := serveSite(t, "db.example.test")
	e := s.wrapped().run(t, python, "-c", `import ctypes, struct, sys, urllib.request
# The number of the call, which is 41 for socket on x86-64, and its family, which is 1: EAFNOSUPPORT, and else go on.
filter = [(0x20, 0, 0, 0), (0x15, 0, 3, 41), (0x20, 0, 0, 16), (0x15, 0, 1, 1), (0x06, 0, 0, 0x00050061), (0x06, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in filter))
program = ctypes.create_string_buffer(struct.pack("=HxxxxxxQ", len(filter), ctypes.addressof(code)))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program) == 0
print(urllib.request.urlopen(sys.argv[1]).read().decode(), end="")`, s.url("/fixed")).must(t)
	if e.stdout != s.marker+"\n" {
		t.Errorf("it got %q", e.stdout)
	}
}
