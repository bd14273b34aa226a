// Package make_test runs make as those do who build, install and package tlswrap.
package make_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tlswrap/tests/testkit"
)

const root = "../.."

// run runs make at the top of the repository and returns what it says.
func run(t *testing.T, args ...string) string {
	t.Helper()
	testkit.Need(t, "make", "gcc")
	cmd := exec.Command("make", append([]string{"-s", "-C", root}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("make %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// tree is what stands in a folder, its folders too.
func tree(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		names = append(names, strings.TrimPrefix(path, dir))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// What was there stays, also where it is in a folder that make install made, and an empty folder
// that somebody else made.
func TestUninstallRemovesWhatInstallMade(t *testing.T) {
	run(t, "all")
	dir := t.TempDir()
	destdir := "DESTDIR=" + filepath.Join(dir, "root")
	if err := os.MkdirAll(filepath.Join(dir, "root/usr/share/man/man3"), 0o755); err != nil {
		t.Fatal(err)
	}
	before := tree(t, dir)
	run(t, "install", destdir, "PREFIX=/usr")
	run(t, "install", destdir, "PREFIX=/usr") // an upgrade
	for _, name := range []string{"bin/tlswrap", "lib/tlswrap/libtlswrap.so", "lib/tlswrap/libtls/libtls.so.26",
		"include/tlswrap/tls.h", "share/man/man1/tlswrap.1", "share/man/man3/tls_init.3", "share/man/man5/tlswrap.rules.5"} {
		if _, err := os.Stat(filepath.Join(dir, "root/usr", name)); err != nil {
			t.Error(err)
		}
	}
	run(t, "uninstall", destdir, "PREFIX=/usr")
	if after := tree(t, dir); !slices.Equal(after, before) {
		t.Errorf("make uninstall leaves %q, and before make install there was %q", after, before)
	}

	run(t, "install", destdir, "PREFIX=/opt/tlswrap")
	other := filepath.Join(dir, "root/opt/tlswrap/bin/other")
	if err := os.WriteFile(other, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "uninstall", destdir, "PREFIX=/opt/tlswrap")
	want := append(slices.Clone(before), "/root/opt", "/root/opt/tlswrap", "/root/opt/tlswrap/bin", "/root/opt/tlswrap/bin/other")
	after := tree(t, dir)
	slices.Sort(want)
	slices.Sort(after)
	if !slices.Equal(after, want) {
		t.Errorf("make uninstall leaves %q, want %q", after, want)
	}
}

// make -W takes a file for one that was changed now.
func TestAChangedTestBuildsNothing(t *testing.T) {
	run(t, "all")
	for _, changed := range []string{"rules/rules_test.go", "proxy/record/peers_test.go", "tests/testkit/server.go", "tests/calls/programs/connect.c"} {
		if said := run(t, "-n", "-W", changed, "all"); said != "" {
			t.Errorf("after a change of %s make does\n%s", changed, said)
		}
	}
	for changed, what := range map[string]string{"rules/builtin.toml": "./cmd/tlswrap", "proxy/record/conn.go": "./cmd/tlswrap",
		"cmd/tlswrap/entry_amd64.s": "./cmd/tlswrap", "preload/wire.h": "build/libtlswrap.so"} {
		if said := run(t, "-n", "-W", changed, "all"); !strings.Contains(said, what) {
			t.Errorf("after a change of %s make does not build %s, but does\n%s", changed, what, said)
		}
	}
}

// What a packager sets is there, and what the shim cannot do without has the last word.
func TestFlagsOfTheCallerAndTheShim(t *testing.T) {
	said := run(t, "-n", "-W", "preload/shim.h", "CC=some-cc", "CC_386=some-cross-cc", "CPPFLAGS=-D_FORTIFY_SOURCE=3",
		"CFLAGS=-O1 -fstack-protector-strong", "LDFLAGS=-Wl,-z,lazy", "build/libtlswrap.so", "build/EM_386/libtlswrap.so")
	for _, cc := range []string{"some-cc ", "some-cross-cc "} {
		at := strings.Index(said, cc)
		if at < 0 {
			t.Fatalf("%s is not called:\n%s", cc, said)
		}
		line, _, _ := strings.Cut(said[at:], "\n")
		for _, pair := range [][2]string{{"-O2", "-O1"}, {"-fstack-protector-strong", "-fno-stack-protector"},
			{"-D_FORTIFY_SOURCE=3", "-U_FORTIFY_SOURCE"}, {"-Wl,-z,lazy", "-z,now"}} {
			first, second := strings.Index(line, pair[0]), strings.Index(line, pair[1])
			if first < 0 || second < first {
				t.Errorf("%s: want %s and after it %s in\n%s", cc, pair[0], pair[1], line)
			}
		}
	}
}

func TestHelpHasWhatPeopleMake(t *testing.T) {
	said := run(t, "help")
	for _, target := range []string{"all", "check", "test", "install", "uninstall", "lint", "clean"} {
		if !strings.Contains(said, "\n"+target+" ") && !strings.HasPrefix(said, target+" ") {
			t.Errorf("make help says nothing of %s:\n%s", target, said)
		}
	}
}
