package proxy

import (
	"context"
	"errors"
	"io"
	"net"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/starttls"
	"tlswrap/rules"
)

// upgrade is the dialogue of a connection whose rule says starttls.
type upgrade struct {
	protocol *starttls.Protocol
	dialogue starttls.Dialogue
}

// askTLS has the dialogue before TLS.
func (ch *channel) askTLS() *Failure {
	p := starttls.Of(ch.target.decision.Rule.StartTLS)
	if p == nil {
		return nil
	}
	u := &upgrade{protocol: p}
	u.dialogue.Host = ch.verifiedName()
	u.dialogue.Local = ch.up.LocalAddr().(*net.TCPAddr).AddrPort().Addr()
	if ch.pair != nil { // explain has none
		u.dialogue.Open = ch.letIn
	}
	ch.upgrade = u
	if err := u.dialogue.Ask(plain{ch.up}, p); err != nil {
		return dialogueFailure(err)
	}
	if p.NewFilter != nil {
		ch.filter = p.NewFilter(&u.dialogue)
	}
	return nil
}

// secured ends the dialogue, under TLS.
func (ch *channel) secured() *Failure {
	if ch.upgrade == nil {
		return nil
	}
	if err := ch.upgrade.dialogue.Run(ch.tls, ch.upgrade.protocol.Secured); err != nil {
		return dialogueFailure(err)
	}
	return nil
}

// greeting is what the program reads first that the server does not send.
func (ch *channel) greeting() []byte {
	if ch.upgrade == nil || ch.upgrade.protocol.Greeting == nil {
		return nil
	}
	return []byte(ch.upgrade.protocol.Greeting(&ch.upgrade.dialogue))
}

// letIn is a dialogue's Open.
func (ch *channel) letIn() (io.ReadWriter, error) {
	if ch.watch.stop() {
		return nil, errLeft
	}
	if f := ch.open(); f != nil {
		return nil, f
	}
	return &programConn{pair: ch.pair}, nil
}

// programConn is the connection to a program that has been let in.
type programConn struct {
	pair *pair
	rest []byte
}

func (c *programConn) Read(b []byte) (int, error) {
	if len(c.rest) == 0 {
		buf, n, err := c.pair.read()
		if err != nil {
			return 0, err
		}
		c.rest = append(c.rest, (*buf)[:n]...)
		putBuffer(buf)
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *programConn) Write(b []byte) (int, error) {
	if err := c.pair.write(b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// refuse ends a setup whose program had been let in before it failed.
func (ch *channel) refuse(f *Failure) {
	if f != errLeft {
		ch.report("failed", f)
		if refusal := ch.upgrade.protocol.Refusal; refusal != nil {
			ch.pair.write(refusal("tlswrap: " + f.Reason))
		}
	}
	ch.pair.close()
	ch.up.Close()
	ch.worker.forget(ch.id)
}

// dialogueFailure explains why a dialogue, or a proxy's, ended badly.
func dialogueFailure(err error) *Failure {
	var (
		failure *Failure
		fault   *starttls.Error
		errno   unix.Errno
	)
	switch {
	case errors.As(err, &failure):
		return failure
	case errors.As(err, &fault):
		return failf(unix.EPROTO, "%s", fault.Reason)
	case errors.As(err, &errno):
		return failf(errno, "before TLS: %v", errno)
	}
	return failf(unix.EPROTO, "before TLS: %v", err)
}

// dialVia connects to the rule's proxy, and has that connect to the target.
func (ch *channel) dialVia(ctx context.Context, rule *rules.Rule) *Failure {
	if f := ch.dialTo(ctx, rule.Via.Endpoint); f != nil {
		f.Reason = "by way of " + rule.Via.Endpoint.String() + ": " + f.Reason
		return f
	}
	to := rules.Endpoint{Host: ch.target.host(), Port: ch.target.addr.port}
	if rule.Upstream.Port != 0 {
		to.Port = rule.Upstream.Port
	}
	if rule.Upstream.Host != "" {
		to.Host = rule.Upstream.Host
	}
	var d starttls.Dialogue
	if err := d.Run(plain{ch.up}, starttls.Via(rule.Via, to)); err != nil {
		f := dialogueFailure(err)
		f.Reason = "by way of " + rule.Via.Endpoint.String() + ": " + f.Reason
		return f
	}
	return nil
}

// filtered sends what a filter makes of the program's words, and answers for the server
// where the filter does.
func (ch *channel) filtered(f starttls.Filter, b []byte) error {
	out, answer, err := f.FromProgram(b)
	if len(answer) > 0 {
		if e := ch.pair.write(answer); err == nil {
			err = e
		}
	}
	if len(out) > 0 && err == nil {
		err = ch.send(out)
	}
	return err
}
