package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// results are the outcomes of all works that were measured.
type results map[string]outcomes

// median returns a contender's median in the first unit of a work.
func (r results) median(work, contender string) (float64, bool) {
	o := r[work][contender]
	if o == nil || o.err != nil || len(o.values[0]) == 0 {
		return 0, false
	}
	return o.values[0].median(), true
}

func (r results) failed() bool {
	for _, all := range r {
		for _, o := range all {
			if o.err != nil {
				return true
			}
		}
	}
	return false
}

// target is what tlswrap wants to reach.
type target struct {
	what    string
	atLeast bool // otherwise at most
	limit   float64
	unit    string
	reached func(results) (float64, bool)
}

var targets = []target{
	{"download throughput", true, 1.1, "x stunnel", timesStunnel("download")},
	{"upload throughput", true, 1.1, "x stunnel", timesStunnel("upload")},
	{"requests a second, 8 connections", true, 1.3, "x stunnel", timesStunnel("requests8")},
	{"requests a second, 64 connections", true, 1.3, "x stunnel", timesStunnel("requests64")},
	{"requests a second to a server, 8 connections", true, 1.3, "x stunnel", timesStunnel("served8")},
	{"requests a second to a server, 64 connections", true, 1.3, "x stunnel", timesStunnel("served64")},
	{"pgbench's transactions a second", true, 1.3, "x stunnel", timesStunnel("pgbench")},
	{"resumed connections a second", true, 2, "x stunnel", timesStunnel("resumed")},
	{"added to a connection that passes", false, 60, "µs", added("passed")},
	{"the same by a covered name", false, 60, "µs", added("passed-by-name")},
	{"start-up", false, 20, "ms", plain("startup")},
	{"memory of an idle connection", false, 40, "KiB", plain("memory")},
	{"libtls client's throughput", true, 0.9, "x libtls26", timesLibtls("libtls-get")},
	{"its own processor time", false, 1, "x libtls26", cpuTimesLibtls("libtls-get")},
	{"libtls server's throughput", true, 0.9, "x libtls26", timesLibtls("libtls-serve")},
	{"its own processor time", false, 1, "x libtls26", cpuTimesLibtls("libtls-serve")},
	{"libtls client's handshakes a second", true, 0.7, "x libtls26", timesLibtls("libtls-full")},
	{"libtls server's handshakes a second", true, 0.7, "x libtls26", timesLibtls("libtls-accept")},
}

// plain is tlswrap's own median.
func plain(work string) func(results) (float64, bool) {
	return func(r results) (float64, bool) { return r.median(work, byTLSWrap) }
}

func timesStunnel(work string) func(results) (float64, bool) {
	return func(r results) (float64, bool) {
		ours, ok := r.median(work, byTLSWrap)
		theirs, ok2 := r.median(work, byStunnel)
		return ours / theirs, ok && ok2
	}
}

// added is what tlswrap takes more than the same without it.
func added(work string) func(results) (float64, bool) {
	return func(r results) (float64, bool) {
		with, ok := r.median(work, byTLSWrap)
		without, ok2 := r.median(work, byPlaintext)
		return with - without, ok && ok2
	}
}

// printTargets says which targets are met. Those of works that were not measured are
// left out.
func (r results) printTargets(out io.Writer) {
	fmt.Fprintln(out, "\nTARGETS")
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, g := range targets {
		v, ok := g.reached(r)
		if !ok {
			continue
		}
		sign, met := "<=", v <= g.limit
		if g.atLeast {
			sign, met = ">=", v >= g.limit
		}
		word := "met"
		if !met {
			word = "NOT met"
		}
		fmt.Fprintf(t, "%s\t%.2f %s\t%s %g\t%s\n", g.what, v, g.unit, sign, g.limit, word)
	}
	t.Flush()
}
