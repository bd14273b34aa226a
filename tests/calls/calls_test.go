// Package calls runs small C programs, one for each family of libc's calls, twice: alone
// against plaintext servers, and under tlswrap against their TLS twins. The programs
// expect the same of both, so TCP itself is the reference.
package calls

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tlswrap/tests/testkit"
)

// mostTime is for one run of a program. None comes near it.
const mostTime = 40 * time.Second

// bench is what all tests share: the command under test and the compiled programs.
type bench struct {
	dir      string              // on a path without anything that ld.so minds
	programs map[string]*program // by variant/name
	trust    *trust
	narrow   atomic.Int64 // runs that were left out, see leftOut
}

// variant is one way to compile a program, and how it comes to the worker.
type variant struct {
	name string
	cc   []string
	shim string // a folder of make's; "" is the one that is installed
	kind kind
}

// kind is how a program's calls come to the worker.
type kind int

const (
	preloaded kind = iota // by the shim
	notified              // by the kernel alone: a static program
	unnoticed             // by the shim alone, on a machine that has no seccomp(2)
	traced                // by a tracer: a static program, where the kernel has no listener
	copied                // the same, where the kernel gives no copies of descriptors either
)

// shimless reports whether the shim is not in the program.
func (k kind) shimless() bool { return k != preloaded && k != unnoticed }

// refusals are what the kernel refuses on such a machine.
func (k kind) refusals() []testkit.Refusal {
	switch k {
	case unnoticed:
		return testkit.WithoutSeccomp
	case traced:
		return testkit.WithoutListener
	case copied:
		return testkit.WithoutCopies
	}
	return nil
}

var variants = []variant{
	{"gcc", []string{"gcc"}, "", preloaded},
	{"fortify", []string{"gcc", "-D_FORTIFY_SOURCE=3", "-D_FILE_OFFSET_BITS=64"}, "", preloaded},
	{"clang", []string{"clang"}, "", preloaded},
	{"musl", []string{"musl-gcc"}, "", preloaded},
	{"i386", []string{"i686-linux-gnu-gcc"}, "", preloaded},
	{"i386-time64", []string{"i686-linux-gnu-gcc", "-D_FORTIFY_SOURCE=3", "-D_FILE_OFFSET_BITS=64", "-D_TIME_BITS=64"}, "", preloaded},
	{"ubsan", []string{"gcc"}, "ubsan", preloaded},
	{"asan", []string{"gcc", "-fsanitize=address"}, "asan", preloaded},
	{"static", []string{"gcc", "-static"}, "", notified},
	{"static-musl", []string{"musl-gcc", "-static"}, "", notified},
	{"i386-static", []string{"i686-linux-gnu-gcc", "-static"}, "", notified},
	{"without-seccomp", []string{"gcc"}, "", unnoticed},
	{"traced", []string{"gcc", "-static"}, "", traced},
	{"copied", []string{"musl-gcc", "-static"}, "", copied},
}

// leavesOut reports whether a variant does not run a family, or a test of one: see withoutShim.
func (v variant) leavesOut(what string) bool {
	_, all := withoutShim[what]
	_, own := withoutShim[v.name+"/"+what]
	return v.kind.shimless() && (all || own)
}

// first reports whether a variant is the first of its kind, which alone runs what takes long.
func (v variant) first() bool {
	i := slices.IndexFunc(variants, func(other variant) bool { return other.kind == v.kind })
	return variants[i].name == v.name
}

// asanOptions are for a program that runs alone; the shim brings its own.
const asanOptions = "ASAN_OPTIONS=detect_leaks=0:use_sigaltstack=0"

// families are the programs. Each is one file of C.
var families = []string{
	"connect", "pending", "epoll", "inherit", "fastopen", "options", "addresses", "stream",
	"exec", "hygiene", "names", "lost", "early", "listen", "sunrpc",
}

var shared *bench

func TestMain(m *testing.M) {
	flag.Parse()
	// Most of the programs wait for something rather than work.
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		flag.Set("test.parallel", "8")
	}
	// Some run with a hosts file of their own.
	status, done, err := testkit.OwnRoot()
	if err != nil {
		fmt.Fprintln(os.Stderr, "calls:", err)
		status, done = 1, true
	}
	if !done {
		status = run(m)
	}
	os.Exit(status)
}

func run(m *testing.M) int {
	without, err := testkit.Without("calls", "make", "gcc")
	if err == nil && without {
		return 0
	}
	dir := ""
	if err == nil {
		dir, err = os.MkdirTemp("", "tlswrap-calls-")
	}
	if err == nil {
		defer os.RemoveAll(dir)
		shared, err = newBench(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "calls:", err)
		return 1
	}
	defer shared.tellOfNarrow()
	return m.Run()
}

