// Package relay carries the bytes of a connection whose handshake has ended well, between the program's
// channel and the upstream: both directions, by way of a filter where the protocol has one, until each
// has ended as TCP's would. It knows neither rules nor sessions, and not how setup went. The fronts make
// a Conn once there are all of its parts.
package relay

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/buffers"
	"tlswrap/proxy/channel"
	"tlswrap/proxy/fdio"
	"tlswrap/proxy/quote"
	"tlswrap/proxy/record"
	"tlswrap/proxy/starttls"
	"tlswrap/proxy/verdict"
)

// DrainTime is how long the server may take to end its side once the program has
// closed. Closing a socket with bytes unread resets it (RFC 2525, section 2.17), and
// tickets of TLS sessions may be under way: without this the reset could overtake what the
// program wrote last.
const DrainTime = 5 * time.Second

// Conn is a connection that bytes go both ways on. Nothing else uses its parts until Carry returns.
type Conn struct {
	Ends
	TLS    *record.Conn
	Filter starttls.Filter // that the data goes through; nil for none
	Peer   string          // what the other side is, for people: "server" or "client"

	// AllowTruncation takes an end without close_notify for one, and Truncated is told.
	AllowTruncation bool
	Truncated       func()
	// ClientTLS is asked, if it is not nil, about a program whose first words are a ClientHello: it
	// refuses, or connects the upstream anew to where the program's own TLS goes.
	ClientTLS func() *verdict.Failure
	// Attempt is asked for what explains an alert that the other side sends late.
	Attempt func() verdict.Attempt
}

// Carry moves the bytes: one goroutine a direction. It returns when the program has
// closed its end, or the connection broke, which Broken has been told. why is for the log.
func (c *Conn) Carry() (why string) {
	if f := c.bothWays(c.download, c.carryUp); f != nil {
		c.broken(f)
	}
	c.because("the program has closed it")
	return *c.why.Load()
}

func (c *Conn) carryUp(down <-chan struct{}) *verdict.Failure {
	return c.uploadEnd(c.upload(), down)
}

// uploadEnd does what the end of what the program writes asks for, once that has come: its part of the
// stack is not in use while the connection idles.
func (c *Conn) uploadEnd(err error, down <-chan struct{}) *verdict.Failure {
	var (
		sending *upstreamError
		hello   *clientTLSError
		fault   *starttls.Error
	)
	switch {
	case c.Abandoned(err):
		c.Abandon()
	case errors.As(err, &sending):
		// What the server said before it stopped listening still arrives, at a program that
		// reads it.
		select {
		case <-down:
		case <-time.After(DrainTime):
		}
		if c.Channel.Closed() {
			c.Upstream.Close()
			return nil
		}
		c.breakOff(verdict.Broken(sending.err))
	case errors.As(err, &hello):
		c.Upstream.SetDeadline(fdio.Past)
		<-down
		if f := c.ClientTLS(); f != nil {
			return f
		}
		return c.pass(hello.first)
	case errors.As(err, &fault):
		c.breakOff(verdict.Dialogue(err))
	case err == channel.ErrStranger:
		c.breakOff(verdict.Failf(unix.EPROTO, "%v", err))
	default:
		// The program has closed, and all that it wrote has been sent.
		c.closeWrite()
		c.Upstream.CloseWrite()
		c.Upstream.SetReadDeadline(time.Now().Add(DrainTime))
	}
	return nil
}

// upload carries what the program writes. nil: the program closed.
func (c *Conn) upload() error {
	filter := c.Filter
	for first := c.ClientTLS != nil; ; first = false {
		buf, n, err := c.Channel.Next()
		if err == io.EOF {
			if c.Channel.HungUp() && c.Upstream.Abortive() {
				c.Upstream.Close()
				return nil
			}
			c.closeWrite()
			c.Channel.Ended()
			return c.Channel.Gone()
		}
		if err != nil {
			return err
		}
		b := (*buf)[:n]
		switch {
		case first && speaksTLS(b):
			err = &clientTLSError{bytes.Clone(b)}
		case filter != nil:
			if err = c.filtered(filter, b); filter.Done() {
				filter = nil
			}
		default:
			err = c.send(b)
		}
		buffers.Put(buf)
		if err != nil {
			return err
		}
	}
}

// send writes to the upstream. The error is an *upstreamError.
func (c *Conn) send(b []byte) error {
	err := c.Sending(func() error { _, err := c.TLS.Write(b); return err })
	if err != nil {
		return &upstreamError{err}
	}
	return nil
}

// closeWrite sends close_notify.
func (c *Conn) closeWrite() { c.Sending(c.TLS.CloseWrite) }

// upstreamError tells a failure to send from one to read what the program writes.
type upstreamError struct{ err error }

func (e *upstreamError) Error() string { return e.err.Error() }

// download carries what the server sends.
func (c *Conn) download() *verdict.Failure {
	filter := c.Filter
	var fault error
	err := Deliver(c.TLS, c.Channel, func(pieces [][]byte) ([][]byte, error) {
		if filter == nil {
			return pieces, nil
		}
		b := pieces[0]
		if len(pieces) > 1 {
			b = slices.Concat(pieces...)
		}
		if b, fault = filter.FromServer(b); filter.Done() {
			filter = nil
		}
		return [][]byte{b}, fault
	})
	switch {
	case fault != nil:
		return verdict.Dialogue(fault)
	case err != nil:
		return c.downloadEnd(err)
	}
	c.Undelivered()
	return nil
}

// downloadEnd sorts the ends of what the server sends. nil: an end that the program
// was told of as one.
func (c *Conn) downloadEnd(err error) *verdict.Failure {
	if alert, ok := verdict.RemoteAlert(err); ok {
		attempt := c.Attempt()
		return verdict.Failf(unix.ECONNRESET, "%s", attempt.ExplainAlert(alert, err).Reason)
	}
	var (
		header   tls.RecordHeaderError
		delivery *DeliveryError
	)
	switch {
	case errors.As(err, &delivery):
		return verdict.Failf(unix.ECONNRESET, "%v", delivery)
	case errors.As(err, &header):
		said := append(header.RecordHeader[:], c.Upstream.Ahead()...)
		return verdict.Failf(unix.ECONNRESET, "the server went on without TLS: it said %s", quote.Line(said))
	case c.Upstream.Ended:
		// crypto/tls takes a FIN between two records for a close_notify.
		over, ok := c.Filter.(starttls.Farewell)
		switch {
		case ok && over.Over():
		case !c.AllowTruncation:
			return verdict.Failf(unix.ECONNRESET, "the %s ended the connection without close_notify: what it sent may be cut short (allow_truncation = true accepts that)", c.Peer)
		default:
			c.Truncated()
		}
		c.Channel.Finish()
		return nil
	case err == io.EOF: // close_notify
		c.Channel.Finish()
		return nil
	case errors.Is(err, os.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	}
	return verdict.Broken(err)
}

// filtered sends what a filter makes of the program's words, and answers for the server
// where the filter does.
func (c *Conn) filtered(f starttls.Filter, b []byte) error {
	out, answer, err := f.FromProgram(b)
	if len(answer) > 0 {
		if e := c.Channel.Send(answer); err == nil {
			err = e
		}
	}
	if len(out) > 0 && err == nil {
		err = c.send(out)
	}
	return err
}
