package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// traced is w with a trace, and the file that it is in.
func (w wrapped) traced(t *testing.T) (wrapped, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "trace")
	w.env = append(w.env, "TLSWRAP_TRACE="+file)
	return w, file
}

func readFile(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTraceHasWhatWasAskedAndAnswered(t *testing.T) {
	good, wrong := serveTLS(t, "db.example.test", echo), serveStranger(t)
	w := wrapped{flags: append(good.flags(), "--tls", wrong.hostport())}
	w, file := w.traced(t)
	const script = `
import errno, os, socket, subprocess, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
words = s.makefile()
s.sendall(sys.argv[5].encode() + b"\n")
s.sendmsg([sys.argv[5].encode() + b"\n"])
assert words.readline() == words.readline() == sys.argv[5] + "\n"
try: socket.create_connection((sys.argv[3], int(sys.argv[4])))
except OSError as e: print(errno.errorcode[e.errno])
subprocess.run(["/bin/true", sys.argv[5]], env={**os.environ, "SECRET": sys.argv[5]})
print(os.environ["TLSWRAP_CONTROL"].split(":")[2])
`
	e := w.run(t, python, "-c", script, good.host, good.portString(), wrong.host, wrong.portString(), good.marker)
	said := lines(e.stdout)
	if e.status != 0 || len(said) != 2 || said[0] != "EKEYREJECTED" || len(said[1]) != 32 {
		t.Fatalf("status %d, stdout: %q, stderr: %q", e.status, e.stdout, e.stderr)
	}
	text := readFile(t, file)
	for _, want := range []string{
		`getaddrinfo name="db.example.test" result=0`,
		`ask op=names flags=0x0 name="db.example.test" addresses=127.0.0.1:` + good.portString() + ` = 0`,
		`ask op=connect flags=0x1 addresses=198\.[\d.]+:` + good.portString() + ` = 0`,
		`answer is=channel = 0`,
		`connect fd=\d+ to=198\.[\d.]+:` + good.portString() + ` = 0`,
		`setsockopt fd=\d+ level=6 option=1 = 0`,
		`sendmsg fd=\d+ flags=0x0 = \d+`,
		`ask op=verdict flags=0x41 = 0`,
		`answer is=error = -1 EKEYREJECTED`,
		`connect fd=\d+ to=198\.[\d.]+:` + wrong.portString() + ` = -1 EKEYREJECTED`,
		`exec path="/bin/true" = 0`,
	} {
		if !regexp.MustCompile(`(?m)^\d+\.\d{6} \d+ \d+ ` + want + `$`).MatchString(text) {
			t.Errorf("the trace has no %s:\n%s", want, text)
		}
	}
	for what, secret := range map[string]string{"what the program sent, and a child's argument and environment": good.marker, "the session's token": said[1]} {
		if strings.Contains(text, secret) {
			t.Errorf("the trace has %s:\n%s", what, text)
		}
	}
	if fi, err := os.Stat(file); err != nil || fi.Mode() != 0o600 {
		t.Errorf("the file has the mode %v, %v", fi.Mode(), err)
	}
}

// A program that has closed everything gets the numbers that it would get without a trace.
func TestTraceTakesNoDescriptorOfTheProgram(t *testing.T) {
	s := serveTLS(t, "db.example.test", echo)
	w, file := s.wrapped().traced(t)
	result := filepath.Join(t.TempDir(), "result")
	const script = `
import os, socket, sys
to = socket.getaddrinfo(sys.argv[1], int(sys.argv[2]))[0][4]
os.closerange(0, 1000)
if os.fork(): os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
s, other = socket.socket(), socket.socket()
s.connect(to)
s.sendall(b"x\n")
got = s.recv(2)
files = os.listdir("/proc/self/fd")
with open(sys.argv[3], "w") as f: print(s.fileno(), other.fileno(), got, len(files), f.fileno(), file=f)
`
	w.run(t, python, "-c", script, s.host, s.portString(), result).must(t)
	if got := readFile(t, result); got != "0 1 b'x\\n' 3 2\n" { // the third is listdir's own
		t.Errorf("the program has %q", got)
	}
	if text := readFile(t, file); !regexp.MustCompile(`connect fd=0 to=\S+ = 0\n`).MatchString(text) {
		t.Errorf("the trace has no connect:\n%s", text)
	}
}

// What cannot be written to is left, and the program goes on.
func TestTraceThatCannotBeWrittenChangesNothing(t *testing.T) {
	s := serveSite(t, "db.example.test")
	dir := t.TempDir()
	target, link, pipe, full := filepath.Join(dir, "target"), filepath.Join(dir, "link"), filepath.Join(dir, "pipe"), filepath.Join(dir, "full")
	for _, err := range []error{os.Symlink(target, link), unix.Mkfifo(pipe, 0o600), os.WriteFile(full, make([]byte, 4096), 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{link, pipe, full, filepath.Join(dir, "none", "trace")} {
		w := s.wrapped()
		w.env = []string{"TLSWRAP_TRACE=" + file}
		e := w.run(t, append([]string{"prlimit", "--fsize=4096:4096"}, quietCurl(s.url("/fixed"))...)...).must(t)
		if e.stdout != s.marker+"\n" {
			t.Errorf("%s: curl got %q", file, e.stdout)
		}
	}
	if _, err := os.Lstat(target); err == nil {
		t.Error("a link was followed")
	}
	// prlimit has no limit when it begins.
	if text := readFile(t, full); !strings.Contains(text, "ask op=hello") || strings.Contains(text, "connect fd=") {
		t.Errorf("the file that was full has\n%s", strings.Trim(text, "\x00"))
	}
}

func TestTraceEndsWithItsVariable(t *testing.T) {
	s := serveSite(t, "db.example.test")
	w, file := s.wrapped().traced(t)
	curl := quietCurl(s.url("/fixed"))
	curl[0] = "/usr/bin/curl"
	e := w.run(t, append([]string{"env", "-u", "TLSWRAP_TRACE"}, curl...)...).must(t)
	if e.stdout != s.marker+"\n" {
		t.Errorf("curl got %q", e.stdout)
	}
	if text := readFile(t, file); !strings.Contains(text, `exec path="/usr/bin/curl" = 0`) || strings.Contains(text, "connect") {
		t.Errorf("the trace has\n%s", text)
	}
}

func TestTraceInARelativeFileIsRefused(t *testing.T) {
	e := wrapped{env: []string{"TLSWRAP_TRACE=trace"}}.run(t, "true")
	if want := "tlswrap: TLSWRAP_TRACE is \"trace\", and has to be an absolute path: programs change their folder\n"; e.status != 125 || e.stderr != want {
		t.Errorf("status %d, stderr %q", e.status, e.stderr)
	}
}
