package main

import (
	"fmt"
	"os"
	"time"
)

// New connections as users meet them: several at once, by a client that opens one for each request.

// freshTime is how long one measurement takes, in whole seconds: wrk counts in them.
const freshTime = time.Second

// fresh makes a work of new connections: to nginx at port, and by way of a stunnel at tunnel. Without TLS, connections begin
// the same whatever the handshake, so resumed ones alone are compared with those.
func (l *lab) fresh(name string, connections int, how string, port, tunnel int, without bool) work {
	count := func(scheme string, port int, by func(...string) []string) func() ([]float64, error) {
		return l.countFresh(by(l.wrkFresh(connections, scheme, port, "new")...))
	}
	w := work{
		name:   name,
		title:  fmt.Sprintf("wrk opens a connection to nginx for each request, %d at once, %s", connections, how),
		units:  []unit{{"connections/s", 0}, {"% full", 1}},
		rounds: l.effort.rounds,
		contenders: []contender{
			{byTLSWrap, count("http", port, l.wrapped)},
			{byOpenSSL, count("https", port, alone)},
			{byStunnel, count("http", tunnel, alone)},
		},
	}
	if without {
		w.contenders = append(w.contenders,
			contender{byPlaintext, count("http", l.ports.Plain, alone)},
			contender{byRelay, count("http", l.ports.Plain, l.relayed)})
	}
	return w
}

// alone is a command as it is.
func alone(command ...string) []string { return command }

func (l *lab) freshTLS13(name string, connections int) work {
	return l.fresh(name, connections, "resuming sessions of TLS 1.3", l.ports.TLS, l.ports.stunnel, true)
}

func (l *lab) freshTLS12(name string, connections int) work {
	return l.fresh(name, connections, "resuming sessions of TLS 1.2", l.ports.TLS12, l.ports.stunnel12, true)
}

func (l *lab) fullTLS13(name string) work {
	return l.fresh(name, few, "with full handshakes of TLS 1.3", l.ports.Full, l.ports.stunnelFull, false)
}

func (l *lab) fullTLS12(name string) work {
	return l.fresh(name, few, "with full handshakes of TLS 1.2", l.ports.Full12, l.ports.stunnelFull12, false)
}

// servedFresh measures new connections of the clients of an nginx that knows no TLS.
func (l *lab) servedFresh(connections int) work {
	count := func(scheme string, port int) func() ([]float64, error) {
		return l.countRequests(l.wrkFresh(connections, scheme, port, "small"))
	}
	return work{
		name:    fmt.Sprint("served-new", connections),
		title:   fmt.Sprintf("wrk opens a connection for each request, %d at once, with its own OpenSSL, resuming, to nginx, which has TLS from another", connections),
		units:   []unit{{"connections/s", 0}},
		rounds:  l.effort.rounds,
		prepare: l.startServed,
		contenders: []contender{
			{byTLSWrap, count("https", l.ports.served)},
			{byPlaintext, count("http", l.ports.Plain)},
			{byOwnTLS, count("https", l.ports.TLS)},
			{byStunnel, count("https", l.ports.stunnelServer)},
		},
	}
}

// wrkFresh is a wrk that has every connection closed after one reply.
func (l *lab) wrkFresh(connections int, scheme string, port int, file string) []string {
	return append(wrk(connections, freshTime, url(scheme, port, file)), "-H", "Connection: close")
}

// countFresh runs wrk, and gives also how many of a hundred connections made a full handshake: who has no session yet, and
// who does not resume the one that he has.
func (l *lab) countFresh(wrk []string) func() ([]float64, error) {
	return func() ([]float64, error) {
		// What another contender has left behind is logged by then.
		if err := l.awaitNobody(); err != nil {
			return nil, err
		}
		earlier, err := l.fullHandshakes()
		if err != nil {
			return nil, err
		}
		r, err := l.runWrk(wrk)
		if err != nil {
			return nil, err
		}
		full, err := l.fullHandshakes()
		return []float64{r.requests, min(100, float64(full-earlier)/float64(r.count)*100)}, err
	}
}

// fullHandshakes counts the lines that nginx has logged, of two bytes each.
func (l *lab) fullHandshakes() (int, error) {
	log, err := os.Stat(l.path("full-handshakes"))
	if err != nil {
		return 0, err
	}
	return int(log.Size() / 2), nil
}
