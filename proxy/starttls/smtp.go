package starttls

import "net/netip"

// SMTP, submission and LMTP: RFC 3207. A client says EHLO again under TLS (section
// 4.2), which programs do as their first word, so all that they need is a greeting.
var (
	smtp = Protocol{Ask: mail("EHLO"), Greeting: mailGreeting("ESMTP")}
	lmtp = Protocol{Ask: mail("LHLO"), Greeting: mailGreeting("LMTP")}
)

func mail(hello string) func(*Dialogue) error {
	steps := []step{
		{what: "a greeting", more: hyphenated, want: "220"},
		{
			say:  func(d *Dialogue) string { return hello + " " + addressLiteral(d.Local) },
			what: "the answer to " + hello, more: hyphenated, want: "250",
			need: offers(4, "STARTTLS"), lack: "the server does not offer STARTTLS",
		},
		{say: says("STARTTLS"), what: "the go-ahead for TLS", more: hyphenated, want: "220"},
	}
	return func(d *Dialogue) error { return d.talk(steps) }
}

func mailGreeting(protocol string) func(*Dialogue) string {
	return func(d *Dialogue) string { return "220 " + d.Host + " " + protocol + "\r\n" }
}

// addressLiteral is the name of a client that has none (RFC 5321, section 4.1.3).
func addressLiteral(a netip.Addr) string {
	if a.Is4() {
		return "[" + a.String() + "]"
	}
	return "[IPv6:" + a.String() + "]"
}
