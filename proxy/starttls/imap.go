package starttls

import "strings"

// IMAP: RFC 9051, section 6.2.1. A client asks for the capabilities again under TLS, since
// the greeting that it reads names none but the least.
var imap = Protocol{
	Ask: func(d *Dialogue) error {
		const tag = "tlswrap"
		untagged := func(line string) bool { return strings.HasPrefix(line, "* ") }
		return d.talk([]step{
			// A connection that begins authenticated (PREAUTH) can have no TLS.
			{what: "a greeting", want: "* OK"},
			{say: says(tag + " STARTTLS"), what: "the go-ahead for TLS", more: untagged, want: tag + " OK"},
		})
	},
	Greeting: func(d *Dialogue) string { return "* OK " + d.Host + " IMAP4rev1 server ready\r\n" },
}
