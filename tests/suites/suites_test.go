package main

import "testing"

// The list of differences can be read, and explains what stands in it and nothing else.
func TestDifferencesAreExplained(t *testing.T) {
	known, err := readDifferences()
	if err != nil {
		t.Fatal(err)
	}
	for test, want := range map[string]bool{
		"test.test_poplib.TestPOP3_SSLClass.test_quit": true,
		"test.test_poplib.TestPOP3Class.test_quit":     false,
		"setUpClass (test.test_socket.BasicTCPTest)":   false,
	} {
		if known.explain(difference{test: test}) != want {
			t.Errorf("%s: want it explained: %v", test, want)
		}
	}
}
