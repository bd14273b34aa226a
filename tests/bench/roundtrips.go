package main

import (
	_ "embed"
	"fmt"
	"os"
	"strconv"
)

// Small messages over one connection whose ends are both wrapped, where each is passed on by two workers.

//go:embed programs/roundtrips.c
var roundtripsSource string

// Contenders of round trips.
const (
	byOneWorker = "tlswrap, one worker" // that both ends have
	byRelays    = "relays"              // the same way without TLS, by two processes that only pass on
	messageSize = 64                    // bytes
)

// roundTrips measures what a message and its answer take.
func (l *lab) roundTrips() work {
	program, p := l.path("roundtrips"), l.ports
	times := []string{strconv.Itoa(l.effort.passed), strconv.Itoa(messageSize)}
	ask := func(at string) []string { return append([]string{program, "ask", at}, times...) }
	named := func(port int) string { return fmt.Sprintf("localhost:%d", port) }
	both := append(l.listening(p.echoBoth, "--ca", l.ca, "--tls", named(p.echoBoth)),
		append([]string{program, "both", address(p.echoBoth), named(p.echoBoth)}, times...)...)
	return work{
		name:    "roundtrips",
		title:   fmt.Sprintf("a message of %d bytes and its answer, over one connection whose two ends are both wrapped", messageSize),
		units:   []unit{{"µs", 1}},
		rounds:  l.effort.rounds,
		prepare: l.startRoundTrips,
		contenders: []contender{
			{byTLSWrap, l.number(l.wrapped(ask(named(p.echoTLS))...))},
			{byOneWorker, l.number(both)},
			{byPlaintext, l.number(ask(named(p.echo)))},
			{byRelays, l.number(ask(l.path("relays.socket")))},
			{byStunnel, l.number(ask(named(p.stunnelEcho)))},
		},
	}
}

// listening is tlswrap, with flags of more, for a server at port.
func (l *lab) listening(port int, more ...string) []string {
	return append([]string{l.tlswrap(), "--rules", l.path(fmt.Sprintf("listen-%d.toml", port))}, more...)
}

// startRoundTrips starts the server in plaintext, under tlswrap, and behind a pair of relays and one of stunnels.
func (l *lab) startRoundTrips() error {
	source, program, p := l.path("roundtrips.c"), l.path("roundtrips"), l.ports
	if err := os.WriteFile(source, []byte(roundtripsSource), 0o644); err != nil {
		return err
	}
	if _, err := l.run("cc", "-std=gnu17", "-O2", "-pthread", "-o", program, source); err != nil {
		return err
	}
	for _, port := range []int{p.echoTLS, p.echoBoth} {
		text := fmt.Sprintf("[[listen]]\nport = %d\ncert_file = %q\nkey_file = %q\n", port, l.cert, l.key)
		if err := os.WriteFile(l.path(fmt.Sprintf("listen-%d.toml", port)), []byte(text), 0o644); err != nil {
			return err
		}
	}
	relays := l.path("relays.socket")
	for i, d := range []struct {
		ready   func() bool
		command []string
	}{
		{listening(p.echo), []string{program, "serve", address(p.echo)}},
		{listening(p.echoTLS), append(l.listening(p.echoTLS), program, "serve", address(p.echoTLS))},
		{listening(p.relayed), []string{program, "relay", address(p.relayed), address(p.echo)}},
		{listeningAt(relays), []string{program, "relay", relays, address(p.relayed)}},
	} {
		started, err := startDaemon(l.ctx, l.path(fmt.Sprintf("roundtrips-%d.out", i)), d.ready, d.command...)
		if err != nil {
			return err
		}
		l.daemons = append(l.daemons, started)
	}
	for name, t := range map[string]tunnel{
		"stunnel-echo-server": {At: p.stunnelEchoServer, To: p.echo, Server: true},
		"stunnel-echo":        {At: p.stunnelEcho, To: p.stunnelEchoServer},
	} {
		started, err := l.startStunnel(name, t)
		if err != nil {
			return err
		}
		l.daemons = append(l.daemons, started)
	}
	return nil
}
