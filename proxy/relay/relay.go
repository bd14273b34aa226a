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
	"tlswrap/proxy/guard"
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

	// Of Carry.
	ended  func(why string)
	down   chan struct{}   // closed when the download has ended
	begun  bool            // the program's first words have come
	toward starttls.Filter // that the upload goes through; nil for none, or none any more
	back   starttls.Filter // that the download does
	fault  error           // of the server's, that back has found
}

// Carry begins to move the bytes, one goroutine a direction. When the program has closed its end, or the
// connection broke, which Broken has been told, and nothing uses any part of it, ended is called, and called again after
// a panic. why is for the log.
func (c *Conn) Carry(ended func(why string)) {
	c.ended, c.down = ended, make(chan struct{})
	c.toward, c.back = c.Filter, c.Filter
	go c.carry(&download)
	go c.carry(&upload)
}

var (
	download = direction{
		what: "download", bytes: (*Conn).download, await: func(c *Conn) { c.Upstream.AwaitBytes() },
		fail: func(c *Conn, f *verdict.Failure) { c.downFailed(f) },
		end:  func(c *Conn) { close(c.down) },
	}
	upload = direction{
		what: "upload", bytes: (*Conn).upload, await: func(c *Conn) { c.Channel.AwaitBytes() },
		fail: func(c *Conn, f *verdict.Failure) { c.breakOff(f) },
		end:  (*Conn).end,
	}
)

// end is of the upload, and so of the connection once both directions have ended.
func (c *Conn) end() {
	<-c.down
	c.because("the program has closed it")
	end := func() { c.ended(*c.why.Load()) }
	guard.Run(c.Log, "end", end, end)
}

// upload carries what the program writes.
func (c *Conn) upload() *verdict.Failure {
	err := c.fromProgram()
	if err == fdio.ErrIdle {
		return idle
	}
	return c.uploadEnd(err, c.down)
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

// fromProgram carries what the program writes. nil: the program closed.
func (c *Conn) fromProgram() error {
	for {
		buf, n, err := c.Channel.NextUnlessIdle()
		if err == io.EOF {
			return c.programEnded()
		}
		if err != nil {
			return err
		}
		err = c.words((*buf)[:n])
		buffers.Put(buf)
		if err != nil {
			return err
		}
	}
}

// programEnded passes the end of what the program writes on, and waits until it has closed.
func (c *Conn) programEnded() error {
	if c.Channel.HungUp() && c.Upstream.Abortive() {
		c.Upstream.Close()
		return nil
	}
	c.closeWrite()
	c.Channel.Ended()
	return c.Channel.Gone()
}

// words passes on what the program has written.
func (c *Conn) words(b []byte) error {
	first := !c.begun
	c.begun = true
	switch {
	case first && c.ClientTLS != nil && speaksTLS(b):
		return &clientTLSError{bytes.Clone(b)}
	case c.toward != nil:
		err := c.filtered(c.toward, b)
		if c.toward.Done() {
			c.toward = nil
		}
		return err
	}
	return c.send(b)
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
	err := Deliver(c.TLS.NextUnlessIdle, c.Channel, c.filterBack)
	if err == fdio.ErrIdle {
		c.Upstream.Shrink()
		return idle
	}
	return c.downloadEnd(err)
}

// filterBack is what the program gets of what the server has sent.
func (c *Conn) filterBack(pieces [][]byte) ([][]byte, error) {
	if c.back == nil {
		return pieces, nil
	}
	b := pieces[0]
	if len(pieces) > 1 {
		b = slices.Concat(pieces...)
	}
	if b, c.fault = c.back.FromServer(b); c.back.Done() {
		c.back = nil
	}
	return [][]byte{b}, c.fault
}

// downloadEnd sorts the ends of what the server sends. nil: an end that the program
// was told of as one.
func (c *Conn) downloadEnd(err error) *verdict.Failure {
	switch {
	case c.fault != nil:
		return verdict.Dialogue(c.fault)
	case err == nil:
		c.Undelivered()
		return nil
	}
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
