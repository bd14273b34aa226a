package outgoing

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"strings"

	"tlswrap/proxy/report"
	"tlswrap/proxy/trust"
	"tlswrap/proxy/verdict"
)

func (c *Conn) report(event string, f *verdict.Failure) {
	c.state.Failed(event, c.Target, c.pid, f)
}

// reportFailed tells of a setup that failed before the program was let in, unless it was told before.
func (c *Conn) reportFailed(f *verdict.Failure) {
	switch c.state.recent.Note(c.question(), f, c.pid) {
	case verdict.Told:
		return
	case verdict.Recalled:
		f = f.Recalled()
	}
	rule := c.Decision.Rule
	if !c.LookedUp || c.control != nil || rule.Upstream.Host != "" || rule.Via.Scheme != "" {
		c.report("failed", f) // it has no other address, or that leads nowhere else
		return
	}
	c.state.Unanswered(c.Target, c.pid, f, c.state.Names.Addresses(c.Name))
}

// reportLeft tells of a setup that the program gave up, and how far that was; f is what it ended in, or nil.
func (c *Conn) reportLeft(f *verdict.Failure) {
	reason := errLeft.Reason
	if f != nil {
		reason += ": " + f.Reason
	}
	c.state.GaveUp(c.Target, c.pid, reason)
}

// trail tells the log of the steps of c's setup, and of its end.
func (c *Conn) trail() report.Trail {
	return report.Trail{Log: c.front.Log, Target: c.Target, PID: c.pid}
}

// reportGood tells of a connection that was set up: in the log, to who asked for a
// line each, and to everybody where nothing was verified or it is not safe any more.
func (c *Conn) reportGood() {
	rule, v := c.Target.Decision.Rule, c.state.Voice
	c.state.Answered(c.Target, c.pid)
	logged := c.front.Log.Enabled(context.Background(), slog.LevelInfo)
	st := c.tls.ConnectionState()
	weak, keys := trust.Weaknesses(st)
	if !logged && !v.Verbose && !rule.VerifyNone && len(weak) == 0 {
		return
	}
	if logged {
		c.front.Log.Info("connected", append(report.Attrs(c.Target, c.pid),
			"upstream", c.up.Peer.String(), "version", tls.VersionName(st.Version), "cipher", tls.CipherSuiteName(st.CipherSuite),
			"resumed", st.DidResume, "alpn", st.NegotiatedProtocol, "verified", !rule.VerifyNone)...)
	}
	if len(weak) > 0 && !v.Quiet {
		v.Say(fmt.Sprintf("%s: warning: not safe any more: %s, which the rule lets in (%s) (%s)%s", c.Target, strings.Join(weak, ", "), strings.Join(keys, ", "), rule, c.state.ByWay(c.Target)))
	}
	switch {
	case rule.VerifyNone && !v.Quiet:
		v.Say(fmt.Sprintf("%s: warning: chain and name are NOT verified, as the rule says verify = \"none\" (%s)%s", c.Target, rule, c.state.ByWay(c.Target)))
	case v.Verbose:
		resumed := ""
		if st.DidResume {
			resumed = ", resumed"
		}
		v.Say(fmt.Sprintf("%s: verified, %s, %s%s, by way of %s (%s)%s", c.Target, tls.VersionName(st.Version),
			tls.CipherSuiteName(st.CipherSuite), resumed, c.up.Peer, rule, c.state.ByWay(c.Target)))
	}
}
