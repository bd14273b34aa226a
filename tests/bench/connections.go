package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const connectionsTitle = "connections with one request each, one after the other, to nginx"

func (l *lab) resumed() work {
	return work{
		name:   "resumed",
		title:  connectionsTitle + ", each resuming a TLS session",
		units:  []unit{{"connections/s", 0}},
		rounds: l.effort.rounds,
		contenders: []contender{
			{byTLSWrap, l.countConnections(allResume, l.wrapped(l.loop(l.ports.TLS)...))},
			{byOpenSSL, l.countOpenSSL(allResume, l.ports.TLS)},
			{byStunnel, l.countConnections(allResume, l.loop(l.ports.stunnel))},
		},
	}
}

func (l *lab) full() work {
	return work{
		name:   "full",
		title:  connectionsTitle + ", each with a full handshake",
		units:  []unit{{"connections/s", 0}},
		rounds: l.effort.rounds,
		contenders: []contender{
			{byTLSWrap, l.countConnections(noneResume, l.wrapped(l.loop(l.ports.Full)...))},
			{byPlaintext, l.countConnections(noneResume, l.loop(l.ports.Plain))},
			{byOpenSSL, l.countOpenSSL(noneResume, l.ports.Full)},
			{byStunnel, l.countConnections(noneResume, l.loop(l.ports.stunnelFull))},
		},
	}
}

// loop is the client that connects again and again.
func (l *lab) loop(port int) []string {
	seconds := strconv.FormatFloat(l.effort.connect.Seconds(), 'f', -1, 64)
	return []string{l.connect, "loop", "localhost", strconv.Itoa(port), "/line", seconds}
}

// Which of the connections have to have resumed a session.
const (
	noneResume = false
	allResume  = true
)

func checkResumed(want bool, resumed, count int) error {
	if want && resumed < count || !want && resumed > 0 {
		return fmt.Errorf("%d of %d connections resumed a session", resumed, count)
	}
	return nil
}

func (l *lab) countConnections(resume bool, loop []string) func() ([]float64, error) {
	return func() ([]float64, error) {
		out, err := l.run(loop...)
		if err != nil {
			return nil, err
		}
		var count, resumed int
		var seconds float64
		if _, err := fmt.Sscan(out, &count, &seconds, &resumed); err != nil {
			return nil, fmt.Errorf("what the client printed, %q: %w", out, err)
		}
		if err := checkResumed(resume, resumed, count); err != nil {
			return nil, err
		}
		return []float64{float64(count) / seconds}, nil
	}
}

var (
	timeCount = regexp.MustCompile(`(?m)^(\d+) connections in \d+ real seconds`)
	timeMarks = regexp.MustCompile(`(?m)^[r*]+$`) // a letter for each: r is resumed
)

// countOpenSSL has openssl-s_time(1) connect. It stops only at a second's end and rounds
// what it measures, so the time is taken here, with the few milliseconds of its start.
func (l *lab) countOpenSSL(resume bool, port int) func() ([]float64, error) {
	how := map[bool]string{noneResume: "-new", allResume: "-reuse"}[resume]
	return func() ([]float64, error) {
		start := time.Now()
		out, err := l.run("openssl", "s_time", "-connect", address(port), how, "-www", "/line",
			"-time", "1", "-CAfile", l.ca, "-verify", "2")
		elapsed := time.Since(start)
		if err != nil {
			return nil, err
		}
		found := timeCount.FindStringSubmatch(out)
		if found == nil {
			return nil, fmt.Errorf("openssl s_time counted nothing: %.500s", out)
		}
		count, err := strconv.Atoi(found[1])
		if err != nil {
			return nil, err
		}
		if err := checkResumed(resume, strings.Count(timeMarks.FindString(out), "r"), count); err != nil {
			return nil, err
		}
		return []float64{float64(count) / elapsed.Seconds()}, nil
	}
}
