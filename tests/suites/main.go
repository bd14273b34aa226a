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
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// modules are of Python's package "test", those that take long first. Some want a resource to be named that they
// use, which is the network, and that is this machine's own.
var modules = []module{
	{name: "test_asyncio"}, {name: "test_socket"}, {name: "test_ssl"},
	{name: "test_socketserver", resource: "network"}, {name: "test_select"}, {name: "test_selectors"},
	{name: "test_poll"}, {name: "test_epoll"}, {name: "test_asyncore"}, {name: "test_asynchat"},
	{name: "test_httplib"}, {name: "test_httpservers"}, {name: "test_urllib"}, {name: "test_urllib2_localnet"},
	{name: "test_wsgiref"}, {name: "test_xmlrpc"}, {name: "test_docxmlrpc"},
	{name: "test_smtplib"}, {name: "test_smtpd"}, {name: "test_poplib"}, {name: "test_imaplib"}, {name: "test_nntplib"},
	{name: "test_ftplib"}, {name: "test_telnetlib"},
}

type module struct{ name, resource string }

func main() {
	flags := flag.NewFlagSet("suites", flag.ExitOnError)
	only := flags.String("only", "", "comma-separated `modules` instead of all: "+names())
	python := flags.String("python", "python3", "the `PROGRAM` that has the tests")
	limit := flags.Duration("timeout", 2*time.Minute, "how long one test may take")
	jobs := flags.Int("jobs", runtime.NumCPU(), "how many modules are run side by side")
	flags.Parse(os.Args[1:])
	chosen, err := choose(*only)
	switch {
	case flags.NArg() > 0:
		err = fmt.Errorf("%q is no flag, and nothing else is taken", flags.Arg(0))
	case *limit <= 0:
		err = errors.New("a test needs some -timeout")
	case *jobs <= 0:
		err = errors.New("there have to be some -jobs")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "suites:", err)
		flags.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	good, err := compare(ctx, *python, *limit, *jobs, chosen)
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

// tellEvery is how often it is said what is running.
const tellEvery = 30 * time.Second

// compare runs the modules in every way, and reports whether all differences are known.
func compare(ctx context.Context, python string, limit time.Duration, jobs int, chosen []module) (good bool, err error) {
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
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	begun := time.Now()
	waiting := make(chan module, len(chosen))
	for _, m := range chosen {
		waiting <- m
	}
	close(waiting)
	type outcome struct {
		*comparison
		err error
	}
	done := make(chan outcome)
	for range jobs {
		go func() {
			for m := range waiting {
				c, err := r.compare(ctx, m, known)
				done <- outcome{c, err}
			}
		}()
	}
	tell := time.NewTicker(tellEvery)
	defer tell.Stop()
	var all []*comparison
	for left := len(chosen); left > 0; {
		select {
		case <-tell.C:
			fmt.Println("  running:", &r.now)
		case o := <-done:
			left--
			if o.err == nil {
				fmt.Println(o.comparison)
				all = append(all, o.comparison)
			} else if err == nil {
				err = o.err
				stop() // what the others are at ends too, and is waited for
			}
		}
	}
	if err != nil {
		return false, err
	}
	fmt.Println()
	unknown := 0
	for _, c := range all {
		for _, d := range c.unknown {
			fmt.Println(d)
		}
		unknown += len(c.unknown)
	}
	known.tell()
	for _, w := range ways {
		total := make(results)
		for _, c := range all {
			for test, e := range c.got[w] {
				total[test] = e
			}
		}
		fmt.Printf("%s: %s\n", w, total)
	}
	fmt.Printf("%d connections were in TLS; all took %s\n", r.connections(), time.Since(begun).Round(time.Second))
	if len(chosen) == len(modules) {
		known.tellUnused()
	}
	if unknown > 0 {
		fmt.Printf("%d differences that no one has explained\n", unknown)
	}
	return unknown == 0, nil
}
