package libtls_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tlswrap/tests/testkit"
)

// The tests of own.c pass under tlswrap, with every C library and with sanitizer builds of the shim.
func TestOwn(t *testing.T) {
	program := compile(t, "own.c", ours()...)
	narrow := filepath.Join(lab.dir, "EM_386")
	type variant struct{ name, program, shim, libraries string }
	variants := []variant{
		{"gcc", program, "", "libtls"},
		{"ubsan", program, "ubsan", "libtls"},
		{"asan", compile(t, "own.c", append(ours(), "-fsanitize=address")...), "asan", "libtls"},
	}
	for _, other := range []struct {
		name, cc, libraries string
		args                []string
	}{
		{"clang", "clang", "libtls", ours()},
		{"musl", "musl-gcc", "libtls", ours()},
		{"i386", cc32, "EM_386", []string{"-L" + narrow, "-l:libtls.so.26"}},
	} {
		without, err := testkit.Without("programs compiled by "+other.cc, other.cc)
		if err != nil {
			t.Fatal(err)
		}
		if !without {
			variants = append(variants, variant{other.name, compileWith(t, other.cc, "own.c", other.args...), "", other.libraries})
		}
	}
	// qemu-i386 cannot stand in for the kernel here: see tests/calls.
	if !testkit.Have(cc32) {
		// Said above.
	} else if can, err := testkit.Kernel32(); err != nil {
		t.Fatal(err)
	} else if !can {
		fmt.Println("libtls: this kernel starts no 32-bit programs: the i386 ones are compiled and not run")
		variants = slices.DeleteFunc(variants, func(v variant) bool { return v.name == "i386" })
	}
	env := func(libraries string) []string {
		return []string{"LD_LIBRARY_PATH=" + filepath.Join(lab.dir, libraries)}
	}
	for name := range strings.FieldsSeq(run(t, env("libtls"), lab.tlswrap, program)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, v := range variants {
				if out := run(t, env(v.libraries), filepath.Join(lab.dir, v.shim, "tlswrap"), v.program, name, lab.pki.dir); out != "" {
					t.Errorf("%s: %s", v.name, out)
				}
			}
		})
	}
}

// tls_load_file tells the program nothing about a key that it cannot decrypt: a person is told.
func TestScryptKey(t *testing.T) {
	out := run(t, nil, lab.tlswrap, compile(t, "own.c", ours()...), "load-scrypt", lab.pki.dir)
	if !strings.HasPrefix(out, "tlswrap: tls_load_file: the private key is of no use: it is encrypted with scrypt,") || strings.Count(out, "\n") != 1 {
		t.Errorf("%q", out)
	}
}

// A gibibyte each way arrives as it was.
func TestMuch(t *testing.T) {
	program := compile(t, "own.c", append(ours(), "-O2")...)
	if out := run(t, []string{"MUCH=1073741824"}, lab.tlswrap, program, "much", lab.pki.dir); out != "" {
		t.Error(out)
	}
}

// Nothing that a context or a configuration held is left when they are freed. valgrind cannot be
// preloaded, so its programs find our libtls by its name, and a session of another's.
func TestValgrind(t *testing.T) {
	env := []string{"LD_LIBRARY_PATH=" + filepath.Join(lab.dir, "libtls"), openSession(t)}
	valgrind := []string{"valgrind", "-q", "--leak-check=full", "--show-leak-kinds=definite,indirect,possible",
		"--errors-for-leak-kinds=definite,indirect,possible", "--error-exitcode=9"}
	silent := func(name string, argv ...string) {
		t.Run(name, func(t *testing.T) {
			if out := run(t, env, append(valgrind, argv...)...); out != "" {
				t.Error(out)
			}
		})
	}
	program := compile(t, "own.c", ours()...)
	for _, name := range []string{"close-notify", "cut-off", "wrong-role", "foreign-keys", "connect", "load-file", "keys-that-are-not-supported", "sessions", "half-a-handshake"} {
		silent(name, program, name, lab.pki.dir)
	}
	silent("ressl", compile(t, "ressl.c", "-L"+filepath.Join(lab.dir, "libtls"), "-l:libressl.so"), lab.pki.dir)
	pair := compile(t, "pair.c", ours()...)
	for _, transport := range []string{"poll", "cbs512"} {
		t.Run(transport, func(t *testing.T) {
			words := goodPair + "s.add=@second.pem+@second.key s.lifetime=3600 s.ticket=1+48 c.alpn=a c.ca_path=@hashed ocsp=@good.ocsp"
			out := run(t, env, append(append(valgrind, pair, transport), expand(words)...)...)
			if strings.Contains(out, "==") || strings.Contains(out, "exit status") || !strings.Contains(out, "intact") {
				t.Error(out)
			}
		})
	}
}

// openSession keeps a session of tlswrap's open until the test ends, and returns what its
// programs have in their environment.
func openSession(t *testing.T) string {
	t.Helper()
	cmd := exec.Command(lab.tlswrap, "sh", "-c", "echo TLSWRAP_CONTROL=$TLSWRAP_CONTROL; read end")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close(); cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
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