func newBench(dir string) (*bench, error) {
	b := &bench{
		dir: dir, programs: make(map[string]*program),
	}
	var there []variant
	for _, v := range variants {
		without, err := testkit.Without("programs compiled by "+v.cc[0], v.cc[0])
		if err != nil {
			return nil, err
		}
		if !without {
			there = append(there, v)
		}
	}
	variants = there
	// A copy: others may build while this runs.
	if err := b.install(); err != nil {
		return nil, err
	}
	var err error
	if b.trust, err = newTrust(dir); err != nil {
		return nil, err
	}
	if err := b.compileLater(); err != nil {
		return nil, err
	}
	if has32() {
		if err := b.lendLibgcc(); err != nil {
			return nil, err
		}
	}
	return b, b.makeFilters()
}

// install builds tlswrap and copies it, with all builds of the shim.
func (b *bench) install() error {
	build := os.Getenv("TLSWRAP_BUILD") // a build that is tested instead of this tree's
	if build == "" {
		build = filepath.Join(testkit.Root(), "build")
		targets := []string{"all", "build/ubsan/libtlswrap.so", "build/asan/libtlswrap.so"}
		if has32() {
			targets = append(targets, "build/EM_386/libtlswrap.so")
		}
		if err := testkit.Tool("make", append([]string{"-s", "-C", testkit.Root()}, targets...)...); err != nil {
			return err
		}
	}
	for _, shim := range []string{"", "ubsan", "asan"} {
		dir := b.shimDir(shim)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		files := []string{filepath.Join(build, "tlswrap"), filepath.Join(build, shim, "libtlswrap.so")}
		if has32() {
			files = append(files, filepath.Join(build, "EM_386"))
		}
		if err := testkit.Tool("cp", append(append([]string{"-r"}, files...), dir)...); err != nil {
			return err
		}
	}
	return nil
}

// lendLibgcc makes a folder with the cross compiler's libgcc_s alone, which libc loads for pthread_cancel(3): its
// libc is not the machine's own.
func (b *bench) lendLibgcc() error {
	const name = "libgcc_s.so.1"
	found, err := exec.Command("i686-linux-gnu-gcc", "-print-file-name="+name).Output()
	if err != nil {
		return err
	}
	if err := os.Mkdir(b.libgccDir(), 0o755); err != nil {
		return err
	}
	return os.Symlink(strings.TrimSpace(string(found)), filepath.Join(b.libgccDir(), name))
}

func (b *bench) libgccDir() string { return filepath.Join(b.dir, "libgcc-i386") }

// shimDir is where tlswrap is installed with a build of the shim.
func (b *bench) shimDir(shim string) string { return filepath.Join(b.dir, "with-"+shim) }

func (v variant) is32() bool { return strings.HasPrefix(v.name, "i386") }

// has32 reports whether there are 32-bit programs, and a shim for them.
func has32() bool { return slices.ContainsFunc(variants, variant.is32) }

// TestCalls runs every test of every program.
func TestCalls(t *testing.T) {
	for _, family := range families {
		t.Run(family, func(t *testing.T) {
			t.Parallel()
			for _, v := range variants {
				p := shared.programs[v.name+"/"+family]
				if p == nil {
					continue // see withoutShim
				}
				t.Run(v.name, func(t *testing.T) {
					t.Parallel()
					p.run(t)
				})
			}
		})
	}
}

// A program runs alone, wrapped, or with the library and without a worker.
const (
	alone    = "alone"
	wrapped  = "wrapped"
	filtered = "filtered" // wrapped, and calls without the cookie fail
	unset    = "unset"    // TLSWRAP_CONTROL is not there
	nowhere  = "nowhere"  // it leads to nobody
	stranger = "stranger" // it leads to another user's socket
)

// modes are the ways to run a test of a program.
func (p *program) modes(test listed) []string {
	of := p.variant.kind
	if p.variant.leavesOut(p.family + "/" + test.name) {
		return nil
	}
	if slices.Contains(test.where, "once") && !p.variant.first() {
		return nil
	}
	var modes []string
	where := test.where[0]
	switch {
	case where == "lost" && of == preloaded:
		return []string{unset, nowhere, stranger}
	case where == "both" && of == preloaded: // the others' are gcc's or musl's programs, alone
		modes = []string{alone, wrapped}
	case where == "both", where == "wrapped", where == "notified" && of.shimless(),
		where == "noticed" && of != unnoticed, where == "unnoticed" && of == unnoticed:
		modes = []string{wrapped}
	}
	if len(modes) > 0 && p.filtered() {
		modes = append(modes, filtered)
	}
	return modes
}

// leftOut reports whether a test is not run: qemu-i386, which stands in for a kernel that starts no
// 32-bit programs, has no send that waits for room without bytes to send, starts no 32-bit programs
// by exec, and knows fewer socket options. What is run there is what needs no worker.
func (p *program) leftOut(mode string) bool {
	if mode != alone && mode != wrapped && mode != filtered {
		return false
	}
	narrow, err := p.narrow("")
	return err == nil && len(narrow) > 0
}

// tellOfNarrow says in one line what this machine has left out.
func (b *bench) tellOfNarrow() {
	if n := b.narrow.Load(); n > 0 {
		fmt.Printf("calls: this kernel starts no 32-bit programs: %d runs of them are left out, and those without a worker are made under qemu-i386\n", n)
	}
}

