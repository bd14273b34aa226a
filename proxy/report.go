package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"

	"tlswrap/proxy/report"
	"tlswrap/proxy/verdict"
)

func (ch *connection) report(event string, f *verdict.Failure) {
	ch.session.Failed(event, ch.Target, ch.pid, f)
}

// reportGood tells of a connection that was set up: in the log, to who asked for a
// line each, and to everybody where nothing was verified.
func (ch *connection) reportGood() {
	rule, v := ch.Target.Decision.Rule, ch.session.Voice
	logged := ch.worker.log.Enabled(context.Background(), slog.LevelInfo)
	if !logged && !v.Verbose && !rule.VerifyNone {
		return
	}
	st := ch.tls.ConnectionState()
	if logged {
		ch.worker.log.Info("connected", append(report.Attrs(ch.Target, ch.pid),
			"upstream", ch.up.Peer.String(), "version", tls.VersionName(st.Version), "cipher", tls.CipherSuiteName(st.CipherSuite),
			"resumed", st.DidResume, "alpn", st.NegotiatedProtocol, "verified", !rule.VerifyNone)...)
	}
	switch {
	case rule.VerifyNone && !v.Quiet:
		v.Say(fmt.Sprintf("%s: warning: chain and name are NOT verified, as the rule says verify = \"none\" (%s)", ch.Target, rule))
	case v.Verbose:
		resumed := ""
		if st.DidResume {
			resumed = ", resumed"
		}
		v.Say(fmt.Sprintf("%s: verified, %s, %s%s, by way of %s (%s)", ch.Target, tls.VersionName(st.Version),
			tls.CipherSuiteName(st.CipherSuite), resumed, ch.up.Peer, rule))
	}
}
