package starttls

// News: RFC 4642, section 2.2. Whether posting is allowed the server says by 201 in its
// greeting, before TLS; the program reads 200, and the server refuses what it does not
// allow.
var nntp = Protocol{
	Ask: func(d *Dialogue) error {
		return d.talk([]step{
			{what: "a greeting", want: "20"},
			{say: says("STARTTLS"), what: "the go-ahead for TLS", want: "382"},
		})
	},
	Greeting: func(d *Dialogue) string { return "200 " + d.Host + " news server ready\r\n" },
}
