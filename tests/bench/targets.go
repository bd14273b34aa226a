package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// results are the outcomes of all works that were measured.
type results map[string]outcomes

// median returns a contender's median in one unit of a work, and whether there is one.
func (r results) median(work, contender string, unit int) (float64, bool) {
	o := r[work][contender]
	if o == nil || o.err != nil || unit >= len(o.values) || len(o.values[unit]) == 0 {
		return 0, false
	}
	return o.values[unit].median(), true
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
	bound   bound
	limit   float64
	unit    string
	reached figure
}

// figure is computed from results, where what it needs was measured.
type figure func(results) (float64, bool)

type bound int

const (
	atLeast bound = iota
	atMost
	compare // no bound: printed beside a target that it explains
)

// judge says what the bound is, and whether v keeps to it.
func (g target) judge(v float64) string {
	sign, met := "<=", v <= g.limit
	switch g.bound {
	case compare:
		return "\tfor comparison"
	case atLeast:
		sign, met = ">=", v >= g.limit
	}
	if !met {
		return fmt.Sprintf("%s %g\tNOT met", sign, g.limit)
	}
	return fmt.Sprintf("%s %g\tmet", sign, g.limit)
}

// The units of a work: what it is about comes first, and what that costs, or how long one
// has to wait, second.
const (
	speed   = 0
	cost    = 1
	latency = 1
)

