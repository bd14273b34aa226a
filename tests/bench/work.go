package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// work is what all of its contenders do.
type work struct {
	name       string
	title      string
	units      []unit // of the values that one measurement gives
	rounds     int
	needs      []string     // a command without whose success it is left out; nil for none
	prepare    func() error // what only this work needs; nil for nothing
	cleanUp    func()       // at the end, also where prepare failed; nil for nothing
	contenders []contender
}

// unit is what a value is counted in, and with how many decimals it is printed.
type unit struct {
	name     string
	decimals int
}

// contender is one way of doing a work.
type contender struct {
	name    string
	measure func() ([]float64, error)
}

// The usual contenders.
const (
	byTLSWrap   = "tlswrap"
	byPlaintext = "plaintext"
	byOpenSSL   = "own OpenSSL"
	byStunnel   = "stunnel"
)

// outcome is what a contender reached: a series a unit, or why it failed.
type outcome struct {
	values []series
	err    error
}

// outcomes are those of one work, by contender.
type outcomes map[string]*outcome

// possible says what is in the way of a work that not every machine allows.
func (w *work) possible(ctx context.Context) error {
	if w.needs == nil {
		return nil
	}
	said, err := exec.CommandContext(ctx, w.needs[0], w.needs[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w %s", strings.Join(w.needs, " "), err, bytes.TrimSpace(said))
	}
	return nil
}

// run lets the contenders take turns. One that fails is out.
func (w *work) run(ctx context.Context) outcomes {
	all := make(outcomes)
	if w.cleanUp != nil {
		defer w.cleanUp()
	}
	var err error
	if w.prepare != nil {
		if err = w.prepare(); err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", w.name, err)
		}
	}
	for _, c := range w.contenders {
		all[c.name] = &outcome{values: make([]series, len(w.units)), err: err}
	}
	for round := range w.rounds {
		fmt.Fprintf(os.Stderr, "bench: %s: round %d of %d\n", w.name, round+1, w.rounds)
		for _, c := range w.contenders {
			o := all[c.name]
			if o.err != nil || ctx.Err() != nil {
				continue
			}
			var values []float64
			if values, o.err = c.measure(); o.err != nil {
				fmt.Fprintf(os.Stderr, "bench: %s: %s failed: %v\n", w.name, c.name, o.err)
				continue
			}
			for i, v := range values {
				o.values[i] = append(o.values[i], v)
			}
		}
	}
	return all
}
