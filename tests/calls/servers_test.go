package calls

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/tests/testkit"
)

// trust is what the servers show: a certificate that tlswrap is told to trust, and one
// that it is not.
type trust struct {
	caFile    string
	certFile  string // good's
	keyFile   string
	roots     *x509.CertPool
	good, bad *tls.Config
}

func newTrust(dir string) (*trust, error) {
	leaf := testkit.Leaf{
		Names: []string{"localhost", "covered.test", "six.test", "many.test"},
		IPs:   []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()},
	}
	tr := &trust{caFile: filepath.Join(dir, "ca.pem")}
	for _, c := range []struct {
		name   string
		config **tls.Config
	}{{"good", &tr.good}, {"bad", &tr.bad}} {
		authority, err := testkit.NewAuthority(c.name)
		if err != nil {
			return nil, err
		}
		cert, err := authority.Issue(leaf)
		if err != nil {
			return nil, err
		}
		*c.config = &tls.Config{Certificates: []tls.Certificate{cert.TLS()}}
		if c.name == "good" {
			tr.roots = authority.Pool()
			if err := authority.WriteFile(tr.caFile); err != nil {
				return nil, err
			}
			if tr.certFile, tr.keyFile, err = cert.WriteFiles(dir, c.name); err != nil {
				return nil, err
			}
		}
	}
	return tr, nil
}

// servers are what one run of a program talks to: TLS where it is wrapped, plaintext
// where it is not.
type servers struct {
	t        *testing.T
	trust    *trust
	wrapped  bool
	shim     bool // the program has it where it is wrapped
	all      map[string]*server
	stopped  chan struct{}
	stopOnce sync.Once
	running  sync.WaitGroup

	release chan bool // closed after one value: whether PENDING goes on well
	filler  net.Conn  // fills PENDING's backlog, where it is plaintext

	hosts     []string // that the rules name
	served    int      // port that the program itself serves on, or 0
	clients   clients
	inherited *os.File // the other end of what the program inherited

	mu   sync.Mutex
	leak []string
}

// server is one of them.
type server struct {
	name     string
	port     int
	listener net.Listener
	covered  bool
	handle   func(net.Conn, *visit)

	mu     sync.Mutex
	change chan struct{} // closed and made anew when visits changes
	visits []*visit
}

// visit is one connection to a server.
type visit struct {
	peer  string
	ended chan struct{}
	how   string // eof, cut or reset
	count int64  // bytes received
	sum   uint64 // FNV-1a of them
}

func newServers(t *testing.T, tr *trust, wrapped bool) *servers {
	s := &servers{
		t: t, trust: tr, wrapped: wrapped,
		all: make(map[string]*server), stopped: make(chan struct{}), release: make(chan bool, 1),
		hosts:   []string{"localhost"},
		clients: clients{t: t, roots: tr.roots, tls: wrapped},
	}
	t.Cleanup(s.stop)
	for name, handle := range map[string]func(net.Conn, *visit){
		"ECHO": s.echo, "BAD": s.echo, "PENDING": s.echo, "PLAIN": s.echo, "CUT": s.cut,
		"HALF": s.half, "SINK": s.sink, "DUPLEX": s.duplex, "DEAF": s.deaf, "CLOSED": nil,
	} {
		s.listen(name, handle)
	}
	return s
}

func (s *servers) listen(name string, handle func(net.Conn, *visit)) {
	srv := &server{name: name, handle: handle, covered: name != "PLAIN", change: make(chan struct{})}
	s.all[name] = srv
	var err error
	switch {
	case name == "CLOSED", name == "BAD" && !s.wrapped:
		srv.port, err = s.hold(0)
	case name == "PENDING" && !s.wrapped:
		srv.port, err = s.listenFull(srv)
	default:
		if srv.listener, err = net.Listen("tcp", ":0"); err == nil {
			srv.port = srv.listener.Addr().(*net.TCPAddr).Port
		}
	}
	if err != nil {
		s.t.Fatal(err)
	}
	if srv.listener != nil {
		s.running.Go(func() { s.accept(srv) })
	}
}

