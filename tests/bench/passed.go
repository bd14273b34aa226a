package main

import (
	"fmt"
	"strconv"
)

func (l *lab) passed() work {
	client := []string{l.connect, "time", "127.0.0.1", strconv.Itoa(l.ports.Plain), strconv.Itoa(l.effort.passed)}
	return work{
		name:   "passed",
		title:  fmt.Sprintf("connect(2) to a port that no rule is about, median of %d", l.effort.passed),
		units:  []unit{{"µs", 1}},
		rounds: l.effort.rounds,
		contenders: []contender{
			{byTLSWrap, l.number(l.wrapped(client...))},
			{byPlaintext, l.number(client)},
		},
	}
}

// number runs a client that prints one number.
func (l *lab) number(client []string) func() ([]float64, error) {
	return func() ([]float64, error) {
		out, err := l.run(client...)
		if err != nil {
			return nil, err
		}
		var v float64
		if _, err := fmt.Sscan(out, &v); err != nil {
			return nil, fmt.Errorf("what the client printed, %q: %w", out, err)
		}
		return []float64{v}, nil
	}
}
