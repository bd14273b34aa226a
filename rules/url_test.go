package rules

import "testing"

func TestNoProxyExemptsAPatternAsAWholeOrNotAtAll(t *testing.T) {
	for _, tt := range []struct {
		host, noProxy string
		want          bool
	}{
		{"db.example.test", "", false},
		{"db.example.test", "*", true},
		{"db.example.test", "db.example.test", true},
		{"db.example.test", "localhost, DB.Example.Test", true},
		{"db.example.test", "localhost example.test", true},
		{"db.example.test", ".example.test", true},
		{"db.example.test", "*.example.test.", true},
		{"db.example.test", "a.db.example.test", false},
		{"db.example.test", "b.example.test,example,test.", true}, // test, and what is below it
		{"db.example.test", "b.example.test,example,.,,", false},
		{"db.example.test", "10.0.0.0/8", false},
		{"*.example.test", "example.test", true},
		{"*.example.test", ".test", true},
		{"*.example.test", "db.example.test", false},
		{"*.example.test", "xexample.test", false},
		{"10.1.2.3", "10.1.2.3", true},
		{"10.1.2.3", "10.0.0.0/8", true},
		{"10.1.2.3", "10.1.2.4,1.2.3", false},
		{"10.0.0.0/8", "10.1.2.3", false},
		{"10.0.0.0/8", "10.0.0.1/8", false}, // no network
		{"10.0.0.0/8", "10.0.0.0/8", true},
		{"::1", "[::1]", true},
		{"*", "example.test", false},
		{"*", "*", true},
	} {
		h, err := ParseHost(tt.host)
		if err != nil {
			t.Fatal(err)
		}
		if got := h.InNoProxy(tt.noProxy); got != tt.want {
			t.Errorf("no_proxy=%q exempts %s: %t, want %t", tt.noProxy, tt.host, got, tt.want)
		}
	}
}
