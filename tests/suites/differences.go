package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// difference is a test that ends otherwise than natively.
type difference struct {
	way
	module
	test        string
	native, got ending
}

// repeats is how often a test that has ended otherwise is run by itself, each way: what tells a difference from
// a test that is about who is faster.
const repeats = 3

// differences are the tests that have ended otherwise than natively, and do so each time by themselves. Those that
// do so sometimes are told of.
func (r *runner) differences(ctx context.Context, w way, m module, native, got results) (all []difference, err error) {
	for test, e := range got {
		if n, ok := native[test]; e.how != n.how {
			if !ok {
				n.how = "not run"
			}
			all = append(all, difference{w, m, test, n, e})
		}
	}
	for test, n := range native {
		if _, ok := got[test]; !ok {
			all = append(all, difference{w, m, test, n, ending{how: "not run"}})
		}
	}
	slices.SortFunc(all, func(a, b difference) int { return strings.Compare(a.test, b.test) })
	var tests []string
	for _, d := range all {
		if !strings.Contains(d.test, " ") && d.got.how != "hung" { // "setUpClass (name)"
			tests = append(tests, d.test)
		}
	}
	again := make(map[string]int)
	for range repeats {
		n, err := r.run(ctx, natively, m, tests)
		if err != nil {
			return nil, err
		}
		g, err := r.run(ctx, w, m, tests)
		if err != nil {
			return nil, err
		}
		for _, test := range tests {
			if g[test].how != n[test].how {
				again[test]++
			}
		}
	}
	return slices.DeleteFunc(all, func(d difference) bool {
		always := !slices.Contains(tests, d.test) || again[d.test] == repeats
		if !always && again[d.test] > 0 {
			fmt.Printf(" [%s %s, sometimes: %s]", d.test, w, d.got)
		}
		return !always
	}), nil
}

// reason is why tests end otherwise with client and server in TLS.
type reason struct {
	text     string
	patterns []pattern
	tests    int
}

type pattern struct {
	glob string // path.Match
	used bool
}

type reasons []*reason

//go:embed differences.txt
var differencesText []byte

// readDifferences reads differences.txt: after a line "# reason" stand the tests, as patterns of path.Match.
func readDifferences() (all reasons, err error) {
	lines := bufio.NewScanner(bytes.NewReader(differencesText))
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		if text, ok := strings.CutPrefix(line, "# "); ok {
			all = append(all, &reason{text: text})
			continue
		}
		if line == "" {
			continue
		}
		if _, err := path.Match(line, ""); err != nil || len(all) == 0 {
			return nil, fmt.Errorf("differences.txt:%d: %w", number, errors.Join(err, errors.New("no pattern below a reason")))
		}
		last := all[len(all)-1]
		last.patterns = append(last.patterns, pattern{glob: line})
	}
	return all, lines.Err()
}

// explain notes that d is a known difference, if it is.
func (all reasons) explain(d difference) bool {
	name := strings.TrimPrefix(d.test, "test.")
	for _, r := range all {
		for i := range r.patterns {
			if ok, _ := path.Match(r.patterns[i].glob, name); ok {
				r.patterns[i].used = true
				r.tests++
				return true
			}
		}
	}
	return false
}

// tell prints how many tests each reason explains.
func (all reasons) tell() {
	for _, r := range all {
		if r.tests > 0 {
			fmt.Printf("in TLS, %d: %s\n", r.tests, r.text)
		}
	}
}

// tellUnused prints what is listed and ends as natively.
func (all reasons) tellUnused() {
	for _, r := range all {
		for _, p := range r.patterns {
			if !p.used {
				fmt.Printf("listed and not different: %s\n", p.glob)
			}
		}
	}
}
