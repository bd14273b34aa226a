package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"tlswrap/tests/testkit"
)

// lab is what all works share: files, servers, and how programs are run.
type lab struct {
	ctx    context.Context
	effort effort

	dir     string // for what lives as long as the run
	files   string // what nginx serves and curl sends, in memory where there is a /dev/shm
	build   string // where make puts tlswrap
	connect string // the client of programs/connect.c
	libtls  string // programs/libtls.c

	connectStatic, trueStatic string // the client, and programs/true.c, linked statically
	goClient                  string // programs/client, which is static, too

	rules    string // the built-in profile
	ca       string
	cert     string
	key      string
	maxFiles uint64

	ports              ports
	nginx, stunnel     *daemon
	relay              *daemon   // in front of nginx
	daemons            []*daemon // that single works have prepared
	sinkPlain, sinkTLS *testkit.Server
}

//go:embed programs/connect.c
var connectSource string

// newLab makes everything that is needed. What it made before it failed is undone.
func newLab(ctx context.Context, e effort) (*lab, error) {
	l := &lab{ctx: ctx, effort: e}
	if err := l.setUp(); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *lab) setUp() error {
	for _, step := range []func() error{
		l.makeFolders, l.raiseFileLimit, l.findBuild, l.compileClient, l.compileStatic, l.compileLibtls, l.makeFiles, l.startServers,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) close() {
	for _, d := range l.daemons {
		d.stop()
	}
	l.relay.stop()
	l.stunnel.stop()
	l.nginx.stop()
	for _, s := range []*testkit.Server{l.sinkPlain, l.sinkTLS} {
		if s != nil {
			s.Close()
		}
	}
	for _, dir := range []string{l.dir, l.files} {
		if dir != "" {
			os.RemoveAll(dir)
		}
	}
}

func (l *lab) path(name string) string { return filepath.Join(l.dir, name) }

func (l *lab) makeFolders() error {
	var err error
	if l.dir, err = os.MkdirTemp("", "tlswrap-bench-"); err != nil {
		return err
	}
	const memory = "/dev/shm"
	if l.files, err = os.MkdirTemp(memory, "tlswrap-bench-"); err != nil {
		l.files, err = os.MkdirTemp("", "tlswrap-bench-files-")
	}
	return err
}

// raiseFileLimit lets this process, and those that it starts, open what is allowed.
func (l *lab) raiseFileLimit() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	// No more than is needed: stunnel and nginx allocate by it.
	l.maxFiles = min(limit.Max, uint64(math.Ceil(filesPerIdle*float64(l.effort.crowd))))
	limit.Cur = l.maxFiles
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("setting RLIMIT_NOFILE to %d: %w", limit.Cur, err)
	}
	return nil
}

func (l *lab) findBuild() error {
	l.build = filepath.Join(testkit.Root(), "build")
	for _, name := range []string{"tlswrap", "libtlswrap.so"} {
		if _, err := os.Stat(filepath.Join(l.build, name)); err != nil {
			return fmt.Errorf("%w (run make first)", err)
		}
	}
	// Whatever rules this machine has are not to count.
	text, err := l.run(l.tlswrap(), "check", "--builtin")
	if err != nil {
		return err
	}
	l.rules = l.path("rules.toml")
	return os.WriteFile(l.rules, []byte(text), 0o644)
}

func (l *lab) tlswrap() string { return filepath.Join(l.build, "tlswrap") }

func (l *lab) compileClient() error {
	source := l.path("connect.c")
	if err := os.WriteFile(source, []byte(connectSource), 0o644); err != nil {
		return err
	}
	l.connect = l.path("connect")
	_, err := l.run("cc", "-std=gnu17", "-O2", "-o", l.connect, source)
	return err
}

// makeFiles makes certificates, and files to move: small has something in it, the
// large ones are holes, so that they take neither memory nor a disk's time.
func (l *lab) makeFiles() error {
	files := map[string]int64{"download": l.effort.download, "upload": l.effort.upload}
	for _, size := range messageSizes {
		files[sized(size)] = int64(size)
	}
	for name, size := range files {
		f, err := os.Create(filepath.Join(l.files, name))
		if err != nil {
			return err
		}
		if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(l.files, "small"), []byte(strings.Repeat("tlswrap ", 128)), 0o644)
}

// messageSizes are those of the files that are messages.
var messageSizes = []int{64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20}

// sized is the name of such a file.
func sized(bytes int) string { return fmt.Sprintf("message-%d", bytes) }

