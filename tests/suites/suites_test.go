package main

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tlswrap/tests/testkit"
)

// The list of differences can be read, and explains what stands in it and nothing else.
func TestDifferencesAreExplained(t *testing.T) {
	known, err := readDifferences()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		test, how string
		want      bool
	}{
		{"test.test_poplib.TestPOP3_SSLClass.test_quit", "failed", true},
		{"test.test_poplib.TestPOP3_SSLClass.test_quit", "hung", false},
		{"test.test_poplib.TestPOP3_TLSClass.test_quit", "died", true},
		{"test.test_poplib.TestPOP3Class.test_quit", "failed", false},
		{"setUpClass (test.test_socket.BasicTCPTest)", "failed", false},
	} {
		if known.explain(c.test, ending{how: c.how}) != c.want {
			t.Errorf("%s, %s: want it explained: %v", c.test, c.how, c.want)
		}
	}
}

// What natively happens too, however seldom, makes no difference unless it happens each time; what natively never
// happens makes one, though not each time.
func TestADifferenceIsSeenMoreThanOnceAndNotNatively(t *testing.T) {
	for _, c := range []struct {
		native, got string
		want        bool
	}{
		{"......", "FFFFFF", true},
		{"......", "F..F..", true},
		{"......", "F.....", false},
		{"......", ".F....", false},
		{"F.....", "......", false},
		{"F.....", "F..F..", false},
		{"F.....", "FFFFFF", true},
		{"F.F...", "FFFFFF", false},
		{"FFFFFF", "FFFFFF", false},
		{"FFFFFF", "......", true},
		{"......", "sFF...", true},
	} {
		endings := func(s string) (all []ending) {
			for _, how := range s {
				all = append(all, ending{how: string(how)})
			}
			return all
		}
		if _, got := (tally{endings(c.native), endings(c.got)}).otherwise(); got != c.want {
			t.Errorf("natively %s, else %s: want a difference: %v", c.native, c.got, c.want)
		}
	}
}

// A test that hangs ends alone, and those behind it are run as they would have been; it is not run where it is to
// be skipped. How the interpreter ends counts as well.
func TestEndings(t *testing.T) {
	prepare := endingsRunner(t)
	for _, c := range []struct {
		names, skip []string
		limit       time.Duration
		want        map[string]string
	}{
		{[]string{"endings.Endings", "endings.Part"}, nil, 5 * time.Second, map[string]string{
			"endings.Endings.test_1_fine": "ok", "endings.Endings.test_2_hangs": "hung", "endings.Endings.test_3_fails": "failed",
			"endings.Endings.test_4_skipped":       "skipped",
			"endings.Part.test_a_leaves_something": "ok", "endings.Part.test_fails_after_another": "failed",
		}},
		{[]string{"endings.Part.test_fails_after_another"}, nil, time.Minute, map[string]string{
			"endings.Part.test_fails_after_another": "ok",
		}},
		{[]string{"endings.Endings"}, []string{"endings.Endings.test_2_hangs", "endings.Endings.test_3_fails"}, time.Minute, map[string]string{
			"endings.Endings.test_1_fine": "ok", "endings.Endings.test_4_skipped": "skipped",
		}},
		{[]string{"endings.Dying"}, nil, time.Minute, map[string]string{
			"endings.Dying.test_1_dies": "died", "endings.Dying.test_2_fine": "ok",
		}},
		{[]string{"endings.Last"}, nil, time.Minute, map[string]string{
			"endings.Last.test_fine": "ok", "the end of endings": "died",
		}},
	} {
		got, err := prepare(c.limit).run(t.Context(), natively, module{name: "endings"}, c.names, c.skip)
		if err != nil {
			t.Fatal(err)
		}
		how := make(map[string]string)
		for test, e := range got {
			how[test] = e.how
		}
		if !maps.Equal(how, c.want) {
			t.Errorf("%s without %s: got %v, want %v", c.names, c.skip, how, c.want)
		}
	}
}

// What hangs natively is left out of the other ways, which would wait for it in vain. A test that ends otherwise in one
// of them fails the whole, also where it does so only in the company of others; not one that is known to, or
// did so once. What ends badly everywhere is no difference.
func TestComparison(t *testing.T) {
	prepare := endingsRunner(t)
	testkit.Need(t, filepath.Join(testkit.Root(), "build", "tlswrap"))
	known := &reasons{all: []*reason{{text: "known", patterns: []pattern{{glob: "endings.Tlswrap.test_known_in_tls", how: "failed"}}}}}
	c, err := prepare(5*time.Second).compare(t.Context(), module{name: "endings"}, known)
	if err != nil {
		t.Fatal(err)
	}
	told := func(all []difference) (tests []string) {
		for _, d := range all {
			tests = append(tests, d.way.String()+": "+strings.TrimPrefix(d.test, "test.endings.Tlswrap."))
		}
		return tests
	}
	if got, want := told(c.unknown), []string{
		"with rules that match nothing: test_always", "with rules that match nothing: test_known_in_tls",
		"with rules that match nothing: test_with_the_others", "in TLS: test_always", "in TLS: test_with_the_others",
	}; !slices.Equal(got, want) {
		t.Errorf("differences: got %q, want %q", got, want)
	}
	if got, want := told(c.seldom), []string{"with rules that match nothing: test_once"}; !slices.Equal(got, want) {
		t.Errorf("seen once: got %q, want %q", got, want)
	}
	if c.known != 1 || known.all[0].tests != 1 {
		t.Errorf("%d are known, by a reason of %d", c.known, known.all[0].tests)
	}
	const hangs = "test.endings.Endings.test_2_hangs"
	if got := [...]string{c.got[natively].of(hangs).how, c.got[unmatched].of(hangs).how, c.got[inTLS].of(hangs).how}; got !=
		[...]string{"hung", "not run", "not run"} {
		t.Errorf("the one that hangs natively: got %q", got)
	}
}

// A test that is known to fail in TLS, and has once taken the interpreter along, is told of.
func TestADeathIsTold(t *testing.T) {
	prepare := endingsRunner(t)
	testkit.Need(t, filepath.Join(testkit.Root(), "build", "tlswrap"))
	const test = "test.endings.Tlswrap.test_known_in_tls"
	known := &reasons{all: []*reason{{text: "known", patterns: []pattern{{glob: strings.TrimPrefix(test, "test."), how: "failed"}}}}}
	died := ending{"died", "signal: aborted"}
	c := &comparison{module: module{name: "endings"}, got: map[way]results{natively: {test: {how: "ok"}}, inTLS: {test: died}}}
	if err := prepare(5*time.Second).differences(t.Context(), inTLS, c, known); err != nil {
		t.Fatal(err)
	}
	if c.known != 1 || len(c.unknown) != 0 || len(c.seldom) != 1 || c.seldom[0].got != died {
		t.Errorf("%d known, unknown %v, seldom %v", c.known, c.unknown, c.seldom)
	}
}

// endingsRunner returns what makes a runner of testdata's tests, with a limit.
func endingsRunner(t *testing.T) func(limit time.Duration) *runner {
	testkit.Need(t, "/usr/bin/python3")
	data, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PYTHONPATH", data)
	t.Setenv("PYTHONDONTWRITEBYTECODE", "1")
	t.Setenv("ENDINGS_DIR", t.TempDir())
	return func(limit time.Duration) *runner {
		r := runner{dir: t.TempDir(), python: "/usr/bin/python3", limit: limit}
		if err := r.prepare(); err != nil {
			t.Fatal(err)
		}
		return &r
	}
}
