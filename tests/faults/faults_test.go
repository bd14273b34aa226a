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
	w := walk{scenarios: named("connects", "listens"), parts: []part{shim}, few: true, lanes: 8, out: &said}
	w.check(t, &said, 40)
}

// TestCallsThatTheWorkerMakesInAProgramsPlace are those about other processes: where one fails there is no shim
// to fall back to.
func TestCallsThatTheWorkerMakesInAProgramsPlace(t *testing.T) {
	testkit.Need(t, "make", "gcc", "addr2line")
	var said strings.Builder
	w := walk{scenarios: named("static/connects", "static/waits_with_epoll", "static/listens"), parts: []part{start, worker}, few: true, lanes: 8, out: &said,
		calls: []string{"seccomp", "pidfd_getfd", "process_vm_readv", "process_vm_writev", "pidfd_open", "kcmp"}}
	w.check(t, &said, 10)
}

// check walks, and finds nothing wrong with at least so many faults.
func (w *walk) check(t *testing.T, said *strings.Builder, least int) {
	t.Helper()
	faults, err := w.walk(t.Context())
	if err == errNoTrace {
		fmt.Println("no call was made to fail:", err)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if faults > 0 || w.runs < least || w.missed > w.runs/4 {
		t.Errorf("%s", said.String())
	}
	if testing.Verbose() {
		fmt.Fprint(os.Stdout, said.String())
	}
}
