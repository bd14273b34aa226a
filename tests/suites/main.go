// Command suites runs those tests of CPython's that are about sockets, HTTP and mail, under tlswrap and without it.
// With rules that match nothing each has to end as it does without; with client and server both in TLS, each that
// ends otherwise has to stand in differences.txt, with the reason.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// modules are of Python's package "test". Some want a resource to be named that they use, which is the
// network, and that is this machine's own.
var modules = []module{
	{name: "test_socket"}, {name: "test_socketserver", resource: "network"}, {name: "test_select"}, {name: "test_selectors"},
	{name: "test_poll"}, {name: "test_epoll"}, {name: "test_asyncio"}, {name: "test_asyncore"}, {name: "test_asynchat"},
	{name: "test_httplib"}, {name: "test_httpservers"}, {name: "test_urllib"}, {name: "test_urllib2_localnet"},
	{name: "test_wsgiref"}, {name: "test_xmlrpc"}, {name: "test_docxmlrpc"},
	{name: "test_smtplib"}, {name: "test_smtpd"}, {name: "test_poplib"}, {name: "test_imaplib"}, {name: "test_nntplib"},
	{name: "test_ftplib"}, {name: "test_telnetlib"}, {name: "test_ssl"},
}

type module struct{ name, resource string }

func main() {
	flags := flag.NewFlagSet("suites", flag.ExitOnError)
	only := flags.String("only", "", "comma-separated `modules` instead of all: "+names())
	python := flags.String("python", "python3", "the `PROGRAM` that has the tests")
	limit := flags.Duration("timeout", 2*time.Minute, "how long one test may take")
	flags.Parse(os.Args[1:])
	chosen, err := choose(*only)
	switch {
	case flags.NArg() > 0:
		err = fmt.Errorf("%q is no flag, and nothing else is taken", flags.Arg(0))
	case *limit <= 0:
		err = errors.New("a test needs some -timeout")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "suites:", err)
		flags.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	good, err := compare(ctx, *python, *limit, chosen)
	if err != nil {
		fmt.Fprintln(os.Stderr, "suites:", err)
		os.Exit(2)
	}
	if !good {
		os.Exit(1)
	}
}

func names() string {
	var all []string
	for _, m := range modules {
		all = append(all, m.name)
	}
	return strings.Join(all, " ")
}

// choose returns the modules of a list of names, all of them without one.
func choose(only string) (chosen []module, err error) {
	if only == "" {
		return modules, nil
	}
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(modules, func(m module) bool { return m.name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no module %q: it may be one of %s", name, names())
		}
		chosen = append(chosen, modules[i])
	}
	return chosen, nil
}

// compare runs the modules in every way, and reports whether all differences are known.
func compare(ctx context.Context, python string, limit time.Duration, chosen []module) (good bool, err error) {
	known, err := readDifferences()
	if err != nil {
		return false, err
	}
	dir, err := os.MkdirTemp("", "tlswrap-suites-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	r := runner{dir: dir, python: python, limit: limit}
	if err := r.prepare(); err != nil {
		return false, err
	}
	if version, err := r.version(ctx); err != nil {
		return false, err
	} else {
		fmt.Println(version)
	}
	unknown := 0
	var differ []difference
	for _, m := range chosen {
		native, err := r.run(ctx, natively, m, []string{"test." + m.name})
		if err != nil {
			return false, err
		}
		fmt.Printf("%s: %s natively", m.name, native)
		for _, test := range native.bad() {
			fmt.Printf(" [%s: %s]", test, native[test])
		}
		for _, w := range []way{unmatched, inTLS} {
			got, err := r.run(ctx, w, m, []string{"test." + m.name})
			if err != nil {
				return false, err
			}
			all, err := r.differences(ctx, w, m, native, got)
			if err != nil {
				return false, err
			}
			fmt.Printf("; %s %s", w, endings(len(all)))
			differ = append(differ, all...)
		}
		fmt.Println()
	}
	fmt.Println()
	for _, d := range differ {
		if d.way == inTLS && known.explain(d) {
			continue
		}
		unknown++
		fmt.Printf("%s %s: %s natively, %s\n", d.test, d.way, d.native, d.got)
	}
	known.tell()
	fmt.Printf("%d connections were in TLS\n", r.connections())
	if len(chosen) == len(modules) {
		known.tellUnused()
	}
	if unknown > 0 {
		fmt.Printf("%d differences that no one has explained\n", unknown)
	}
	return unknown == 0, nil
}

// endings says of how many tests the ending differs.
func endings(differ int) string {
	if differ == 0 {
		return "the same"
	}
	return fmt.Sprintf("%d otherwise", differ)
}
