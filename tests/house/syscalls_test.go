package house

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The shim's system calls are all made by SYS, which gives them the cookie: sys.h and sys.c have the
// instructions, and what stands in the sixth argument is said by nobody else but syscall(2), which
// passes on what the program gave.
func TestSystemCallsAreMadeInOnePlace(t *testing.T) {
	places := []struct {
		what  *regexp.Regexp
		files []string
	}{
		{regexp.MustCompile(`\bsys6\b`), []string{"preload/sys.h", "preload/syscall.c"}},
		{regexp.MustCompile(`\bsys_i386\b`), []string{"preload/sys.h", "preload/sys.c"}},
		{regexp.MustCompile(`"[^"\n]*\b(syscall|sysenter|svc|int\s+\$0x80|\.byte|\.insn)\b`), []string{"preload/sys.h", "preload/sys.c"}},
	}
	for file, text := range cText(t) {
		for _, place := range places {
			if found := place.what.FindString(text); found != "" && !slices.Contains(place.files, file) {
				t.Errorf("%s has %q, which only %s may", file, found, strings.Join(place.files, " and "))
			}
		}
	}
}

// What a program makes by syscall(2) is led to the hooks where the call has to carry the cookie.
func TestSyscallLeadsToTheHooks(t *testing.T) {
	text := cText(t)
	_, list, _ := strings.Cut(text["preload/shim.h"], "#define COOKIE_FUNCTIONS(X)")
	list, _, _ = strings.Cut(list, "\n\n")
	names := regexp.MustCompile(`X\((\w+)\)`).FindAllStringSubmatch(list, -1)
	if len(names) == 0 {
		t.Fatal("preload/shim.h has no COOKIE_FUNCTIONS")
	}
	for _, name := range names {
		if !strings.Contains(text["preload/syscall.c"], "case SYS_"+name[1]+":") {
			t.Errorf("preload/syscall.c has no case for %s", name[1])
		}
	}
}

// cText is what the shim's files have, by their paths from the root.
func cText(t *testing.T) map[string]string {
	text := map[string]string{}
	for _, folder := range []string{"preload", "libtls"} {
		for _, kind := range []string{"*.c", "*.h"} {
			files, err := filepath.Glob(filepath.Join(root, folder, kind))
			if err != nil || len(files) == 0 {
				t.Fatalf("there is no %s in %s (%v)", kind, folder, err)
			}
			for _, file := range files {
				data, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				text[folder+"/"+filepath.Base(file)] = string(data)
			}
		}
	}
	return text
}
