package integration

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tlswrap/tests/testkit"
)

// wrapped is a run of a program under tlswrap.
type wrapped struct {
	flags []string // tlswrap's own
	env   []string // beside the base environment
	dir   string
	stdin io.Reader
	bare  bool // without tlswrap

	refused []testkit.Refusal // calls that this machine does not have
}

// ended is how a program ended. A signal is a status of 128 and more, as in a shell.
type ended struct {
	stdout, stderr string
	status         int
}

// commandTime is how long any program may take.
const commandTime = 4 * time.Minute

// run runs a program to its end.
func (w wrapped) run(t *testing.T, argv ...string) ended {
	t.Helper()
	need(t, argv)
	ctx, cancel := context.WithTimeout(t.Context(), commandTime)
	defer cancel()
	cmd := w.command(ctx, argv)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = w.stdin, &stdout, &stderr
	err := testkit.Refusing(w.refused, cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	e := ended{stdout.String(), stderr.String(), status(cmd)}
	exit, _ := errors.AsType[*exec.ExitError](err)
	switch {
	case ctx.Err() != nil:
		t.Fatalf("%q did not end within %v\nstdout: %s\nstderr: %s", argv, commandTime, tail(e.stdout), e.stderr)
	case errors.Is(err, exec.ErrWaitDelay):
		t.Fatalf("%q ended, and somebody keeps its output open\nstderr: %s", argv, e.stderr)
	case err != nil && exit == nil:
		t.Fatalf("%q: %v", argv, err)
	}
	return e
}

func status(cmd *exec.Cmd) int {
	if cmd.ProcessState == nil {
		return -1
	}
	if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return cmd.ProcessState.ExitCode()
}

// command makes a command that is killed, with its process group, when ctx ends.
func (w wrapped) command(ctx context.Context, argv []string) *exec.Cmd {
	if !w.bare {
		argv = append(append([]string{lab.tlswrap}, w.flags...), argv...)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = w.dir
	cmd.Env = append([]string{
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + filepath.Join(lab.dir, "home"), "LANG=C.UTF-8", "TMPDIR=" + lab.dir,
	}, w.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// running is a program in the background.
type running struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stderr *lockedBuffer
	stdout *lockedBuffer
	done   chan struct{} // closed when the program has ended and cmd says how
}

// start runs a program until the test ends.
func (w wrapped) start(t *testing.T, argv ...string) *running {
	t.Helper()
	need(t, argv)
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{cmd: w.command(ctx, argv), stdout: new(lockedBuffer), stderr: new(lockedBuffer), done: make(chan struct{})}
	r.cmd.Stdout, r.cmd.Stderr = r.stdout, r.stderr
	var err error
	if r.stdin, err = r.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := testkit.Refusing(w.refused, r.cmd.Start); err != nil {
		t.Fatalf("%q: %v", argv, err)
	}
	go func() {
		r.cmd.Wait()
		close(r.done)
	}()
	t.Cleanup(func() {
		cancel()
		<-r.done
	})
	return r
}

// lockedBuffer can be read while a program writes to it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// eventually waits until ok.
func eventually(t *testing.T, what string, most time.Duration, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(most); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", most, what)
		}
	}
}

// must fails the test unless the program ended with status 0 and nobody complained.
func (e ended) must(t *testing.T) ended {
	t.Helper()
	if e.status != 0 || strings.Contains(e.stderr, "tlswrap:") {
		t.Fatalf("status %d\nstdout: %s\nstderr: %s", e.status, tail(e.stdout), tail(e.stderr))
	}
	return e
}

// tail is the end of what may be long.
func tail(s string) string {
	const most = 2000
	if len(s) > most {
		return "…" + s[len(s)-most:]
	}
	return s
}

// testFile is a file of testdata.
func testFile(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// A copy: other users' programs may have no way to the sources.
	dir, err := os.MkdirTemp(lab.dir, "file-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	path = filepath.Join(dir, name)
	if err == nil {
		err = os.WriteFile(path, data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var compiled sync.Map // source and flags: func() (string, error)

// compile compiles a C or C++ program of testdata, once.
func compile(t *testing.T, source string, flags ...string) string {
	t.Helper()
	compiler := "gcc"
	if filepath.Ext(source) == ".cc" {
		compiler = "g++"
	}
	testkit.Need(t, compiler)
	path := testFile(t, source)
	binary := filepath.Join(lab.dir, source+strings.Join(flags, ""))
	once, _ := compiled.LoadOrStore(binary, sync.OnceValues(func() ([]byte, error) {
		args := append([]string{"-O1", "-D_GNU_SOURCE", "-Wall", "-Werror", "-pthread", "-o", binary, path}, flags...)
		return exec.Command(compiler, args...).CombinedOutput()
	}))
	if out, err := once.(func() ([]byte, error))(); err != nil {
		t.Fatalf("compiling %s: %v\n%s", source, err, out)
	}
	return binary
}
