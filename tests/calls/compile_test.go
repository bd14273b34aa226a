package calls

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"tlswrap/tests/testkit"
)

// program is a family as one variant has it.
type program struct {
	family   string
	variant  variant
	path     string
	compiled func() ([]listed, error) // makes it, once for all variants of its compiler, and what it needs: the tests that it says it has
}

type listed struct {
	name  string
	where []string
}

// compilers are how many compilers run at the same time.
var compilers = make(chan struct{}, runtime.NumCPU())

// compileLater has each program compiled by the first of its tests: most of the others wait for something
// meanwhile.
func (b *bench) compileLater() error {
	made := make(map[string]*program) // by compiler and family
	for _, v := range variants {
		if err := os.Mkdir(filepath.Join(b.dir, v.name), 0o755); err != nil {
			return err
		}
		for _, family := range families {
			if v.leavesOut(family) {
				continue
			}
			p := &program{family: family, variant: v, path: filepath.Join(b.dir, v.name, family)}
			b.programs[v.name+"/"+family] = p
			same := strings.Join(append(slices.Clone(v.cc), family), " ")
			if first := made[same]; first != nil {
				p.path, p.compiled = first.path, first.compiled
				continue
			}
			made[same] = p
			p.compiled = sync.OnceValues(func() ([]listed, error) {
				compilers <- struct{}{}
				defer func() { <-compilers }()
				if err := p.compile(); err != nil {
					return nil, err
				}
				return p.list()
			})
		}
	}
	return nil
}

func (p *program) compile() error {
	v, dir := p.variant, filepath.Dir(p.path)
	sources := []string{filepath.Join(testkit.Root(), "tests", "calls", "programs", p.family+".c")}
	args := append(slices.Clone(v.cc[1:]), "-O2", "-Wall", "-Wextra", "-Werror", "-pthread")
	libraries := filepath.Join(testkit.Root(), "tests", "calls", "programs", "lib"+p.family+".c")
	if _, err := os.Stat(libraries); err == nil {
		library := filepath.Join(dir, "lib"+p.family+".so")
		if err := testkit.Tool(v.cc[0], append(slices.Clone(args), "-shared", "-fPIC", "-o", library, libraries)...); err != nil {
			return err
		}
		args = append(args, "-Wl,-rpath,"+dir)
		sources = append(sources, library)
	}
	if p.family == "exec" {
		if err := v.makeHelpers(dir); err != nil {
			return err
		}
	}
	return testkit.Tool(v.cc[0], append(append(args, "-o", p.path), sources...)...)
}

// makeHelpers makes what exec.c starts, beside it.
func (v variant) makeHelpers(dir string) error {
	empty, main := filepath.Join(dir, "empty.c"), filepath.Join(dir, "main.c")
	return errors.Join(
		os.WriteFile(empty, []byte("int own_preload = 1;\n"), 0o644),
		os.WriteFile(main, []byte("int main(void) { return 0; }\n"), 0o644),
		os.WriteFile(filepath.Join(dir, "text"), []byte("exit 7\n"), 0o755),
		os.WriteFile(filepath.Join(dir, "text-without-x"), []byte("exit 7\n"), 0o644),
		os.WriteFile(filepath.Join(dir, "script"), []byte("#!/bin/sh\nexec \"$@\"\n"), 0o755),
		testkit.Tool(v.cc[0], "-shared", "-fPIC", "-o", filepath.Join(dir, "own.so"), empty),
		testkit.Tool(v.cc[0], "-static", "-o", filepath.Join(dir, "static"), main),
		testkit.Tool(v.cc[0], "-static", "-w", "-pthread", "-o", filepath.Join(dir, "static-exec"), filepath.Join(testkit.Root(), "tests", "calls", "programs", "exec.c")),
	)
}

// list asks a program which tests it has.
func (p *program) list() (tests []listed, err error) {
	narrow, err := p.narrow("")
	if err != nil {
		return nil, err
	}
	argv := append(narrow, p.path, "--list")
	list := exec.Command(argv[0], argv[1:]...)
	list.Env = []string{asanOptions}
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("%s --list: %w", p.path, err)
	}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		tests = append(tests, listed{words[0], words[1:]})
	}
	return tests, nil
}
