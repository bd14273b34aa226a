package dns

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/names"
	"tlswrap/proxy/room"
	"tlswrap/proxy/wire"
	"tlswrap/rules"
	"tlswrap/tests/testkit"
)

func TestMain(m *testing.M) {
	if os.Args[0] == room.Stage {
		room.Keep()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// lab is a session with a resolver of its own, and a real server that it asks.
type lab struct {
	*Resolver
	names *names.Resolver
	table *names.Table
	rules *rules.Policy
	port  atomic.Int32 // of the server, which has all addresses

	mu    sync.Mutex
	said  []string
	asked []string // network and server of each question that was passed on
}

func (l *lab) Shown(name string, addrs []netip.Addr) ([]netip.Addr, error) {
	req := wire.Request{Name: name}
	for _, ip := range addrs {
		req.Addrs = append(req.Addrs, wire.Addr{IP: ip})
	}
	shown, err := l.names.Answer(l.table, l.rules, req, nil)
	if err != nil {
		return nil, err
	}
	for i, a := range shown {
		addrs[i] = a.IP
	}
	return addrs, nil
}

func (l *lab) Covers(name string) bool { return l.rules.MayCover(name, netip.Addr{}) }

func (l *lab) Say(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.said = append(l.said, line)
}

func (l *lab) questions() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked
}

// zone is what the server knows.
const zone = `
192.0.2.1    a.wild.test
2001:db8::1  a.wild.test
192.0.2.1    b.wild.test
192.0.2.2    plain.test
2001:db8::2  plain.test
192.0.2.3    exact.test
192.0.2.3    sharer.test
192.0.2.4    kept.test
192.0.2.5    name
192.0.2.5    name.wild.test
192.0.2.6    unclear
`

// options are the server's records that /etc/hosts cannot have. The services hint at 192.0.2.1.
var options = []string{
	"--cname=alias.test,a.wild.test", "--cname=nick.test,other-nick.test", "--cname=other-nick.test,exact.test",
	"--txt-record=text.test,some words", "--srv-host=_http._tcp.test,a.wild.test,80",
	"--server=/unclear.wild.test/#", // there is no other server: refused
	// 1 . mandatory=ipv4hint alpn=h2 ipv4hint=192.0.2.1
	"--dns-rr=plain.test,65,0001000000000200040001000302683200040004c0000201",
	// 1 . alpn=h2
	"--dns-rr=hintless.test,65,00010000010003026832",
	// 1 . alpn=h2 port=8443
	"--dns-rr=a.wild.test,65,0001000001000302683200030002" + "20fb",
	"--dns-rr=_8443._https.a.wild.test,65,00010000010003026832",
}

// newLab begins a session with rules.
func newLab(t *testing.T, text string) *lab {
	t.Helper()
	testkit.Need(t, "dnsmasq")
	p, err := rules.Parse("/rules.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	shared, err := names.NewMaps().Add(false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(shared.Close)
	l := &lab{names: names.NewResolver(), table: names.NewTable(shared, time.Time{}), rules: p}
	l.port.Store(int32(serve(t)))
	l.names.Lookup = (&net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return l.reach(ctx, network)
	}}).LookupNetIP
	l.Resolver = New(l, slog.New(slog.DiscardHandler))
	l.dial = func(ctx context.Context, network string, server netip.Addr) (net.Conn, error) {
		l.mu.Lock()
		l.asked = append(l.asked, network+" "+server.String())
		l.mu.Unlock()
		return l.reach(ctx, network)
	}
	t.Cleanup(l.Close)
	if _, err := l.enter(); err != nil {
		testkit.KernelLacks(t, err.Error())
	}
	return l
}

func (l *lab) reach(ctx context.Context, network string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, net.JoinHostPort("127.0.0.1", strconv.Itoa(int(l.port.Load()))))
}

// serve starts the server.
func serve(t *testing.T) (port int) {
	t.Helper()
	hosts := filepath.Join(t.TempDir(), "hosts")
	text := zone
	for i := range 60 {
		text += fmt.Sprintf("192.0.2.%d many.wild.test\n", 100+i)
	}
	if err := os.WriteFile(hosts, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port = free.Addr().(*net.TCPAddr).Port
	free.Close()
	cmd := exec.Command("dnsmasq", append([]string{"--no-daemon", "--conf-file=/dev/null", "--pid-file", "--no-resolv", "--no-hosts",
		"--local=/test/", "--local=/name/", "--local=/unclear/", "--addn-hosts=" + hosts, "--listen-address=127.0.0.1", "--bind-interfaces",
		fmt.Sprintf("--port=%d", port)}, options...)...)
	out, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	ready := make(chan error, 1)
	go func() {
		var all strings.Builder
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			fmt.Fprintln(&all, lines.Text())
			if strings.Contains(lines.Text(), " read ") { // the file of hosts, which comes last
				ready <- nil
			}
		}
		ready <- fmt.Errorf("dnsmasq ends: %s", all.String())
	}()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	return port
}

// server is one that programs ask, which nobody has.
const server4, server6 = "192.0.2.53", "2001:db8::53"

// program is Go's own resolver, as programs that do not use libc have it.
func (l *lab) program(server string) *net.Resolver {
	return &net.Resolver{PreferGo: true, StrictErrors: true, Dial: func(_ context.Context, network, _ string) (net.Conn, error) {
		return l.connect(network, server)
	}}
}

// connect connects a socket of a program's to a server.
func (l *lab) connect(network, server string) (net.Conn, error) {
	typ := unix.SOCK_DGRAM
	if strings.HasPrefix(network, "tcp") {
		typ = unix.SOCK_STREAM
	}
	domain, to := sockaddr(server)
	fd, err := l.Socket(domain, typ)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	if err := unix.Connect(fd, to); err != nil {
		return nil, err
	}
	return net.FileConn(f)
}

func sockaddr(server string) (int, unix.Sockaddr) {
	ip := netip.MustParseAddr(server)
	if ip.Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Addr: ip.As4(), Port: 53}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Addr: ip.As16(), Port: 53}
}

// sixToo reports whether the room has IPv6.
func (l *lab) sixToo(t *testing.T) bool {
	six := len(l.room.Packets) > 1
	if !six && testkit.NotTested(t.Name(), "the kernel has no IPv6") != nil {
		t.Error("a room has no IPv6")
	}
	return six
}
