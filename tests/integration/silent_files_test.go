package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/tests/testkit"
)

// silentFile returns a program's file that can be opened, and whose file system does not answer
// who reads it, until the process ends that is returned too.
func silentFile(t *testing.T) (file string, fuse *running) {
	t.Helper()
	device, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		testkit.KernelLacks(t, "/dev/fuse: "+err.Error())
	}
	unix.Close(device)
	dir := t.TempDir()
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	fuse = wrapped{bare: true}.start(t, python, testFile(t, "silent_fuse.py"), dir)
	eventually(t, "the file system is mounted", 20*time.Second, func() bool {
		return fuse.stdout.String() == "mounted\n" || fuse.stderr.String() != ""
	})
	if words := fuse.stderr.String(); strings.Contains(words, "Operation not permitted") {
		testkit.KernelLacks(t, "mounting by FUSE: "+words)
	} else if words != "" {
		t.Fatalf("mounting: %s", words)
	}
	return filepath.Join(dir, "program"), fuse
}

func threadsOf(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	found := regexp.MustCompile(`Threads:\s+(\d+)`).FindSubmatch(text)
	if err != nil || found == nil {
		t.Fatalf("threads of %d: %v", pid, err)
	}
	n, _ := strconv.Atoi(string(found[1]))
	return n
}

func TestFilesThatCannotBeReadAreRefusedAndBounded(t *testing.T) {
	file, fuse := silentFile(t)
	s := serveTLS(t, "db.example.test", echo)
	socket, worker := sharedWorker(t, nil, append(s.flags(), "--allow", "nobody")...)
	for dir := filepath.Dir(filepath.Dir(socket)); dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil { // for nobody
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { fuse.cmd.Process.Kill() }) // before the worker is waited for
	w := wrapped{flags: []string{"--worker", socket}}
	const connect = `import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
s.sendall(b"x\n")
print(s.recv(10), flush=True)
`
	connected := w.start(t, python, "-c", connect+`try: print(s.recv(10))
except OSError as e: print(e.strerror)`, s.host, s.portString())
	eventually(t, "the program is connected", 20*time.Second, func() bool { return connected.stdout.String() == "b'x\\n'\n" })

	p := &longLived{t: t, socket: socket, worker: worker}
	p.running = w.start(t, held(t, python, testFile(t, "long_lived.py"), s.host, s.portString(), s.marker)...)
	p.says()
	p.does("pass", "passed")

	start := time.Now()
	e := w.run(t, "sh", "-c", file)
	want := "tlswrap: " + file + ": refused: a file that is needed for it was not read within 7s\n"
	if took := time.Since(start); e.status == 0 || !strings.Contains(e.stderr, want) || !strings.Contains(e.stderr, "Network is down") || took > 9*time.Second {
		t.Errorf("after %v: status %d, stderr: %q, want %q", took, e.status, e.stderr, want)
	}

	const many = 100
	before := threadsOf(t, worker.cmd.Process.Pid)
	flood := w.start(t, python, "-c", fmt.Sprintf(`import os, sys
for _ in range(%d):
    if os.fork() == 0:
        try: os.execv(sys.argv[1], sys.argv[1:])
        except OSError as e: os.write(1, b"%%d\n" %% e.errno)
        os._exit(0)
while True:
    try: os.wait()
    except ChildProcessError: break
`, many), file)
	eventually(t, "all are refused", 60*time.Second, func() bool { return strings.Count(flood.stdout.String(), "100\n") == many })
	if now := threadsOf(t, worker.cmd.Process.Pid); now-before > 64+16 {
		t.Errorf("%d files that cannot be read have cost %d threads", many, now-before)
	}
	other := []string{"setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", lab.tlswrap, "--worker", socket, python, "-c", connect, s.host, s.portString()}
	if e := (wrapped{bare: true, dir: "/"}).run(t, other...).must(t); e.stdout != "b'x\\n'\n" {
		t.Errorf("another user's program: stdout: %q, stderr: %q", e.stdout, e.stderr)
	}

	worker.cmd.Process.Signal(syscall.SIGTERM)
	eventually(t, "the program's connection is reset", 10*time.Second, func() bool {
		return connected.stdout.String() == "b'x\\n'\nConnection reset by peer\n"
	})
	p.does("pass", "ENETDOWN") // nobody is left to answer what the kernel hands over
	fuse.cmd.Process.Kill()    // the kernel takes the file system's reads back
	<-worker.done
	if got := status(worker.cmd); got != 0 {
		t.Errorf("the worker ends with %d, stderr: %q", got, worker.stderr.String())
	}
}
