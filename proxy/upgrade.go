package proxy

import (
	"context"
	"errors"
	"io"
	"net"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/channel"
	"tlswrap/proxy/starttls"
	"tlswrap/proxy/verdict"
	"tlswrap/rules"
)

// upgrade is the dialogue of a connection whose rule says starttls.
type upgrade struct {
	protocol *starttls.Protocol
	dialogue starttls.Dialogue
	early    bool // the program was let in before TLS
}

// protocol is what the upgrade goes by, or nil.
func (ch *connection) protocol() *starttls.Protocol {
	if control := ch.control; control != nil {
		return control.upgrade.protocol.Data
	}
	return starttls.Of(ch.Target.Decision.Rule.StartTLS)
}

// askTLS has the dialogue before TLS.
func (ch *connection) askTLS() *verdict.Failure {
	p := ch.protocol()
	if p == nil {
		return nil
	}
	u := &upgrade{protocol: p}
	u.dialogue.Host = ch.verifiedName()
	u.dialogue.Local = ch.up.LocalAddr().(*net.TCPAddr).AddrPort().Addr()
	u.dialogue.Peer = ch.peer.Real()
	if !ch.explains() {
		u.dialogue.Open = ch.letIn
		u.dialogue.Warn = func(reason string) { ch.report("failed", verdict.Failf(unix.EPROTO, "%s", reason)) }
	}
	if p.Data != nil {
		ch.data.sessions = newDataSessions()
		u.dialogue.Expect = ch.expectData
	}
	ch.upgrade = u
	if err := u.dialogue.Ask(ch.up.Plain(), p); err != nil {
		return verdict.Dialogue(err)
	}
	if p.NewFilter != nil {
		ch.filter = p.NewFilter(&u.dialogue)
	}
	return nil
}

// explains reports whether there is no program: Explain makes the connection.
func (ch *connection) explains() bool { return ch.pair == nil }

// secured ends the dialogue, under TLS.
func (ch *connection) secured() *verdict.Failure {
	if ch.upgrade == nil {
		return nil
	}
	if err := ch.upgrade.dialogue.Run(ch.tls, ch.upgrade.protocol.Secured); err != nil {
		return verdict.Dialogue(err)
	}
	return nil
}

// greeting is what the program reads first that the server does not send.
func (ch *connection) greeting() []byte {
	if ch.upgrade == nil || ch.upgrade.protocol.Greeting == nil {
		return nil
	}
	return []byte(ch.upgrade.protocol.Greeting(&ch.upgrade.dialogue))
}

// letIn is a dialogue's Open. The program has until setup's deadline for what it says.
func (ch *connection) letIn() (io.ReadWriter, error) {
	if ch.watch.Stop() {
		return nil, errLeft
	}
	if f := ch.open(); f != nil {
		return nil, f
	}
	ch.upgrade.early = true
	ch.pair.SetReadDeadline(ch.until)
	return programConn{ch.pair}, nil
}

// programConn is the connection to a program that has been let in.
type programConn struct{ pair *channel.Pair }

// Read takes no more from the program than there is room for: the rest is upload's.
func (c programConn) Read(b []byte) (int, error) {
	n, err := c.pair.Read(b)
	if err == io.EOF || errors.Is(err, unix.ECONNRESET) {
		err = errLeft
	}
	return n, err
}

func (c programConn) Write(b []byte) (int, error) {
	if c.pair.Send(b) != nil {
		return 0, errLeft
	}
	return len(b), nil
}

// refuse ends a setup whose program had been let in before it failed.
func (ch *connection) refuse(f *verdict.Failure) {
	if ch.matters(f) {
		ch.report("failed", f)
		if refusal := ch.upgrade.protocol.Refusal; refusal != nil {
			ch.pair.Send(refusal("tlswrap: " + f.Reason))
		}
	}
	ch.pair.Close()
	ch.up.Close()
	ch.worker.forget(ch.id)
}

// matters reports whether a failure after the program was let in is one to anybody. A
// data connection that has carried nothing is not missed: what the server does not want
// to transfer it says on the control connection, and a program may close what it does not
// need.
func (ch *connection) matters(f *verdict.Failure) bool {
	switch {
	case f == errLeft:
		return false
	case ch.control == nil || ch.pair.Unsent():
		return true
	}
	return f != errNoTransfer && !ch.pair.HungUp()
}

// dialVia connects to the rule's proxy, and has that connect to the target.
func (ch *connection) dialVia(ctx context.Context, endpoint rules.Endpoint) *verdict.Failure {
	rule := ch.Target.Decision.Rule
	if f := ch.dialTo(ctx, rule.Via.Endpoint); f != nil {
		return f.By(rule.Via.Endpoint)
	}
	to := rules.Endpoint{Host: ch.Target.Host(), Port: ch.Target.Addr.Port}
	if endpoint.Port != 0 {
		to.Port = endpoint.Port
	}
	if endpoint.Host != "" {
		to.Host = endpoint.Host
	}
	var d starttls.Dialogue
	err := d.Run(ch.up.Plain(), starttls.Via(rule.Via, to))
	if ch.explains() {
		ch.said = append(ch.said, d.Said()...)
	}
	if err != nil {
		return verdict.Dialogue(err).By(rule.Via.Endpoint)
	}
	return nil
}

// filtered sends what a filter makes of the program's words, and answers for the server
// where the filter does.
func (ch *connection) filtered(f starttls.Filter, b []byte) error {
	out, answer, err := f.FromProgram(b)
	if len(answer) > 0 {
		if e := ch.pair.Send(answer); err == nil {
			err = e
		}
	}
	if len(out) > 0 && err == nil {
		err = ch.send(out)
	}
	return err
}
