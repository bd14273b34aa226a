package calls

import (
	"debug/elf"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tlswrap/tests/testkit"
)

// The library exports what exports.list says, needs no other library, and every build of
// it the same.
func TestExports(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(testkit.Root(), "preload", "exports.list"))
	if err != nil {
		t.Fatal(err)
	}
	listed := strings.Fields(string(text))
	slices.Sort(listed)
	dirs := []string{""}
	if has32() {
		dirs = append(dirs, "EM_386")
	}
	for _, dir := range dirs {
		library, err := elf.Open(filepath.Join(shared.shimDir(""), dir, "libtlswrap.so"))
		if err != nil {
			t.Fatal(err)
		}
		defer library.Close()
		symbols, err := library.DynamicSymbols()
		if err != nil {
			t.Fatal(err)
		}
		var exported []string
		for _, s := range symbols {
			if s.Section != elf.SHN_UNDEF && s.Section != elf.SHN_ABS { // which names of versions are
				exported = append(exported, s.Name)
			}
		}
		slices.Sort(exported)
		for _, name := range listed {
			if !slices.Contains(exported, name) {
				t.Errorf("%q: %s is listed and not exported", dir, name)
			}
		}
		for _, name := range exported {
			if !slices.Contains(listed, name) {
				t.Errorf("%q: %s is exported and not listed", dir, name)
			}
		}
		if needed, err := library.ImportedLibraries(); err != nil || len(needed) > 0 {
			t.Errorf("%q: needs %v (%v)", dir, needed, err)
		}
	}
}
