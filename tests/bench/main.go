// Command bench measures what tlswrap costs: the same work through tlswrap, in
// plaintext, with the client's own OpenSSL where it has one, through stunnel, and, for
// what any process between costs, through a relay without TLS, all against the same
// servers on this machine.
//
// Contenders take turns, round by round, and medians are compared: what else the
// machine does meanwhile meets all of them. Where the machine is busy only the ratios
// mean anything.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

func main() {
	// The servers' death signal comes when the thread that started them ends.
	runtime.LockOSThread()
	os.Exit(run(os.Args[1:]))
}

// run measures, prints, and returns the exit status: 1 where something could not be
// measured. Targets that are not met change nothing: a benchmark is no test.
func run(args []string) int {
	o, status, done := parseFlags(args)
	if done {
		return status
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	l, err := newLab(ctx, o.effort)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	defer l.close()
	l.describe(os.Stdout)
	if o.plot != "" {
		if err := l.plot(o.plot); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			return 1
		}
		return 0
	}
	results := make(results)
	for _, w := range l.works() {
		if o.only != "" && o.only != w.name {
			continue
		}
		if err := w.possible(ctx); err != nil {
			fmt.Printf("\n%s: left out: %v\n", w.name, err)
			continue
		}
		results[w.name] = w.run(ctx)
		if ctx.Err() != nil {
			fmt.Fprintln(os.Stderr, "bench: interrupted")
			return 1
		}
		w.print(os.Stdout, results[w.name])
	}
	results.printTargets(os.Stdout, l.targets())
	if results.failed() {
		return 1
	}
	return 0
}

// workNames are what -only takes, in the order that they are measured in.
var workNames = []string{"download", "upload", "requests1", "requests8", "requests64", "served8", "served64", "served-new8", "roundtrips", "pgbench", "resumed", "full",
	"new8", "new8-tls12", "new1", "new1-tls12", "full8", "full8-tls12", "new-calls", "passed", "passed-by-name", "passed-told",
	"notified", "notified-tls", "static-get", "static-requests", "startup", "memory", "memory-tls12", "growth", "growth-bulk", "crowd",
	"libtls-get", "libtls-serve", "libtls-full", "libtls-accept", "libtls-ping"}

// options are what the command line asks for.
type options struct {
	effort effort
	only   string // one of workNames, or all of them
	plot   string // the folder of the plot, which is then all that is measured
}

// parseFlags reads the command line; done is set where the command ends here, with
// status.
func parseFlags(args []string) (o options, status int, done bool) {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	rounds := f.Int("n", 0, "measure `ROUNDS` rounds")
	f.StringVar(&o.only, "only", "", "measure only `NAME`: "+strings.Join(workNames, ", "))
	f.StringVar(&o.plot, "plot", "", "measure what performance.svg and performance.png in `FOLDER` show, and draw them")
	quick := f.Bool("quick", false, "measure less, for a rough picture in some minutes")
	switch err := f.Parse(args); {
	case err == flag.ErrHelp:
		return o, 0, true
	case err != nil:
		return o, 2, true
	}
	if f.NArg() > 0 || *rounds < 0 || (o.only != "" && !slices.Contains(workNames, o.only)) || (o.plot != "" && (o.only != "" || *quick)) {
		f.Usage()
		return o, 2, true
	}
	switch {
	case o.plot != "":
		o.effort = drawn
	case *quick:
		o.effort = brief
	default:
		o.effort = thorough
	}
	if *rounds > 0 {
		o.effort.rounds = *rounds
	}
	return o, 0, false
}
