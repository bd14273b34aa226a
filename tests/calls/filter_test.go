package calls

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tlswrap/tests/testkit"
)

// filterOf names the variants whose programs also run under a filter that refuses calls without the
// cookie, and the variant that the filter is compiled as. Sanitizers make calls of their own.
var filterOf = map[string]string{"gcc": "gcc", "musl": "gcc", "i386": "i386"}

// unfiltered are the families in which libc itself makes such calls, or which start programs with more
// rights, which a filter takes.
var unfiltered = []string{"names", "sunrpc", "exec"}

func (p *program) filtered() bool {
	return filterOf[p.variant.name] != "" && !slices.Contains(unfiltered, p.family)
}

func (b *bench) filterFile(variant string) string {
	return filepath.Join(b.dir, filterOf[variant], "filter")
}

// makeFilters compiles filter.c for each kind of machine.
func (b *bench) makeFilters() error {
	source := filepath.Join(testkit.Root(), "tests", "calls", "programs", "filter.c")
	for _, v := range variants {
		if filterOf[v.name] != v.name {
			continue
		}
		if err := testkit.Tool(v.cc[0], "-O2", "-Wall", "-Wextra", "-Werror", "-o", b.filterFile(v.name), source); err != nil {
			return err
		}
	}
	return nil
}

// filter is what comes before the program on its command line. musl's own sendmsg and sendmmsg
// are called, without the cookie (preload/next.c).
func (p *program) filter() []string {
	argv := []string{shared.filterFile(p.variant.name)}
	if p.variant.name == "musl" {
		argv = append(argv, "--but-messages")
	}
	return argv
}

// Every call that has to carry the cookie does, by libc's function and by syscall(2), and one by a
// program that is not preloaded does not: the filter sees what it is there for.
func TestCallsCarryTheCookie(t *testing.T) {
	const control = "TLSWRAP_CONTROL=1:0:00112233445566778899aabbccddeeff:@tlswrap-nobody"
	var want []string
	for name := range strings.FieldsSeq("accept4 bind connect getpeername getsockname getsockopt listen sendmmsg sendmsg sendto setsockopt") {
		want = append(want, name, "SYS_"+name)
	}
	want = append(want, "accept")
	slices.Sort(want)
	for _, v := range variants {
		if filterOf[v.name] != v.name {
			continue
		}
		t.Run(v.name, func(t *testing.T) {
			p := &program{variant: v}
			if narrow, err := p.narrow(""); err != nil {
				t.Fatal(err)
			} else if len(narrow) > 0 {
				testkit.KernelLacks(t, "it starts no 32-bit programs")
			}
			refused := func(env ...string) []string {
				cmd := exec.Command(shared.filterFile(v.name))
				cmd.Env = append(env, control)
				var stderr strings.Builder // where a person is told that there is no worker
				cmd.Stderr = &stderr
				out, err := cmd.Output()
				if err != nil {
					t.Fatalf("%v: %s%s", err, out, &stderr)
				}
				names := strings.Fields(string(out))
				slices.Sort(names)
				return names
			}
			want := want
			if v.is32() { // by socketcall(2), where it cannot be seen whether there is an address
				want = slices.DeleteFunc(slices.Clone(want), func(name string) bool { return name == "sendto" })
			}
			if got := refused(); !slices.Equal(got, want) {
				t.Errorf("without the shim these are refused: %v, want %v", got, want)
			}
			if got := refused("LD_PRELOAD=" + p.library()); len(got) > 0 {
				t.Errorf("the shim makes these without the cookie: %v", got)
			}
		})
	}
}
