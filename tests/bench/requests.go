package main

import (
	"fmt"
	"strconv"
	"strings"
)

// requests measures with a number of connections that are all in use at a time.
func (l *lab) requests(connections int) work {
	wrk := l.wrk(connections)
	return work{
		name:   fmt.Sprint("requests", connections),
		title:  fmt.Sprintf("wrk gets a file of 1 KB from nginx over %d kept connections (its own OpenSSL verifies nothing)", connections),
		units:  []unit{{"requests/s", 0}},
		rounds: l.effort.rounds,
		contenders: []contender{
			{byTLSWrap, l.countRequests(l.wrapped(wrk("http", l.ports.TLS)...))},
			{byPlaintext, l.countRequests(wrk("http", l.ports.Plain))},
			{byOpenSSL, l.countRequests(wrk("https", l.ports.TLS))},
			{byStunnel, l.countRequests(wrk("http", l.ports.stunnel))},
		},
	}
}

// wrk makes commands that ask for a small file again and again.
func (l *lab) wrk(connections int) func(scheme string, port int) []string {
	return func(scheme string, port int) []string {
		return []string{"wrk", "-t1", fmt.Sprintf("-c%d", connections), fmt.Sprintf("-d%ds", int(l.effort.requests.Seconds())), url(scheme, port, "small")}
	}
}

// countRequests runs wrk. A plaintext request that reaches nginx's TLS port gets status
// 400, which wrk reports: so what counts here went by TLS where it should.
func (l *lab) countRequests(wrk []string) func() ([]float64, error) {
	return func() ([]float64, error) {
		out, err := l.run(wrk...)
		if err != nil {
			return nil, err
		}
		if strings.Contains(out, "Non-2xx") || strings.Contains(out, "Socket errors") {
			return nil, fmt.Errorf("wrk saw errors:\n%s", out)
		}
		_, rate, _ := strings.Cut(out, "Requests/sec:")
		rate, _, _ = strings.Cut(rate, "\n")
		v, err := strconv.ParseFloat(strings.TrimSpace(rate), 64)
		if err != nil || v == 0 {
			return nil, fmt.Errorf("wrk counted no requests:\n%s", out)
		}
		return []float64{v}, nil
	}
}
