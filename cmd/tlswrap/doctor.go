package main

import (
	"encoding/json"

	"tlswrap/proxy/machine"
)

// runDoctor is tlswrap doctor [--json].
func runDoctor(args []string, std stdio) int {
	var asJSON bool
	f := newFlags("tlswrap doctor")
	f.BoolVar(&asJSON, "json", false, "")
	if status, done := parseFlags(f, args, std); done {
		return status
	}
	if f.NArg() > 0 {
		return complain(std, exitOurs, "usage: tlswrap doctor [--json]")
	}
	report := machine.Look(shim())
	err := error(nil)
	if asJSON {
		err = json.NewEncoder(std.out).Encode(report)
	} else {
		err = report.Print(std.out)
	}
	switch {
	case err != nil:
		return complain(std, exitOurs, "%v", err)
	case !report.Ways.Both():
		return exitBad
	}
	return 0
}

// shim is the library that programs would be preloaded with.
func shim() machine.Library {
	library, err := findLibrary()
	return machine.Library{Path: library, Lost: err}
}

// runAttempt is a process of doctor's or explain's that tries to reach it.
func runAttempt(args []string, _ stdio) int { return machine.Attempt(args) }