func (l *lab) startServers() error {
	authority, err := testkit.NewAuthority("tlswrap benchmark CA")
	if err != nil {
		return err
	}
	cert, err := authority.Issue(testkit.Leaf{CommonName: "localhost", Names: []string{"localhost"}})
	if err != nil {
		return err
	}
	l.ca = l.path("ca.pem")
	if err := authority.WriteFile(l.ca); err != nil {
		return err
	}
	if l.cert, l.key, err = cert.WriteFiles(l.dir, "server"); err != nil {
		return err
	}
	p := &l.ports
	if err := freePorts(&p.Plain, &p.TLS, &p.Full, &p.TLS12, &p.Full12,
		&p.stunnel, &p.stunnelFull, &p.stunnel12, &p.stunnelFull12, &p.stunnelSink,
		&p.served, &p.Postgres, &p.stunnelServer, &p.stunnelPostgres,
		&p.echo, &p.echoTLS, &p.echoBoth, &p.relayed, &p.stunnelEcho, &p.stunnelEchoServer); err != nil {
		return err
	}
	if err := l.startSinks(cert); err != nil {
		return err
	}
	if err := l.startNginx(); err != nil {
		return err
	}
	if err := l.startRelay(); err != nil {
		return err
	}
	l.stunnel, err = l.startStunnel("stunnel",
		tunnel{At: p.stunnel, To: p.TLS, Resume: true}, tunnel{At: p.stunnelFull, To: p.Full},
		tunnel{At: p.stunnel12, To: p.TLS12, Resume: true}, tunnel{At: p.stunnelFull12, To: p.Full12},
		tunnel{At: p.stunnelSink, To: p.sinkTLS, Resume: true})
	return err
}

// commandTime is how long a client may take.
const commandTime = time.Minute

// run runs a client and returns what it prints.
func (l *lab) run(command ...string) (string, error) {
	ctx, cancel := context.WithTimeout(l.ctx, commandTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second // a worker may still hold standard error
	err := cmd.Run()
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// wrapped is command under tlswrap, with rules for every TLS port.
func (l *lab) wrapped(command ...string) []string {
	return append(append([]string{l.tlswrap()}, l.policy()...), command...)
}

// policy are the flags that say what is TLS, and whom to trust.
func (l *lab) policy() []string {
	flags := []string{"--rules", l.rules, "--ca", l.ca}
	for _, port := range []int{l.ports.TLS, l.ports.Full, l.ports.TLS12, l.ports.Full12, l.ports.sinkTLS, l.ports.echoTLS} {
		flags = append(flags, "--tls", fmt.Sprintf("localhost:%d", port))
	}
	return flags
}

// url is an address of a server here.
func url(scheme string, port int, file string) string {
	return fmt.Sprintf("%s://localhost:%d/%s", scheme, port, file)
}

// describe says what is measured where.
func (l *lab) describe(out io.Writer) {
	load, _ := os.ReadFile("/proc/loadavg")
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	version, _ := l.run(l.tlswrap(), "version")
	fmt.Fprintf(out, "%sLinux %s, %d processors, load average %s\n", version,
		strings.TrimSpace(string(kernel)), runtime.NumCPU(), strings.Join(strings.Fields(string(load))[:3], " "))
	fmt.Fprintln(out, "TLS 1.3 where nothing else is said, AES-128-GCM, ECDSA P-256, over loopback; medians, and the spread of all rounds")
}

// works are all that can be measured, in the order of workNames.
func (l *lab) works() []work {
	return []work{l.download(), l.upload(), l.requests(1), l.requests(8), l.requests(64), l.served(8), l.served(64), l.servedFresh(few), l.roundTrips(), l.pgbench(), l.resumed(), l.full(),
		l.freshTLS13("new8", few), l.freshTLS12("new8-tls12", few), l.freshTLS13("new1", 1), l.freshTLS12("new1-tls12", 1),
		l.fullTLS13("full8"), l.fullTLS12("full8-tls12"), l.systemCalls(), l.passed(), l.passedByName(), l.told(),
		l.notified(), l.notifiedTLS(), l.staticDownload(), l.staticRequests(), l.startup(), l.memory(), l.memory12(), l.growth(), l.growthBulk(), l.crowd(),
		l.libtlsDownload(), l.libtlsServe(), l.libtlsConnections(), l.libtlsAccept(), l.libtlsPing()}
}
