package upstream

import (
	"bytes"
	"fmt"
	"sync"
	"time"
	"unique"
	"unsafe"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/verdict"
	"tlswrap/proxy/wire"
)

// The program's own TCP socket is not what the worker connects: another process may have a copy
// of it, by fork, SCM_RIGHTS, exec or pidfd_getfd(2), and what that one writes would go out
// between the TLS records. Nobody can tell whether there is a copy. So the shim makes a new
// socket in the program's process, which gives it the program's network namespace, user and
// control group. The worker makes it like the old one: it may still have the rights that the
// program had when it set SO_MARK or bound a low port, and has given up since.

// sockOpt is an option of a socket, for getsockopt(2) and setsockopt(2).
type sockOpt struct {
	name        string
	level, what int
	set         int  // how it is set, where that is another number
	half        bool // the kernel tells twice of what it is given, socket(7)
	leads       bool // it has a say in where a connection leaves the machine
	found       bool // until it is set it is what the kernel has found for an earlier connection
}

// Options of Linux 6.11 and later (linux/tcp.h).
const (
	tcpRTOMaxMS    = 44
	tcpRTOMinUS    = 45
	tcpDelackMaxUS = 46
)

// likenessOptions are the options that matter to a connection and can be read: tcp(7), ip(7),
// ipv6(7), socket(7). Timeouts and the like are the channel's. Those that say what may be bound come first, as bind follows.
// TCP_CORK and TCP_FASTOPEN_CONNECT are none of them: they would hold the handshake back. Nor are those
// that a server's socket has, or that ask for control messages.
var likenessOptions = []sockOpt{
	{name: "SO_REUSEADDR", level: unix.SOL_SOCKET, what: unix.SO_REUSEADDR},
	{name: "SO_REUSEPORT", level: unix.SOL_SOCKET, what: unix.SO_REUSEPORT},
	{name: "SO_BINDTODEVICE", level: unix.SOL_SOCKET, what: unix.SO_BINDTODEVICE, leads: true},
	{name: "SO_MARK", level: unix.SOL_SOCKET, what: unix.SO_MARK, leads: true},
	{name: "SO_DONTROUTE", level: unix.SOL_SOCKET, what: unix.SO_DONTROUTE, leads: true},
	{name: "SO_KEEPALIVE", level: unix.SOL_SOCKET, what: unix.SO_KEEPALIVE},
	{name: "SO_OOBINLINE", level: unix.SOL_SOCKET, what: unix.SO_OOBINLINE},
	{name: "SO_LINGER", level: unix.SOL_SOCKET, what: unix.SO_LINGER},
	{name: "SO_BUSY_POLL", level: unix.SOL_SOCKET, what: unix.SO_BUSY_POLL},
	{name: "SO_PREFER_BUSY_POLL", level: unix.SOL_SOCKET, what: unix.SO_PREFER_BUSY_POLL},
	{name: "SO_TXREHASH", level: unix.SOL_SOCKET, what: unix.SO_TXREHASH},
	{name: "SO_MAX_PACING_RATE", level: unix.SOL_SOCKET, what: unix.SO_MAX_PACING_RATE},
	// The FORCE options exceed the system's limits, as the program may have been allowed to.
	{name: "SO_RCVBUF", level: unix.SOL_SOCKET, what: unix.SO_RCVBUF, set: unix.SO_RCVBUFFORCE, half: true},
	{name: "SO_SNDBUF", level: unix.SOL_SOCKET, what: unix.SO_SNDBUF, set: unix.SO_SNDBUFFORCE, half: true},
	{name: "IPV6_V6ONLY", level: unix.IPPROTO_IPV6, what: unix.IPV6_V6ONLY},
	{name: "IPV6_FREEBIND", level: unix.IPPROTO_IPV6, what: unix.IPV6_FREEBIND},
	{name: "IPV6_TRANSPARENT", level: unix.IPPROTO_IPV6, what: unix.IPV6_TRANSPARENT},
	{name: "IPV6_TCLASS", level: unix.IPPROTO_IPV6, what: unix.IPV6_TCLASS},
	{name: "IPV6_UNICAST_HOPS", level: unix.IPPROTO_IPV6, what: unix.IPV6_UNICAST_HOPS},
	{name: "IPV6_UNICAST_IF", level: unix.IPPROTO_IPV6, what: unix.IPV6_UNICAST_IF, leads: true},
	{name: "IPV6_MTU_DISCOVER", level: unix.IPPROTO_IPV6, what: unix.IPV6_MTU_DISCOVER},
	{name: "IPV6_DONTFRAG", level: unix.IPPROTO_IPV6, what: unix.IPV6_DONTFRAG},
	{name: "IPV6_AUTOFLOWLABEL", level: unix.IPPROTO_IPV6, what: unix.IPV6_AUTOFLOWLABEL},
	{name: "IPV6_MINHOPCOUNT", level: unix.IPPROTO_IPV6, what: unix.IPV6_MINHOPCOUNT},
	{name: "IPV6_ADDR_PREFERENCES", level: unix.IPPROTO_IPV6, what: unix.IPV6_ADDR_PREFERENCES},
	{name: "IPV6_RECVERR", level: unix.IPPROTO_IPV6, what: unix.IPV6_RECVERR},
	{name: "IPV6_HOPOPTS", level: unix.IPPROTO_IPV6, what: unix.IPV6_HOPOPTS},
	{name: "IPV6_RTHDR", level: unix.IPPROTO_IPV6, what: unix.IPV6_RTHDR},
	{name: "IPV6_DSTOPTS", level: unix.IPPROTO_IPV6, what: unix.IPV6_DSTOPTS},
	{name: "IP_FREEBIND", level: unix.IPPROTO_IP, what: unix.IP_FREEBIND},
	{name: "IP_TRANSPARENT", level: unix.IPPROTO_IP, what: unix.IP_TRANSPARENT},
	{name: "IP_BIND_ADDRESS_NO_PORT", level: unix.IPPROTO_IP, what: unix.IP_BIND_ADDRESS_NO_PORT},
	{name: "IP_LOCAL_PORT_RANGE", level: unix.IPPROTO_IP, what: unix.IP_LOCAL_PORT_RANGE},
	{name: "IP_TOS", level: unix.IPPROTO_IP, what: unix.IP_TOS},
	{name: "IP_TTL", level: unix.IPPROTO_IP, what: unix.IP_TTL},
	{name: "IP_MINTTL", level: unix.IPPROTO_IP, what: unix.IP_MINTTL},
	{name: "IP_OPTIONS", level: unix.IPPROTO_IP, what: unix.IP_OPTIONS},
	{name: "IP_RECVERR", level: unix.IPPROTO_IP, what: unix.IP_RECVERR},
	{name: "IP_UNICAST_IF", level: unix.IPPROTO_IP, what: unix.IP_UNICAST_IF, leads: true},
	{name: "IP_MTU_DISCOVER", level: unix.IPPROTO_IP, what: unix.IP_MTU_DISCOVER},
	{name: "TCP_NODELAY", level: unix.IPPROTO_TCP, what: unix.TCP_NODELAY},
	{name: "TCP_CONGESTION", level: unix.IPPROTO_TCP, what: unix.TCP_CONGESTION},
	{name: "TCP_KEEPIDLE", level: unix.IPPROTO_TCP, what: unix.TCP_KEEPIDLE},
	{name: "TCP_KEEPINTVL", level: unix.IPPROTO_TCP, what: unix.TCP_KEEPINTVL},
	{name: "TCP_KEEPCNT", level: unix.IPPROTO_TCP, what: unix.TCP_KEEPCNT},
	{name: "TCP_USER_TIMEOUT", level: unix.IPPROTO_TCP, what: unix.TCP_USER_TIMEOUT},
	{name: "TCP_SYNCNT", level: unix.IPPROTO_TCP, what: unix.TCP_SYNCNT},
	{name: "TCP_LINGER2", level: unix.IPPROTO_TCP, what: unix.TCP_LINGER2},
	{name: "TCP_MAXSEG", level: unix.IPPROTO_TCP, what: unix.TCP_MAXSEG, found: true},
	{name: "TCP_THIN_LINEAR_TIMEOUTS", level: unix.IPPROTO_TCP, what: unix.TCP_THIN_LINEAR_TIMEOUTS},
	{name: "TCP_NOTSENT_LOWAT", level: unix.IPPROTO_TCP, what: unix.TCP_NOTSENT_LOWAT},
	{name: "TCP_WINDOW_CLAMP", level: unix.IPPROTO_TCP, what: unix.TCP_WINDOW_CLAMP},
	{name: "TCP_RTO_MAX_MS", level: unix.IPPROTO_TCP, what: tcpRTOMaxMS},
	{name: "TCP_RTO_MIN_US", level: unix.IPPROTO_TCP, what: tcpRTOMinUS},
	{name: "TCP_DELACK_MAX_US", level: unix.IPPROTO_TCP, what: tcpDelackMaxUS},
	{name: "TCP_TX_DELAY", level: unix.IPPROTO_TCP, what: unix.TCP_TX_DELAY},
	// IP_TOS changes it, so that it comes later.
	{name: "SO_PRIORITY", level: unix.SOL_SOCKET, what: unix.SO_PRIORITY},
}

