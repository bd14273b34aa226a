package main

import "fmt"

const (
	byAlone   = "alone"
	byCrowded = "in the crowd"
)

// crowd measures one active connection beside as many idle ones as fit, in the same worker,
// and in a worker of its own.
func (l *lab) crowd() work {
	var alone, crowded *worker
	var idle *held
	count := l.fitting(l.effort.crowd)
	measure := func(w **worker) func() ([]float64, error) {
		return func() ([]float64, error) {
			r, err := l.runWrk(l.by(*w, l.wrk(1)("http", l.ports.TLS)...))
			return []float64{r.requests, r.half, r.most}, err
		}
	}
	return work{
		name:   "crowd",
		title:  fmt.Sprintf("wrk gets a file of 1 KB from nginx over one kept connection, alone in a worker, and in one that holds %d idle ones too", count),
		units:  []unit{{"requests/s", 0}, {"median µs", 1}, {"99 % µs", 0}},
		rounds: l.effort.rounds,
		prepare: func() (err error) {
			if alone, err = l.startWorker("alone"); err != nil {
				return err
			}
			if crowded, err = l.startWorker("crowded"); err != nil {
				return err
			}
			idle, err = l.openIdle(l.by(crowded, l.hold(l.ports.TLS, count)...))
			return err
		},
		cleanUp: func() {
			idle.close()
			crowded.stop()
			alone.stop()
		},
		contenders: []contender{
			{byAlone, measure(&alone)},
			{byCrowded, measure(&crowded)},
		},
	}
}