// hold binds a port without listening on it, so that nobody else does.
func (s *servers) hold(port int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	s.t.Cleanup(func() { unix.Close(fd) })
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return 0, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, err
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	return bound.(*unix.SockaddrInet4).Port, nil
}

// listenFull listens with a full backlog: the next connection stays in SYN_SENT until
// somebody accepts.
func (s *servers) listenFull(srv *server) (int, error) {
	port, err := s.hold(0)
	if err != nil {
		return 0, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	file := os.NewFile(uintptr(fd), "listener")
	defer file.Close()
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return 0, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, err
	}
	if err := unix.Listen(fd, 0); err != nil {
		return 0, err
	}
	if srv.listener, err = net.FileListener(file); err != nil {
		return 0, err
	}
	s.filler, err = net.Dial("tcp", srv.listener.Addr().String())
	return port, err
}

// accept serves until the listener is closed.
func (s *servers) accept(srv *server) {
	defer srv.listener.Close()
	if srv.name == "PENDING" && !s.wrapped {
		good, ok := s.released()
		if !ok {
			return
		}
		if !good {
			s.untilTried(srv.port)
			srv.listener.Close() // and what is still tried is refused
			return
		}
		filled, err := srv.listener.Accept()
		if err != nil {
			return
		}
		filled.Close()
		s.filler.Close()
	}
	for {
		conn, err := srv.listener.Accept()
		if err != nil {
			return
		}
		v := &visit{peer: conn.RemoteAddr().String(), ended: make(chan struct{})}
		srv.enter(v)
		s.running.Go(func() {
			defer close(v.ended)
			s.serve(srv, conn, v)
		})
	}
}

// released waits for the program to say how PENDING goes on. ok is false where it never
// did.
func (s *servers) released() (good, ok bool) {
	select {
	case good = <-s.release:
		s.release <- good
		return good, true
	case <-s.stopped:
		return false, false
	}
}

// untilTried waits until a socket is in SYN_SENT to a port: a first SYN that met a
// listener in the middle of its close would be answered, and the connection reset.
func (s *servers) untilTried(port int) {
	trying := fmt.Sprintf(":%04X 02 ", port) // remote port and state in proc_pid_net(5)'s tcp
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for {
		table, err := os.ReadFile("/proc/net/tcp")
		if err != nil {
			s.t.Error(err)
			return
		}
		if bytes.Contains(table, []byte(trying)) {
			return
		}
		select {
		case <-look.C:
		case <-s.stopped:
			return
		}
	}
}

func (s *servers) serve(srv *server, conn net.Conn, v *visit) {
	defer conn.Close()
	unhook := s.onStop(func() { conn.Close() })
	defer unhook()
	if !s.wrapped || !srv.covered {
		srv.handle(conn, v)
		return
	}
	config := s.trust.good
	if srv.name == "BAD" {
		config = s.trust.bad
	}
	watched := &recordConn{Conn: conn, say: func(what string) { s.sawLeak(srv.name + ": " + what) }}
	if srv.name == "PENDING" {
		// The client hello, or the end of a connection that was given up.
		b, err := watched.wait(s)
		if err != nil {
			v.how = howEnded(err)
			return
		}
		if !b {
			config = s.trust.bad
		}
	}
	tc := tls.Server(watched, config)
	if err := tc.Handshake(); err != nil {
		v.how = howEnded(err)
		return
	}
	srv.handle(tc, v)
	tc.Close()
}

// onStop runs f when the servers are stopped.
func (s *servers) onStop(f func()) (cancel func()) {
	done := make(chan struct{})
	s.running.Go(func() {
		select {
		case <-s.stopped:
			f()
		case <-done:
		}
	})
	return sync.OnceFunc(func() { close(done) })
}

func (s *servers) stop() {
	s.stopOnce.Do(func() { close(s.stopped) })
	for _, srv := range s.all {
		if srv.listener != nil {
			srv.listener.Close()
		}
	}
	if s.filler != nil {
		s.filler.Close()
	}
	s.running.Wait()
}

func (s *servers) sawLeak(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leak = append(s.leak, what)
}

