package integration

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tlswrap/tests/testkit"
)

// loader is this machine's dynamic loader.
func loader(t *testing.T) string {
	t.Helper()
	f, err := elf.Open("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := f.Section(".interp").Data()
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimRight(b, "\x00"))
}

// copyOf copies a program to a new folder, by another name.
func copyOf(t *testing.T, program, name string) string {
	t.Helper()
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// startedBy are ways to start a program: with tlswrap itself, and by wrapped programs.
var startedBy = map[string]func(argv ...string) []string{
	"tlswrap": func(argv ...string) []string { return argv },
	"sh":      func(argv ...string) []string { return append([]string{"sh", "-c", `"$@"`, "sh"}, argv...) },
	"execve": func(argv ...string) []string {
		return append([]string{python, "-c", "import os, sys\ntry: os.execve(sys.argv[1], sys.argv[1:], {})\nexcept OSError as e: print(e)\nsys.exit(126)"}, argv...)
	},
	"posix_spawn": func(argv ...string) []string {
		script := "import os, sys\ntry: p = os.posix_spawn(sys.argv[1], sys.argv[1:], {})\nexcept OSError as e: sys.exit(126)\nsys.exit(os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]))"
		return append([]string{python, "-c", script}, argv...)
	},
}

func TestProgramThatTheDynamicLoaderIsToStartIsWrapped(t *testing.T) {
	loader := loader(t)
	for how, by := range startedBy {
		for _, options := range [][]string{
			nil,
			{"--inhibit-cache", "--argv0", "curl", "--preload", "libm.so.6", "--library-path", "/nonexistent:/usr/lib"},
		} {
			s := serveSite(t, "db.example.test")
			argv := append(append([]string{loader}, options...), "/usr/bin/curl")
			e := s.wrapped().run(t, by(append(argv, quietCurl(s.url("/fixed"))[1:]...)...)...)
			if e.status != 0 || e.stdout != s.marker+"\n" {
				t.Errorf("%s: %v: status %d, curl got %q, stderr: %q", how, options, e.status, e.stdout, e.stderr)
			}
		}
	}
}

func TestProgramThatTheDynamicLoaderCannotPreloadIntoIsRefusedWithoutSeccomp(t *testing.T) {
	loader, static := loader(t), compile(t, "args.c", "-static")
	goProgram := ""
	for program, why := range unpreloadable(t) {
		if why == "it is a Go program" {
			goProgram = program
		}
	}
	const musl = "/lib/ld-musl-x86_64.so.1"
	for how, by := range startedBy {
		for _, c := range []struct {
			named, why string
			argv       []string
		}{
			{static, "it is statically linked", []string{loader, static}},
			{static, "it is statically linked", []string{loader, "--argv0", "/bin/true", "--inhibit-cache", static, "/bin/true"}},
			{goProgram, "it is a Go program", []string{loader, goProgram}},
			{"--new", "not known", []string{loader, "--new", "/bin/true"}},
			{"true", "folders of its own", []string{loader, "true"}},
			{static, "it is statically linked", []string{musl, "--library-path", "/nonexistent", static}},
			{"--preload", "replaces LD_PRELOAD", []string{musl, "--preload", "/nonexistent", "/bin/true"}},
		} {
			e := withoutSeccomp().run(t, by(c.argv...)...)
			if want := fmt.Sprintf("tlswrap: %s: not started, because it cannot be preloaded: ", c.named); e.status != 126 ||
				!strings.Contains(e.stderr, want) || !strings.Contains(e.stderr, c.why) {
				t.Errorf("%s: %q: status %d, stdout: %q, stderr: %q, want %q", how, c.argv, e.status, e.stdout, e.stderr, c.why)
			}
		}
	}
}

func TestDynamicLoaderThatStartsNothingRuns(t *testing.T) {
	loader := loader(t)
	for how, by := range startedBy {
		if e := anyRule().run(t, by(loader, "--list", "/bin/true")...).must(t); !strings.Contains(e.stdout, "libc.so.6 => ") {
			t.Errorf("%s: --list: stdout: %q, stderr: %q", how, e.stdout, e.stderr)
		}
		if e := anyRule().run(t, by(loader)...); e.status == 126 || !strings.Contains(e.stderr, "missing program name") {
			t.Errorf("%s: no arguments: status %d, stderr: %q", how, e.status, e.stderr)
		}
	}
	static := compile(t, "args.c", "-static")
	if e := anyRule().run(t, "ldd", static); e.stdout != "" || !strings.Contains(e.stderr, "not a dynamic executable") || strings.Contains(e.stderr, static) {
		t.Errorf("ldd: stdout: %q, stderr: %q", e.stdout, e.stderr)
	}
}

func TestDynamicLoaderAsAnInterpreterIsRefusedWithoutSeccomp(t *testing.T) {
	file := writeFile(t, "script", "#!"+loader(t)+" "+compile(t, "args.c", "-static")+"\n")
	if err := os.Chmod(file, 0o755); err != nil {
		t.Fatal(err)
	}
	for how, by := range startedBy {
		if e := withoutSeccomp().run(t, by(file)...); e.status != 126 || !strings.Contains(e.stderr, "it cannot be told which program it is given") {
			t.Errorf("%s: status %d, stdout: %q, stderr: %q", how, e.status, e.stdout, e.stderr)
		}
	}
}

func TestProgramOfAnUnknownDynamicLoaderIsRefusedWithoutSeccomp(t *testing.T) {
	static := compile(t, "args.c", "-static")
	unknown, known := filepath.Join(t.TempDir(), "unknown"), filepath.Join(t.TempDir(), "known")
	for program, loader := range map[string]string{unknown: static, known: copyOf(t, loader(t), "ld-linux-own.so.2")} {
		if out, err := exec.Command("gcc", "-o", program, testFile(t, "args.c"), "-Wl,--dynamic-linker="+loader).CombinedOutput(); err != nil {
			t.Fatalf("gcc: %v\n%s", err, out)
		}
	}
	// What is behind a NUL the kernel does not read.
	cut := filepath.Join(t.TempDir(), "cut")
	if out, err := exec.Command("gcc", "-o", cut, testFile(t, "args.c"), "-Wl,--dynamic-linker="+static+"@/ld-linux-own.so.2").CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	program, err := os.ReadFile(cut)
	if err == nil {
		err = os.WriteFile(cut, bytes.Replace(program, []byte(static+"@/"), []byte(static+"\x00/"), 1), 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	for how, by := range startedBy {
		if e := withoutSeccomp().run(t, by(cut)...); e.status != 126 || !strings.Contains(e.stderr, "it is loaded by "+static+", which is not known to preload") {
			t.Errorf("%s: the name ends early: status %d, stdout: %q, stderr: %q", how, e.status, e.stdout, e.stderr)
		}
		if e := withoutSeccomp().run(t, by(unknown)...); e.status != 126 || !strings.Contains(e.stderr, "it is loaded by "+static+", which is not known to preload") {
			t.Errorf("%s: status %d, stdout: %q, stderr: %q", how, e.status, e.stdout, e.stderr)
		}
		if e := withoutSeccomp().run(t, by(known)...); e.status != 0 || e.stderr != "" {
			t.Errorf("%s: a copy of the machine's own: status %d, stderr: %q", how, e.status, e.stderr)
		}
		if e := withoutSeccomp().run(t, by(loader(t), unknown)...); e.status != 0 || e.stderr != "" {
			t.Errorf("%s: loaded by another: status %d, stderr: %q", how, e.status, e.stderr)
		}
	}
}

func TestDynamicLoadersProgramIsLookedAtWhereTheFileActionsLead(t *testing.T) {
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
	e := withoutSeccomp().run(t, "sh", "-c", `cd "$1" && "$0" "$2" "$3" ./program`, spawn, here, there, loader(t))
	if want := "Permission denied 0\nPermission denied 0\n"; e.stdout != want || strings.Count(e.stderr, "it is statically linked") != 2 {
		t.Errorf("a static one: stdout: %q, want %q, stderr: %q", e.stdout, want, e.stderr)
	}
	e = withoutSeccomp().run(t, "sh", "-c", `cd "$1" && "$0" "$2" "$3" ./program`, spawn, there, here, loader(t))
	if strings.Count(e.stdout, "started 0\n") != 2 || e.stderr != "" {
		t.Errorf("a dynamic one: stdout: %q, stderr: %q", e.stdout, e.stderr)
	}
}

func TestFreePascalProgramIsRefusedWithoutSeccomp(t *testing.T) {
	testkit.Need(t, "fpc")
	source := testFile(t, "rawcalls.pas")
	program := filepath.Join(t.TempDir(), "pascal")
	stripped := program + "-stripped"
	for _, argv := range [][]string{{"-o" + program}, {"-Xs", "-XX", "-CX", "-o" + stripped}} {
		if out, err := exec.Command("fpc", append(argv, source)...).CombinedOutput(); err != nil {
			t.Fatalf("fpc: %v\n%s", err, out)
		}
	}
	for how, by := range startedBy {
		for _, program := range []string{program, stripped} {
			e := withoutSeccomp().run(t, by(program)...)
			if e.status != 126 || strings.Contains(e.stdout, "ran") || !strings.Contains(e.stderr, "it is a Free Pascal program, which makes its system calls without libc") {
				t.Errorf("%s: status %d, stdout: %q, stderr: %q", how, e.status, e.stdout, e.stderr)
			}
		}
	}
}

func TestQemuIsRefusedWithoutSeccomp(t *testing.T) {
	testkit.Need(t, "qemu-x86_64")
	emulator, err := exec.LookPath("qemu-x86_64")
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "emulator")
	if err := os.Symlink(emulator, link); err != nil {
		t.Fatal(err)
	}
	for how, by := range startedBy {
		for _, emulator := range []string{emulator, link, copyOf(t, "/bin/true", "qemu-sparc32plus-static")} {
			e := withoutSeccomp().run(t, by(emulator, compile(t, "args.c"))...)
			if e.status != 126 || !strings.Contains(e.stderr, "it cannot be told whether the program that it emulates is preloaded") {
				t.Errorf("%s: %s: status %d, stdout: %q, stderr: %q", how, emulator, e.status, e.stdout, e.stderr)
			}
		}
		if e := anyRule().run(t, by(copyOf(t, "/bin/true", "qemu-img"))...); e.status != 0 || e.stderr != "" {
			t.Errorf("%s: qemu-img, which emulates no program: status %d, stderr: %q", how, e.status, e.stderr)
		}
	}
}

// Entries of binfmt_misc are made in a user namespace, which has a table of its own.
func TestFileThatBinfmtMiscHasAnEntryForIsJudgedByTheInterpreter(t *testing.T) {
	const mount = `mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc && cd /proc/sys/fs/binfmt_misc && `
	if e := (wrapped{bare: true}).run(t, "unshare", "-Urm", "sh", "-c", mount+"cat status"); e.status != 0 {
		fmt.Printf("integration: a user namespace has no table of its own for binfmt_misc in this kernel (Linux 6.7), which is not tested: %s\n", tail(e.stderr))
		return
	}
	static := compile(t, "args.c", "-static")
	odd := func(name, text string) string {
		return copyOf(t, writeFile(t, "odd", text), name)
	}
	// The kernel does not look at the end of e_ident; at e_machine it does.
	changed := func(name string, at int, with string) string {
		path := copyOf(t, compile(t, "args.c"), name)
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteAt([]byte(with), int64(at))
			f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	native := changed("native", 9, "TWTEST")
	foreign := changed("foreign", 18, "\xb7\x00")
	const linked = "it is statically linked"
	for _, c := range []struct {
		what, entries, file string
		why                 string // "" where the file runs
	}{
		{"magic", `printf %s ':a:M:2:WXYZ:\xff\xff\x00\xff:` + static + `:' > register`, odd("x", "..WX_Z"), linked},
		{"another magic", `printf %s ':a:M:2:WXYZ:\xff\xff\x00\xff:` + static + `:' > register`, odd("x", "true ..WX_Z"), ""},
		{"extension", `printf %s ':a:E::odd::` + static + `:' > register`, odd("x.odd", "true"), linked},
		{"another extension", `printf %s ':a:E::odd::` + static + `:' > register`, odd("odd.x", "true"), ""},
		{"a dynamic interpreter", `printf %s ':a:E::odd::/bin/true:' > register`, odd("x.odd", "\x00"), ""},
		{"a script", `printf %s ':a:E::odd::` + static + `:' > register`, odd("x.odd", "#!/bin/true\n"), linked},
		{"an interpreter that was opened before", `printf %s ':a:E::odd::/bin/true:F' > register`, odd("x.odd", "true"), "may be another now"},
		{"two entries", `printf %s ':a:E::odd::/bin/true:' > register; printf %s ':b:M::tru::/bin/cat:' > register`, odd("x.odd", "true"), "binfmt_misc has both"},
		{"an entry that is off", `printf %s ':a:E::odd::` + static + `:' > register; echo 0 > a`, odd("x.odd", "true"), ""},
		{"a table that is off", `printf %s ':a:E::odd::` + static + `:' > register; echo 0 > status`, odd("x.odd", "true"), ""},
		{"a program of this machine", `printf %s ':a:M:9:TWTEST::` + static + `:' > register`, native, linked},
		{"a program of another machine", `printf %s ':a:M:18:\xb7::` + static + `:' > register`, foreign, linked},
		{"one that qemu runs", `printf %s ':a:M:18:\xb7::` + copyOf(t, "/bin/true", "qemu-aarch64") + `:' > register`, foreign, "it emulates"},
		{"one that nothing runs", `true`, foreign, "it is a 64-bit AARCH64 program"},
	} {
		for how, by := range startedBy {
			if how == "execve" || how == "posix_spawn" {
				continue // a text is no shell's there
			}
			argv := append(append([]string{lab.tlswrap}, anyRule().flags...), by(c.file)...)
			e := wrapped{bare: true, refused: testkit.WithoutSeccomp}.run(t, append([]string{"unshare", "-Urm", "bash", "-c", mount + c.entries + ` && cd / && exec "$@"`, "sh"}, argv...)...)
			if c.why == "" && (e.status != 0 || e.stderr != "") || c.why != "" && (e.status != 126 || !strings.Contains(e.stderr, c.why)) {
				t.Errorf("%s, by %s: status %d, stdout: %q, stderr: %q, want %q", c.what, how, e.status, e.stdout, e.stderr, c.why)
			}
		}
	}
}

func TestFileThatIsNoTextIsRefusedWithoutSeccompWhereBinfmtMiscIsNotShown(t *testing.T) {
	file := copyOf(t, writeFile(t, "odd", "\x01\x00\x02"), "odd")
	for how, by := range startedBy {
		argv := append(append([]string{lab.tlswrap}, anyRule().flags...), by(file)...)
		e := wrapped{bare: true, refused: testkit.WithoutSeccomp}.run(t, append([]string{"unshare", "-m", "sh", "-c", `while umount /proc/sys/fs/binfmt_misc 2>/dev/null; do :; done; exec "$@"`, "sh"}, argv...)...)
		if e.status != 126 || !strings.Contains(e.stderr, "binfmt_misc is not mounted") {
			t.Errorf("%s: status %d, stdout: %q, stderr: %q", how, e.status, e.stdout, e.stderr)
		}
	}
}

// glibc 2.39 has pidfd_spawn; before, a library of the test's own stands for it.
func TestProgramThatPidfdSpawnStartsIsWrapped(t *testing.T) {
	spawn := filepath.Join(t.TempDir(), "pidfdspawn")
	build := exec.Command("gcc", "-o", spawn, testFile(t, "pidfdspawn.c"), compile(t, "libpidfdspawn.c", "-shared", "-fPIC"))
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	e := withoutSeccomp().run(t, spawn, compile(t, "args.c", "-static"))
	if want := "Permission denied 0\nPermission denied 0\n"; e.stdout != want || strings.Count(e.stderr, "it is statically linked") != 2 {
		t.Errorf("a static one: stdout: %q, want %q, stderr: %q", e.stdout, want, e.stderr)
	}
	s := serveSite(t, "db.example.test")
	e = s.wrapped().run(t, append([]string{spawn, "/usr/bin/curl"}, quietCurl(s.url("/fixed"))[1:]...)...)
	if want := strings.Repeat(s.marker+"\nstarted 0\n", 2); e.stdout != want {
		t.Errorf("a dynamic one: stdout: %q, want %q, stderr: %q", e.stdout, want, e.stderr)
	}
}

func TestTextOfAShellThatCannotBePreloadedIsRefusedWithoutSeccomp(t *testing.T) {
	text := writeFile(t, "text", "echo ran\n")
	if err := os.Chmod(text, 0o755); err != nil {
		t.Fatal(err)
	}
	// In a namespace of the test's own a static program is /bin/sh.
	const mount = `mount --bind "$0" "$(realpath /bin/sh)" && exec "$@"`
	for how, by := range map[string][]string{
		"tlswrap": {text},
		"execvp":  {python, "-c", "import os, sys\ntry: os.execvp(sys.argv[1], sys.argv[1:])\nexcept OSError as e: sys.exit(126)", text},
	} {
		argv := append(append([]string{lab.tlswrap}, anyRule().flags...), by...)
		e := wrapped{bare: true, refused: testkit.WithoutSeccomp}.run(t, append([]string{"unshare", "-m", "bash", "-c", mount, compile(t, "args.c", "-static")}, argv...)...)
		if e.status != 126 || e.stdout != "" || !strings.Contains(e.stderr, "/bin/sh: not started, because it cannot be preloaded: it is statically linked") {
			t.Errorf("%s: status %d, stdout: %q, stderr: %q", how, e.status, e.stdout, e.stderr)
		}
	}
}
