package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"tlswrap/tests/testkit"
)

// kinds are the ways by which a C program's calls come to the worker, and what it is compiled with: by
// the shim, or by the kernel alone.
var kinds = map[string][]string{
	"preloaded": nil,
	"notified":  {"-static"},
}

// ways are how the calls of each come, as -v and the log say it.
var ways = map[string]string{"preloaded": "preload", "notified": "kernel"}

var built sync.Map // command lines: func() ([]byte, error)

// buildWith has a compiler make a program of testdata, once.
func buildWith(t *testing.T, compiler []string, source string, flags ...string) string {
	t.Helper()
	testkit.Need(t, compiler[0])
	binary := filepath.Join(lab.dir, strings.NewReplacer("/", "_", " ", "").Replace(strings.Join(append(compiler, append(flags, source)...), "")))
	once, _ := built.LoadOrStore(binary, sync.OnceValues(func() ([]byte, error) {
		args := append(slices.Clone(compiler[1:]), "-o", binary, testFile(t, source))
		if compiler[0] == "fpc" { // which has its own way with -o, and puts more beside what it reads
			args = append(slices.Clone(compiler[1:]), "-o"+binary, testFile(t, source))
		}
		cmd := exec.Command(compiler[0], append(args, flags...)...)
		cmd.Dir = lab.dir
		return cmd.CombinedOutput()
	}))
	if out, err := once.(func() ([]byte, error))(); err != nil {
		t.Fatalf("compiling %s with %q: %v\n%s", source, compiler, err, out)
	}
	return binary
}

// goProgram builds a Go program of testdata. The static one makes all of its system calls by itself; the
// other has libc look names up.
func goProgram(t *testing.T, source string, cgo bool) string {
	t.Helper()
	testkit.Need(t, "go", "gcc")
	kind, tags := "CGO_ENABLED=0", "netgo"
	if cgo {
		kind, tags = "CGO_ENABLED=1", "netcgo"
	}
	binary := filepath.Join(lab.dir, source+"-"+tags)
	once, _ := built.LoadOrStore(binary, sync.OnceValues(func() ([]byte, error) {
		cmd := exec.Command("go", "build", "-tags", tags, "-o", binary, testFile(t, source))
		cmd.Env = append(os.Environ(), kind, "GOFLAGS=")
		return cmd.CombinedOutput()
	}))
	if out, err := once.(func() ([]byte, error))(); err != nil {
		t.Fatalf("go build %s: %v\n%s", source, err, out)
	}
	return binary
}

// busyboxStatic is Debian's busybox-static, which cannot be installed beside its busybox.
func busyboxStatic(t *testing.T) string {
	t.Helper()
	file := filepath.Join(lab.dir, "busybox-static")
	testkit.NeedFetched(t, file)
	return file
}
