package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/machine"
	"tlswrap/proxy/names"
	"tlswrap/proxy/outgoing"
	"tlswrap/proxy/report"
	"tlswrap/proxy/trust"
	"tlswrap/proxy/verdict"
	"tlswrap/proxy/wire"
	"tlswrap/rules"
)

// Exit status of check, explain and doctor beside 0.
const exitBad = 1 // something is wrong with what was asked about

// runExplain is tlswrap explain HOST:PORT.
func runExplain(args []string, std stdio) int {
	var o options
	f := newFlags("tlswrap explain")
	o.policyFlags(f)
	args, hostport := splitTarget(args)
	if status, done := parseFlags(f, args, std); done {
		return status
	}
	if hostport == "" {
		hostport = f.Arg(0)
	}
	if hostport == "" || f.NArg() > 1 {
		return complain(std, exitOurs, "usage: tlswrap explain [--rules FILE] [--ca FILE] [--tls HOST:PORT] HOST:PORT")
	}
	if err := o.resolve(); err != nil {
		return complain(std, exitOurs, "%v", err)
	}
	policy, err := o.loader()()
	if err != nil {
		return complainLines(std, exitOurs, err)
	}
	host, port, err := splitHostPort(hostport)
	if err != nil {
		return complain(std, exitOurs, "explain: %q is no HOST:PORT%s", hostport, meantTarget(policy, hostport))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	return page{std}.explain(ctx, question{policy, o.ca, host, port})
}

// splitTarget lets HOST:PORT come first, before the flags.
func splitTarget(args []string) ([]string, string) {
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		return args[1:], args[0]
	}
	return args, ""
}

func splitHostPort(s string) (string, uint16, error) {
	host, service, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil || port == 0 || host == "" {
		return "", 0, fmt.Errorf("%q is no HOST:PORT", s)
	}
	return host, uint16(port), nil
}

// meantTarget is a hint at what somebody wants to have explained. Without a port it is the one that a rule
// for the host is about.
func meantTarget(policy *rules.Policy, s string) string {
	host, port, ok := rules.MeantTarget(s)
	if !ok {
		return ""
	}
	if port == "" {
		port = strconv.Itoa(int(policy.SomePort(strings.Trim(host, "[]"))))
	}
	return fmt.Sprintf("; did you mean tlswrap explain %s:%s?", host, port)
}

// page prints a page of named lines.
type page struct{ stdio }

func (p page) line(name, format string, args ...any) {
	fmt.Fprintf(p.out, "  %-9s "+format+"\n", append([]any{name}, args...)...)
}

// question is whom explain is about, and by which rules.
type question struct {
	policy *rules.Policy
	ca     []string // files that are trusted besides
	host   string
	port   uint16
}

// explain tells what a program would get that connects there, and returns the exit status.
func (p page) explain(ctx context.Context, q question) int {
	policy, host, port := q.policy, q.host, q.port
	fmt.Fprintln(p.out, net.JoinHostPort(host, strconv.Itoa(int(port))))
	t := rules.Target{Port: port}
	ips := []netip.Addr{}
	if ip, err := netip.ParseAddr(host); err == nil {
		ips = append(ips, names.ThisHost(ip.Unmap()))
		name, failure := names.NameFor(policy, ips[0], port)
		if failure != nil {
			return p.refused(failure)
		}
		switch {
		case name != "":
			p.line("name", "%s: a rule names it, and this is its address", name)
			t.Name = name
		case policy.MayNeedName(port):
			p.line("name", "none: a rule with a wildcard counts where a program has looked the name up; explain that")
		}
	} else {
		if t.Name, err = rules.NormalizeName(host); err != nil {
			return complain(p.stdio, exitOurs, "%v", err)
		}
		if ips, err = names.LookUp(ctx, t.Name); err != nil {
			p.line("rule", "%s", policy.Why(t))
			p.line("verdict", "failed: %v", err)
			return exitBad
		}
		name, failure := names.StandsFor(policy, t.Name, ips)
		if failure != nil {
			return p.refused(failure)
		}
		if name != t.Name {
			p.line("name", "%s: stands for %s", t.Name, name)
			t.Name = name
		}
	}
	t.Addr = ips[0]
	p.line("rule", "%s", policy.Why(t))
	p.line("address", "%s", joinAddrs(ips))
	p.line("way", "%s", machine.Try(shim()).OfOne())
	d := policy.Decide(t)
	switch d.Action {
	case rules.Pass:
		p.line("verdict", report.Untouched)
		return 0
	case rules.Deny:
		p.line("verdict", "refused: EACCES, %v", unix.EACCES)
		return exitBad
	}
	probe, err := outgoing.Explain(ctx, policy, q.ca, names.Target{Name: t.Name, Addr: wire.Addr{IP: t.Addr, Port: port}, Decision: d})
	if err != nil {
		return complainLines(p.stdio, exitOurs, err)
	}
	return p.probe(probe, d.Rule)
}

