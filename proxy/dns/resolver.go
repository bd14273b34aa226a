// Package dns answers the questions that programs send to a DNS server by themselves, past libc. Their
// sockets are made in a room (package room), where every server is here. Each question is sent on,
// unchanged, to the server that it was for, and comes back with the addresses that the program is to see:
// what package names says for getaddrinfo holds for these look-ups, too. A session has a Resolver, and its
// programs alone have sockets in its room: whoever asks there is known.
//
// An answer without addresses is passed on as it came. In another:
//
//   - The addresses of the name that was asked, by whatever CNAMEs, count as that name's; others as their owner's.
//   - What is replaced is kept by nobody for long, and is not called authenticated any more; its signatures go.
//   - HTTPS and SVCB records (RFC 9460) lose their address hints. Those of a name that a rule may cover are left
//     out, as they name other hosts, ports and keys; programs have to do without them anyway.
//   - EDNS (RFC 6891) is the program's and the server's. What has become too long for the program is cut, and it
//     comes again by TCP.
//
// Messages in which no address can be are not looked into: zone transfers, and what is signed as a whole (TSIG) where
// nothing was replaced, are as the server made them.
package dns

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"tlswrap/proxy/guard"
	"tlswrap/proxy/room"
)

// Asker is the session whose programs ask. Its methods may be called from any goroutine.
type Asker interface {
	// Shown says which addresses a program is to see that has looked name up, which has no trailing dot, and got
	// addrs: as many, each of the same family. The error is a sentence, and has the look-up fail.
	Shown(name string, addrs []netip.Addr) ([]netip.Addr, error)
	// Covers reports whether a rule may cover name.
	Covers(name string) bool
	// Say tells the session's person something.
	Say(line string)
}

// Resolver answers the questions of one session. Its methods may be called from any goroutine.
type Resolver struct {
	asker Asker
	log   *slog.Logger
	dial  func(ctx context.Context, network string, server netip.Addr) (net.Conn, error)

	ctx       context.Context // until Close
	cancel    func()
	questions chan struct{} // a turn for each that came as a packet and is not answered yet
	streams   chan struct{} // the same for connections

	mu     sync.Mutex
	opened bool
	room   *room.Room // nil before it is needed, and where it cannot be had
	err    error      // why
}

// How much a session may have under way.
const (
	mostQuestions = 256
	mostStreams   = 64
)

// patience is how long a server may take, and how long a connection may be idle.
const patience = 10 * time.Second

// New makes a resolver, which needs nothing before it is asked for a socket.
func New(asker Asker, log *slog.Logger) *Resolver {
	r := &Resolver{asker: asker, log: log, dial: dialServer,
		questions: make(chan struct{}, mostQuestions), streams: make(chan struct{}, mostStreams)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// dialServer connects to a server from the worker's own network namespace.
func dialServer(ctx context.Context, network string, server netip.Addr) (net.Conn, error) {
	const port = 53
	d := net.Dialer{Timeout: patience}
	return d.DialContext(ctx, network, net.JoinHostPort(server.String(), strconv.Itoa(port)))
}

// Socket makes a socket for a program that is about to ask a server: of AF_INET or AF_INET6, SOCK_DGRAM or
// SOCK_STREAM. What is sent from it to port 53 of any address is answered here, and there is nothing else that it
// reaches. The error is the same each time where this machine allows no such socket.
func (r *Resolver) Socket(domain, typ int) (fd int, err error) {
	in, err := r.enter()
	if err != nil {
		return -1, err
	}
	return in.Socket(domain, typ)
}

// enter opens the room.
func (r *Resolver) enter() (*room.Room, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.opened {
		return r.room, r.err
	}
	r.opened = true
	if r.room, r.err = room.Open(r.log); r.err != nil {
		return nil, r.err
	}
	for _, c := range r.room.Packets {
		go guard.Run(r.log, "packets", func() { c.Close() }, func() { r.servePackets(c) })
	}
	for _, l := range r.room.Streams {
		go guard.Run(r.log, "streams", func() { l.Close() }, func() { r.serveStreams(l) })
	}
	return r.room, nil
}

// Close ends it with what is under way. A program that still has a socket of its is refused by the kernel.
func (r *Resolver) Close() {
	r.cancel()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.room != nil {
		r.room.Close()
	}
	r.opened, r.room, r.err = true, nil, net.ErrClosed
}

// shown is an answer of a server's as the program that asked q is to see it.
func (r *Resolver) shown(q question, answer []byte) []byte {
	edited, err := q.edit(answer, r.asker)
	if err == nil {
		return edited
	}
	var refused *refusal
	if errors.As(err, &refused) {
		r.asker.Say(refused.Error())
	} else {
		r.log.Warn("answer", "error", err.Error())
	}
	return q.failed(serverFailure)
}