func (p *program) run(t *testing.T) {
	tests, err := p.compiled()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range tests {
		for _, mode := range p.modes(test) {
			if p.leftOut(mode) {
				shared.narrow.Add(1)
				continue
			}
			t.Run(test.name+"/"+mode, func(t *testing.T) {
				t.Parallel()
				runProgram(t, p, test.name, mode)
			})
		}
	}
}

// library is the shim for the program's kind of machine.
func (p *program) library() string {
	if p.variant.is32() {
		return filepath.Join(shared.shimDir(""), "EM_386", "libtlswrap.so")
	}
	return filepath.Join(shared.shimDir(p.variant.shim), "libtlswrap.so")
}

// narrow is what comes before a 32-bit program that is preloaded with library, if anything has to.
func (p *program) narrow(library string) ([]string, error) {
	if !p.variant.is32() {
		return nil, nil
	}
	if p.variant.kind.shimless() {
		library = ""
	}
	return testkit.Narrow(library)
}

// environment is what makes the mode.
func (p *program) environment(t *testing.T, mode string) []string {
	env := []string{"LD_PRELOAD=" + p.library()}
	if narrow, err := p.narrow(""); err == nil && len(narrow) > 0 {
		env = nil // qemu-i386 is told what its program is preloaded with
	}
	token := strings.Repeat("0", 32)
	switch mode {
	case unset:
		return env
	case nowhere:
		return append(env, "TLSWRAP_CONTROL=1:0:"+token+":@tlswrap-nobody")
	case stranger:
		name := fmt.Sprintf("@tlswrap-test-%d-%p", os.Getpid(), t)
		l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: name, Net: "unixpacket"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		const other = 54321 // no user of ours
		return append(env, fmt.Sprintf("TLSWRAP_CONTROL=1:%d:%s:%s", other, token, name))
	}
	return nil
}

// runProgram runs one test of a program against servers of its own.
func runProgram(t *testing.T, p *program, test, mode string) {
	if p.family == "names" {
		testkit.Need(t, "unshare")
		testkit.NeedRoot(t)
	}
	wraps := mode == wrapped || mode == filtered
	servers := newServers(t, shared.trust, wraps)
	servers.shim = !p.variant.kind.shimless()
	library := ""
	if mode != alone {
		library = p.library()
	}
	narrow, err := p.narrow(library)
	if err != nil {
		t.Fatal(err)
	}
	argv := append(narrow, p.path, test)
	if p.family == "names" {
		servers.hosts = []string{"covered.test", "six.test", "many.test"}
	}
	if p.family == "listen" || p.family == "sunrpc" {
		servers.serves(freePort(t))
	}
	if mode == filtered {
		argv = append(p.filter(), argv...)
	}
	if wraps {
		argv = append(servers.tlswrapArgs(p.variant.shim), argv...)
	}
	if p.family == "names" {
		argv = append(withNames(t, p.variant.kind), argv...)
	}
	ours, theirs := socketPair(t)
	defer theirs.Close()
	ctx, cancel := context.WithTimeout(t.Context(), mostTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(servers.environ(), "PATH="+os.Getenv("PATH"), "HOME="+cmd.Dir,
		"HELPERS="+filepath.Dir(p.path))
	if mode == alone {
		cmd.Env = append(cmd.Env, asanOptions)
	}
	if p.variant.is32() {
		cmd.Env = append(cmd.Env, "LD_LIBRARY_PATH="+shared.libgccDir())
	}
	cmd.Env = append(cmd.Env, p.environment(t, mode)...)
	inherited, held := pipe(t)
	defer inherited.Close()
	defer held.Close()
	servers.inherited = inherited
	cmd.ExtraFiles = make([]*os.File, inheritedFD-2)
	cmd.ExtraFiles[0], cmd.ExtraFiles[inheritedFD-3] = theirs, held
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	answered := make(chan struct{})
	err = testkit.Refusing(p.variant.kind.refusals(), cmd.Start)
	held.Close()
	go func() {
		defer close(answered)
		servers.answer(ours)
	}()
	if err == nil {
		err = cmd.Wait()
	}
	timedOut := ctx.Err() != nil
	ours.Close()
	servers.stop()
	<-answered
	if timedOut {
		t.Errorf("still running after %v\n%s", mostTime, out.Bytes())
	} else if err != nil {
		t.Errorf("%v\n%s", err, out.Bytes())
	}
	for _, leak := range servers.leaks() {
		t.Errorf("plaintext on the wire: %s", leak)
	}
}

// inheritedFD is what check.h calls INHERITED: beyond the descriptors that tlswrap uses
// itself to start its worker.
const inheritedFD = 9

func pipe(t *testing.T) (r, w *os.File) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	return r, w
}

// socketPair is the line between the driver and a program.
func socketPair(t *testing.T) (ours, theirs *os.File) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.SetNonblock(fds[0], true); err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fds[0]), "driver"), os.NewFile(uintptr(fds[1]), "program")
}
