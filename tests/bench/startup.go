package main

import "time"

func (l *lab) startup() work {
	return work{
		name:   "startup",
		title:  "true, from its start to its end",
		units:  []unit{{"ms", 2}},
		rounds: l.effort.startups,
		contenders: []contender{
			{byTLSWrap, l.wallTime(l.tlswrap(), "--rules", l.rules, "true")},
			{"without", l.wallTime("true")},
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
