package serving

import (
	"crypto/tls"
	"fmt"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/report"
	"tlswrap/proxy/trust"
	"tlswrap/proxy/verdict"
)

// trail tells the log of the steps of a client's, and of its end.
func (c *Client) trail() report.Trail {
	return report.Trail{Log: c.front.log, Target: c.target, PID: c.pid}
}

// name is the verified name of the client, or "".
func (c *Client) name() string {
	chain := c.tls.ConnectionState().PeerCertificates
	if len(chain) == 0 {
		return ""
	}
	return trust.ClientName(chain[0])
}

// reportClient tells of a client: in the log, and to who asked for a line each.
func (c *Client) reportClient() {
	st := c.tls.ConnectionState()
	attrs := append(report.Attrs(c.target, c.pid), "version", tls.VersionName(st.Version),
		"cipher", tls.CipherSuiteName(st.CipherSuite), "resumed", st.DidResume, "alpn", st.NegotiatedProtocol,
		"server_name", st.ServerName)
	who := "no certificate"
	if client := c.name(); client != "" {
		attrs = append(attrs, "client", client)
		who = "verified as " + client
	}
	c.front.log.Info("accepted", attrs...)
	if v := c.session.Voice; v.Verbose {
		v.Say(fmt.Sprintf("client %s: %s, %s, %s (%s)", c.target, who, tls.VersionName(st.Version),
			tls.CipherSuiteName(st.CipherSuite), c.service.Listen))
	}
}

// reportRejected tells of a client that the program does not see. Anybody can connect,
// so a person is told only where asked for.
func (c *Client) reportRejected(f *verdict.Failure) {
	c.front.log.Warn("rejected", append(report.Attrs(c.target, c.pid), "errno", unix.ErrnoName(f.Errno), "reason", f.Reason)...)
	if v := c.session.Voice; v.Verbose {
		v.Say(fmt.Sprintf("client %s: %s (%s)", c.target, f.Reason, c.service.Listen))
	}
}
