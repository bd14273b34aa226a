// Command faults walks every system call that tlswrap, its worker and its shim make while a
// program does what it is for, and has each fail once in each of the ways that it may. What
// must not happen then: that a byte of the program's leaves outside TLS, that anything hangs,
// that anything crashes.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/tests/testkit"
)

// scenario is what a program does, and the kind of program that does it.
type scenario struct {
	name   string // in programs/program.c
	static bool   // the program has no shim: the kernel asks the worker
}

func (s scenario) String() string {
	if s.static {
		return "static/" + s.name
	}
	return s.name
}

// scenarios are all that is done: by either kind, but for what only the shim has.
func scenarios() (all []scenario) {
	names := []string{"connects", "waits_with_epoll", "sends_at_once", "forks", "executes", "spawns", "asks_a_shell", "listens", "speaks_libtls"}
	for _, static := range []bool{false, true} {
		for _, name := range names {
			if !static || name != "speaks_libtls" {
				all = append(all, scenario{name, static})
			}
		}
	}
	return all
}

// named are the scenarios that are called so.
func named(names ...string) []scenario {
	return slices.DeleteFunc(scenarios(), func(s scenario) bool { return !slices.Contains(names, s.String()) })
}

func main() {
	flags := flag.NewFlagSet("faults", flag.ExitOnError)
	only := flags.String("only", "", "comma-separated `scenarios` instead of all: "+strings.Trim(fmt.Sprint(scenarios()), "[]"))
	parts := flags.String("parts", "tlswrap,worker,shim", "whose calls fail")
	failing := flags.String("calls", "", "comma-separated system `calls` that fail, instead of all")
	few := flags.Bool("few", false, "one errno for each call instead of all")
	lanes := flags.Int("lanes", 4*runtime.NumCPU(), "how many run at once: each waits a second for its worker's end")
	verbose := flags.Bool("v", false, "say how every run ended")
	flags.Parse(os.Args[1:])
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	w := walk{scenarios: scenarios(), few: *few, lanes: *lanes, verbose: *verbose, out: os.Stdout}
	if *only != "" {
		w.scenarios = named(strings.Split(*only, ",")...)
	}
	if *failing != "" {
		w.calls = strings.Split(*failing, ",")
	}
	for p := range strings.SplitSeq(*parts, ",") {
		w.parts = append(w.parts, part(p))
	}
	faults, err := w.walk(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
	if faults > 0 {
		os.Exit(1)
	}
}

// walk is what is to be tried.
type walk struct {
	scenarios []scenario
	parts     []part
	calls     []string // nil for all
	few       bool
	lanes     int
	verbose   bool
	out       io.Writer

	mu      sync.Mutex
	runs    int
	missed  int // points that a run did not come to again
	worked  int // runs that did what they were for in spite of the fault
	leaks   int
	hangs   int
	crashes int
	setup   *setup
}

// walk returns how many faults did what they must not do.
func (w *walk) walk(ctx context.Context) (int, error) {
	dir, err := os.MkdirTemp("", "tlswrap-faults-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return 0, err
	}
	if w.setup, err = newSetup(dir, testkit.Root()); err != nil {
		return 0, err
	}
	lanes := make([]*lane, w.lanes)
	for i := range lanes {
		if lanes[i], err = w.setup.newLane(filepath.Join(dir, fmt.Sprint(i))); err != nil {
			return 0, err
		}
		defer lanes[i].server.Close()
		defer lanes[i].libtls.Close()
	}
	for _, scenario := range w.scenarios {
		if err := w.scenario(ctx, scenario, lanes); err != nil {
			return 0, err
		}
	}
	fmt.Fprintf(w.out, "%d faults: %d leaks, %d hangs, %d crashes; %d runs worked all the same, %d did not come to their fault\n",
		w.runs, w.leaks, w.hangs, w.crashes, w.worked, w.missed)
	return w.leaks + w.hangs + w.crashes, nil
}

// scenario records the calls of one scenario, and has each of them fail.
func (w *walk) scenario(ctx context.Context, name scenario, lanes []*lane) error {
	good, err := lanes[0].run(name, nil)
	if err != nil {
		return err
	}
	if good.status != "" || good.leak != "" || good.hung {
		return fmt.Errorf("%s: without a fault it ends in %s %s\n%s", name, cmp.Or(good.status, "success"), good.leak, good.output)
	}
	parts := w.parts
	if name != w.scenarios[0] { // tlswrap starts in the same way each time
		parts = slices.DeleteFunc(slices.Clone(parts), func(p part) bool { return p == start })
	}
	todo := w.plan(good.points, parts)
	fmt.Fprintf(w.out, "%-17s %d calls, %d faults\n", name, len(good.points), len(todo))
	if w.verbose {
		for _, p := range good.points {
			fmt.Fprintf(w.out, "    %s: %s\n", p.part, p)
		}
	}
	queue := make(chan fault)
	var running sync.WaitGroup
	errs := make(chan error, len(lanes))
	began := time.Now()
	for _, l := range lanes {
		running.Go(func() {
			for f := range queue {
				o, err := l.run(name, &f)
				if err != nil {
					errs <- err
					for range queue { // the others find the error as well
					}
					return
				}
				w.judge(name, f, o)
			}
		})
	}
	for i, f := range todo {
		if ctx.Err() != nil {
			break
		}
		queue <- f
		if time.Since(began) > 30*time.Second {
			began = time.Now()
			fmt.Fprintf(w.out, "%-17s %d of %d\n", "", i+1, len(todo))
		}
	}
	close(queue)
	running.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return ctx.Err()
	}
}

