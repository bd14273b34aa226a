package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tlswrap/tests/testkit"
)

// withoutSeccomp is anyRule on a machine that allows no filter: nothing but the shim stands between
// a program and the network.
func withoutSeccomp() wrapped {
	w := anyRule()
	w.refused = testkit.WithoutSeccomp
	return w
}

func TestEnvironmentWipedByTheProgramKeepsThePreload(t *testing.T) {
	for _, wipe := range []string{"env -i", "env -u LD_PRELOAD -u TLSWRAP_CONTROL", "env LD_PRELOAD= TLSWRAP_CONTROL=x", "exec -c"} {
		t.Run(strings.Fields(wipe)[0]+fmt.Sprint(len(wipe)), func(t *testing.T) {
			s := serveSite(t, "db.example.test")
			script := wipe + " /usr/bin/" + strings.Join(quietCurl(), " ") + " " + s.url("/fixed")
			script = strings.ReplaceAll(script, " *", " '*'")
			e := s.wrapped().run(t, "bash", "-c", script).must(t)
			if e.stdout != s.marker+"\n" {
				t.Errorf("curl got %q", e.stdout)
			}
		})
	}
}

func TestEmptyEnvironmentFromPython(t *testing.T) {
	for _, how := range []string{
		"os.execve(argv[0], argv, {})",
		"sys.exit(subprocess.run(argv, env={}).returncode)",
		"sys.exit(os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn(argv[0], argv, {}), 0)[1]))",
	} {
		s := serveSite(t, "db.example.test")
		script := "import os, subprocess, sys\nargv = sys.argv[1:]\n" + how
		e := s.wrapped().run(t, append([]string{python, "-c", script, "/usr/bin/curl"}, quietCurl(s.url("/fixed"))[1:]...)...)
		if e.must(t).stdout != s.marker+"\n" {
			t.Errorf("%s: curl got %q", how, e.stdout)
		}
	}
}

func TestOtherPreloadsStay(t *testing.T) {
	w := anyRule()
	w.env = []string{"LD_PRELOAD=/usr/lib/x86_64-linux-gnu/libm.so.6"}
	e := w.run(t, "sh", "-c", "grep -c -e libm.so.6 -e libtlswrap.so /proc/self/maps; echo $LD_PRELOAD").must(t)
	if got := lines(e.stdout)[1]; !strings.HasSuffix(got, "libtlswrap.so:/usr/lib/x86_64-linux-gnu/libm.so.6") {
		t.Errorf("LD_PRELOAD is %q", got)
	}
}

