package outgoing

import (
	"net/netip"
	"testing"

	"tlswrap/proxy/names"
	"tlswrap/proxy/session/sessiontest"
	"tlswrap/proxy/trust"
	"tlswrap/proxy/upstream"
	"tlswrap/proxy/wire"
	"tlswrap/rules"
)

// testControl is a control connection to peer that has announced ports.
func testControl(s *State, peer string, rule *rules.Rule, ports ...uint16) *Conn {
	to := netip.MustParseAddrPort(peer)
	addr := wire.Addr{IP: to.Addr(), Port: to.Port()}
	ch := &Conn{front: &Front{}, state: s, peer: addr,
		aim: aim{Target: names.Target{Name: "ftp.example.test", Addr: addr, Decision: rules.Decision{Action: rules.TLS, Rule: rule}}},
		up:  &upstream.Conn{Peer: netip.MustParseAddrPort("192.0.2.9:21")}}
	for _, p := range ports {
		ch.expectData(p)
	}
	return ch
}

func TestAnnouncedPortIsTakenForADataConnection(t *testing.T) {
	w := &Front{Resolver: names.NewResolver()}
	s := NewState(sessiontest.New(t, nil, nil))
	policy := &trust.Policy{Rules: &rules.Policy{Default: rules.Pass}}
	rule := &rules.Rule{Upstream: rules.Endpoint{Host: "ftp2.example.test", Port: 990}, StartTLS: "ftp"}
	first := testControl(s, "192.0.2.1:21", rule, 1024, 1024, 1025)
	second := testControl(s, "192.0.2.1:21", rule, 1025)

	find := func(addr string, port uint16) aim {
		t.Helper()
		got, failure := w.identify(s, policy, wire.Addr{IP: netip.MustParseAddr(addr), Port: port})
		if failure != nil {
			t.Fatal(failure)
		}
		return got
	}
	got := find("::ffff:192.0.2.1", 1024)
	if got.control != first || got.Decision.Action != rules.TLS || got.Name != "ftp.example.test" || got.Addr.Port != 1024 {
		t.Errorf("an announced port led to %+v", got)
	}
	// The data goes to the server that the control connection goes to.
	if up := got.Decision.Rule.Upstream; up != (rules.Endpoint{Host: "192.0.2.9"}) {
		t.Errorf("the data connection goes to %v", up)
	}
	if rule.Upstream.Port != 990 {
		t.Error("the control connection's rule was changed")
	}
	if got := find("192.0.2.1", 1025); got.control != second {
		t.Error("the last to announce a port has not got it")
	}
	for _, other := range []struct {
		addr string
		port uint16
	}{{"192.0.2.1", 1026}, {"192.0.2.2", 1024}} {
		if got := find(other.addr, other.port); got.control != nil || got.Decision.Action != rules.Pass {
			t.Errorf("%v was taken for a data connection", other)
		}
	}
	if got := find("192.0.2.1", 1024); got.control != first {
		t.Error("a port that was used once may be connected to without TLS")
	}

	// Another rule about the port counts, and the control connection's own does not.
	other := &rules.Rule{Host: mustParseHost(t, "*"), Ports: []rules.PortRange{{First: 1024, Last: 1024}}, Action: rules.Deny}
	policy.Rules.Rules = []*rules.Rule{other}
	if got := find("192.0.2.1", 1024); got.control != nil || got.Decision.Action != rules.Deny {
		t.Errorf("a denied port led to %+v", got)
	}
	other.Action = rules.Pass
	if got := find("192.0.2.1", 1024); got.control != first {
		t.Error("a data connection goes out without TLS")
	}
	rule.Host, policy.Rules.Rules = mustParseHost(t, "*"), []*rules.Rule{rule}
	if got := find("192.0.2.1", 1024); got.control != first {
		t.Error("the control connection's own rule takes its data connection away")
	}
	policy.Rules.Rules, policy.Rules.Default = nil, rules.Deny
	if got := find("192.0.2.1", 1024); got.control != first {
		t.Error("what the default denies is no data connection any more")
	}
	policy.Rules.Default = rules.Pass

	first.dropData()
	if find("192.0.2.1", 1024).control != nil || s.Map.IsSet(1024) {
		t.Error("an ended control connection's port is still expected")
	}
	if find("192.0.2.1", 1025).control != second || !s.Map.IsSet(1025) {
		t.Error("an ended control connection took another's port along")
	}
	second.dropData()
	if len(s.data.to) != 0 || s.Map.IsSet(1025) {
		t.Error("something is left")
	}
}

func mustParseHost(t *testing.T, s string) rules.HostPattern {
	t.Helper()
	h, err := rules.ParseHost(s)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestDataConnectionByWayOfAProxyAsksForTheName(t *testing.T) {
	rule := &rules.Rule{Upstream: rules.Endpoint{Host: "ftp2.example.test", Port: 990}, Via: rules.Proxy{Scheme: "http"}}
	ch := testControl(NewState(sessiontest.New(t, nil, nil)), "192.0.2.1:21", rule)
	if up := ch.dataTarget(1024).Decision.Rule.Upstream; up != (rules.Endpoint{Host: "ftp2.example.test"}) {
		t.Errorf("the data connection goes to %v", up)
	}
}
