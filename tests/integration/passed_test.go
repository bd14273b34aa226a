package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// passesOf are the connects of passes.c to each address, by their ports, in the order of targets.
func passesOf(t *testing.T, targets []string) map[string][]int {
	t.Helper()
	ports := map[string][]int{}
	for _, target := range targets {
		host, port, _ := strings.Cut(target, ":")
		n, err := strconv.Atoi(port)
		if err != nil {
			t.Fatalf("a connection to %q", target)
		}
		ports[host] = append(ports[host], n)
	}
	return ports
}

// mustBeAll finds each connect of each thread once, in its order.
func mustBeAll(t *testing.T, targets []string, processes, threads, connects int) {
	t.Helper()
	want := map[string][]int{}
	for p := range processes {
		for thread := range threads {
			host := fmt.Sprintf("127.1.%d.%d", p, thread)
			for i := range connects {
				want[host] = append(want[host], 1001+i)
			}
		}
	}
	if got := passesOf(t, targets); !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("%d lines, want %d; of each address: %v", len(targets), processes*threads*connects, got)
	}
}

var passedLine = regexp.MustCompile(`(?m)^tlswrap: (127\.1\.\d+\.\d+:\d+): passed as it is, no TLS added \(no rule\), by (?:preload|kernel)$`)

func passedLines(stderr string) (targets []string) {
	for _, m := range passedLine.FindAllStringSubmatch(stderr, -1) {
		targets = append(targets, m[1])
	}
	return targets
}

// saidToPass has the targets of the connections that are said to have passed of passes.c, which has ended well.
func saidToPass(t *testing.T, e ended) []string {
	t.Helper()
	targets := passedLines(e.stderr)
	if e.status != 0 || e.stdout != "refused\n" || len(lines(e.stderr)) != len(targets) {
		t.Errorf("status %d, stdout %q, and %d lines of %d on stderr are about other things: %s", e.status, e.stdout, len(lines(e.stderr))-len(targets), len(lines(e.stderr)), tail(e.stderr))
	}
	return targets
}

// loggedToPass has the targets and the processes of the connections that a log says to have passed.
func loggedToPass(t *testing.T, log string) (targets []string, pids map[int]bool) {
	t.Helper()
	pids = map[int]bool{}
	for _, line := range lines(readFile(t, log)) {
		var event struct {
			Msg, Target, Reason string
			PID                 int
		}
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if event.Msg == "passed" {
			targets = append(targets, event.Target)
			pids[event.PID] = true
			if event.Reason != "no rule" {
				t.Errorf("the reason is not given: %s", line)
			}
		}
	}
	return targets, pids
}

// Who asks for a line of each connection gets one of those that pass, however many programs and threads make them.
func TestEachConnectionThatPassesIsSaidAndLogged(t *testing.T) {
	t.Parallel()
	const processes, threads, connects = 3, 4, 100
	for kind, flags := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			log := filepath.Join(t.TempDir(), "log")
			w := withRules(t, "[[rule]]\nhost = \"db.example.test\"\nport = 1\n")
			w.flags = append(w.flags, "-v", "--log", log)
			e := w.run(t, compile(t, "passes.c", flags...), strconv.Itoa(processes), strconv.Itoa(threads), strconv.Itoa(connects))
			mustBeAll(t, saidToPass(t, e), processes, threads, connects)
			targets, pids := loggedToPass(t, log)
			mustBeAll(t, targets, processes, threads, connects)
			if len(pids) != processes {
				t.Errorf("the log has the processes %v, want %d", pids, processes)
			}
		})
	}
}

// What passes is not asked about, also where each is said: but for the first, with whose answer the program gets to
// know what passes, and where to leave word of it.
func TestWhatPassesIsNotAskedAboutToSayIt(t *testing.T) {
	t.Parallel()
	w := withRules(t, "[[rule]]\nhost = \"db.example.test\"\nport = 1\n")
	w.flags = append(w.flags, "-v")
	w, trace := w.traced(t)
	e := w.run(t, compile(t, "passes.c"), "1", "1", "200")
	mustBeAll(t, saidToPass(t, e), 1, 1, 200)
	asked := regexp.MustCompile(`(?m) ask op=(\w+)`).FindAllStringSubmatch(readFile(t, trace), -1)
	count := map[string]int{}
	for _, m := range asked {
		count[m[1]]++
	}
	delete(count, "hello")
	if want := map[string]int{"connect": 1, "notices": 1}; !maps.Equal(count, want) {
		t.Errorf("the program asked %v, want %v", count, want)
	}
}