func joinAddrs(ips []netip.Addr) string {
	s := make([]string, len(ips))
	for i, ip := range ips {
		s[i] = ip.String()
	}
	return strings.Join(s, ", ")
}

func (p page) probe(probe *outgoing.Probe, rule *rules.Rule) int {
	p.line("upstream", "%s", probe.Upstream)
	last := ""
	for _, said := range probe.Said {
		name, who := "starttls", "server"
		if said.Proxy {
			name, who = "via", "proxy"
		}
		if said.Worker {
			who = "worker"
		}
		title := name
		if name == last {
			title = ""
		}
		p.line(title, "%s: %s", who, said.Text)
		last = name
	}
	if st := probe.State; st != nil {
		p.line("handshake", "%s, %s, %s, in %v", tls.VersionName(st.Version), tls.CipherSuiteName(st.CipherSuite),
			st.CurveID, probe.Took.Round(100*time.Microsecond))
		if weak, keys := trust.Weaknesses(*st); len(weak) > 0 {
			p.line("", "not safe any more: %s, which the rule lets in (%s)", strings.Join(weak, ", "), strings.Join(keys, ", "))
		}
		if st.NegotiatedProtocol != "" {
			p.line("alpn", "%s", st.NegotiatedProtocol)
		}
	}
	for i, c := range probe.Chain {
		name := "chain"
		if i > 0 {
			name = ""
		}
		p.line(name, "%d %s", i, show(c.Subject.String()))
		p.line("", "  issued by %s", show(c.Issuer.String()))
		p.line("", "  %s, valid %s to %s", keyKind(c), c.NotBefore.UTC().Format(time.DateOnly), c.NotAfter.UTC().Format(time.DateOnly))
		if i == 0 {
			p.line("", "  for %s", show(certNames(c)))
			pin := sha256.Sum256(c.RawSubjectPublicKeyInfo)
			p.line("", "  pin sha256/%s", base64.StdEncoding.EncodeToString(pin[:]))
		}
	}
	if probe.Failure != nil {
		return p.refused(probe.Failure)
	}
	what := "chain and name"
	if len(rule.Pins) > 0 {
		what = "chain, name and pin"
	}
	if rule.VerifyNone {
		p.line("verdict", "connected; chain and name are NOT verified: the rule says verify = \"none\"")
		return 0
	}
	p.line("verdict", "verified: %s, for %s", what, probe.Name)
	return 0
}

// refused prints why a program would not get its connection.
func (p page) refused(f *verdict.Failure) int {
	p.line("verdict", "refused: %s (%s, %q)", f.Reason, unix.ErrnoName(f.Errno), f.Errno.Error())
	return exitBad
}

// show makes what a certificate says safe for a terminal.
func show(s string) string {
	if s == "" {
		return "(no name)"
	}
	q := strconv.Quote(s)
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}

func certNames(c *x509.Certificate) string {
	all := append([]string{}, c.DNSNames...)
	for _, ip := range c.IPAddresses {
		all = append(all, ip.String())
	}
	if len(all) == 0 {
		return "no host"
	}
	return strings.Join(all, ", ")
}

func keyKind(c *x509.Certificate) string {
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return c.PublicKeyAlgorithm.String()
}
