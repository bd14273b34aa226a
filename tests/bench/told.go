package main

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// Contenders of connects that pass, and of which the worker is told.
const (
	byVerbose = "-v"
	byLog     = "--log"
	byMap     = "neither" // the program sees for itself that they pass
)

// told measures what connects that pass take of the worker, where it says or logs each of them.
func (l *lab) told() work {
	var silent, logging *worker
	count := l.effort.told
	measure := func(w **worker, flags ...string) func() ([]float64, error) {
		return func() ([]float64, error) {
			client := []string{l.connect, "time", "127.0.0.1", strconv.Itoa(l.ports.Plain), strconv.Itoa(count)}
			pid := (*w).cmd.Process.Pid
			before, err := processorTime(pid)
			if err != nil {
				return nil, err
			}
			took, err := l.number(l.by(*w, append(flags, client...)...))()
			if err != nil {
				return nil, err
			}
			after, err := processorTime(pid)
			return append([]float64{(after - before) / float64(count) * 1e6}, took...), err
		}
	}
	return work{
		name:   "passed-told",
		title:  fmt.Sprintf("connect(2) that passes, %d times, where each is said or logged: what the worker takes, and the median of connect", count),
		units:  []unit{{"CPU µs", 1}, {"µs", 1}},
		rounds: l.effort.rounds,
		prepare: func() (err error) {
			if silent, err = l.startWorker("silent", "--log-level", "error"); err != nil {
				return err
			}
			logging, err = l.startWorker("logging", "--log", l.path("told.log"))
			return err
		},
		cleanUp: func() {
			logging.stop()
			silent.stop()
		},
		contenders: []contender{
			{byVerbose, measure(&silent, "-v")},
			{byLog, measure(&logging)},
			{byMap, measure(&silent)},
		},
	}
}

// processorTime is how many seconds all threads of a process have worked so far, those that have ended too, by the clock that
// clock_getcpuclockid(3) gives for it.
func processorTime(pid int) (float64, error) {
	const whole = 2 // CPUCLOCK_SCHED of a process
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|whole), &t); err != nil {
		return 0, fmt.Errorf("the processor time of process %d: %w", pid, err)
	}
	return float64(t.Nano()) / 1e9, nil
}