// get reads the option's value into buf; nil where fd has no such option.
func (o sockOpt) get(fd int, buf *[64]byte) []byte {
	size := uint32(len(buf))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(o.level), uintptr(o.what),
		uintptr(unsafe.Pointer(buf)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return nil
	}
	return buf[:size]
}

// put sets the option to a value that get has read.
func (o sockOpt) put(fd int, value []byte) error {
	what := o.what
	if o.half && len(value) == 4 {
		half := *(*int32)(unsafe.Pointer(&value[0])) / 2
		if unix.SetsockoptInt(fd, o.level, o.set, int(half)) == nil {
			return nil
		}
		return unix.SetsockoptInt(fd, o.level, what, int(half))
	}
	return unix.SetsockoptString(fd, o.level, what, string(value))
}

// kind is what two sockets have in common where one can stand for the other.
type kind struct {
	domain, protocol int
	netns            uint64 // SO_NETNS_COOKIE; 0 before Linux 5.14
}

// soNetnsCookie is SO_NETNS_COOKIE (asm-generic/socket.h), which numbers network namespaces.
const soNetnsCookie = 71

func kindOf(fd int) (k kind, err error) {
	if k.domain, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil {
		return k, err
	}
	if k.protocol, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); err != nil {
		return k, err
	}
	k.netns, err = Namespace(fd)
	return k, err
}

