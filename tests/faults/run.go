package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/tests/testkit"
)

// marker is what no socket but a TLS connection may carry, see programs/program.c.
const marker = "plaintext-marker\n"

// Limits of one run, in which nothing may hang.
const (
	quietTime = 25 * time.Second // without any call; beyond the 20 s of control requests and of alarm(2)
	endTime   = 40 * time.Second
)

// part is whose call it is.
type part string

const (
	start  part = "tlswrap" // before it becomes the program
	worker part = "worker"
	shim   part = "shim"
)

// point is one call of a run.
type point struct {
	part  part
	where uint64 // in the shim's file; 0 for what is written in Go
	nr    int
	turn  int // 1 for the first of these
}

// fault is a point that ends in errno instead.
type fault struct {
	point
	errno unix.Errno
}

// outcome is what one run has come to.
type outcome struct {
	points  []point
	reached bool   // the fault was made
	status  string // how the program has ended, "" for well
	leak    string // what was seen on the wire
	hung    bool
	output  string
}

// lane runs scenarios, one after the other.
type lane struct {
	setup  *setup
	dir    string
	server *testkit.Server // that the program connects to
	libtls *testkit.Server // without a rule: for programs that speak TLS, as they see it
	rules  string
	listen uint16 // the port that the program listens on

	mu   sync.Mutex
	leak string // that the server has seen
}

// setup is what the lanes share.
type setup struct {
	program, become  string
	static           string // program, but that no shim can be preloaded into it
	tlswrap, library string
	authority        *testkit.Authority
	ca, cert, key    string
	leaf             *testkit.Certificate
	ports            int // that were looked at
}

func newSetup(dir, root string) (*setup, error) {
	s := &setup{program: filepath.Join(dir, "program"), static: filepath.Join(dir, "static"), become: filepath.Join(dir, "become"), tlswrap: filepath.Join(dir, "tlswrap"),
		library: filepath.Join(dir, "libtlswrap.so"), ca: filepath.Join(dir, "ca.pem")}
	program := []string{"gcc", "-O1", "-Wall", "-Werror", "-I" + filepath.Join(root, "libtls/include"),
		filepath.Join(root, "tests/faults/programs/program.c"), "-o"}
	for _, c := range [][]string{
		{"make", "-s", "-C", root, "all"},
		{"cp", filepath.Join(root, "build/tlswrap"), filepath.Join(root, "build/libtlswrap.so"), dir}, // others may build meanwhile
		append(slices.Clone(program), s.program),
		append(slices.Clone(program), s.static, "-static"),
		{"gcc", "-O1", "-Wall", "-Werror", "-o", s.become, filepath.Join(root, "tests/faults/programs/become.c")},
	} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s: %w\n%s", c[0], err, out)
		}
	}
	var err error
	if s.authority, err = testkit.NewAuthority("Fault CA"); err != nil {
		return nil, err
	}
	if err := s.authority.WriteFile(s.ca); err != nil {
		return nil, err
	}
	if s.leaf, err = s.authority.Issue(testkit.Leaf{Names: []string{"localhost"}}); err != nil {
		return nil, err
	}
	s.cert, s.key, err = s.leaf.WriteFiles(dir, "server")
	return s, err
}

func (s *setup) newLane(dir string) (*lane, error) {
	l := &lane{setup: s, dir: dir, rules: filepath.Join(dir, "rules.toml")}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var err error
	if l.listen, err = s.freePort(); err != nil {
		return nil, err
	}
	if l.server, err = testkit.Serve("127.0.0.1:0", nil, l.serve); err != nil {
		return nil, err
	}
	if l.libtls, err = testkit.Serve("127.0.0.1:0", nil, l.serve); err != nil {
		return nil, err
	}
	text := fmt.Sprintf("default = \"pass\"\n\n[[rule]]\nhost = \"localhost\"\nport = %d\naction = \"tls\"\nca_file = %q\n\n"+
		"[[listen]]\naddress = \"127.0.0.1\"\nport = %d\ncert_file = %q\nkey_file = %q\n", l.server.Port(), s.ca, l.listen, s.cert, s.key)
	return l, os.WriteFile(l.rules, []byte(text), 0o644)
}

// freePort returns a port that nothing listens on, and that the kernel does not give to anybody who
// leaves it the choice (ip_local_port_range, ip(7)): another lane's server must not come to be there.
func (s *setup) freePort() (uint16, error) {
	const first, last = 10000, 30000
	for range last - first {
		port := first + (os.Getpid()+s.ports)%(last-first)
		s.ports++
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return uint16(port), l.Close()
		}
	}
	return 0, errors.New("there is no free port")
}

// tap keeps what a connection's peer has sent as it came.
type tap struct {
	net.Conn
	seen bytes.Buffer
}

func (t *tap) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	t.seen.Write(b[:n])
	return n, err
}

// serve echoes lines over TLS, and looks at what came.
func (l *lane) serve(c net.Conn) {
	t := &tap{Conn: c}
	t.SetDeadline(time.Now().Add(endTime))
	conn := tls.Server(t, &tls.Config{Certificates: []tls.Certificate{l.setup.leaf.TLS()}})
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if n > 0 {
			conn.Write(buf[:n])
		}
		if err != nil {
			break
		}
	}
	conn.Close()
	first := t.seen.Bytes()
	if len(first) > 0 && first[0] != 22 || bytes.Contains(first, []byte(marker)) {
		l.mu.Lock()
		l.leak = fmt.Sprintf("the server was sent %.60q", first)
		l.mu.Unlock()
	}
}

