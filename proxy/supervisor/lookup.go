package supervisor

import (
	"bytes"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/dns"
	"tlswrap/proxy/fdio"
)

// Names is what a session's programs learn of names by asking a DNS server themselves.
type Names interface {
	dns.Asker
	// Needs says whether rules are about names at all, so that what a program asks is to be known, and
	// whether some may cover names that nobody else could look up, so that it has to be.
	Needs() (known, must bool)
}

// dnsPort is where DNS servers are asked.
const dnsPort = 53

// questions are a session's sockets for DNS servers: they are in a room (package room), where the worker
// answers. Whoever has got one sends there natively.
type questions struct {
	Names
	resolver *dns.Resolver
}

// asksServer reports whether a target that is about to send to an address with its socket asks a DNS
// server by itself, and is to be answered here.
func (c *call) asksServer(k *kind, to address) (bool, answer) {
	if !to.internet || to.Port != dnsPort || !k.internet() {
		return false, nil
	}
	known, must := c.questions.Needs()
	if !known && !must {
		return false, nil
	}
	switch ours, err := isHere(k.fd); {
	case err != nil:
		return false, c.failed(err)
	case !ours:
		return false, nil // in the room, or in a network namespace of the program's own, with servers of its own
	}
	seen, err := c.seenByShim()
	if err != nil {
		return false, c.unreachable(err)
	}
	return !seen, nil
}

const netnsCookie = 71 // SO_NETNS_COOKIE, Linux 5.14

// ownNamespace is the cookie of the worker's network namespace.
var ownNamespace = fdio.Kept(func() (uint64, error) {
	own, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer unix.Close(own)
	return unix.GetsockoptUint64(own, unix.SOL_SOCKET, netnsCookie)
})

// isHere reports whether a socket is in the worker's own network namespace.
func isHere(fd int) (bool, error) {
	own, err := ownNamespace()
	if err != nil {
		return false, err
	}
	theirs, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, netnsCookie)
	return theirs == own, err
}

// enterRoom puts a socket of the room's in the place of the target's, and of k.
func (c *call) enterRoom(k *kind) answer {
	typ, err := unix.GetsockoptInt(k.fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return c.failed(err)
	}
	fd, err := c.questions.resolver.Socket(k.domain, typ)
	if err != nil {
		if _, must := c.questions.Needs(); !must {
			return nil // it asks as it is; what it finds out, the rules' exact names tell
		}
		c.tellOnce("it asks a DNS server by itself, and rules are about names that only the answer tells: %v", err)
		return fail(unix.EACCES)
	}
	s := swap{call: c, number: int(int32(c.Args[0])), old: k.fd, end: -1}
	defer s.close()
	if err := s.put(fd); err != nil {
		return s.failure
	}
	k.close()
	if *k, err = s.channel(); err != nil {
		return c.failed(err)
	}
	return nil
}

// seenByShim reports whether the call is one of a C library's own for a program that has the shim, whose
// hook of getaddrinfo(3) and its like sees what comes of it: the code that made the call is that of the
// only C library in the process.
func (c *call) seenByShim() (bool, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", c.thread.TID))
	if err != nil {
		return false, err
	}
	shim, libraries, inside := false, 0, false
	for line := range bytes.Lines(text) {
		m, ok := parseMapping(line)
		switch {
		case !ok:
		case m.is("libtlswrap.so"):
			shim = true
		case m.executable && m.isLibrary():
			libraries++
			inside = m.first <= c.IP && c.IP < m.end
		}
	}
	return shim && inside && libraries == 1, nil
}

// mapping is a line of /proc/PID/maps.
type mapping struct {
	first, end uint64
	executable bool
	file       []byte
}

func parseMapping(line []byte) (m mapping, ok bool) {
	f := bytes.Fields(line)
	if len(f) < 6 || len(f[1]) != 4 {
		return m, false
	}
	if _, err := fmt.Sscanf(string(f[0]), "%x-%x", &m.first, &m.end); err != nil {
		return m, false
	}
	m.executable, m.file = f[1][2] == 'x', f[5]
	return m, true
}

func (m mapping) is(name string) bool { return bytes.HasSuffix(m.file, []byte("/"+name)) }

// isLibrary reports whether it is of a C library: glibc's resolver is a library of its own before 2.34.
func (m mapping) isLibrary() bool {
	base := m.file[bytes.LastIndexByte(m.file, '/')+1:]
	return bytes.HasPrefix(base, []byte("libc.so")) || bytes.HasPrefix(base, []byte("libc-")) ||
		bytes.HasPrefix(base, []byte("ld-musl-")) || bytes.HasPrefix(base, []byte("libc.musl-"))
}
