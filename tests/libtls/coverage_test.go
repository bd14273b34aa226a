package libtls_test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"tlswrap/tests/testkit"
)

// The programs of these tests call every function that is exported. The dynamic linker tells:
// with lazy binding it looks a function up at the first call (LD_DEBUG in ld.so(8)).
func TestEveryFunctionIsCalled(t *testing.T) {
	dir := t.TempDir()
	env := []string{"LD_LIBRARY_PATH=" + filepath.Join(lab.dir, "libtls"), "LD_DEBUG=bindings", "LD_DEBUG_OUTPUT=" + filepath.Join(dir, "bindings")}
	lazy := []string{"-Wl,-z,lazy"}
	pair := compile(t, "pair.c", append(ours(), lazy...)...)
	own := compile(t, "own.c", append(ours(), lazy...)...)
	ressl := compile(t, "ressl.c", append([]string{"-L" + filepath.Join(lab.dir, "libtls"), "-l:libressl.so"}, lazy...)...)

	runs := [][]string{{ressl, lab.pki.dir}}
	for name := range strings.FieldsSeq(run(t, env[:1], lab.tlswrap, own)) {
		runs = append(runs, []string{own, name, lab.pki.dir})
	}
	for _, transport := range []string{"poll", "fds", "cbs512"} {
		runs = append(runs, append([]string{pair, transport}, expand(comparisons["plain"])...))
	}
	for _, words := range comparisons {
		runs = append(runs, append([]string{pair, "poll"}, expand(words)...))
	}
	var group sync.WaitGroup
	queue := make(chan []string)
	for range 4 {
		group.Go(func() {
			for argv := range queue {
				run(t, env, append([]string{lab.tlswrap}, argv...)...)
			}
		})
	}
	for _, argv := range runs {
		queue <- argv
	}
	close(queue)
	group.Wait()

	called := make(map[string]bool)
	binding := regexp.MustCompile("binding file \\S+/(?:own|pair|ressl) .* symbol `((?:tls|ressl)_\\w+)'")
	logs, _ := filepath.Glob(filepath.Join(dir, "bindings.*"))
	for _, log := range logs {
		for _, match := range binding.FindAllStringSubmatch(string(readFile(t, log)), -1) {
			called[match[1]] = true
		}
	}
	text, err := os.ReadFile(filepath.Join(testkit.Root(), "preload", "exports.list"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for name := range strings.FieldsSeq(string(text)) {
		if !strings.HasPrefix(name, "tls_") && !strings.HasPrefix(name, "ressl_") {
			continue
		}
		if n++; !called[name] {
			t.Errorf("%s is called by no test", name)
		}
	}
	if n != 94+32 {
		t.Errorf("%d functions are exported, not 126: %v", n, slices.Sorted(maps.Keys(called)))
	}
}