func (s *servers) leaks() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leak
}

func (srv *server) enter(v *visit) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	srv.visits = append(srv.visits, v)
	close(srv.change)
	srv.change = make(chan struct{})
}

// visit waits for the n-th connection, counted from 1; 0 is the latest.
func (srv *server) visit(n int, stopped <-chan struct{}) *visit {
	for {
		srv.mu.Lock()
		have, change := srv.visits, srv.change
		srv.mu.Unlock()
		if len(have) >= max(n, 1) {
			if n == 0 {
				n = len(have)
			}
			return have[n-1]
		}
		select {
		case <-change:
		case <-stopped:
			return nil
		}
	}
}

func (srv *server) count() int {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	return len(srv.visits)
}

func (s *servers) tlswrapArgs(shim string) []string {
	args := []string{filepath.Join(shared.shimDir(shim), "tlswrap"), "--ca", s.trust.caFile}
	if s.served != 0 {
		args = append(args, "--rules", s.trust.listenRules(s.t, s.served))
	}
	for _, srv := range s.all {
		for _, host := range s.hosts {
			if srv.covered {
				args = append(args, "--tls", fmt.Sprintf("%s:%d", host, srv.port))
			}
		}
	}
	return args
}

// serves is for a program that listens itself.
func (s *servers) serves(port int) { s.served = port }

// environ tells a program what it needs to know.
func (s *servers) environ() []string {
	wrapped, preloaded, bad := 0, 0, syscall.ECONNREFUSED
	if s.wrapped {
		wrapped, bad = 1, unix.EKEYREJECTED
	}
	if s.wrapped && s.shim {
		preloaded = 1
	}
	env := []string{
		fmt.Sprintf("WRAPPED=%d", wrapped), fmt.Sprintf("PRELOADED=%d", preloaded), fmt.Sprintf("BAD_ERRNO=%d", int(bad)),
	}
	if s.served != 0 {
		env = append(env, fmt.Sprintf("PORT_SERVE=%d", s.served))
	}
	for name, srv := range s.all {
		env = append(env, fmt.Sprintf("PORT_%s=%d", name, srv.port))
	}
	return env
}

// answer serves a program's questions until it has ended.
func (s *servers) answer(conn *os.File) {
	r := bufio.NewReader(conn)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		words := strings.Fields(line)
		switch words[0] {
		case "release", "refuse":
			select {
			case s.release <- words[0] == "release":
			default:
			}
			continue
		case "inherited":
			const most = 5 * time.Second
			s.inherited.SetReadDeadline(time.Now().Add(most))
			answer := "closed"
			if _, err := s.inherited.Read(make([]byte, 1)); err != io.EOF {
				answer = err.Error()
			}
			fmt.Fprintln(conn, answer)
			continue
		case "dial", "stall", "greet", "say", "hear", "finish", "hangup", "abort":
			fmt.Fprintln(conn, s.clients.answer(words))
			continue
		}
		fmt.Fprintln(conn, s.about(words))
	}
}

// about answers one question about the n-th connection to a server.
func (s *servers) about(words []string) string {
	if len(words) < 2 || s.all[words[1]] == nil {
		return "no such server"
	}
	srv, n := s.all[words[1]], 0
	if words[0] == "accepted" {
		return strconv.Itoa(srv.count())
	}
	if len(words) > 2 {
		n, _ = strconv.Atoi(words[2])
	}
	v := srv.visit(n, s.stopped)
	if v == nil {
		return "nobody came"
	}
	switch words[0] {
	case "peer":
		return strings.Replace(v.peer, "[::1]", "::1", 1)
	case "arrived":
		return "yes"
	}
	const most = 20 * time.Second
	select {
	case <-v.ended:
	case <-time.After(most):
		return "goes on"
	}
	switch words[0] {
	case "ended":
		return v.how
	case "got":
		return fmt.Sprintf("%d %016x", v.count, v.sum)
	}
	return "no such question"
}

// howEnded names the end of a connection.
func howEnded(err error) string {
	switch {
	case err == nil, err == io.EOF:
		return "eof"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "cut"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset"
	}
	return err.Error()
}

