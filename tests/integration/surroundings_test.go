package integration

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asNobody has a command run as a user who may not do much.
func asNobody(argv ...string) []string {
	return append([]string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}, argv...)
}

// rootFolder is a folder with /bin/true and what that needs.
func rootFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	out, err := exec.Command("sh", "-c", `for f in /bin/true $(ldd /bin/true | grep -o '/[^ ]*'); do mkdir -p "$0$(dirname $f)"; cp -L $f "$0$f"; done`, dir).CombinedOutput()
	if err != nil {
		t.Fatal(err, string(out))
	}
	return dir
}

const unreached = "tlswrap: the worker cannot be reached, "

func TestProgramsStartInOtherSurroundings(t *testing.T) {
	filter := compile(t, "nosockets.c")
	usr := []string{"--ro-bind", "/usr", "/usr", "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--symlink", "usr/bin", "/bin", "--dev", "/dev", "--proc", "/proc"}
	for name, argv := range map[string][]string{
		"another root folder":       {"chroot", rootFolder(t), "/bin/true"},
		"another network namespace": {"unshare", "-n", "sh", "-c", "/bin/true; env true"},
		"another user namespace":    {"unshare", "-r", "id", "-u"},
		"a user namespace in one":   {"unshare", "-r", "unshare", "-r", "id", "-u"},
		"all namespaces":            {"unshare", "-rmunpf", "sh", "-c", "/bin/true; env true"},
		"bubblewrap":                append(append([]string{"bwrap", "--unshare-all"}, usr...), "sh", "-c", "/bin/true; env true"),
		"a filter":                  {filter, "all", "sh", "-c", "/bin/true; env true"},
		"a filter for AF_UNIX":      {filter, "unix", "sh", "-c", "/bin/true; env true"},
		"a filter, and a socket":    {filter, "kept", "sh", "-c", "/bin/true; env true"},
	} {
		tlswrap := append(append([]string{lab.tlswrap}, anyRule().flags...), argv...)
		if strings.HasPrefix(name, "another user") || strings.HasPrefix(name, "a user") {
			argv, tlswrap = asNobody(argv...), asNobody(tlswrap...)
		}
		want := wrapped{bare: true}.run(t, argv...)
		got := wrapped{bare: true}.run(t, tlswrap...)
		if got != want || want.status != 0 {
			t.Errorf("%s: %+v, and without tlswrap %+v", name, got, want)
		}
	}
}

func TestFilterThatMakesNoSocketIsNoReasonToRefuseWithoutSeccomp(t *testing.T) {
	filter := compile(t, "nosockets.c")
	e := withoutSeccomp().run(t, filter, "all", "sh", "-c", "/bin/true; env true")
	if e.status != 0 || e.stderr != "" {
		t.Errorf("status %d, stderr: %q", e.status, e.stderr)
	}
}

func TestRefusalOfTheLibrarysOwnIsASentenceWithoutSeccomp(t *testing.T) {
	filter := compile(t, "nosockets.c")
	for name, argv := range map[string][]string{
		"another network namespace": {"unshare", "-n", "true"},
		"a filter for AF_UNIX":      {filter, "unix", "true"},
		"a filter, and a socket":    {filter, "kept", "true"},
	} {
		for _, quiet := range []bool{false, true} {
			w := withoutSeccomp()
			said := 1
			if quiet {
				w.flags = append(w.flags[:len(w.flags):len(w.flags)], "-q")
				said = 0
			}
			if e := w.run(t, argv...); e.status != 126 || strings.Count(e.stderr, unreached) != said || !strings.Contains(e.stderr, "Network is down") {
				t.Errorf("%s: quiet %v: status %d, stderr: %q", name, quiet, e.status, e.stderr)
			}
		}
	}
}

func TestDeadWorkerIsSaidOnce(t *testing.T) {
	s := serveTLS(t, "db.example.test", echo)
	r := s.wrapped().start(t, python, "-c", `import socket, sys
socket.create_connection((sys.argv[2], int(sys.argv[1])), 20).sendall(b"x")
print("ready", flush=True)
sys.stdin.readline()
for _ in range(3):
    try: socket.create_connection(("127.0.0.1", int(sys.argv[1])), 20)
    except OSError as e: print(e.errno, flush=True)`, s.portString(), s.host)
	eventually(t, "the program runs", 20*time.Second, func() bool { return r.stdout.String() == "ready\n" })
	syscall.Kill(workerOf(t, s.hostport()), syscall.SIGKILL)
	mustEnd(t, s.hostport())
	r.stdin.Write([]byte("\n"))
	<-r.done
	want := "ready\n" + strings.Repeat(fmt.Sprintf("%d\n", syscall.ENETDOWN), 3)
	if r.stdout.String() != want || strings.Count(r.stderr.String(), unreached) != 1 {
		t.Errorf("stdout: %q, want %q, stderr: %q", r.stdout, want, r.stderr)
	}
}

// In other namespaces rules are in force, by the same names.
func TestRulesAreInForceInOtherNamespaces(t *testing.T) {
	s := serveSite(t, "db.example.test")
	download := quietCurl(s.url("/fixed"))
	tlswrap := append([]string{lab.tlswrap}, s.flags()...)
	for name, argv := range map[string][]string{
		"a user namespace":        asNobody(append(append(tlswrap, "unshare", "-r"), download...)...),
		"a user namespace in one": asNobody(append(append(tlswrap, "unshare", "-r", "unshare", "-r"), download...)...),
		"all but the network's":   append(append(tlswrap, "unshare", "-rmupf"), download...),
	} {
		if e := (wrapped{bare: true}).run(t, argv...); e.status != 0 || e.stdout != s.marker+"\n" || e.stderr != "" {
			t.Errorf("%s: status %d, stdout: %q, stderr: %q", name, e.status, e.stdout, e.stderr)
		}
	}
	// What listens there is another, and speaks no TLS.
	script := `import errno, socket, subprocess, sys
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
port = int(sys.argv[2])
def dial(host):
    try: return socket.create_connection((host, port), 20)
    except OSError as e: return errno.errorcode[e.errno]
print(dial(sys.argv[1]))
l = socket.create_server(("127.0.0.1", port))
l.settimeout(20)
import threading
heard = []
def serve():
    c = l.accept()[0]
    heard.append(c.recv(100))
    c.sendall(b"no TLS\r\n")
t = threading.Thread(target=serve)
t.start()
print(dial(sys.argv[1]))
t.join()
print(heard[0][:1])`
	e := wrapped{bare: true}.run(t, append(tlswrap, "unshare", "-n", python, "-c", script, s.host, s.portString())...)
	if want := "ECONNREFUSED\nEPROTO\nb'\\x16'\n"; e.stdout != want || !strings.Contains(e.stderr, "connection refused") {
		t.Errorf("a network namespace: status %d, stdout: %q, want %q, stderr: %q", e.status, e.stdout, want, e.stderr)
	}
}