// Namespace is what the kernel numbers the network namespace of a socket with: 0 before Linux 5.14.
func Namespace(fd int) (uint64, error) {
	netns, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, soNetnsCookie)
	if err == unix.ENOPROTOOPT {
		err = nil
	}
	return netns, err
}

// pristine has, for each kind of socket in the worker's own network namespace, what a new one's
// options are: most programs change few, and each question is a system call.
var pristine struct {
	sync.Mutex
	all map[kind]pristineSocket
}

type pristineSocket struct {
	seen   time.Time
	values [][]byte // in the order of likenessOptions; nil for one that there is not
}

// pristineTime is how long they are taken for true: somebody may change the system's defaults.
const pristineTime = time.Minute

// pristineValues returns the values of a new socket of a kind, or nil where they are not known.
func pristineValues(k kind) [][]byte {
	pristine.Lock()
	defer pristine.Unlock()
	if known, ok := pristine.all[k]; ok && time.Since(known.seen) < pristineTime {
		return known.values
	}
	fd, err := unix.Socket(k.domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, k.protocol)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	if own, err := kindOf(fd); err != nil || own != k {
		return nil // another network namespace, which may have other defaults
	}
	values := make([][]byte, len(likenessOptions))
	for i, o := range likenessOptions {
		var buf [64]byte
		values[i] = bytes.Clone(o.get(fd, &buf))
	}
	if pristine.all == nil {
		pristine.all = make(map[kind]pristineSocket)
	}
	pristine.all[k] = pristineSocket{time.Now(), values}
	return values
}

// Likeness is what a program has made of a socket that is not connected.
type Likeness struct {
	kind    kind
	options []setOption
	bound   unix.Sockaddr // nil where it is not bound
}

// setOption is an option that a socket has, and its value.
type setOption struct {
	sockOpt
	value []byte
}

// LikenessOf reads a socket that is not connected, and leaves it as it is.
func LikenessOf(fd int) (l Likeness, failure *verdict.Failure) {
	var err error
	if l.kind, err = kindOf(fd); err != nil {
		return l, verdict.OfCall(err, "it cannot be told what kind of socket it is")
	}
	usual := pristineValues(l.kind)
	for i, o := range likenessOptions {
		if usual != nil && usual[i] == nil {
			continue
		}
		var buf [64]byte
		if value := o.get(fd, &buf); value != nil && (usual == nil || !bytes.Equal(value, usual[i])) {
			l.options = append(l.options, setOption{o, bytes.Clone(value)})
		}
	}
	if l.bound, err = boundTo(fd); err != nil {
		return l, verdict.OfCall(err, "the socket does not tell its address")
	}
	return l, nil
}

