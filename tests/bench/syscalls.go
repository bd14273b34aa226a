package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// systemCalls counts those of whoever stands between a program and its server, for a new connection.
func (l *lab) systemCalls() work {
	var w *worker
	ofWorker := func(port int) func() ([]float64, error) {
		return func() ([]float64, error) {
			return l.callsOf(w.daemon, l.by(w, l.wrkFresh(few, "http", port, "small")...))
		}
	}
	return work{
		name:   "new-calls",
		title:  fmt.Sprintf("system calls of the process between for each of wrk's new connections, %d at once, resuming, by strace(1)", few),
		units:  []unit{{"calls", 1}},
		rounds: l.effort.rounds,
		needs:  []string{"strace", "-o", "/dev/null", "true"},
		prepare: func() (err error) {
			w, err = l.startWorker("calls", "--log-level", "error")
			return err
		},
		cleanUp: func() { w.stop() },
		contenders: []contender{
			{byTLSWrap, ofWorker(l.ports.TLS)},
			{byTLSWrap + ", TLS 1.2", ofWorker(l.ports.TLS12)},
			{byRelay, func() ([]float64, error) {
				return l.callsOf(l.relay, l.relayed(l.wrkFresh(few, "http", l.ports.Plain, "small")...))
			}},
		},
	}
}

// callsOf runs wrk, and gives how many system calls d makes for each request.
func (l *lab) callsOf(d *daemon, wrk []string) ([]float64, error) {
	pid, table := d.cmd.Process.Pid, l.path("strace.table")
	strace, err := startDaemon(l.ctx, l.path("strace.out"), func() bool { return traced(pid) },
		"strace", "-f", "-c", "-U", "calls,name", "-o", table, "-p", strconv.Itoa(pid))
	if err != nil {
		return nil, err
	}
	r, err := l.runWrk(wrk)
	strace.stop() // which has it write the table
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(table)
	if err != nil {
		return nil, err
	}
	calls, err := parseStrace(string(text))
	return []float64{float64(calls) / float64(r.count)}, err
}

// traced tells when all threads of a process have a tracer (proc_pid_status(5)).
func traced(pid int) bool {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || strings.Contains(string(text), "\nTracerPid:\t0\n") {
			return false
		}
	}
	return len(files) > 0
}

// parseStrace reads the sum in the table of strace -c -U calls,name.
func parseStrace(table string) (int, error) {
	for line := range strings.Lines(table) {
		if words := strings.Fields(line); len(words) == 2 && words[1] == "total" {
			return strconv.Atoi(words[0])
		}
	}
	return 0, fmt.Errorf("strace counted nothing: %q", table)
}
