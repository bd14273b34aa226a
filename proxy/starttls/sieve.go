package starttls

import "strings"

// ManageSieve: RFC 5804, section 2.2. The server says its capabilities again under TLS, by
// itself, and that is what the program reads.
var sieve = Protocol{Ask: func(d *Dialogue) error {
	return d.talk([]step{
		{what: "its capabilities", more: isCapability, want: "OK",
			need: offersSieve, lack: "the server does not offer STARTTLS"},
		{say: says("STARTTLS"), what: "the go-ahead for TLS", more: isCapability, want: "OK"},
	})
}}

// isCapability: a line that is no response is a capability, a quoted string.
func isCapability(line string) bool { return strings.HasPrefix(line, `"`) }

func offersSieve(lines []string) bool {
	for _, l := range lines {
		if hasPrefixFold(l, `"STARTTLS"`) {
			return true
		}
	}
	return false
}
