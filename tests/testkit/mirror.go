package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// Mirror is what a Go package has of a C header.
type Mirror struct {
	Header  string         // its path in the project
	Numbers map[string]any // what enumerators and macros are, strings too
	Structs map[string]any // a struct of Go's for each of C's, with the same fields in CamelCase, but for an array without a size
	Others  []string       // enums, structs and macros that are not for this package
}

var (
	comments    = regexp.MustCompile(`(?s)/\*.*?\*/`)
	enums       = regexp.MustCompile(`(?s)\benum (\w+)\s*\{(.*?)\}`)
	enumerators = regexp.MustCompile(`(?m)(?:^|,)\s*([A-Z]\w+)`)
	structs     = regexp.MustCompile(`(?s)\bstruct (\w+)\s*\{(.*?)\n\}`)
	fields      = regexp.MustCompile(`(\w+)(?:\[[^;\]]+\])*\s*[,;]`)
	macros      = regexp.MustCompile(`(?m)^#define (\w+)[ \t]+\S`)
)

// Check compares the two name by name and field by field: all that the header has must have its like in
// Go, and the compilers of all kinds of program that the shim is built for must agree on what it
// is. Nothing is run that they make.
func (m Mirror) Check(t *testing.T) {
	t.Helper()
	root, err := projectRoot()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(root, m.Header))
	if err != nil {
		t.Fatal(err)
	}
	text := comments.ReplaceAllString(string(data), "")
	var asserts strings.Builder
	assert := func(format string, args ...any) {
		claim := fmt.Sprintf(format, args...)
		fmt.Fprintf(&asserts, "_Static_assert(%s, %q);\n", claim, claim)
	}
	number := func(name string) {
		v, ok := m.Numbers[name]
		if text, is := v.(string); is {
			assert("__builtin_strcmp(%s, %q) == 0", name, text)
		} else if ok {
			assert("%s == %d", name, v)
		} else {
			t.Errorf("%s has %s, and the package has nothing like it", m.Header, name)
		}
	}
	for _, e := range enums.FindAllStringSubmatch(text, -1) {
		if slices.Contains(m.Others, e[1]) {
			continue
		}
		for _, n := range enumerators.FindAllStringSubmatch(e[2], -1) {
			number(n[1])
		}
	}
	for _, d := range macros.FindAllStringSubmatch(text, -1) {
		if !slices.Contains(m.Others, d[1]) {
			number(d[1])
		}
	}
	for _, s := range structs.FindAllStringSubmatch(text, -1) {
		if slices.Contains(m.Others, s[1]) {
			continue
		}
		like, ok := m.Structs[s[1]]
		if !ok {
			t.Errorf("%s has struct %s, and the package has nothing like it", m.Header, s[1])
			continue
		}
		of := reflect.TypeOf(like)
		assert("sizeof(struct %s) == %d", s[1], of.Size())
		var have []string
		for i := range of.NumField() {
			f := of.Field(i)
			name := snake(f.Name)
			have = append(have, name)
			assert("offsetof(struct %s, %s) == %d", s[1], name, f.Offset)
			assert("sizeof(((struct %s *)0)->%s) == %d", s[1], name, f.Type.Size())
		}
		for _, f := range fields.FindAllStringSubmatch(s[2], -1) {
			if !slices.Contains(have, f[1]) {
				t.Errorf("struct %s has %s, and its like has not", s[1], f[1])
			}
		}
	}
	source := filepath.Join(t.TempDir(), "mirror.c")
	code := fmt.Sprintf("#include <stddef.h>\n#include %q\n%s", filepath.Join(root, m.Header), asserts.String())
	if err := os.WriteFile(source, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, cc := range []string{"cc", "i686-linux-gnu-gcc", "aarch64-linux-gnu-gcc"} {
		t.Run(cc, func(t *testing.T) {
			Need(t, cc)
			if out, err := exec.Command(cc, "-std=gnu17", "-fsyntax-only", source).CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// snake is a name of Go's as C has it.
func snake(name string) string {
	var b strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// projectRoot is the folder that has go.mod.
func projectRoot() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, err = os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir != filepath.Dir(dir) {
			dir, err = filepath.Dir(dir), nil
		}
	}
	return "", err
}
