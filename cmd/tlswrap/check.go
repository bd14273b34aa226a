package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"tlswrap/rules"
)

// runCheck is tlswrap check [--builtin] [FILE].
func runCheck(args []string, std stdio) int {
	var o options
	var builtin bool
	f := newFlags("tlswrap check")
	f.BoolVar(&builtin, "builtin", false, "")
	f.StringVar(&o.rules, "rules", "", "")
	if status, done := parseFlags(f, args, std); done {
		return status
	}
	if builtin {
		fmt.Fprint(std.out, rules.BuiltinText())
		return 0
	}
	if f.NArg() > 1 || (f.NArg() == 1 && o.rules != "") {
		return complain(std, exitOurs, "usage: tlswrap check [--builtin] [FILE]")
	}
	if f.NArg() == 1 {
		o.rules = f.Arg(0)
	}
	file, err := o.findRules()
	if err != nil {
		return complain(std, exitOurs, "%v", err)
	}
	if file == "" {
		fmt.Fprintln(std.out, "no rules file: the built-in profile counts (tlswrap check --builtin prints it)")
		return 0
	}
	if file, err = filepath.Abs(file); err != nil {
		return complain(std, exitOurs, "%v", err)
	}
	policy, err := rules.Load(file)
	if mistakes, ok := errors.AsType[rules.Errors](err); ok {
		fmt.Fprintln(std.out, mistakes)
		return exitBad
	}
	if err != nil {
		return complain(std, exitOurs, "%v", err)
	}
	if warnings := policy.Lint(); len(warnings) > 0 {
		for _, w := range warnings {
			fmt.Fprintln(std.out, w)
		}
		return exitBad
	}
	number := fmt.Sprintf("%d rules", len(policy.Rules))
	if len(policy.Rules) == 1 {
		number = "1 rule"
	}
	fmt.Fprintf(std.out, "%s: %s, nothing wrong\n", file, number)
	return 0
}
