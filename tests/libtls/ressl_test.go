package libtls_test

import (
	"path/filepath"
	"testing"
)

// A client and a server of 2014 work, with sanitizer builds too.
func TestRessl(t *testing.T) {
	library := []string{"-L" + filepath.Join(lab.dir, "libtls"), "-l:libressl.so"}
	program := compile(t, "ressl.c", library...)
	withASan := compile(t, "ressl.c", append(library, "-fsanitize=address")...)
	for variant, p := range map[string]string{"": program, "ubsan": program, "asan": withASan} {
		env := []string{"LD_LIBRARY_PATH=" + filepath.Join(lab.dir, variant, "libtls"), "ASAN_OPTIONS=detect_leaks=0"}
		if out := run(t, env, filepath.Join(lab.dir, variant, "tlswrap"), p, lab.pki.dir); out != "" {
			t.Errorf("%s: %s", variant, out)
		}
	}
}
