// Package house holds the order of the house: which source files may build on which.
package house

import (
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// No C file calls another that calls it back, by whatever detour: there is an order in which
// the files can be read, each after all that it builds on.
func TestCFilesDoNotCallInCircles(t *testing.T) {
	calls := callsBetween(t, cFiles(t))
	for _, circle := range circles(calls) {
		var lines []string
		for _, from := range circle {
			for _, to := range circle {
				if names := calls[from][to]; len(names) > 0 {
					lines = append(lines, fmt.Sprintf("%s calls %s: %s", from, to, strings.Join(names, ", ")))
				}
			}
		}
		t.Errorf("%d files call each other in circles:\n%s", len(circle), strings.Join(lines, "\n"))
	}
}

func TestCirclesAreFound(t *testing.T) {
	calls := graph{}
	for _, call := range strings.Fields("ab bc ca cd ae de ef fe ga ha") {
		calls.add(call[:1], call[1:], "function")
	}
	got := fmt.Sprint(circles(calls))
	if want := "[[a b c] [e f]]"; got != want {
		t.Errorf("the circles are %s, want %s", got, want)
	}
}

// A graph says which file calls which other, and what there.
type graph map[string]map[string][]string

func (g graph) add(from, to, name string) {
	if g[from] == nil {
		g[from] = map[string][]string{}
	}
	g[from][to] = append(g[from][to], name)
}

// The C files of the shim, as paths from the root.
func cFiles(t *testing.T) []string {
	var files []string
	for _, folder := range []string{"preload", "libtls"} {
		found, err := filepath.Glob(filepath.Join(root, folder, "*.c"))
		if err != nil || len(found) == 0 {
			t.Fatalf("there are no C files in %s (%v)", folder, err)
		}
		for _, file := range found {
			files = append(files, filepath.Join(folder, filepath.Base(file)))
		}
	}
	return files
}

// The calls between files, and what else they take of each other, as the linker would find them.
func callsBetween(t *testing.T, files []string) graph {
	for _, tool := range []string{"gcc", "nm"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("this test needs %s: %v", tool, err)
		}
	}
	definedIn := map[string]string{}
	wanted := map[string][]string{}
	for _, file := range files {
		object := filepath.Join(t.TempDir(), "file.o")
		run(t, "gcc", "-std=gnu17", "-fPIC", "-fvisibility=hidden", "-c", "-o", object, filepath.Join(root, file))
		for line := range strings.Lines(run(t, "nm", "--portability", "--extern-only", object)) {
			name, kind := strings.Fields(line)[0], strings.Fields(line)[1]
			switch kind {
			case "U", "w", "v": // nm(1): undefined, and undefined and weak
				wanted[file] = append(wanted[file], name)
			default:
				if other, twice := definedIn[name]; twice {
					t.Errorf("%s is defined in %s and in %s", name, other, file)
				}
				definedIn[name] = file
			}
		}
	}
	calls := graph{}
	for file, names := range wanted {
		for _, name := range names {
			if other, ours := definedIn[name]; ours {
				calls.add(file, other, name)
			}
		}
	}
	if len(calls) == 0 {
		t.Fatal("nm shows no calls between C files")
	}
	return calls
}

func run(t *testing.T, name string, args ...string) string {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// The groups of files in which each reaches each other.
func circles(calls graph) [][]string {
	reached := map[string]map[string]bool{}
	for file := range calls {
		reached[file] = map[string]bool{}
		calls.follow(file, reached[file])
	}
	var all [][]string
	seen := map[string]bool{}
	for _, file := range slices.Sorted(maps.Keys(calls)) {
		if seen[file] || !reached[file][file] {
			continue
		}
		var circle []string
		for _, other := range slices.Sorted(maps.Keys(reached[file])) {
			if reached[other][file] {
				circle = append(circle, other)
				seen[other] = true
			}
		}
		all = append(all, circle)
	}
	return all
}

// follow adds the files that calls lead to from file.
func (g graph) follow(file string, reached map[string]bool) {
	for next := range g[file] {
		if !reached[next] {
			reached[next] = true
			g.follow(next, reached)
		}
	}
}
