package integration

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
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
reaper = ctypes.c_int()
ctypes.CDLL(None).prctl(37, ctypes.byref(reaper))
print(fds, child, socket, os.environ.get("GOMAXPROCS"), reaper.value, os.getsid(0) == os.getsid(os.getppid()))`

// As a program is started some things are made that are not for it: a process beside it, the socket to that, a variable
// for Go's runtime.
func TestProgramStartsWithNothingOfOurs(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "control", "socket")
	p := &longLived{t: t, socket: socket}
	p.startWorker("default = \"pass\"\n")
	ways := map[string]string{
		"as it is":                   `exec "$@"`,
		"without standard input":     `exec "$@" <&-`,
		"without standard streams":   `exec 3>&1; exec "$@" <&- >&3 2>&- 3>&-`,
		"with SIGCHLD ignored":       `trap "" CHLD; exec "$@"`,
		"with GOMAXPROCS":            `GOMAXPROCS=3 exec "$@"`,
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

// Beside each program of a long-lived worker's stands a keeper, most of the time for nothing.
func TestKeeperThatHasNothingToDoIsSmall(t *testing.T) {
	p := &longLived{t: t, socket: filepath.Join(t.TempDir(), "control", "socket")}
	p.startWorker("default = \"pass\"\n")
	r := wrapped{flags: []string{"--worker", p.socket}}.start(t, "sh", "-c", "echo; read line")
	eventually(t, "the program runs", 20*time.Second, func() bool { return r.stdout.String() == "\n" })
	size := regexp.MustCompile(`VmRSS:\s+(\d+) kB`)
	eventually(t, "a keeper stands there with less than 2 MB", 20*time.Second, func() bool {
		all, _ := filepath.Glob("/proc/[0-9]*")
		for _, dir := range all {
			line, _ := os.ReadFile(dir + "/cmdline")
			status, _ := os.ReadFile(dir + "/status")
			found := size.FindSubmatch(status)
			if !bytes.HasPrefix(line, []byte("goressl\x00keep\x00")) || found == nil || !bytes.HasPrefix(status, []byte("Name:\tgoressl\n")) {
				continue
			}
			var kilobytes int
			if fmt.Sscan(string(found[1]), &kilobytes); kilobytes < 2048 {
				return true
			}
		}
		return false
	})
	r.stdin.Close()
	<-r.done
}
