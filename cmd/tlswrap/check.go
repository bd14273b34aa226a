package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

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
	surely, reminders := 0, 0
	for _, w := range policy.Lint() {
		fmt.Fprintln(std.out, w)
		if w.Meant {
			reminders++
		} else {
			surely++
		}
	}
	if surely > 0 {
		return exitBad
	}
	verdict := "nothing wrong"
	if reminders > 0 {
		verdict = count(reminders, "reminder")
	}
	fmt.Fprintf(std.out, "%s: %s, %s\n", file, contents(policy), verdict)
	return 0
}

// contents says how many tables of each kind a policy has.
func contents(p *rules.Policy) string {
	said := []string{}
	if len(p.Rules) > 0 || len(p.Listens) == 0 {
		said = append(said, count(len(p.Rules), "rule"))
	}
	if len(p.Listens) > 0 {
		said = append(said, count(len(p.Listens), "listen"))
	}
	return strings.Join(said, " and ")
}

// count is a number of things, for people.
func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
