package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// anyRule is a run with a rule that nothing here uses.
func anyRule() wrapped {
	return wrapped{flags: []string{"--ca", lab.rootPEM, "--tls", "db.example.test:5432"}}
}

func TestExitStatusIsTheProgramsOwn(t *testing.T) {
	for _, want := range []int{0, 1, 77, 125, 255} {
		e := anyRule().run(t, "sh", "-c", fmt.Sprint("exit ", want))
		if e.status != want || e.stderr != "" {
			t.Errorf("status %d, want %d; stderr: %s", e.status, want, e.stderr)
		}
	}
}

func TestProgramThatASignalEndsEndsByThatSignal(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGSEGV, syscall.SIGKILL} {
		e := anyRule().run(t, "sh", "-c", fmt.Sprintf("kill -%d $$", sig))
		if e.status != 128+int(sig) {
			t.Errorf("status %d, want %d", e.status, 128+int(sig))
		}
	}
}

func TestSignalReachesTheProgramByTlswrapsPid(t *testing.T) {
	r := anyRule().start(t, "sh", "-c", "trap 'echo caught; exit 3' USR1; echo ready; while :; do read line; done")
	eventually(t, "the program runs", 20*time.Second, func() bool { return r.stdout.String() == "ready\n" })
	r.cmd.Process.Signal(syscall.SIGUSR1)
	r.stdin.Write([]byte("\n"))
	<-r.done
	if got := r.stdout.String(); got != "ready\ncaught\n" || status(r.cmd) != 3 {
		t.Errorf("stdout: %q, status %d", got, status(r.cmd))
	}
}

func TestArgumentsArriveByteForByte(t *testing.T) {
	args := compile(t, "args.c")
	for _, list := range [][]string{
		{""}, {"--"}, {"-h"}, {"--help"}, {"-v", "--tls", "a:1"}, {"", "", ""}, {"check"}, {"a b", "\xff\xfe", "'\"\\", "\n"},
	} {
		want := "[" + args + "]"
		for _, a := range list {
			want += "[" + a + "]"
		}
		e := anyRule().run(t, append([]string{args}, list...)...).must(t)
		if e.stdout != want+"\n" {
			t.Errorf("the program saw %q, want %q", e.stdout, want)
		}
	}
}

func TestProgramNamedAsAVerbRunsAfterTwoDashes(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "check"), []byte("#!/bin/sh\necho \"it ran: $*\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	w := wrapped{env: []string{"PATH=" + dir + ":/usr/bin:/bin"}}
	if e := w.run(t, "--", "check", "--", "-h").must(t); e.stdout != "it ran: -- -h\n" {
		t.Errorf("stdout: %q", e.stdout)
	}
}

func TestProgramIsTheProcessThatTlswrapWas(t *testing.T) {
	r := anyRule().start(t, "sh", "-c", "echo $$; exec cat")
	eventually(t, "the program runs", 20*time.Second, func() bool { return r.stdout.String() != "" })
	if got, want := r.stdout.String(), fmt.Sprintf("%d\n", r.cmd.Process.Pid); got != want {
		t.Errorf("the program's pid is %q, want %q", got, want)
	}
}

func TestProgramHasNoDescriptorsOfOurs(t *testing.T) {
	args := compile(t, "args.c")
	got := anyRule().run(t, args).must(t).stdout
	want := wrapped{bare: true}.run(t, args).must(t).stdout // whoever started the tests may leave some open
	if got != want {
		t.Errorf("the program saw %q, and without tlswrap %q", got, want)
	}
}

func TestStandardInputAndOutputAreTheProgramsOwn(t *testing.T) {
	w := anyRule()
	w.stdin = strings.NewReader("all of it")
	e := w.run(t, "sh", "-c", "cat; echo err >&2")
	if e.stdout != "all of it" || e.stderr != "err\n" {
		t.Errorf("stdout: %q, stderr: %q", e.stdout, e.stderr)
	}
}

