package proxy

import (
	"crypto/tls"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/channel"
	"tlswrap/proxy/names"
	"tlswrap/proxy/record"
	"tlswrap/proxy/report"
	"tlswrap/proxy/trust"
	"tlswrap/proxy/upstream"
	"tlswrap/proxy/verdict"
	"tlswrap/proxy/wire"
)

// newServed makes the channel of a client, before its handshake, whose time begins. Nobody
// finds it yet: it is entered once it has its pair.
func (w *Worker) newServed(s *session, svc *trust.Service, up *upstream.Conn, peer wire.Addr, pid int32) *connection {
	closed := make(chan struct{})
	close(closed)
	ch := &connection{worker: w, session: s, aim: aim{Target: names.Target{Addr: peer, Decision: serviceRule(svc)}}, pid: pid,
		up: up, service: svc, auth: &trust.ClientAuth{}, taken: closed, done: closed, ended: make(chan struct{}),
		state: good, told: true, opened: true}
	up.SetDeadline(time.Now().Add(svc.Listen.Timeout))
	ch.id = newID()
	s.channelOpened()
	return ch
}

// shakeHands lets a client prove what the service demands, within its time.
func (ch *connection) shakeHands() *verdict.Failure {
	ch.tls = record.Server(ch.up, ch.service.Config)
	ch.sealInKernel()
	err := ch.answerSSLRequest()
	if err == nil {
		err = ch.tls.Handshake()
	}
	if err != nil {
		return verdict.Client(err, ch.up.First(), ch.service.Listen.Timeout)
	}
	ch.up.SetDeadline(time.Time{})
	ch.reportClient()
	return nil
}

// reject ends a client that the program is not told of.
func (ch *connection) reject(f *verdict.Failure) {
	ch.reportRejected(f)
	ch.up.Close()
	ch.forgetSecrets()
	close(ch.ended)
	ch.worker.forget(ch.id)
	ch.leave()
}

// client is the verified name of the client, or "".
func (ch *connection) client() string {
	chain := ch.tls.ConnectionState().PeerCertificates
	if len(chain) == 0 {
		return ""
	}
	return trust.ClientName(chain[0])
}

// reportClient tells of a client: in the log, and to who asked for a line each.
func (ch *connection) reportClient() {
	st := ch.tls.ConnectionState()
	attrs := append(report.Attrs(ch.Target, ch.pid), "version", tls.VersionName(st.Version),
		"cipher", tls.CipherSuiteName(st.CipherSuite), "resumed", st.DidResume, "alpn", st.NegotiatedProtocol,
		"server_name", st.ServerName)
	who := "no certificate"
	if client := ch.client(); client != "" {
		attrs = append(attrs, "client", client)
		who = "verified as " + client
	}
	ch.worker.log.Info("accepted", attrs...)
	if v := ch.session.Voice; v.Verbose {
		v.Say(fmt.Sprintf("client %s: %s, %s, %s (%s)", ch.Target, who, tls.VersionName(st.Version),
			tls.CipherSuiteName(st.CipherSuite), ch.service.Listen))
	}
}

// reportRejected tells of a client that the program does not see. Anybody can connect,
// so a person is told only where asked for.
func (ch *connection) reportRejected(f *verdict.Failure) {
	ch.worker.log.Warn("rejected", append(report.Attrs(ch.Target, ch.pid), "errno", unix.ErrnoName(f.Errno), "reason", f.Reason)...)
	if v := ch.session.Voice; v.Verbose {
		v.Say(fmt.Sprintf("client %s: %s (%s)", ch.Target, f.Reason, ch.service.Listen))
	}
}

// accepted serves a client that somebody else has accepted, an inetd or systemd, for a
// program that is about to start with it.
func (c *caller) accepted(s *session, fd int) {
	w := c.worker
	_, svc, err := w.serviceOn(fd)
	if err != nil {
		unix.Close(fd)
		c.cannotServe(s, err)
		return
	}
	if svc == nil {
		unix.Close(fd)
		c.Send(wire.Reply{Answer: wire.AnswerPass})
		return
	}
	var peer wire.Addr
	if sa, err := unix.Getpeername(fd); err == nil {
		peer = wire.AddrOf(sa)
	}
	up, err := upstream.New(fd)
	if err != nil {
		return
	}
	ch := w.newServed(s, svc, up, peer, c.PID)
	failure := ch.guard(ch.shakeHands)
	end := -1
	if failure == nil {
		if ch.pair, end, err = channel.New(channel.Name(ch.id, peer), false); err == nil {
			if err = ch.pair.Accept(); err != nil {
				unix.Close(end)
				ch.pair.Close()
			}
		}
		if err != nil {
			failure = verdict.Failf(unix.ENETDOWN, "no channel: %v", err)
		}
	}
	if failure != nil {
		s.Failed("rejected", ch.Target, c.PID, failure)
		ch.reject(failure)
		c.Send(wire.Reply{Answer: wire.AnswerError, Errno: failure.Errno})
		return
	}
	w.enter(ch)
	if !c.HandOver(wire.Reply{Answer: wire.AnswerChannel}, end) {
		ch.pair.Close()
		ch.reject(errLeft)
		return
	}
	ch.announce()
	ch.relay()
}
