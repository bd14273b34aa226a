// Package libtls_test runs programs that are linked to libtls twice: with the real library of
// Debian, and under tlswrap. What they print is compared.
package libtls_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tlswrap/tests/testkit"
)

// lab is what all tests share. TestMain fills it in; nothing changes it afterwards.
var lab struct {
	dir     string // with everything in it, and readable for all
	tlswrap string
	pki     *pki
}

// cc32 compiles 32-bit programs.
const cc32 = "i686-linux-gnu-gcc"

// mostTime is for one run of a program. None comes near it.
const mostTime = 4 * time.Minute

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "tlswrap-libtls-")
	without := false
	if err == nil {
		without, err = testkit.Without("libtls", "make", "gcc")
	}
	if err == nil && !without {
		err = arrange(dir)
	}
	status := 1
	if err == nil && without {
		status = 0
	} else if err != nil {
		fmt.Fprintln(os.Stderr, "libtls tests cannot run:", err)
	} else {
		status = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(status)
}

func arrange(dir string) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	lab.dir, lab.tlswrap = dir, filepath.Join(dir, "tlswrap")
	without32, err := testkit.Without("32-bit programs", cc32)
	if err != nil {
		return err
	}
	targets := []string{"all", "build/asan/libtlswrap.so", "build/ubsan/libtlswrap.so"}
	if !without32 {
		targets = append(targets, "build/EM_386/libtlswrap.so")
	}
	if err := testkit.Tool("make", append([]string{"-s", "-C", testkit.Root()}, targets...)...); err != nil {
		return err
	}
	build := filepath.Join(testkit.Root(), "build")
	for _, variant := range []string{"", "asan", "ubsan"} {
		to := filepath.Join(dir, variant)
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		if err := testkit.Tool("cp", filepath.Join(build, "tlswrap"), filepath.Join(build, variant, "libtlswrap.so"), to); err != nil {
			return err
		}
		if err := testkit.Tool("cp", "-d", "-r", filepath.Join(build, "libtls"), to); err != nil {
			return err
		}
	}
	if !without32 { // 32-bit programs have a library of their own
		if err := testkit.Tool("cp", "-r", filepath.Join(build, "EM_386"), dir); err != nil {
			return err
		}
		if err := os.Symlink("libtlswrap.so", filepath.Join(dir, "EM_386", "libtls.so.26")); err != nil {
			return err
		}
	}
	lab.pki, err = newPKI(filepath.Join(dir, "pki"))
	return err
}

// compile builds a program of ours against our own header.
func compile(t *testing.T, name string, args ...string) string {
	t.Helper()
	return compileWith(t, "gcc", name, args...)
}

func compileWith(t *testing.T, cc, name string, args ...string) string {
	t.Helper()
	testkit.Need(t, cc)
	if slices.Contains(args, "-ltls") {
		testkit.Need(t, "libtls.so")
	}
	out := filepath.Join(t.TempDir(), strings.TrimSuffix(name, ".c"))
	all := []string{"-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", "-D_GNU_SOURCE",
		"-I" + filepath.Join(testkit.Root(), "libtls", "include"), "-o", out, filepath.Join(testkit.Root(), "tests", "libtls", "programs", name)}
	if err := testkit.Tool(cc, append(all, args...)...); err != nil {
		t.Fatal(err)
	}
	return out
}

// ours links with our own libtls instead of Debian's: it has all functions of tls.h.
func ours() []string { return []string{"-L" + filepath.Join(lab.dir, "libtls"), "-l:libtls.so.26"} }

// need skips a test whose program is not there.
func need(t *testing.T, argv []string) {
	t.Helper()
	for _, p := range []string{"catgirl", "openssl", "rpki-client", "sacc", "script", "setpriv", "valgrind"} {
		if slices.ContainsFunc(argv, func(arg string) bool { return slices.Contains(strings.Fields(arg), p) }) {
			testkit.Need(t, p)
		}
	}
}

// run runs a program and returns what it says, with its status where that is not 0.
func run(t *testing.T, env []string, argv ...string) string {
	t.Helper()
	need(t, argv)
	ctx, cancel := context.WithTimeout(t.Context(), mostTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), env...)
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Errorf("%v: still running after %v\n%s", argv, mostTime, out.Bytes())
	} else if err != nil {
		fmt.Fprintf(&out, "(%v)\n", err)
	}
	return out.String()
}