// run runs a scenario, with a fault or nil.
func (l *lane) run(scenario scenario, f *fault) (outcome, error) {
	// What this thread starts it traces.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var out bytes.Buffer
	port := map[string]uint16{"listens": l.listen, "speaks_libtls": l.libtls.Port()}[scenario.name]
	if port == 0 {
		port = l.server.Port()
	}
	program := l.setup.program
	if scenario.static {
		program = l.setup.static
	}
	l.leak = ""
	ctx, cancel := context.WithTimeout(context.Background(), endTime)
	defer cancel()
	cmd := exec.Command(l.setup.tlswrap, "--rules", l.rules, program, scenario.name, "localhost", fmt.Sprint(port), l.setup.ca)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1",
		"SSL_CERT_FILE="+l.setup.ca, "SSL_CERT_DIR="+l.dir) // one root is as good as many
	if err := under(l.setup.become, cmd); err != nil {
		return outcome{}, err
	}
	var clients sync.WaitGroup
	var served string
	if scenario.name == "listens" {
		clients.Go(func() { served = l.visit(ctx) })
	}
	r := recorder{lane: l, first: cmd.Process.Pid, fault: f, turns: make(map[point]int), pids: make(map[int]bool)}
	t := tracing{first: cmd.Process.Pid, quiet: quietTime, end: r.killAll}
	t.answerAll(r.decide)
	cmd.Wait() // for its output: how it has ended is known
	cancel()
	clients.Wait()
	o := outcome{points: r.points, reached: r.made, hung: t.hung, output: out.String(), leak: served}
	switch {
	case t.status.Signaled():
		o.status = "signal: " + t.status.Signal().String()
	case t.status.ExitStatus() != 0:
		o.status = fmt.Sprint("exit status ", t.status.ExitStatus())
	}
	l.mu.Lock()
	if l.leak != "" {
		o.leak = l.leak
	}
	l.mu.Unlock()
	return o, nil
}

// visit is a client of a program that listens: one that does not speak TLS, and must not be
// served, and then one that does, until the program has ended. It returns what leaked.
func (l *lane) visit(ctx context.Context) string {
	addr := fmt.Sprintf("127.0.0.1:%d", l.listen)
	for ; ctx.Err() == nil; time.Sleep(2 * time.Millisecond) {
		plain, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			continue // it does not listen yet
		}
		plain.SetDeadline(time.Now().Add(5 * time.Second))
		plain.Write([]byte("hello\n"))
		said := make([]byte, 64)
		n, _ := plain.Read(said)
		plain.Close()
		if strings.Contains(string(said[:n]), marker) {
			return fmt.Sprintf("a client without TLS was told %q", said[:n])
		}
		dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second},
			Config: &tls.Config{RootCAs: l.setup.authority.Pool(), ServerName: "localhost"}}
		secure, err := dialer.DialContext(ctx, "tcp", addr)
		if err != nil {
			continue
		}
		secure.SetDeadline(time.Now().Add(5 * time.Second))
		if n, _ = secure.Read(said); string(said[:n]) == marker {
			secure.Write([]byte("end\n"))
		}
		secure.Close()
	}
	return ""
}

// recorder decides about a run's calls, and notes them.
type recorder struct {
	lane  *lane
	first int
	fault *fault
	turns map[point]int
	pids  map[int]bool

	points []point
	made   bool
}

func (r *recorder) decide(a ask) unix.Errno {
	p, known := r.place(a)
	if !known {
		return 0
	}
	r.turns[p]++
	p.turn = r.turns[p]
	r.points = append(r.points, p)
	if r.fault != nil && !r.made && p == r.fault.point {
		r.made = true
		return r.fault.errno
	}
	return 0
}

// place tells whose call it is: known is false for the program's own, and for what Go's runtime
// cannot do without.
func (r *recorder) place(a ask) (p point, known bool) {
	p.nr = a.nr
	exe, _ := os.Readlink(proc(a.tid, "exe"))
	if exe == r.lane.setup.tlswrap {
		p.part = worker
		if pid := tgid(a.tid); pid == r.first {
			p.part = start
		} else {
			r.pids[pid] = true
		}
		return p, !calls[p.nr].shimOnly
	}
	maps, err := os.ReadFile(proc(a.tid, "maps"))
	if err != nil {
		return p, false
	}
	for line := range strings.Lines(string(maps)) {
		var from, to, offset uint64
		var mode, name string
		fmt.Sscanf(line, "%x-%x %s %x %s %s %s", &from, &to, &mode, &offset, new(string), new(string), &name)
		if name == r.lane.setup.library && a.ip >= from && a.ip < to {
			p.part, p.where = shim, a.ip-from+offset
			r.pids[tgid(a.tid)] = true
			return p, true
		}
	}
	return p, false
}

// tgid is the process that a thread belongs to (proc_pid_status(5)).
func tgid(tid int) int {
	status, _ := os.ReadFile(proc(tid, "status"))
	for line := range strings.Lines(string(status)) {
		var pid int
		if n, _ := fmt.Sscanf(line, "Tgid: %d", &pid); n == 1 {
			return pid
		}
	}
	return tid
}

// killAll ends what hangs: processes that this run has started, and that are still its own.
func (r *recorder) killAll() {
	r.pids[r.first] = true
	for pid := range r.pids {
		exe, _ := os.Readlink(proc(pid, "exe"))
		if slices.Contains([]string{r.lane.setup.tlswrap, r.lane.setup.program, r.lane.setup.static}, exe) {
			unix.Kill(pid, unix.SIGKILL)
		}
	}
}
