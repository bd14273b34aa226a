package main

import (
	"fmt"
	"strconv"
)

// passed measures connections by address to a port that no rule is about: the shim
// sees for itself that they pass.
func (l *lab) passed() work {
	return l.connects("passed", "127.0.0.1", "a port that no rule is about")
}

// passedByName measures the same by a name that rules cover on other ports, so that the
// program was shown a synthetic address.
func (l *lab) passedByName() work {
	return l.connects("passed-by-name", "localhost", "a name that rules cover on other ports")
}

func (l *lab) connects(name, host, to string) work {
	client := []string{l.connect, "time", host, strconv.Itoa(l.ports.Plain), strconv.Itoa(l.effort.passed)}
	return work{
		name:   name,
		title:  fmt.Sprintf("connect(2) that passes, to %s, median of %d", to, l.effort.passed),
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
