package starttls

import (
	"strings"

	"tlswrap/proxy/quote"
)

// IRC: the STARTTLS command of IRCv3's tls extension, which servers take before a client
// has registered. The client speaks first; what a server says about its look-ups
// (NOTICE) may come before its answer. A program that asks for TLS itself is answered by
// the server, which does not offer it under TLS.
var irc = Protocol{Ask: func(d *Dialogue) error {
	const (
		ready   = "670" // RPL_STARTTLS
		refused = "691" // ERR_STARTTLS
		notice  = "NOTICE"
	)
	if err := d.say("STARTTLS"); err != nil {
		return err
	}
	d.expect("the go-ahead for TLS")
	for {
		line, err := d.line()
		if err != nil {
			return err
		}
		switch command := ircCommand(line); {
		case command == ready:
			return nil
		case command == refused:
			return errorf("the server refused TLS: it said %s", quote.Line([]byte(line)))
		case command != notice:
			return errorf("the server did not send the go-ahead for TLS: it said %s", quote.Line([]byte(line)))
		}
	}
}}

// ircCommand is a message's command or numeric, behind its tags and its source (RFC 1459,
// section 2.3.1; IRCv3 message tags).
func ircCommand(line string) string {
	words := strings.Fields(line)
	for len(words) > 0 && (words[0][0] == ':' || words[0][0] == '@') {
		words = words[1:]
	}
	if len(words) == 0 {
		return ""
	}
	return strings.ToUpper(words[0])
}
