package folders

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestFoldersOnTheWayOfLinks(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	in := func(names ...string) (all []string) {
		for _, name := range names {
			all = append(all, filepath.Join(root, name))
		}
		return all
	}
	for _, dir := range in("a", "b/c", "d") {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"a/x": "../b/y", "b/y": filepath.Join(root, "now/file"), "now": "d/../b/c/", "a/loop": "loop", "a/gone": "../d/gone"} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "b/c/file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string][]string{
		"b/c/file": in("b/c"),
		"a/x":      in("a", "b", ".", "b/c"),
		"now/file": in(".", "b/c"),
		"a/loop":   in("a"),
		"a/gone":   in("a", "d"),
		"a/none":   in("a"),
	} {
		if got := Of(filepath.Join(root, file)); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
	}
	t.Chdir(filepath.Join(root, "a"))
	if got := Of("x"); !slices.Equal(got, append([]string{".", "../b"}, in(".", "b/c")...)) {
		t.Errorf("a relative one: %q", got)
	}
}
