package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"tlswrap/tests/testkit"
)

// TestEveryCallOfTheShim is a small part of what make test-faults does: each call that the shim
// makes while a program connects, or listens, fails once.
func TestEveryCallOfTheShim(t *testing.T) {
	testkit.Need(t, "make", "gcc", "addr2line")
	var said strings.Builder
	w := walk{scenarios: []string{"connects", "listens"}, parts: []part{shim}, few: true, lanes: 8, out: &said}
	faults, err := w.walk(t.Context())
	if err == errNoNotify {
		fmt.Println("no call was made to fail:", err)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if faults > 0 || w.runs < 40 || w.missed > w.runs/4 {
		t.Errorf("%s", said.String())
	}
	if testing.Verbose() {
		fmt.Fprint(os.Stdout, said.String())
	}
}
