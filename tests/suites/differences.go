package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
)

// comparison is how a module's tests end in every way.
type comparison struct {
	module
	got     map[way]results
	known   int          // of the differences in TLS
	unknown []difference // which make all of it fail
	seldom  []difference // what was seen, and is no difference as far as could be found out
}

// difference is a test that ends otherwise than natively.
type difference struct {
	way
	test        string
	native, got ending
}

func (d difference) String() string {
	return fmt.Sprintf("%s %s: %s natively, %s", d.test, d.way, d.native, d.got)
}

func (c *comparison) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s natively", c.name, c.got[natively])
	for _, w := range ways[1:] {
		otherwise := 0
		for _, d := range c.unknown {
			if d.way == w {
				otherwise++
			}
		}
		fmt.Fprintf(&b, "; %s ", w)
		switch {
		case otherwise > 0:
			fmt.Fprintf(&b, "%d OTHERWISE", otherwise)
		case w == inTLS && c.known > 0:
			fmt.Fprintf(&b, "%d otherwise, as is known", c.known)
		default:
			b.WriteString("the same")
		}
	}
	for _, test := range c.got[natively].bad() {
		fmt.Fprintf(&b, "\n  natively: %s: %s", test, c.got[natively][test])
	}
	for _, d := range c.seldom {
		fmt.Fprintf(&b, "\n  not always: %s", d)
	}
	return b.String()
}

// compare runs a module's tests in every way. What hangs natively, twice, hangs for as long as it is let in every
// other way too, and is left out of those.
func (r *runner) compare(ctx context.Context, m module, known *reasons) (*comparison, error) {
	c := &comparison{module: m, got: make(map[way]results)}
	native, err := r.run(ctx, natively, m, nil, nil)
	if err != nil {
		return nil, err
	}
	if hung := native.hung(); len(hung) > 0 {
		again, err := r.run(ctx, natively, m, hung, nil)
		if err != nil {
			return nil, err
		}
		maps.Copy(native, again)
	}
	c.got[natively] = native
	for _, w := range ways[1:] {
		if c.got[w], err = r.run(ctx, w, m, nil, native.hung()); err != nil {
			return nil, err
		}
		if err := r.differences(ctx, w, c, known); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// repeats is how often a doubtful test is run by itself, each way.
const repeats = 5

// tally is how a test has ended each time, natively and in a way.
type tally struct{ native, got []ending }

// otherwise returns how the test ends in its way and natively does not. Tests are about who is faster, too, and a
// machine has other things to do: what was seen once is not believed. What natively was never seen has to be seen
// twice; each time that it was takes four times more, so that a test that now and then fails by itself makes no
// difference, and one that always fails in a way does.
func (t tally) otherwise() (got ending, ok bool) {
	count := func(all []ending, how string) (n int) {
		for _, e := range all {
			if e.how == how {
				n++
			}
		}
		return n
	}
	for _, e := range t.got {
		if count(t.got, e.how) >= 2+4*count(t.native, e.how) {
			return e, true
		}
	}
	return ending{}, false
}

// differences adds to c the tests that end otherwise in a way than natively. Doubtful is a test that has ended
// otherwise, or badly in both. It is run by itself, and where it then ends as natively once more with all of
// its module, since what a test finds may have been left by one before it.
func (r *runner) differences(ctx context.Context, w way, c *comparison, known *reasons) error {
	native, got := c.got[natively], c.got[w]
	tests := make(map[string]*tally)
	var alone []string // those that can be run by themselves
	for _, test := range slices.Sorted(maps.Keys(merged(native, got))) {
		n, g := native.of(test), got.of(test)
		switch {
		case n.how == "hung", n.how == g.how && (n.how == "ok" || n.how == "skipped"):
			continue
		case n.how != g.how && w == inTLS && known.explain(test, g):
			c.known++
			continue
		}
		tests[test] = &tally{[]ending{n}, []ending{g}}
		if !strings.Contains(test, " ") { // "setUpClass (name)"
			alone = append(alone, test)
		}
	}
	again := func(names []string) error {
		n, err := r.run(ctx, natively, c.module, names, native.hung())
		if err != nil {
			return err
		}
		g, err := r.run(ctx, w, c.module, names, native.hung())
		if err != nil {
			return err
		}
		for test, t := range tests {
			if names == nil || slices.Contains(names, test) {
				t.native, t.got = append(t.native, n.of(test)), append(t.got, g.of(test))
			}
		}
		return nil
	}
	if len(alone) > 0 {
		for range repeats {
			if err := again(alone); err != nil {
				return err
			}
		}
	}
	for test, t := range tests {
		if _, ok := t.otherwise(); !ok && native.of(test).how != got.of(test).how {
			if err := again(nil); err != nil {
				return err
			}
			break
		}
	}
	for _, test := range slices.Sorted(maps.Keys(tests)) {
		n, first := native.of(test), got.of(test)
		g, ok := tests[test].otherwise()
		switch {
		case ok && w == inTLS && known.explain(test, g):
			c.known++
		case ok:
			c.unknown = append(c.unknown, difference{w, test, n, g})
			continue
		default:
			g = n
		}
		if first.how != g.how {
			c.seldom = append(c.seldom, difference{w, test, n, first})
		}
	}
	return nil
}

// merged has the tests of both.
func merged(a, b results) results {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// reasons are why tests end otherwise with client and server in TLS.
type reasons struct {
	sync.Mutex
	all []*reason
}

type reason struct {
	text     string
	patterns []pattern
	tests    int
}

type pattern struct {
	glob string // path.Match
	how  string
	used bool
}

//go:embed differences.txt
var differencesText []byte

// readDifferences reads differences.txt: after a line "# reason" stand the tests, as patterns of path.Match, with how
// they end where they do not just fail.
func readDifferences() (*reasons, error) {
	var known reasons
	lines := bufio.NewScanner(bytes.NewReader(differencesText))
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		if text, ok := strings.CutPrefix(line, "# "); ok {
			known.all = append(known.all, &reason{text: text})
			continue
		}
		if line == "" {
			continue
		}
		glob, how, _ := strings.Cut(line, " ")
		if _, err := path.Match(glob, ""); err != nil || len(known.all) == 0 {
			return nil, fmt.Errorf("differences.txt:%d: %w", number, errors.Join(err, errors.New("no pattern below a reason")))
		}
		last := known.all[len(known.all)-1]
		last.patterns = append(last.patterns, pattern{glob: glob, how: cmp.Or(how, "failed")})
	}
	return &known, lines.Err()
}

// explain notes that a test is known to end so, if it is.
func (known *reasons) explain(test string, got ending) bool {
	known.Lock()
	defer known.Unlock()
	name := strings.TrimPrefix(test, "test.")
	for _, r := range known.all {
		for i := range r.patterns {
			if ok, _ := path.Match(r.patterns[i].glob, name); ok && r.patterns[i].how == got.how {
				r.patterns[i].used = true
				r.tests++
				return true
			}
		}
	}
	return false
}

// tell prints how many tests each reason explains.
func (known *reasons) tell() {
	for _, r := range known.all {
		if r.tests > 0 {
			fmt.Printf("in TLS, %d: %s\n", r.tests, r.text)
		}
	}
}

// tellUnused prints what is listed and ends as natively.
func (known *reasons) tellUnused() {
	for _, r := range known.all {
		for _, p := range r.patterns {
			if !p.used {
				fmt.Printf("listed and not different: %s\n", p.glob)
			}
		}
	}
}
