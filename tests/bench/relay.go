package main

import (
	_ "embed"
	"fmt"
	"net"
	"os"
)

// The limit of any process between: a relay that does what the worker does and nothing of TLS, with a library that connects
// programs to it as the shim connects them to the worker.

//go:embed programs/relay.c
var relaySource string

//go:embed programs/divert.c
var divertSource string

const byRelay = "relay" // to nginx in plaintext

// startRelay starts the one in front of nginx's plaintext.
func (l *lab) startRelay() error {
	program, at := l.path("relay"), l.path("relay.socket")
	for _, c := range []struct {
		source, text string
		flags        []string
	}{
		{program + ".c", relaySource, []string{"-o", program}},
		{l.path("divert.c"), divertSource, []string{"-shared", "-fPIC", "-o", l.path("divert.so")}},
	} {
		if err := os.WriteFile(c.source, []byte(c.text), 0o644); err != nil {
			return err
		}
		if _, err := l.run(append([]string{"cc", "-std=gnu17", "-O2", c.source}, c.flags...)...); err != nil {
			return err
		}
	}
	var err error
	l.relay, err = startDaemon(l.ctx, l.path("relay.out"), listeningAt(at), program, at, fmt.Sprint(l.ports.Plain))
	return err
}

// listeningAt tells when something listens at an AF_UNIX address.
func listeningAt(path string) func() bool {
	return func() bool {
		conn, err := net.Dial("unix", path)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}
}

// relayed is a command whose connections to nginx's plaintext go by the relay.
func (l *lab) relayed(command ...string) []string {
	return append([]string{"env", "LD_PRELOAD=" + l.path("divert.so"), fmt.Sprint("DIVERT_PORT=", l.ports.Plain),
		"DIVERT_PATH=" + l.path("relay.socket")}, command...)
}