// plan lists the faults of a recording.
func (w *walk) plan(points []point, parts []part) []fault {
	var all []fault
	seen := make(map[point]bool)
	for _, p := range points {
		if !slices.Contains(parts, p.part) || seen[p] || w.calls != nil && !slices.Contains(w.calls, calls[p.nr].name) {
			continue
		}
		seen[p] = true
		for _, errno := range calls[p.nr].errnos {
			all = append(all, fault{p, errno})
			if w.few {
				break
			}
		}
	}
	return all
}

// judge says what was wrong with a run.
func (w *walk) judge(scenario scenario, f fault, o outcome) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.runs++
	complain := func(what string) {
		fmt.Fprintf(w.out, "%s: %s with %s in %s of the %s: %s\n", what, scenario, unix.ErrnoName(f.errno), f.point, f.part, w.place(f.point))
		for line := range strings.Lines(o.output) {
			fmt.Fprintf(w.out, "    %s\n", strings.TrimRight(line, "\n"))
		}
	}
	// Go's runtime gives up by itself where its epoll set, or what wakes that, fails (netpollinit,
	// netpollBreak).
	panicked := strings.Contains(o.output, "goroutine ") && !strings.Contains(o.output, "fatal error: runtime: ")
	crashed := panicked || strings.Contains(o.status, "signal") || strings.Contains(o.output, "internal error")
	switch {
	case o.leak != "":
		w.leaks++
		complain("LEAK: " + o.leak)
	case o.hung || strings.Contains(o.status, "alarm"): // alarm(2) of the program's
		w.hangs++
		complain("HANG")
	case crashed:
		w.crashes++
		complain("CRASH: " + o.status)
	case !o.reached:
		w.missed++
	case o.status == "":
		w.worked++
	}
	if w.verbose {
		fmt.Fprintf(w.out, "%s %s %s of %s: reached %v, %s\n    %s\n", scenario, unix.ErrnoName(f.errno), f.point, f.part, o.reached,
			cmp.Or(o.status, "worked"), strings.ReplaceAll(strings.TrimSpace(o.output), "\n", "\n    "))
	}
}

func (p point) String() string { return fmt.Sprintf("%s no. %d", calls[p.nr].name, p.turn) }

// place is the function and line of a call of the shim's.
func (w *walk) place(p point) string {
	if p.part != shim {
		return "-"
	}
	out, err := exec.Command("addr2line", "-ifspe", w.setup.library, fmt.Sprintf("%#x", p.where-1)).Output()
	if err != nil {
		return err.Error()
	}
	return strings.Join(strings.Fields(string(out)), " ")
}
