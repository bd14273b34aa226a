package integration

import "testing"

// Functions that are looked up in libc itself, past the program's search order, are the shim's.
func TestSymbolsBoundPastTheShim(t *testing.T) {
	program := compile(t, "bound.c", "-rdynamic")
	library := compile(t, "bound.c", "-DLIBRARY", "-shared", "-fPIC")
	for how, argument := range map[string]string{"deepbind": library, "dlsym": "-", "dlvsym": "GLIBC_2.2.5"} {
		t.Run(how, func(t *testing.T) {
			s := serveTLS(t, "db.example.test", echo)
			mustSayIntact(t, s.wrapped(), program, how, argument, s.host, s.portString(), s.marker)
		})
	}
}

func TestPythonCtypesConnects(t *testing.T) {
	const script = `import ctypes, socket, sys
host, port, marker = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode()
ip = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]
s = socket.socket()
address = socket.AF_INET.to_bytes(2, sys.byteorder) + port.to_bytes(2, "big") + socket.inet_aton(ip) + bytes(8)
assert ctypes.CDLL("libc.so.6").connect(s.fileno(), address, 16) == 0
s.sendall(marker)
s.shutdown(socket.SHUT_WR)
got = b""
while more := s.recv(4096): got += more
print("intact" if marker in got else got)
`
	s := serveTLS(t, "db.example.test", echo)
	mustSayIntact(t, s.wrapped(), python, "-c", script, s.host, s.portString(), s.marker)
}

// Another preloaded library that comes after the shim reaches libc by RTLD_NEXT, and not the shim again.
func TestOtherPreloadWrapsConnect(t *testing.T) {
	program := compile(t, "bound.c", "-rdynamic")
	s := serveTLS(t, "db.example.test", echo)
	w := s.wrapped()
	w.env = append(w.env, "LD_PRELOAD="+compile(t, "bound.c", "-DWRAP", "-shared", "-fPIC"))
	mustSayIntact(t, w, program, "plain", "-", s.host, s.portString(), s.marker)
}
