package starttls

import (
	"strings"

	"tlswrap/proxy/quote"
)

// step is one exchange of a protocol that talks in lines.
type step struct {
	say  func(*Dialogue) string    // the client's line; nil where the server speaks first
	what string                    // that is waited for, for people
	more func(line string) bool    // whether the reply goes on after this line; nil: one line
	want string                    // what the last line of a good reply begins with
	need func(lines []string) bool // what else a good reply has; nil: nothing
	lack string                    // what it says where need is not met
}

// talk goes through steps, one after the other.
func (d *Dialogue) talk(steps []step) error {
	for _, s := range steps {
		if s.say != nil {
			if err := d.say(s.say(d)); err != nil {
				return err
			}
		}
		d.expect(s.what)
		var reply []string
		for {
			line, err := d.line()
			if err != nil {
				return err
			}
			reply = append(reply, line)
			if s.more == nil || !s.more(line) {
				break
			}
		}
		last := reply[len(reply)-1]
		if !hasPrefixFold(last, s.want) {
			return errorf("the server did not send %s: it said %s", s.what, quote.Line([]byte(last)))
		}
		if s.need != nil && !s.need(reply) {
			return errorf("%s: it said %s", s.lack, quote.Line([]byte(strings.Join(reply, " / "))))
		}
	}
	return nil
}

// says is a client's line that is always the same.
func says(line string) func(*Dialogue) string { return func(*Dialogue) string { return line } }

// hyphenated reports whether a reply of codes goes on: its lines but the last have a
// hyphen after the code (RFC 5321, section 4.2.1).
func hyphenated(line string) bool { return len(line) > 3 && line[3] == '-' }

// offers returns a need: one line of the reply, from its byte at on, is word, or begins
// with it and a space.
func offers(at int, word string) func([]string) bool {
	return func(lines []string) bool {
		for _, l := range lines {
			if len(l) >= at && (strings.EqualFold(l[at:], word) || hasPrefixFold(l[at:], word+" ")) {
				return true
			}
		}
		return false
	}
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
