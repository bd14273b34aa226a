package starttls

import (
	"os"
	"strings"
	"testing"
)

const (
	xmppHeader   = `<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' id='1' version='1.0'>`
	xmppOffer    = `<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>`
	xmppGo       = `<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>`
	xmppOpens    = `<?xml version='1.0'?><stream:stream to='server.example' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>`
	xmppStartTLS = `<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>`
)

func TestXMPPAsksForTLS(t *testing.T) {
	testAsk(t, "xmpp", []askTest{
		{name: "good", server: xmppHeader + xmppOffer + xmppGo, worker: xmppOpens + xmppStartTLS},
		{name: "spelled out", server: xmppHeader + "\n " + xmppOffer + "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'></proceed>"},
		{name: "other prefixes", server: strings.ReplaceAll(xmppHeader+xmppOffer, "stream:", "s:") + xmppGo,
			want: "the server did not send a stream"},
		{name: "renamed prefix", server: `<s:stream xmlns:s='http://etherx.jabber.org/streams'><s:features><t:starttls xmlns:t='urn:ietf:params:xml:ns:xmpp-tls'/></s:features>` + xmppGo},
		{name: "not offered", server: xmppHeader + "<stream:features></stream:features>", want: "the server does not offer STARTTLS"},
		{name: "of another namespace", server: xmppHeader + "<stream:features><starttls/></stream:features>", want: "does not offer STARTTLS"},
		{name: "an error", server: xmppHeader + "<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>",
			want: `it said "<stream:error><host-unknown`},
		{name: "refused", server: xmppHeader + xmppOffer + "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>",
			want: `the server did not send the go-ahead for TLS: it said "<failure`},
		{name: "the end", server: xmppHeader + "</stream:stream>", want: `it said "</stream:stream>"`},
		{name: "extra", server: xmppHeader + xmppOffer + xmppGo + "<message/>", want: `more than it may before TLS: "<message/>"`},
		{name: "white space", server: xmppHeader + xmppOffer + xmppGo + "\n", want: "more than it may before TLS"},
		{name: "broken", server: xmppHeader + "<a></b>", want: "did not send the features of its stream"},
		{name: "broken features", server: xmppHeader + "<stream:features></b>", want: "does not speak XMPP"},
		{name: "not XML", server: "SSH-2.0-x\r\n", end: os.ErrDeadlineExceeded, want: `in time, after "SSH-2.0-x"`},
		{name: "silent", end: os.ErrDeadlineExceeded, want: "the server did not send a stream in time"},
		{name: "silent later", server: xmppHeader + xmppOffer, end: os.ErrDeadlineExceeded, want: "the server did not send the go-ahead for TLS in time"},
		{name: "closed", server: xmppHeader, want: "closed the connection instead of sending the features of its stream"},
		{name: "closed within an element", server: xmppHeader + "<stream:fea", want: `, after "<stream:fea"`},
		{name: "no end", server: xmppHeader + "<stream:features " + strings.Repeat("a", maxDialogue), want: "more than 65536 bytes"},
		{name: "unprintable", server: "\x1b[2J<", want: "does not speak XMPP"},
	})
}

func TestXMPPServersAskForTLS(t *testing.T) {
	testAsk(t, "xmpp-server", []askTest{
		{name: "good", server: strings.ReplaceAll(xmppHeader, "jabber:client", "jabber:server") + xmppOffer + xmppGo,
			worker: strings.ReplaceAll(xmppOpens, "jabber:client", "jabber:server") + xmppStartTLS},
	})
}

func FuzzXMPP(f *testing.F) {
	fuzzAsk(f, "xmpp", xmppHeader+xmppOffer+xmppGo, xmppHeader+"<stream:error/>", "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>")
}

func FuzzXMPPServer(f *testing.F) { fuzzAsk(f, "xmpp-server", xmppHeader+xmppOffer+xmppGo) }
