package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// requests measures with a number of connections that are all in use at a time.
func (l *lab) requests(connections int) work {
	wrk := l.wrk(connections)
	return work{
		name:   fmt.Sprint("requests", connections),
		title:  fmt.Sprintf("wrk gets a file of 1 KB from nginx over kept connections, %d at once (its own OpenSSL verifies nothing)", connections),
		units:  []unit{{"requests/s", 0}},
		rounds: l.effort.rounds,
		contenders: []contender{
			{byTLSWrap, l.countRequests(l.wrapped(wrk("http", l.ports.TLS)...))},
			{byPlaintext, l.countRequests(wrk("http", l.ports.Plain))},
			{byOpenSSL, l.countRequests(wrk("https", l.ports.TLS))},
			{byStunnel, l.countRequests(wrk("http", l.ports.stunnel))},
			{byRelay, l.countRequests(l.relayed(wrk("http", l.ports.Plain)...))},
		},
	}
}

// wrk makes commands that ask for a small file again and again.
func (l *lab) wrk(connections int) func(scheme string, port int) []string {
	return func(scheme string, port int) []string {
		return wrk(connections, l.effort.requests, url(scheme, port, "small"))
	}
}

// wrkUntilStopped makes commands that go on until they are interrupted. The first of a
// thousand requests may take more than the two seconds after which wrk sees an error.
func (l *lab) wrkUntilStopped(connections int, file string) func(scheme string, port int) []string {
	return func(scheme string, port int) []string {
		return append(wrk(connections, 2*commandTime, url(scheme, port, file)), "--timeout", "60s")
	}
}

func wrk(connections int, duration time.Duration, url string) []string {
	return []string{"wrk", url, "--latency", "-t1", fmt.Sprintf("-c%d", connections), fmt.Sprintf("-d%ds", int(duration.Seconds()))}
}

// countRequests runs wrk.
func (l *lab) countRequests(wrk []string) func() ([]float64, error) {
	return func() ([]float64, error) {
		r, err := l.runWrk(wrk)
		return []float64{r.requests}, err
	}
}

func (l *lab) runWrk(wrk []string) (wrkReport, error) {
	out, err := l.run(wrk...)
	if err != nil {
		return wrkReport{}, err
	}
	return parseWrk(out)
}

// wrkReport is what wrk says at its end.
type wrkReport struct {
	count      int     // requests
	requests   float64 // in a second
	half, most float64 // µs in which a half, and 99 %, of all requests were answered
}

// parseWrk reads it. A plaintext request that reaches nginx's TLS port gets status 400,
// which wrk reports: so what counts here went by TLS where it should.
func parseWrk(out string) (wrkReport, error) {
	if strings.Contains(out, "Non-2xx") || strings.Contains(out, "Socket errors") {
		return wrkReport{}, fmt.Errorf("wrk saw errors:\n%s", out)
	}
	var r wrkReport
	var err1, err2 error
	r.half, err1 = microseconds(after(out, "\n     50%"))
	r.most, err2 = microseconds(after(out, "\n     99%"))
	count, err4 := strconv.Atoi(before(out, " requests in "))
	rate, err3 := strconv.ParseFloat(after(out, "Requests/sec:"), 64)
	if err := errors.Join(err1, err2, err3, err4); err != nil || rate == 0 {
		return wrkReport{}, fmt.Errorf("wrk counted no requests:\n%s", out)
	}
	r.count, r.requests = count, rate
	return r, nil
}

// after is the word behind label.
func after(text, label string) string {
	_, rest, _ := strings.Cut(text, label)
	word, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(word)
}

// before is the word in front of label.
func before(text, label string) string {
	text, _, _ = strings.Cut(text, label)
	return strings.TrimSpace(text[strings.LastIndex(text, "\n")+1:])
}

// microseconds reads a time as wrk writes it: "57.00us", "1.02ms", "1.10s", "1.00m".
func microseconds(text string) (float64, error) {
	d, err := time.ParseDuration(text)
	return float64(d.Nanoseconds()) / 1000, err
}
