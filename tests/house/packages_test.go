package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// floors are the packages that tlswrap is made of, from the top. Each may import what is below its own
// floor: never one above, and never one beside it.
var floors = []string{
	"cmd/tlswrap",
	"proxy proxy/keeper",
	"proxy/outgoing proxy/serving proxy/libtls proxy/supervisor proxy/begin proxy/session/sessiontest",
	"proxy/session proxy/relay proxy/envproxy",
	"proxy/report proxy/libtls/engine proxy/dns proxy/machine",
	"proxy/names proxy/trust proxy/channel proxy/room proxy/tracer proxy/inotify",
	"proxy/guard proxy/upstream proxy/notices",
	"proxy/wire proxy/verdict proxy/inspect",
	"proxy/target proxy/folders proxy/seccomp",
	"proxy/fdio proxy/record proxy/starttls",
	"proxy/buffers proxy/memory proxy/quote proxy/told proxy/thread proxy/process proxy/ocsp rules",
}

func TestImportsPointDown(t *testing.T) {
	floorOf := map[string]int{}
	for i, floor := range floors {
		for dir := range strings.FieldsSeq(floor) {
			floorOf[dir] = i
		}
	}
	found := packages(t)
	for dir := range floorOf {
		if !slices.ContainsFunc(found, func(p goPackage) bool { return p.dir == dir }) {
			t.Errorf("%s is on a floor, and there is no such package", dir)
		}
	}
	for _, p := range found {
		own, listed := floorOf[p.dir]
		if !listed {
			t.Errorf("%s is on no floor", p.dir)
			continue
		}
		for _, other := range p.imports() {
			switch floor, listed := floorOf[other]; {
			case !listed:
				t.Errorf("%s imports %s, which is on no floor", p.dir, other)
			case floor < own:
				t.Errorf("%s imports %s, which is above it", p.dir, other)
			case floor == own:
				t.Errorf("%s imports %s, which is beside it", p.dir, other)
			case strings.HasSuffix(other, "test"):
				t.Errorf("%s imports %s, which is for tests", p.dir, other)
			}
		}
	}
}

// Who reads only what the packages say of themselves finds the one that a question is about.
func TestEveryPackageSaysWhatItIs(t *testing.T) {
	for _, p := range packages(t) {
		name, words := filepath.Base(p.dir), p.comment()
		begins := "Package " + name + " "
		if strings.HasPrefix(p.dir, "cmd/") {
			begins = "Command " + name + " "
		}
		if !strings.HasPrefix(words, begins) || !strings.HasSuffix(strings.TrimSpace(words), ".") {
			t.Errorf("the comment of %s is no whole sentence that begins with %q", p.dir, begins)
		}
	}
}

// A package that is larger says why it is one.
func TestPackagesAreSmall(t *testing.T) {
	const most, ofTheWorker, reason = 1200, 1000, "It is larger than others because "
	for _, p := range packages(t) {
		lines, says := p.lines(), strings.Contains(strings.Join(strings.Fields(p.comment()), " "), reason)
		switch {
		case p.dir == "proxy" && lines >= ofTheWorker:
			t.Errorf("%s has %d lines, want less than %d: what serves connections belongs below it", p.dir, lines, ofTheWorker)
		case lines > most && !says:
			t.Errorf("%s has %d lines, more than %d, and its comment does not say %q", p.dir, lines, most, reason)
		case lines <= most && says:
			t.Errorf("%s has %d lines, which needs no reason", p.dir, lines)
		}
	}
}

// A function is read at once, and called without counting what stands where.
func TestFunctionsOfTheWorkerAreSmall(t *testing.T) {
	const mostLines, mostParameters = 60, 4
	for _, p := range packages(t) {
		if strings.HasPrefix(p.dir, "cmd/") {
			continue
		}
		for _, file := range p.files {
			for _, decl := range file.Decls {
				f, ok := decl.(*ast.FuncDecl)
				if !ok {
					continue
				}
				at := p.set.Position(f.Pos())
				if lines := p.set.Position(f.End()).Line - at.Line + 1; lines > mostLines {
					t.Errorf("%s: %s has %d lines, more than %d", at, f.Name.Name, lines, mostLines)
				}
				if n := f.Type.Params.NumFields(); n > mostParameters {
					t.Errorf("%s: %s has %d parameters, more than %d", at, f.Name.Name, n, mostParameters)
				}
			}
		}
	}
}

// Every C file says first what it is about.
func TestEveryCFileBeginsWithItsSubject(t *testing.T) {
	for _, file := range append(cFiles(t), headers(t)...) {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		comment, _, ended := strings.Cut(string(text), "*/")
		if !ended || !strings.HasPrefix(comment, "/*") || !strings.Contains(comment, ".") {
			t.Errorf("%s does not begin with a comment of whole sentences", file)
		}
	}
}

func headers(t *testing.T) []string {
	var files []string
	for _, folder := range []string{"preload", "libtls"} {
		found, err := filepath.Glob(filepath.Join(root, folder, "*.h"))
		if err != nil || len(found) == 0 {
			t.Fatalf("there are no headers in %s (%v)", folder, err)
		}
		for _, file := range found {
			files = append(files, filepath.Join(folder, filepath.Base(file)))
		}
	}
	return files
}

// A goPackage is a package without its tests, for every kind of machine.
type goPackage struct {
	dir   string // from the root
	files []*ast.File
	set   *token.FileSet
}

// packages are those that tlswrap is made of.
func packages(t *testing.T) []goPackage {
	t.Helper()
	var all []goPackage
	for _, top := range []string{"cmd", "proxy", "rules"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return err
			}
			dir, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			p := goPackage{dir: dir, set: token.NewFileSet()}
			sources, err := filepath.Glob(filepath.Join(path, "*.go"))
			for _, source := range sources {
				if strings.HasSuffix(source, "_test.go") {
					continue
				}
				file, err := parser.ParseFile(p.set, source, nil, parser.ParseComments)
				if err != nil {
					return err
				}
				p.files = append(p.files, file)
			}
			if len(p.files) > 0 {
				all = append(all, p)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// imports are the packages of this module that it imports.
func (p goPackage) imports() []string {
	var all []string
	for _, file := range p.files {
		for _, spec := range file.Imports {
			if dir, ours := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), "tlswrap/"); ours {
				all = append(all, dir)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// comment is what stands before the package clause.
func (p goPackage) comment() string {
	var all strings.Builder
	for _, file := range p.files {
		fmt.Fprint(&all, file.Doc.Text())
	}
	return all.String()
}

func (p goPackage) lines() int {
	n := 0
	for _, file := range p.files {
		n += p.set.File(file.FileStart).LineCount()
	}
	return n
}
