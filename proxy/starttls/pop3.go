package starttls

// POP3: RFC 2595, section 4. The greeting that the program reads has no timestamp, so it
// does not try APOP, whose challenge would be from before TLS.
var pop3 = Protocol{
	Ask: func(d *Dialogue) error {
		return d.talk([]step{
			{what: "a greeting", want: "+OK"},
			{say: says("STLS"), what: "the go-ahead for TLS", want: "+OK"},
		})
	},
	Greeting: func(d *Dialogue) string { return "+OK " + d.Host + " POP3 server ready\r\n" },
}
