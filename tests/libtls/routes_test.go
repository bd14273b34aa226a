package libtls_test

import (
	"debug/elf"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tlswrap/tests/testkit"
)

// Every function that Debian's libtls exports is ours too, and so are those of the headers.
func TestExports(t *testing.T) {
	exports := func(path string) []string {
		library, err := elf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer library.Close()
		symbols, err := library.DynamicSymbols()
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, s := range symbols {
			if s.Section != elf.SHN_UNDEF && elf.ST_TYPE(s.Info) == elf.STT_FUNC {
				names = append(names, s.Name)
			}
		}
		return names
	}
	have := exports(filepath.Join(lab.dir, "libtlswrap.so"))
	testkit.Need(t, "libtls.so")
	real, err := filepath.Glob("/usr/lib/*/libtls.so.26")
	if err != nil || len(real) != 1 {
		t.Fatalf("libtls.so.26: %v, %v", real, err)
	}
	wanted := exports(real[0])
	if len(wanted) != 91 {
		t.Errorf("libtls.so.26 has %d functions, not 91", len(wanted))
	}
	for header, prefix := range map[string]string{"tls.h": "tls_", "ressl.h": "ressl_"} {
		text := string(readFile(t, filepath.Join(testkit.Root(), "libtls", "include", header)))
		n := 0
		for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune(" *\n\t,;", r) }) {
			if name, _, ok := strings.Cut(word, "("); ok && strings.HasPrefix(name, prefix) && !strings.Contains(word, "(3)") && !strings.HasSuffix(name, ")") {
				wanted = append(wanted, name)
				n++
			}
		}
		if want := map[string]int{"tls.h": 92, "ressl.h": 32}[header]; n != want {
			t.Errorf("%s declares %d functions, not %d", header, n, want)
		}
	}
	for _, name := range wanted {
		if !slices.Contains(have, name) {
			t.Errorf("%s is not exported", name)
		}
	}
}

// Functions of other libraries that are called as libtls's are left alone, with all arguments.
func TestDecoys(t *testing.T) {
	programs := filepath.Join(testkit.Root(), "tests", "libtls", "programs")
	dir := t.TempDir()
	testkit.Need(t, "clang")
	for _, cc := range []string{"gcc", "clang"} {
		decoy, caller := filepath.Join(dir, cc+"decoy.so"), filepath.Join(dir, cc+"caller")
		for _, args := range [][]string{
			{"-O1", "-shared", "-fPIC", "-o", decoy, filepath.Join(programs, "decoy.c")},
			{"-O1", "-o", caller, filepath.Join(programs, "caller.c"), decoy},
		} {
			if err := testkit.Tool(cc, args...); err != nil {
				t.Fatal(err)
			}
		}
		want, got := run(t, nil, caller), run(t, nil, lab.tlswrap, caller)
		if got != want || !strings.Contains(got, "decoy tls_init 1 2 3 4 5 6 7 8.5 9.5 10.5") {
			t.Errorf("%s: got\n%s\nwant\n%s", cc, got, want)
		}
	}
}

// A plugin's own library is reached where nothing else has the name.
func TestDecoyOfPlugin(t *testing.T) {
	programs := filepath.Join(testkit.Root(), "tests", "libtls", "programs")
	dir := t.TempDir()
	decoy, plugin, opener := filepath.Join(dir, "decoy.so"), filepath.Join(dir, "plugin.so"), filepath.Join(dir, "opener")
	source := filepath.Join(dir, "opener.c")
	text := "#include <dlfcn.h>\nint main(int c, char **v) { (void)c; void (*f)(void) = (void (*)(void))dlsym(dlopen(v[1], RTLD_NOW | RTLD_LOCAL), \"call\"); f(); return 0; }\n"
	if err := os.WriteFile(source, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"-shared", "-fPIC", "-o", decoy, filepath.Join(programs, "decoy.c")},
		{"-shared", "-fPIC", "-DPLUGIN", "-o", plugin, filepath.Join(programs, "caller.c"), decoy},
		{"-o", opener, source},
	} {
		if err := testkit.Tool("gcc", args...); err != nil {
			t.Fatal(err)
		}
	}
	want, got := run(t, nil, opener, plugin), run(t, nil, lab.tlswrap, opener, plugin)
	if got != want || !strings.Contains(got, "decoy tls_init") {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Bindings that open libtls by its name find ours on the path that tlswrap prints.
func TestOpenedByName(t *testing.T) {
	opener := compile(t, "opener.c")
	dir := strings.TrimSpace(run(t, nil, lab.tlswrap, "--libtls-path"))
	for name, prefix := range map[string]string{"libtls.so.26": "tls", "libtls.so.28": "tls", "libressl.so": "ressl"} {
		out := run(t, []string{"LD_LIBRARY_PATH=" + dir}, lab.tlswrap, opener, name, prefix)
		if !strings.HasPrefix(out, "0 ") || !strings.Contains(out, "tlswrap.so") {
			t.Errorf("%s: %s", name, out)
		}
	}
}

// Without that path they do too, and so does a plugin that searches its own libraries first.
func TestOpenedPastTheShim(t *testing.T) {
	plugin := compile(t, "deep.c", "-DLIBRARY", "-shared", "-fPIC", "-ltls")
	for _, argv := range [][]string{
		{compile(t, "deep.c"), plugin},
		{compile(t, "opener.c"), "libtls.so.26", "tls"},
	} {
		if out := run(t, nil, append([]string{lab.tlswrap}, argv...)...); !strings.HasPrefix(out, "0 ") || !strings.Contains(out, "tlswrap.so") {
			t.Errorf("%s: %s", argv, out)
		}
	}
}
