package main

import "time"

const (
	byRunningWorker = "running worker"
	byItself        = "by itself"
)

func (l *lab) startup() work {
	var w *worker
	return work{
		name:   "startup",
		title:  "true, from its start to its end, and a static program that does as little",
		units:  []unit{{"ms", 2}},
		rounds: l.effort.startups,
		prepare: func() (err error) {
			w, err = l.startWorker("startup")
			return err
		},
		cleanUp: func() { w.stop() },
		contenders: []contender{
			{byTLSWrap, l.wallTime(l.tlswrap(), "--rules", l.rules, "true")},
			{byRunningWorker, func() ([]float64, error) { return l.wallTime(l.by(w, "true")...)() }},
			{byStatic, l.wallTime(l.tlswrap(), "--rules", l.rules, l.trueStatic)},
			{byItself, l.wallTime("true")},
		},
	}
}

// wallTime gives the milliseconds that a command takes.
func (l *lab) wallTime(command ...string) func() ([]float64, error) {
	return func() ([]float64, error) {
		start := time.Now()
		_, err := l.run(command...)
		return []float64{float64(time.Since(start).Microseconds()) / 1000}, err
	}
}
