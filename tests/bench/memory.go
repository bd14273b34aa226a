package main

import (
	"fmt"
	"math"
	"os"
	"strings"
	"time"
)

func (l *lab) memory() work { return l.memoryOf("memory", "", l.ports.TLS) }

func (l *lab) memory12() work { return l.memoryOf("memory-tls12", ", TLS 1.2", l.ports.TLS12) }

// memoryOf is what connections to a port take; version is for people.
func (l *lab) memoryOf(name, version string, port int) work {
	count := l.fitting(l.effort.idle)
	return work{
		name:   name,
		title:  fmt.Sprintf("resident memory for each of %d connections that idle after a request%s", count, version),
		units:  []unit{{"KiB", 1}},
		rounds: 1, // it varies little, and takes long to settle
		contenders: []contender{
			{byTLSWrap, func() ([]float64, error) { return l.idleTLSWrap(port) }},
			{byStunnel, func() ([]float64, error) { return l.idleStunnel(port) }},
		},
	}
}

func (l *lab) idleTLSWrap(server int) ([]float64, error) {
	w, err := l.startWorker("memory")
	if err != nil {
		return nil, err
	}
	defer w.stop()
	return l.idle(w.daemon, func(count int) []string { return l.by(w, l.hold(server, count)...) })
}

func (l *lab) idleStunnel(server int) ([]float64, error) {
	var port int
	if err := freePorts(&port); err != nil {
		return nil, err
	}
	d, err := l.startStunnel("idle", tunnel{At: port, To: server, Resume: true})
	if err != nil {
		return nil, err
	}
	defer d.stop()
	return l.idle(d, func(count int) []string { return l.hold(port, count) })
}

// idle gives by how many KiB d grows for each connection that a client holds. What it
// needs once, such as the system's roots, was needed before.
func (l *lab) idle(d *daemon, client func(count int) []string) ([]float64, error) {
	const first = 10
	count := l.fitting(l.effort.idle)
	var before, after float64
	if err := l.whileHeld(client(first), func() (err error) {
		before, err = l.settledMemory(d)
		return err
	}); err != nil {
		return nil, err
	}
	if err := l.whileHeld(client(count), func() (err error) {
		after, err = l.settledMemory(d)
		return err
	}); err != nil {
		return nil, err
	}
	return []float64{(after - before) / float64(count-first)}, nil
}

// settledMemory is d's resident memory in KiB once it has hardly changed for a while: a worker lets go of what
// connections do not need when they have idled for some seconds.
func (l *lab) settledMemory(d *daemon) (float64, error) {
	const (
		apart  = 12 * time.Second
		most   = time.Minute
		little = 0.01
	)
	deadline := time.Now().Add(most)
	last, err := residentMemory(d.cmd.Process.Pid)
	for err == nil {
		select {
		case <-l.ctx.Done():
			return 0, l.ctx.Err()
		case <-time.After(apart):
		}
		var now float64
		if now, err = residentMemory(d.cmd.Process.Pid); err != nil {
			break
		}
		if math.Abs(now-last) < little*last || time.Now().After(deadline) {
			return now, nil
		}
		last = now
	}
	return 0, err
}

// residentMemory is VmRSS in KiB (proc_pid_status(5)).
func residentMemory(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	var kib float64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		return 0, fmt.Errorf("reading VmRSS of process %d: %w", pid, err)
	}
	return kib, nil
}
