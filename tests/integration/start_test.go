package integration

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tellsWhatItStartedWith prints what a program has from who started it: descriptors beside the standard ones,
// children, what standard input is not, and what could be left over in its environment and its attributes.
const tellsWhatItStartedWith = `import ctypes, os, stat
fds = [os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if int(n) > 2 and os.path.exists(f"/proc/self/fd/{n}")]
try: child = os.waitpid(-1, os.WNOHANG)
except ChildProcessError: child = None
try: socket = stat.S_ISSOCK(os.fstat(0).st_mode)
except OSError: socket = False
reaper, death = ctypes.c_int(), ctypes.c_int()
ctypes.CDLL(None).prctl(37, ctypes.byref(reaper))
ctypes.CDLL(None).prctl(2, ctypes.byref(death))
print(fds, child, socket, os.environ.get("GOMAXPROCS"), reaper.value, death.value, os.getsid(0) == os.getsid(os.getppid()))`

// As a program is started some things are made that are not for it: a process beside it, the socket to that, a variable
// for Go's runtime.
func TestProgramStartsWithNothingOfOurs(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "control", "socket")
	p := &longLived{t: t, socket: socket}
	p.startWorker("default = \"pass\"\n")
	ways := map[string]string{
		"as it is":                 `exec "$@"`,
		"without standard input":   `exec "$@" <&-`,
		"without standard streams": `exec 3>&1; exec "$@" <&- >&3 2>&- 3>&-`,
		"with SIGCHLD ignored":     `trap "" CHLD; exec "$@"`,
		"with GOMAXPROCS":          `GOMAXPROCS=3 exec "$@"`,
		"with a signal for its parent's death": `exec /usr/bin/python3 -c 'import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 12); os.execvp(sys.argv[1], sys.argv[1:])' "$@"`,
		"with another's descriptors": `exec 5<&0 6>/dev/null "$@"`,
		"as a subreaper": `exec /usr/bin/python3 -c 'import ctypes, os, sys
ctypes.CDLL(None).prctl(36, 1); os.execvp(sys.argv[1], sys.argv[1:])' "$@"`,
	}
	for name, way := range ways {
		program := []string{python, "-c", tellsWhatItStartedWith}
		want := wrapped{bare: true}.run(t, append([]string{"bash", "-c", way, "bash"}, program...)...).must(t).stdout
		for _, flags := range []string{"--tls start.example.test:1", "--no-kernel", "--worker " + socket, "--no-kernel --worker " + socket} {
			argv := append([]string{"bash", "-c", way, "bash", lab.tlswrap}, strings.Fields(flags)...)
			e := wrapped{bare: true}.run(t, append(argv, program...)...)
			if e.stdout != want || e.status != 0 {
				t.Errorf("%s, %s: the program has %q, and by itself %q; status %d, stderr: %s", name, flags, e.stdout, want, e.status, e.stderr)
			}
		}
	}
}

// Beside each program of a long-lived worker's stands a keeper, most of the time for nothing. It is small, keeps no folder
// busy, and does not end by a signal that was for the program.
func TestKeeperThatHasNothingToDoIsSmall(t *testing.T) {
	p := &longLived{t: t, socket: filepath.Join(t.TempDir(), "control", "socket")}
	p.startWorker("default = \"pass\"\n")
	before := keepers()
	r := wrapped{flags: []string{"--worker", p.socket}}.start(t, "sh", "-c", "echo; read line")
	eventually(t, "the program runs", 20*time.Second, func() bool { return r.stdout.String() == "\n" })
	var own []int
	eventually(t, "a keeper stands there with less than 2 MB", 20*time.Second, func() bool {
		own = slices.DeleteFunc(keepers(), func(pid int) bool { return slices.Contains(before, pid) || keeperSize(pid) >= 2048 })
		return len(own) > 0
	})
	for _, pid := range own {
		if folder, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err == nil && folder != "/" {
			t.Errorf("a keeper is in %s", folder)
		}
		for _, sent := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGALRM, syscall.SIGTERM} {
			syscall.Kill(pid, sent)
		}
	}
	if len(own) > 1 {
		t.Logf("other tests have keepers as well: %v", own)
	}
	p.endWorker(syscall.SIGKILL)
	p.startWorker("default = \"pass\"\n")
	alive := slices.ContainsFunc(own, func(pid int) bool { return slices.Contains(keepers(), pid) })
	r.stdin.Close()
	<-r.done
	if !alive {
		t.Error("signals have ended the keeper")
	}
}

// keepers are those of all programs on this machine.
func keepers() (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range all {
		if line, _ := os.ReadFile(file); bytes.HasPrefix(line, []byte("goressl\x00keep\x00")) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// keeperSize is how much memory one has, in KiB.
func keeperSize(pid int) (kilobytes int) {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if found := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(status); found != nil {
		fmt.Sscan(string(found[1]), &kilobytes)
	}
	return kilobytes
}