// counter counts and sums what passes.
type counter struct{ v *visit }

func (c counter) Write(b []byte) (int, error) {
	if c.v.count == 0 {
		c.v.sum = 14695981039346656037 // FNV-1a's offset basis
	}
	sum := c.v.sum
	for _, x := range b {
		sum = (sum ^ uint64(x)) * 1099511628211
	}
	c.v.sum = sum
	c.v.count += int64(len(b))
	return len(b), nil
}

// deaf says something, reads nothing, and waits until it is told of an end.
func (s *servers) deaf(conn net.Conn, v *visit) {
	if _, err := io.WriteString(conn, "unread\n"); err != nil {
		v.how = howEnded(err)
		return
	}
	if tc, ok := conn.(*tls.Conn); ok {
		conn = tc.NetConn().(*recordConn).Conn
	}
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		s.t.Error(err)
		return
	}
	errno := 0
	err = raw.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd)}}
		unix.Poll(p, 0)
		if p[0].Revents == 0 {
			return false
		}
		errno, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		return true
	})
	if errno != 0 {
		err = syscall.Errno(errno)
	}
	v.how = howEnded(err)
}

// echo sends back what it gets.
func (s *servers) echo(conn net.Conn, v *visit) {
	_, err := io.Copy(conn, io.TeeReader(conn, counter{v}))
	v.how = howEnded(err)
}

// cut answers the first line and ends the connection as if something broke.
func (s *servers) cut(conn net.Conn, v *visit) {
	r := bufio.NewReader(conn)
	if _, err := r.ReadString('\n'); err != nil {
		v.how = howEnded(err)
		return
	}
	io.WriteString(conn, "cut off after this\n")
	tcp, ok := conn.(*net.TCPConn)
	if ok {
		// Where the client has the words, a reset comes after them.
		waitSent(tcp)
		tcp.SetLinger(0)
		tcp.Close()
		return
	}
	conn.(*tls.Conn).NetConn().Close()
}

// waitSent waits until the peer's kernel has everything that was written.
func waitSent(conn *net.TCPConn) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	for range 1000 {
		left := 0
		raw.Control(func(fd uintptr) { left, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
		if left == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// half answers the first line, ends its own direction, and goes on listening.
func (s *servers) half(conn net.Conn, v *visit) {
	r := bufio.NewReader(io.TeeReader(conn, counter{v}))
	if _, err := r.ReadString('\n'); err != nil {
		v.how = howEnded(err)
		return
	}
	io.WriteString(conn, "that is all\n")
	conn.(interface{ CloseWrite() error }).CloseWrite()
	_, err := io.Copy(io.Discard, r)
	v.how = howEnded(err)
}

// sink reads to the end and says what it got.
func (s *servers) sink(conn net.Conn, v *visit) {
	_, err := io.Copy(counter{v}, conn)
	v.how = howEnded(err)
	fmt.Fprintf(conn, "%d %016x\n", v.count, v.sum)
}

// duplex reads a number and sends as many bytes, while it reads to the end; then it says
// what it got, the number's line included.
func (s *servers) duplex(conn net.Conn, v *visit) {
	r := bufio.NewReaderSize(io.TeeReader(conn, counter{v}), 64<<10)
	line, err := r.ReadString('\n')
	if err != nil {
		v.how = howEnded(err)
		return
	}
	n, _ := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(conn, io.LimitReader(&pattern{}, n))
		sent <- err
	}()
	_, err = io.Copy(io.Discard, r)
	v.how = howEnded(err)
	if <-sent == nil {
		fmt.Fprintf(conn, "%d %016x\n", v.count, v.sum)
	}
}

// pattern is an endless sequence that stream.c knows too.
type pattern struct{ x uint32 }

func (p *pattern) Read(b []byte) (int, error) {
	n := min(len(b), 1+int(p.x>>8)%(48<<10)) // of all sizes
	for i := range b[:n] {
		p.x = p.x*1664525 + 1013904223
		b[i] = byte(p.x >> 24)
	}
	return n, nil
}
