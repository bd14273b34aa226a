package libtls_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The tests of own.c pass under tlswrap, with sanitizer builds of the shim too.
func TestOwn(t *testing.T) {
	program := compile(t, "own.c", ours()...)
	withASan := compile(t, "own.c", append(ours(), "-fsanitize=address")...)
	for _, err := range []error{
		command("openssl", "pkcs8", "-topk8", "-in", lab.pki.path("host.key"), "-passout", "pass:secret", "-out", lab.pki.path("pkcs8.key")),
		command("openssl", "pkey", "-traditional", "-aes256", "-in", lab.pki.path("host.key"), "-passout", "pass:secret", "-out", lab.pki.path("traditional.key")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	list := run(t, nil, lab.tlswrap, program)
	for name := range strings.FieldsSeq(list) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, variant := range []string{"", "ubsan", "asan"} {
				p := program
				if variant == "asan" {
					p = withASan
				}
				wrap := filepath.Join(lab.dir, variant, "tlswrap")
				if out := run(t, nil, wrap, p, name, lab.pki.dir); out != "" {
					t.Errorf("%s: %s", variant, out)
				}
			}
		})
	}
}

// A gibibyte each way arrives as it was.
func TestMuch(t *testing.T) {
	program := compile(t, "own.c", append(ours(), "-O2")...)
	if out := run(t, []string{"MUCH=1073741824"}, lab.tlswrap, program, "much", lab.pki.dir); out != "" {
		t.Error(out)
	}
}

// Nothing that a context or a configuration held is left when they are freed.
func TestValgrind(t *testing.T) {
	program := compile(t, "own.c", ours()...)
	for _, name := range []string{"close-notify", "cut-off", "wrong-role", "foreign-keys", "connect", "load-file", "sessions", "half-a-handshake"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := run(t, nil, lab.tlswrap, "valgrind", "-q", "--leak-check=full", "--show-leak-kinds=definite,indirect,possible",
				"--errors-for-leak-kinds=definite,indirect,possible", "--error-exitcode=9", program, name, lab.pki.dir)
			if out != "" {
				t.Error(out)
			}
		})
	}
	pair := compile(t, "pair.c", "-ltls")
	for _, transport := range []string{"poll", "cbs512"} {
		out := run(t, nil, append([]string{lab.tlswrap, "valgrind", "-q", "--leak-check=full", "--error-exitcode=9", pair, transport},
			expand(goodPair+"s.add=@second.pem+@second.key s.lifetime=3600 s.ticket=1 c.alpn=a ocsp=@good.ocsp")...)...)
		if strings.Contains(out, "==") || strings.Contains(out, "exit status") {
			t.Errorf("%s: %s", transport, out)
		}
	}
}

// A key that is named by its file is in the worker alone.
func TestKeySeparation(t *testing.T) {
	program := compile(t, "server.c", "-ltls")
	for _, name := range []string{"host", "rsa"} {
		cert, key := lab.pki.path(name+".pem"), lab.pki.path(name+".key")
		patterns := keyPatterns(t, key)
		// The search is good: it finds the key where the library has it.
		if found := searchServer(t, []string{program, cert, key}, patterns); len(found) == 0 {
			t.Errorf("%s: the search finds no key in a program with the real libtls", name)
		}
		if found := searchServer(t, []string{lab.tlswrap, program, cert, key}, patterns); len(found) > 0 {
			t.Errorf("%s: found in the program's memory: %v", name, found)
		}
		if found := searchServer(t, []string{lab.tlswrap, program, cert, key, "clear"}, patterns); len(found) > 0 {
			t.Errorf("%s: found in the program's memory: %v", name, found)
		}
	}
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
