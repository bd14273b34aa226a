package calls

import (
	"debug/elf"
	"os"
	"os/exec"
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

// What libc exports at the place of a hooked function is the same function by another name, as what old programs or
// those with a wider time_t import, and has to be hooked too.
func TestEveryNameOfAHookedFunctionIsExported(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(testkit.Root(), "preload", "exports.list"))
	if err != nil {
		t.Fatal(err)
	}
	listed := strings.Fields(string(text))
	compilers := []string{"gcc"}
	if has32() {
		compilers = append(compilers, "i686-linux-gnu-gcc")
	}
	for _, compiler := range compilers {
		found, err := exec.Command(compiler, "-print-file-name=libc.so.6").Output()
		if err != nil {
			t.Fatal(err)
		}
		libc, err := elf.Open(strings.TrimSpace(string(found)))
		if err != nil {
			t.Fatal(err)
		}
		defer libc.Close()
		symbols, err := libc.DynamicSymbols()
		if err != nil {
			t.Fatal(err)
		}
		hooked := map[uint64]string{}
		for _, s := range symbols {
			if s.Section != elf.SHN_UNDEF && elf.ST_TYPE(s.Info) != elf.STT_OBJECT && slices.Contains(listed, s.Name) {
				hooked[s.Value] = s.Name
			}
		}
		if len(hooked) < 50 {
			t.Errorf("%s: %d hooked functions were found in its libc", compiler, len(hooked))
		}
		for _, s := range symbols {
			if of := hooked[s.Value]; of != "" && s.Version != "GLIBC_PRIVATE" && !slices.Contains(listed, s.Name) {
				t.Errorf("%s: %s of its libc is %s, and is not hooked", compiler, s.Name, of)
			}
		}
	}
}