// Origin is where a connection begins: the same address may lead to another server from elsewhere.
type Origin struct {
	Namespace uint64 // of the network, as the kernel numbers it; 0 before Linux 5.14
	bound     string // to an address, a device and the like; mostly empty
}

// Origin is where the socket's connections begin.
func (l *Likeness) Origin() unique.Handle[Origin] {
	o := Origin{Namespace: l.kind.netns}
	for _, opt := range l.options {
		if opt.leads {
			o.bound += fmt.Sprintf("%s=%x ", opt.name, opt.value)
		}
	}
	if l.bound != nil {
		o.bound += wire.AddrPort(l.bound).Addr().String()
	}
	return unique.Make(o)
}

// Give makes fresh, a new socket of the program's, like the one that was read, original. It needs
// that one only where it is bound.
func (l *Likeness) Give(fresh, original int) *verdict.Failure {
	got, err := kindOf(fresh)
	switch {
	case err != nil:
		return verdict.OfCall(err, "it cannot be told what kind of socket the program has made")
	case l.kind.netns != got.netns:
		return verdict.Failf(unix.ENETDOWN, "the program has changed its network namespace since it made the socket")
	case l.kind != got:
		return verdict.Failf(unix.ENETDOWN, "the program's new socket is of another kind")
	}
	for _, o := range l.options {
		var now [64]byte
		if bytes.Equal(o.value, o.get(fresh, &now)) {
			continue
		}
		if err := o.put(fresh, o.value); err != nil && !o.found {
			return verdict.OfCall(err, "the socket's %s cannot be given to the new one that is to be connected", o.name)
		}
	}
	if l.bound == nil {
		return nil
	}
	return bindAlike(fresh, original, l.bound)
}

// bindAlike binds fresh to sa, where original is bound. While neither listens both can be, where
// both have SO_REUSEADDR (socket(7)): for as long as it takes.
func bindAlike(fresh, original int, sa unix.Sockaddr) *verdict.Failure {
	for _, fd := range []int{original, fresh} {
		restore, err := switchOn(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR)
		if err != nil {
			return verdict.OfCall(err, "SO_REUSEADDR")
		}
		defer restore()
	}
	if err := unix.Bind(fresh, sa); err != nil {
		return verdict.OfCall(err, "the new socket that is to be connected cannot be bound to the old one's address")
	}
	return nil
}

// boundTo returns where a TCP socket that is not connected is bound, or nil. What a connect that
// has failed had chosen does not count: the port that getsockname(2) shows then is free already.
func boundTo(fd int) (unix.Sockaddr, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil || isUnspecified(sa) {
		return nil, err
	}
	fdio.Disconnect(fd) // gives up such an address
	if sa, err = unix.Getsockname(fd); err != nil || isUnspecified(sa) {
		return nil, err
	}
	port, unspecified := addressParts(sa)
	if *port == 0 {
		return sa, nil
	}
	restore, err := switchOn(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT)
	if err != nil {
		return sa, nil
	}
	defer restore()
	number := *port
	*port = 0
	if unix.Bind(fd, sa) == nil { // EINVAL: it has a port (__inet_bind)
		if unspecified {
			return nil, nil
		}
		return sa, nil
	}
	*port = number
	return sa, nil
}

// isUnspecified reports whether sa says nothing: neither an address nor a port.
func isUnspecified(sa unix.Sockaddr) bool {
	port, unspecified := addressParts(sa)
	return port == nil || *port == 0 && unspecified
}

// addressParts returns an Internet address's port, to be changed, and whether the rest of it
// says nothing.
func addressParts(sa unix.Sockaddr) (port *int, unspecified bool) {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return &sa.Port, sa.Addr == [4]byte{}
	case *unix.SockaddrInet6:
		return &sa.Port, sa.Addr == [16]byte{}
	}
	return nil, true
}

// switchOn sets an option to 1, until restore is called.
func switchOn(fd, level, option int) (restore func(), err error) {
	old, err := unix.GetsockoptInt(fd, level, option)
	if err == nil {
		err = unix.SetsockoptInt(fd, level, option, 1)
	}
	return func() { unix.SetsockoptInt(fd, level, option, old) }, err
}