// unpreloadable are programs that no library can be preloaded into.
func unpreloadable(t *testing.T) map[string]string {
	t.Helper()
	goProgram := filepath.Join(t.TempDir(), "goprogram")
	source := writeFile(t, "main.go", "package main\nfunc main() { println(\"ran\") }\n")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", goProgram, source)
	build.Env = append(build.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	withoutNote := filepath.Join(t.TempDir(), "withoutnote")
	build = exec.CommandContext(t.Context(), "go", "build", "-ldflags=-buildid= -B none", "-o", withoutNote, source)
	build.Env = append(build.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return map[string]string{
		withoutNote:                                  "it is a Go program",
		compile(t, "args.c", "-static"):              "it is statically linked",
		compile(t, "args.c", "-static-pie", "-fPIE"): "it is statically linked",
		goProgram: "it is a Go program",
	}
}

func TestProgramThatCannotBePreloadedIsRefusedWithoutSeccomp(t *testing.T) {
	for program, why := range unpreloadable(t) {
		e := withoutSeccomp().run(t, program)
		want := fmt.Sprintf("tlswrap: %s: not started, because it cannot be preloaded: %s", program, why)
		if e.status != 126 || e.stdout != "" || !strings.HasPrefix(e.stderr, want) {
			t.Errorf("status %d, stdout: %q, stderr: %q, want %q", e.status, e.stdout, e.stderr, want)
		}
	}
}

func TestProgramThatCannotBePreloadedIsRefusedInsideAShellWithoutSeccomp(t *testing.T) {
	for program, why := range unpreloadable(t) {
		e := withoutSeccomp().run(t, "sh", "-c", program)
		want := fmt.Sprintf("tlswrap: %s: not started, because it cannot be preloaded: %s", program, why)
		if e.status != 126 || e.stdout != "" || !strings.Contains(e.stderr, want) || !strings.Contains(e.stderr, "Permission denied") {
			t.Errorf("status %d, stdout: %q, stderr: %q, want %q", e.status, e.stdout, e.stderr, want)
		}
	}
}

func TestProgramThatCannotBePreloadedIsRefusedToPythonWithoutSeccomp(t *testing.T) {
	program := compile(t, "args.c", "-static")
	for _, how := range []string{"os.execv(p, [p])", "subprocess.run([p])", "os.posix_spawn(p, [p], {})"} {
		script := "import os, subprocess, sys\np = sys.argv[1]\ntry: " + how + "\nexcept OSError as e: print(e.errno)"
		e := withoutSeccomp().run(t, python, "-c", script, program)
		if e.stdout != "13\n" || !strings.Contains(e.stderr, "cannot be preloaded") {
			t.Errorf("%s: stdout: %q, stderr: %q", how, e.stdout, e.stderr)
		}
	}
}

func TestScriptOfAnInterpreterThatCannotBePreloadedIsRefusedWithoutSeccomp(t *testing.T) {
	static := compile(t, "args.c", "-static")
	file := writeFile(t, "script", "#!"+static+"\n")
	if out, err := exec.Command("chmod", "755", file).CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	if e := withoutSeccomp().run(t, file); e.status != 126 || !strings.Contains(e.stderr, "it is statically linked") {
		t.Errorf("status %d, stdout: %q, stderr: %q", e.status, e.stdout, e.stderr)
	}
	if e := withoutSeccomp().run(t, "sh", "-c", file); e.status != 126 || !strings.Contains(e.stderr, "it is statically linked") {
		t.Errorf("in a shell: status %d, stdout: %q, stderr: %q", e.status, e.stdout, e.stderr)
	}
}

func TestScriptIsInspectedWithTheInterpreterThatTheKernelStarts(t *testing.T) {
	for _, blank := range []string{"\u00a0", "\u0085", "\r", "\v", "\f"} {
		dir := t.TempDir()
		for name, program := range map[string]string{"interpreter": "/bin/true", "interpreter" + blank: compile(t, "args.c", "-static"), "sh" + blank: "/bin/sh"} {
			if err := os.Symlink(program, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		script := func(name, text string) string {
			file := filepath.Join(dir, name)
			if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
				t.Fatal(err)
			}
			return file
		}
		hidden := script("hidden", "#!"+dir+"/interpreter"+blank+" argument\n")
		good := script("good", "#!"+dir+"/sh"+blank+" -e\necho it ran\n")
		empty := script("empty", "#!\necho it ran\n") // is no script to the kernel, and so it is the shell's
		for how, by := range startedBy {
			if e := withoutSeccomp().run(t, by(hidden)...); e.status != 126 || !strings.Contains(e.stderr, "it is statically linked") {
				t.Errorf("%q, %s: status %d, stdout: %q, stderr: %q", blank, how, e.status, e.stdout, e.stderr)
			}
			for _, file := range []string{good, empty} {
				if file == empty && how != "tlswrap" && how != "sh" {
					continue // these do not ask the shell
				}
				if e := withoutSeccomp().run(t, by(file)...).must(t); e.stdout != "it ran\n" {
					t.Errorf("%q, %s: %s: stdout: %q, stderr: %q", blank, how, file, e.stdout, e.stderr)
				}
			}
		}
	}
}

func TestTlswrapInTlswrap(t *testing.T) {
	s := serveSite(t, "db.example.test")
	argv := append(append([]string{lab.tlswrap}, s.flags()...), quietCurl(s.url("/fixed"))...)
	if got := anyRule().run(t, argv...).must(t).stdout; got != s.marker+"\n" {
		t.Errorf("curl got %q", got)
	}
}

func TestProgramWhoseIDsDifferIsRefusedWithoutSeccomp(t *testing.T) {
	const why = "its real and effective user or group differ"
	for _, flag := range []string{"--ruid=65534", "--euid=65534", "--rgid=65534", "--egid=65534"} {
		e := withoutSeccomp().run(t, "setpriv", flag, "--clear-groups", "true")
		if e.status == 0 || !strings.Contains(e.stderr, why) {
			t.Errorf("%s: status %d, stderr: %q", flag, e.status, e.stderr)
		}
	}
	argv := append([]string{"setpriv", "--rgid=65534", "--clear-groups", lab.tlswrap}, anyRule().flags...)
	e := wrapped{bare: true, refused: testkit.WithoutSeccomp}.run(t, append(argv, "true")...)
	if e.status != 126 || !strings.Contains(e.stderr, why) {
		t.Errorf("tlswrap itself: status %d, stderr: %q", e.status, e.stderr)
	}
	for how, want := range map[string]string{
		"subprocess.run(['/bin/true'])":                            "13",
		"os.posix_spawn('/bin/true', ['true'], {})":                "13",
		"os.posix_spawn('/bin/true', ['true'], {}, resetids=True)": "started",
		"subprocess.run(['/bin/true'], user=65534)":                "started",
	} {
		script := "import os, subprocess\nos.setresuid(65534, 0, 0)\ntry: " + how + "; print('started')\nexcept OSError as e: print(e.errno)"
		if e := withoutSeccomp().run(t, python, "-c", script); e.stdout != want+"\n" || (want == "13") != strings.Contains(e.stderr, why) {
			t.Errorf("%s: stdout: %q, stderr: %q", how, e.stdout, e.stderr)
		}
	}
}

func TestLibraryOnAFileSystemMountedNoexecIsRefusedWithoutSeccomp(t *testing.T) {
	const why = "the library to preload is on a file system mounted noexec"
	// The library is mounted over itself, in a namespace of the test's own.
	const mount = `mount --bind "$0" "$0" && mount -o remount,bind,noexec "$0" && "$@"`
	library := filepath.Join(filepath.Dir(lab.tlswrap), "libtlswrap.so")
	own := append([]string{lab.tlswrap}, anyRule().flags...)
	for _, w := range []ended{
		withoutSeccomp().run(t, "unshare", "-m", "sh", "-c", mount, library, "/bin/true"),
		wrapped{bare: true, refused: testkit.WithoutSeccomp}.run(t, append(append([]string{"unshare", "-m", "sh", "-c", mount, library}, own...), "/bin/true")...),
	} {
		if w.status != 126 || !strings.Contains(w.stderr, "/bin/true: not started") || !strings.Contains(w.stderr, why) {
			t.Errorf("status %d, stderr: %q", w.status, w.stderr)
		}
	}
}

func TestSpawnedProgramIsLookedAtWhereTheFileActionsLead(t *testing.T) {
	spawn := compile(t, "spawncwd.c")
	here, there := t.TempDir(), t.TempDir()
	for file, program := range map[string]string{
		filepath.Join(here, "program"):  compile(t, "args.c"),
		filepath.Join(there, "program"): compile(t, "args.c", "-static"),
	} {
		if out, err := exec.Command("cp", program, file).CombinedOutput(); err != nil {
			t.Fatal(err, string(out))
		}
	}
	e := withoutSeccomp().run(t, "sh", "-c", `cd "$1" && "$0" "$2" ./program`, spawn, here, there)
	if want := "Permission denied 0\nPermission denied 0\n"; e.stdout != want || strings.Count(e.stderr, "it is statically linked") != 2 {
		t.Errorf("a static one: stdout: %q, want %q, stderr: %q", e.stdout, want, e.stderr)
	}
	e = withoutSeccomp().run(t, "sh", "-c", `cd "$1" && "$0" "$2" ./program`, spawn, there, here)
	if strings.Count(e.stdout, "started 0\n") != 2 || e.stderr != "" {
		t.Errorf("a dynamic one: stdout: %q, stderr: %q", e.stdout, e.stderr)
	}
}

func TestPreloadThatTheProgramChangedIsPutRightForItsShells(t *testing.T) {
	for _, change := range []string{"os.environ['LD_PRELOAD'] = ''", "os.environ['LD_PRELOAD'] = 'libm.so.6'",
		"os.environ['TLSWRAP_CONTROL'] = ''", "os.environ.clear()"} {
		script := "import os\n" + change + "\nos.system('/bin/grep -q libtlswrap.so /proc/self/maps && echo preloaded')"
		if e := anyRule().run(t, python, "-c", script).must(t); e.stdout != "preloaded\n" {
			t.Errorf("%s: stdout: %q, stderr: %q", change, e.stdout, e.stderr)
		}
	}
}
