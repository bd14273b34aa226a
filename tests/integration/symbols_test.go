package integration

import (
	"strings"
	"testing"
)

// Whoever binds to libc itself gets the hooks: a library that is opened with RTLD_DEEPBIND, as PHP
// opens its extensions, and functions that are taken from a handle of libc. What RTLD_DEEPBIND is
// for stays: the library has its own functions before the program's.
func TestSymbolsOfLibcItselfAreHooked(t *testing.T) {
	s := serveTLS(t, "db.example.test", echo)
	plugin := compile(t, "deep_plugin.c", "-shared", "-fPIC")
	program := compile(t, "deep.c", "-rdynamic")
	want := "the plugin's\n" + strings.Repeat(s.marker+"\n", 4)
	for name, env := range map[string][]string{
		"alone":                     nil,
		"beside another interposer": {"LD_PRELOAD=" + compile(t, "interposer.c", "-shared", "-fPIC")},
	} {
		w := s.wrapped()
		w.env = env
		e := w.run(t, program, plugin, s.host, s.portString(), s.marker+"\n").must(t)
		if e.stdout != want {
			t.Errorf("%s: the program said %q, stderr %q", name, e.stdout, e.stderr)
		}
	}
}

// Python's ctypes takes functions from handles, and passes errno on.
func TestCtypesOfLibcIsHooked(t *testing.T) {
	s := serveTLS(t, "db.example.test", echo)
	e := s.wrapped().run(t, python, "-c", `import ctypes, socket, struct, sys
ip = socket.gethostbyname(sys.argv[1])
address = struct.pack("=H", socket.AF_INET) + struct.pack(">H", int(sys.argv[2])) + socket.inet_aton(ip) + bytes(8)
for libc in ctypes.CDLL("libc.so.6", use_errno=True), ctypes.CDLL(None, use_errno=True):
    s = socket.socket()
    print(libc.connect(s.fileno(), address, 16), ctypes.get_errno())
    s.sendall(sys.argv[3].encode() + b"\n")
    print(s.recv(100).decode(), end="")`, s.host, s.portString(), s.marker).must(t)
	if want := strings.Repeat("0 0\n"+s.marker+"\n", 2); e.stdout != want {
		t.Errorf("the program said %q, want %q", e.stdout, want)
	}
}