// A worker that is stopped holds nothing up that passes, and says afterwards what it has no lines of.
func TestStoppedWorkerDoesNotHoldUpWhatPasses(t *testing.T) {
	t.Parallel()
	const connects = 6000
	port := closedPort(t)
	w := withRules(t, "[[rule]]\nhost = \"db.example.test\"\nport = %s\n", port)
	w.flags = append(w.flags, "-v")
	p := w.start(t, compile(t, "passes.c"), "1", "1", strconv.Itoa(connects), "wait")
	eventually(t, "the program is ready", 20*time.Second, func() bool { return strings.Contains(p.stdout.String(), "ready\n") })
	worker := workerOf(t, filepath.Base(filepath.Dir(w.flags[len(w.flags)-2])))
	syscall.Kill(worker, syscall.SIGSTOP)
	defer syscall.Kill(worker, syscall.SIGCONT)
	fmt.Fprintln(p.stdin)
	eventually(t, "the program has connected", 20*time.Second, func() bool { return strings.Contains(p.stdout.String(), "refused\n") })
	syscall.Kill(worker, syscall.SIGCONT)
	<-p.done
	eventually(t, "all lines are there", 20*time.Second, func() bool {
		var missing int
		if m := regexp.MustCompile(`(?m)^tlswrap: (\d+) connections passed as they are, .*without a line for each`).FindStringSubmatch(p.stderr.String()); m != nil {
			missing, _ = strconv.Atoi(m[1])
		}
		return missing > 0 && len(passedLines(p.stderr.String()))+missing == connects+2
	})
}

// A program that goes where neither memory nor bell of the worker's reaches is told of, and goes on.
func TestWhatPassesIsSaidFromOtherNamespaces(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{{"--net"}, {"--pid", "--fork"}, {"--net", "--pid", "--fork"}} {
		name := strings.Join(flags, "")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := withRules(t, "[[rule]]\nhost = \"db.example.test\"\nport = 1\n")
			w.flags = append(w.flags, "-v")
			setup := "ip link set lo up; exec \"$@\""
			argv := append(append([]string{"unshare"}, flags...), "sh", "-c", setup, "sh", compile(t, "passes.c"), "2", "1", "50")
			e := w.run(t, argv...)
			mustBeAll(t, saidToPass(t, e), 2, 1, 50)
		})
	}
}

// The name of a covered host stands in the line of another of its ports.
func TestLineOfWhatPassesHasTheName(t *testing.T) {
	t.Parallel()
	port := closedPort(t)
	w := withRules(t, "[[rule]]\nhost = \"db.example.test\"\nport = 1\n[[rule]]\nhost = \"db.example.test\"\nport = 2\naction = \"pass\"\n")
	w.flags = append(w.flags, "-v")
	e := w.run(t, python, "-c", `
import socket, sys
for port in [int(sys.argv[1]), int(sys.argv[1]), 2]:
    try: socket.create_connection(("db.example.test", port))
    except ConnectionRefusedError: print("refused")
`, port)
	line := "tlswrap: db.example.test:" + port + ": passed as it is, no TLS added (no rule), by preload\n"
	if e.stdout != strings.Repeat("refused\n", 3) || strings.Count(e.stderr, line) != 2 ||
		!strings.Contains(e.stderr, "tlswrap: db.example.test:2: passed as it is, no TLS added (a rule passes it, ") {
		t.Errorf("stdout %q, stderr %q", e.stdout, e.stderr)
	}
}

// Lines of connections stand in the order in which a program has made them, those that pass among the others.
func TestLinesOfOneProgramStandInItsOrder(t *testing.T) {
	t.Parallel()
	port, s := closedPort(t), serveTLS(t, "db.example.test", echo)
	w := s.wrapped()
	w.flags = append(w.flags, "-v")
	e := w.run(t, python, "-c", `
import socket, sys
for _ in range(20):
    try: socket.create_connection(("127.0.0.1", int(sys.argv[3])))
    except ConnectionRefusedError: pass
    socket.create_connection((sys.argv[1], int(sys.argv[2])))
`, s.host, s.portString(), port)
	scanner, n := bufio.NewScanner(strings.NewReader(e.stderr)), 0
	for ; scanner.Scan(); n++ {
		want := "tlswrap: 127.0.0.1:" + port + ": passed"
		if n%2 == 1 {
			want = "tlswrap: " + s.hostport() + ": verified"
		}
		if !strings.HasPrefix(scanner.Text(), want) {
			t.Fatalf("line %d is %q, want %q", n, scanner.Text(), want)
		}
	}
	if n != 40 {
		t.Errorf("%d lines, want 40", n)
	}
}