func TestProgramHasNoChildrenAndNoSignalsOfOurs(t *testing.T) {
	children := compile(t, "children.c")
	got := anyRule().run(t, children).must(t).stdout
	want := wrapped{bare: true}.run(t, children).must(t).stdout
	if got != want || !strings.HasSuffix(got, "wait=ECHILD sigchld=0\n") {
		t.Errorf("the program saw %q, and without tlswrap %q", got, want)
	}
}

func TestIgnoredAndBlockedSignalsStaySo(t *testing.T) {
	children := compile(t, "children.c")
	script := fmt.Sprintf(`trap "" HUP INT QUIT PIPE TERM USR1 CHLD; exec "$@" %s`, children)
	argv := []string{"sh", "-c", script, "sh"}
	want := wrapped{bare: true}.run(t, argv...).must(t).stdout
	got := wrapped{bare: true}.run(t, append(argv, append([]string{lab.tlswrap}, anyRule().flags...)...)...).must(t).stdout
	if got != want || !strings.Contains(got, "15 ignored\n") {
		t.Errorf("the program saw %q, and without tlswrap %q", got, want)
	}
}

func TestScriptRuns(t *testing.T) {
	file := writeFile(t, "script", "#!/bin/sh -e\necho \"$0 $*\"\n")
	os.Chmod(file, 0o755)
	if e := anyRule().run(t, file, "x").must(t); e.stdout != file+" x\n" {
		t.Errorf("stdout: %q", e.stdout)
	}
}

func TestTextWithoutAnInterpreterIsTheShells(t *testing.T) {
	file := writeFile(t, "script", "echo \"$*\"\n")
	os.Chmod(file, 0o755)
	if e := anyRule().run(t, file, "x").must(t); e.stdout != "x\n" {
		t.Errorf("stdout: %q", e.stdout)
	}
}

func TestStatusesOfOurOwn(t *testing.T) {
	text := writeFile(t, "text", "no program\n")
	for _, c := range []struct {
		name string
		argv []string
		want int
		says string
	}{
		{"no program", nil, 125, "no program given"},
		{"unknown flag", []string{"--nonsense", "true"}, 125, "nonsense"},
		{"bad --tls", []string{"--tls", "nonsense", "true"}, 125, "nonsense"},
		{"missing CA", []string{"--ca", "/nonexistent/ca.pem", "--tls", "a.test:1", "true"}, 125, "/nonexistent/ca.pem"},
		{"missing rules", []string{"--rules", "/nonexistent/rules", "true"}, 125, "/nonexistent/rules"},
		{"not executable", []string{text}, 126, text},
		{"folder", []string{"/usr"}, 126, "/usr"},
		{"not found", []string{"no-such-program"}, 127, "no-such-program"},
		{"path not found", []string{"/nonexistent/program"}, 127, "/nonexistent/program"},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			e := wrapped{}.run(t, c.argv...)
			if e.status != c.want || e.stdout != "" || !strings.HasPrefix(e.stderr, "tlswrap: ") ||
				!strings.Contains(e.stderr, c.says) || strings.Count(e.stderr, "\n") != 1 {
				t.Errorf("status %d, want %d; stdout: %q, stderr: %q", e.status, c.want, e.stdout, e.stderr)
			}
		})
	}
}

func TestFolderEarlierInPathIsPassedOver(t *testing.T) {
	folders, programs := t.TempDir(), t.TempDir()
	if err := os.Mkdir(filepath.Join(folders, "greet"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(programs, "greet"), []byte("#!/bin/sh\necho hello\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	// env(1) uses execvp.
	e := anyRule().run(t, "env", "PATH="+folders+":"+programs+":/usr/bin:/bin", "greet").must(t)
	if e.stdout != "hello\n" {
		t.Errorf("stdout: %q", e.stdout)
	}
	e = anyRule().run(t, "env", "PATH="+folders, "greet")
	if e.status != 126 || !strings.Contains(e.stderr, "Permission denied") {
		t.Errorf("a folder alone: status %d, stderr: %q", e.status, e.stderr)
	}
}