func (l *lab) targets() []target {
	const (
		openssl = "x own OpenSSL"
		stunnel = "x stunnel"
		relay   = "x relay"
		libtls  = "x libtls26"

		preloaded = "x preloaded"
	)
	perFew := fmt.Sprintf("x that of %d", few)
	crowded := fmt.Sprintf("one connection beside %d idle ones", l.fitting(l.effort.crowd))
	return []target{
		{"download, throughput", atLeast, 0.97, openssl, times("download", byOpenSSL, speed)},
		{"download, processor time", atMost, 1.15, openssl, times("download", byOpenSSL, cost)},
		{"download, throughput", atLeast, 1.7, stunnel, times("download", byStunnel, speed)},
		{"upload, throughput", atLeast, 0.97, openssl, times("upload", byOpenSSL, speed)},
		{"upload, processor time", atMost, 1.15, openssl, times("upload", byOpenSSL, cost)},
		{"upload, throughput", atLeast, 1.7, stunnel, times("upload", byStunnel, speed)},
		{"requests a second, 1 connection", atLeast, 0.95, relay, times("requests1", byRelay, speed)},
		{"requests a second, 1 connection", atLeast, 1.5, stunnel, times("requests1", byStunnel, speed)},
		{"requests a second, 8 connections", atLeast, 0.88, relay, times("requests8", byRelay, speed)},
		{"requests a second, 8 connections", atLeast, 0.55, openssl, times("requests8", byOpenSSL, speed)},
		{"requests a second, 8 connections", atLeast, 1.6, stunnel, times("requests8", byStunnel, speed)},
		{"requests a second, 64 connections", atLeast, 0.88, relay, times("requests64", byRelay, speed)},
		{"requests a second, 64 connections", atLeast, 1.5, stunnel, times("requests64", byStunnel, speed)},
		{"requests a second to a server, 8 connections", atLeast, 1.3, stunnel, times("served8", byStunnel, speed)},
		{"requests a second to a server, 64 connections", atLeast, 1.3, stunnel, times("served64", byStunnel, speed)},
		{"a server's new connections a second, 8 at once", atLeast, 0.6, "x nginx's own TLS", times("served-new8", byOwnTLS, speed)},
		{"a server's new connections a second, 8 at once", atLeast, 2, stunnel, times("served-new8", byStunnel, speed)},
		{"a message and its answer between two wrapped ends", atMost, 1.5, "x relays", times("roundtrips", byRelays, speed)},
		{"the same", atMost, 0.9, stunnel, times("roundtrips", byStunnel, speed)},
		{"pgbench's transactions a second", atLeast, 1.3, stunnel, times("pgbench", byStunnel, speed)},
		{"resumed connections a second", atLeast, 0.7, openssl, times("resumed", byOpenSSL, speed)},
		{"resumed connections a second", atLeast, 3, stunnel, times("resumed", byStunnel, speed)},
		{"full handshakes a second", atLeast, 0.5, openssl, times("full", byOpenSSL, speed)},
		{"full handshakes a second", atLeast, 2, stunnel, times("full", byStunnel, speed)},
		{"new connections a second, 8 at once, resumed, TLS 1.3", atLeast, 0.7, openssl, times("new8", byOpenSSL, speed)},
		{"new connections a second, 8 at once, resumed, TLS 1.3", atLeast, 3, stunnel, times("new8", byStunnel, speed)},
		{"the same of a process that only passes on", compare, 0, openssl, ratio("new8", byRelay, byOpenSSL, speed)},
		{"new connections a second, 8 at once, resumed, TLS 1.2", atLeast, 0.7, openssl, times("new8-tls12", byOpenSSL, speed)},
		{"new connections a second, 8 at once, resumed, TLS 1.2", atLeast, 3, stunnel, times("new8-tls12", byStunnel, speed)},
		{"the same of a process that only passes on", compare, 0, openssl, ratio("new8-tls12", byRelay, byOpenSSL, speed)},
		{"new connections a second, one by one, resumed, TLS 1.3", atLeast, 0.85, openssl, times("new1", byOpenSSL, speed)},
		{"new connections a second, one by one, resumed, TLS 1.2", atLeast, 0.85, openssl, times("new1-tls12", byOpenSSL, speed)},
		{"new connections a second, 8 at once, full handshakes, TLS 1.3", atLeast, 0.6, openssl, times("full8", byOpenSSL, speed)},
		{"new connections a second, 8 at once, full handshakes, TLS 1.3", atLeast, 2, stunnel, times("full8", byStunnel, speed)},
		{"new connections a second, 8 at once, full handshakes, TLS 1.2", atLeast, 0.6, openssl, times("full8-tls12", byOpenSSL, speed)},
		{"new connections a second, 8 at once, full handshakes, TLS 1.2", atLeast, 2, stunnel, times("full8-tls12", byStunnel, speed)},
		{"the worker's system calls for a new connection", atMost, 30, "", plain("new-calls", byTLSWrap)},
		{"added to a connection that passes", atMost, 40, "µs", more("passed", byTLSWrap, byPlaintext)},
		{"the same by a covered name", atMost, 40, "µs", more("passed-by-name", byTLSWrap, byPlaintext)},
		{"the worker's processor time for one that passes, with -v", atMost, 25, "µs", plain("passed-told", byVerbose)},
		{"the same with --log", atMost, 25, "µs", plain("passed-told", byLog)},
		{"added to one of a static program", atMost, 60, "µs", more("notified", byNotified, byPlaintext)},
		{"the same, non-blocking", compare, 0, "µs", more("notified", byNotified+startsHere, byPlaintext+startsHere)},
		{"a static program's full handshakes a second", compare, 0, preloaded, ratio("notified-tls", byNotified, byPreloaded, speed)},
		{"a static program's download, throughput", atLeast, 0.97, preloaded, ratio("static-get", byNotified, byPreloaded, speed)},
		{"its processor time", compare, 0, preloaded, ratio("static-get", byNotified, byPreloaded, cost)},
		{"download in Go, throughput", compare, 0, "x own crypto/tls", ratio("static-get", byGo, byGoTLS, speed)},
		{"requests a second in Go", compare, 0, "x own crypto/tls", ratio("static-requests", byGo, byGoTLS, speed)},
		{"added to the start of true", atMost, 2.5, "ms", more("startup", byTLSWrap, byItself)},
		{"start-up", atMost, 5, "x by itself", ratio("startup", byTLSWrap, byItself, speed)},
		{"added to it for a static program", atMost, 3, "ms", more("startup", byStatic, byTLSWrap)},
		{"added to the start of true with a running worker", atMost, 1.5, "ms", more("startup", byRunningWorker, byItself)},
		{fmt.Sprintf("memory of each of %d idle connections", l.fitting(l.effort.idle)), atMost, 18, "KiB", plain("memory", byTLSWrap)},
		{fmt.Sprintf("memory of each of %d idle connections, TLS 1.2", l.fitting(l.effort.idle)), atMost, 18, "KiB", plain("memory-tls12", byTLSWrap)},
		{fmt.Sprintf("requests a second, %d connections", many), atLeast, 0.8, perFew, grown("growth", byTLSWrap)},
		{"the same with own OpenSSL", compare, 0, perFew, grown("growth", byOpenSSL)},
		{"the same in plaintext", compare, 0, perFew, grown("growth", byPlaintext)},
		{fmt.Sprintf("throughput, %d connections", many), atLeast, 0.8, perFew, grown("growth-bulk", byTLSWrap)},
		{"the same with own OpenSSL", compare, 0, perFew, grown("growth-bulk", byOpenSSL)},
		{"the same in plaintext", compare, 0, perFew, grown("growth-bulk", byPlaintext)},
		{crowded + ", requests a second", atLeast, 0.9, "x alone", ratio("crowd", byCrowded, byAlone, speed)},
		{crowded + ", latency", atMost, 1.1, "x alone", ratio("crowd", byCrowded, byAlone, latency)},
		{"libtls client's throughput", atLeast, 0.9, libtls, times("libtls-get", byLibtls, speed)},
		{"its own processor time", atMost, 1, libtls, times("libtls-get", byLibtls, cost)},
		{"libtls server's throughput", atLeast, 0.9, libtls, times("libtls-serve", byLibtls, speed)},
		{"its own processor time", atMost, 1, libtls, times("libtls-serve", byLibtls, cost)},
		{"libtls client's handshakes a second", atLeast, 0.7, libtls, times("libtls-full", byLibtls, speed)},
		{"libtls server's handshakes a second", atLeast, 0.7, libtls, times("libtls-accept", byLibtls, speed)},
	}
}

// plain is a contender's own median.
func plain(work, contender string) figure {
	return func(r results) (float64, bool) { return r.median(work, contender, speed) }
}

// times is how many times another contender's median tlswrap's is.
func times(work, other string, unit int) figure { return ratio(work, byTLSWrap, other, unit) }

// ratio is how many times the other's median a contender's is.
func ratio(work, contender, other string, unit int) figure {
	return func(r results) (float64, bool) {
		v, ok := r.median(work, contender, unit)
		of, ok2 := r.median(work, other, unit)
		return v / of, ok && ok2 && of != 0
	}
}

// more is what a contender takes more than another.
func more(work, contender, than string) figure {
	return func(r results) (float64, bool) {
		v, ok := r.median(work, contender, speed)
		of, ok2 := r.median(work, than, speed)
		return v - of, ok && ok2
	}
}

// printTargets says which targets are met. Those of works that were not measured are
// left out.
func (r results) printTargets(out io.Writer, targets []target) {
	fmt.Fprintln(out, "\nTARGETS")
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, g := range targets {
		v, ok := g.reached(r)
		if !ok {
			continue
		}
		fmt.Fprintf(t, "%s\t%.2f %s\t%s\n", g.what, v, g.unit, g.judge(v))
	}
	t.Flush()
}
