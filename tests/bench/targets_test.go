package main

import (
	"errors"
	"strings"
	"testing"
)

// measured has two contenders, whose medians are 3 and 4, and 10 and 5.
func measured() results {
	return results{"work": {
		byTLSWrap: {values: []series{{2, 3, 9}, {10}}},
		byStunnel: {values: []series{{4}, {5, 5}}},
		byOpenSSL: {values: []series{{1}, {1}}, err: errors.New("no more")},
	}}
}

func TestFiguresAreRatiosAndDifferencesOfMedians(t *testing.T) {
	for name, c := range map[string]struct {
		of   figure
		want float64
	}{
		"speed":   {times("work", byStunnel, speed), 0.75},
		"cost":    {times("work", byStunnel, cost), 2},
		"reverse": {ratio("work", byStunnel, byTLSWrap, cost), 0.5},
		"plain":   {plain("work", byTLSWrap), 3},
	} {
		if v, ok := c.of(measured()); !ok || v != c.want {
			t.Errorf("%s is %v (%v), want %v", name, v, ok, c.want)
		}
	}
	r := results{"passed": {byTLSWrap: {values: []series{{21}}}, byPlaintext: {values: []series{{19}}}}}
	if v, ok := more("passed", byTLSWrap, byPlaintext)(r); !ok || v != 2 {
		t.Errorf("more is %v (%v), want 2", v, ok)
	}
}

func TestNothingIsSaidOfWhatWasNotMeasured(t *testing.T) {
	for name, f := range map[string]figure{
		"other work":       times("other", byStunnel, speed),
		"other contender":  times("work", byPlaintext, speed),
		"failed contender": times("work", byOpenSSL, speed),
		"other unit":       ratio("work", byTLSWrap, byStunnel, 2),
	} {
		if v, ok := f(measured()); ok {
			t.Errorf("%s gave %v", name, v)
		}
	}
}

func TestABoundIsKeptByWhatReachesIt(t *testing.T) {
	for _, c := range []struct {
		bound bound
		v     float64
		want  string
	}{
		{atLeast, 2, ">= 2\tmet"},
		{atLeast, 1.99, ">= 2\tNOT met"},
		{atMost, 2, "<= 2\tmet"},
		{atMost, 2.01, "<= 2\tNOT met"},
		{compare, 9, "\tfor comparison"},
	} {
		if got := (target{bound: c.bound, limit: 2}).judge(c.v); got != c.want {
			t.Errorf("bound %d of 2: %v is %q, want %q", c.bound, c.v, got, c.want)
		}
	}
}

// A name that is written differently in one place would leave its target out of every run.
func TestEveryTargetIsAboutWhatIsMeasured(t *testing.T) {
	l := &lab{effort: thorough, maxFiles: 1e6}
	r := make(results)
	for i, w := range l.works() {
		if w.name != workNames[i] {
			t.Errorf("work %d is %q, -only knows %q", i, w.name, workNames[i])
		}
		r[w.name] = make(outcomes)
		for _, c := range w.contenders {
			values := make([]series, len(w.units))
			for i := range values {
				values[i] = series{1}
			}
			r[w.name][c.name] = &outcome{values: values}
		}
	}
	for _, g := range l.targets() {
		if _, ok := g.reached(r); !ok {
			t.Errorf("%q (%s) is about nothing that is measured", g.what, g.unit)
		}
	}
	var out strings.Builder
	r.printTargets(&out, l.targets())
	if lines := strings.Count(out.String(), "\n"); lines != len(l.targets())+2 {
		t.Errorf("%d lines for %d targets:\n%s", lines, len(l.targets()), out.String())
	}
}

func TestIdleConnectionsAreAsManyAsTheDescriptorsAllow(t *testing.T) {
	for limit, want := range map[uint64]int{20000: 9523, 105000: 50000, 1e6: 50000} {
		if got := (&lab{maxFiles: limit}).fitting(50000); got != want {
			t.Errorf("%d of 50000 connections fit into %d descriptors, want %d", got, limit, want)
		}
	}
}

func TestAPlotHasABlockForEachContender(t *testing.T) {
	p := make(points)
	p.add(byTLSWrap, 1, 10, 3)
	p.add(byTLSWrap, 1, 30, 5)
	p.add(byTLSWrap, 2, 40, 1)
	p.add(byStunnel, 2, 7, 8)
	want := "# tlswrap\n1 20 4\n2 40 1\n\n\n# own OpenSSL\n\n\n# stunnel\n2 7 8\n\n\n# plaintext\n\n\n"
	if got := string(p.data([]int{1, 2})); got != want {
		t.Errorf("data is\n%q, want\n%q", got, want)
	}
}

func TestSpeedAndCostOfManyReplies(t *testing.T) {
	s := steady{requests: 1000, cpu: 2} // a second
	if us := s.perRequest(); us != 2000 {
		t.Errorf("%v µs a request, want 2000", us)
	}
	if speed, cost := s.bulk(2e6); speed != 2000 || cost != 1 {
		t.Errorf("%v MB/s at %v s/GB, want 2000 at 1", speed, cost)
	}
}
