package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// allVariable says that every test has to run: make test sets it, after it has installed what the
// tests need.
const allVariable = "TLSWRAP_TEST_ALL"

// listVariable names a file for what is not tested, which make test prints at its end.
const listVariable = "TLSWRAP_NOT_TESTED"

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
	leaveOut(t, why)
}

// NeedFetched is Need of a file that the Makefile unpacks from one of Debian's packages. Where there is none,
// the archive could not be reached (see Fetch), and the test is skipped under make test too.
func NeedFetched(t testing.TB, file string) {
	t.Helper()
	if testing.Short() {
		t.Skip("-short leaves out what needs " + file)
	}
	if _, err := os.Stat(file); err != nil {
		leaveOut(t, filepath.Base(file)+" could not be fetched from Debian's archive, which does not answer")
	}
}

// unreachable is what apt-get says when no mirror answers, or none is found.
var unreachable = regexp.MustCompile(`Temporary failure resolving|Could not (resolve|connect)|Unable to connect|Network is unreachable|Connection timed out`)

// Fetch makes files of build/, by the Makefile in the directory root, that are unpacked from Debian's packages,
// and returns those that are there now. That the archive does not answer, or, outside of make test, that there
// is none for this machine, is no error: NeedFetched says then what is not tested.
func Fetch(root string, files ...string) (there []string, err error) {
	out, err := exec.Command("make", append([]string{"-s", "-k", "-j", "-C", root}, files...)...).CombinedOutput()
	if err != nil && os.Getenv(allVariable) != "" && !unreachable.Match(out) {
		return nil, fmt.Errorf("make: %w\n%s", err, out)
	}
	for _, f := range files {
		if _, err := os.Stat(filepath.Join(root, f)); err == nil {
			there = append(there, f)
		}
	}
	return there, nil
}

func missing(t testing.TB, why string) {
	t.Helper()
	if err := NotTested(t.Name(), why); err != nil {
		t.Fatal(err)
	}
	leaveOut(t, why)
}

func leaveOut(t testing.TB, why string) {
	t.Helper()
	say(t.Name(), why)
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

// say goes to the standard output, which go test shows with -v alone, and to the file that listVariable names.
func say(what, why string) {
	if _, again := told.LoadOrStore(why, true); again {
		return
	}
	line := fmt.Sprintf("not tested: %s: %s\n", what, why)
	fmt.Print(line)
	file := os.Getenv(listVariable)
	if file == "" {
		return
	}
	list, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o666)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer list.Close()
	if _, err := list.WriteString(line); err != nil {
		fmt.Println(err)
	}
}
