package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// allVariable says that every test has to run: make test sets it, after it has installed what the
// tests need.
const allVariable = "TLSWRAP_TEST_ALL"

// Need skips a test that needs what this machine does not have, and says so once; under make test
// the test fails instead. What is needed is a program, by its name or its path; a C header, whose name
// ends in .h; or a shared library, whose name has .so in it. go test -short skips all tests that
// need anything.
func Need(t testing.TB, what ...string) {
	t.Helper()
	if testing.Short() && len(what) > 0 {
		t.Skip("-short leaves out what needs " + strings.Join(what, ", "))
	}
	for _, w := range what {
		if !Have(w) {
			missing(t, w+" is not installed")
		}
	}
}

// NeedRoot is Need of being root.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "only root can run it")
	}
}

// KernelLacks skips a test that needs what this machine's kernel does not have or does not allow, and says
// so once, under make test too: nothing can be installed for it.
func KernelLacks(t testing.TB, why string) {
	t.Helper()
	say(t.Name(), why)
	leftOut.Store(t.Name(), true)
	t.Skip(why)
}

func missing(t testing.TB, why string) {
	t.Helper()
	if err := NotTested(t.Name(), why); err != nil {
		t.Fatal(err)
	}
	leftOut.Store(t.Name(), true)
	t.Skip(why)
}

// LeftOut reports whether Need has skipped a test or a part of it.
func LeftOut(t testing.TB) (some bool) {
	leftOut.Range(func(name, _ any) bool {
		some = name == t.Name() || strings.HasPrefix(name.(string), t.Name()+"/")
		return !some
	})
	return some
}

// Without reports whether a part of the tests has to be left out for want of what Need takes, and
// says so once. Under make test that is an error.
func Without(part string, what ...string) (bool, error) {
	for _, w := range what {
		if !Have(w) {
			return true, NotTested(part, w+" is not installed")
		}
	}
	return false, nil
}

// Have reports whether this machine has what Need takes.
func Have(what string) bool {
	found, _ := had.LoadOrStore(what, sync.OnceValue(func() bool {
		switch {
		case strings.HasSuffix(what, ".h"):
			return exec.Command("gcc", "-fsyntax-only", "-include", what, "-x", "c", "/dev/null").Run() == nil
		case strings.Contains(filepath.Base(what), ".so"):
			path, err := exec.Command("gcc", "-print-file-name="+what).Output()
			return err == nil && filepath.IsAbs(strings.TrimSpace(string(path)))
		}
		_, err := exec.LookPath(what)
		return err == nil
	}))
	return found.(func() bool)()
}

var (
	had     sync.Map // what Need takes: func() bool
	told    sync.Map // reasons
	leftOut sync.Map // names of tests
)

// NotTested says on the standard output that something is not tested and why, once for each reason.
// Under make test it returns that as an error instead. It is for what is no test of its own, and
// for TestMain.
func NotTested(what, why string) error {
	if os.Getenv(allVariable) != "" {
		return fmt.Errorf("%s is not tested: %s", what, why)
	}
	say(what, why)
	return nil
}

func say(what, why string) {
	if _, again := told.LoadOrStore(why, true); !again {
		fmt.Printf("not tested: %s: %s\n", what, why)
	}
}
