package rules

import (
	"slices"
	"testing"
)

func TestCompletionsAreNamesWithRules(t *testing.T) {
	p, err := Parse("/rules.toml", []byte(`
[[rule]]
host = "passed.x.test"
action = "pass"
[[rule]]
host = "db.test"
[[rule]]
host = "db.lan.test"
port = 5432
[[rule]]
host = "*.x.test"
[[rule]]
host = "*.y.test"
action = "pass"
[[rule]]
host = "*"
action = "deny"
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name         string
		exact, below []string
	}{
		{"db", []string{"db.test", "db.lan.test"}, []string{"db.x.test", "db.a.x.test"}},
		{"d", nil, []string{"d.x.test", "d.a.x.test"}},
		{"db.lan", []string{"db.lan.test"}, []string{"db.lan.x.test", "db.lan.a.x.test"}},
		{"passed", nil, []string{"passed.a.x.test"}},
	} {
		exact, below := p.Completions(c.name, []string{"a.x.test", "y.test", "elsewhere.test"})
		if !slices.Equal(exact, c.exact) || !slices.Equal(below, c.below) {
			t.Errorf("%s: got %v and %v, want %v and %v", c.name, exact, below, c.exact, c.below)
		}
	}
	for name, want := range map[string]bool{"db.test": true, "a.y.test": true, "other": false, "passed.x.test": true} {
		if p.Mentions(name) != want {
			t.Errorf("%s is mentioned: %t", name, !want)
		}
	}
	if p.SameRules("db.test", "db.x.test") || !p.SameRules("a.x.test", "b.x.test") || !p.SameRules("other", "another") {
		t.Error("rules are told apart wrongly")
	}
}
