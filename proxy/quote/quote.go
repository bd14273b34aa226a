// Package quote makes the words of others, of a server, a client or a file, fit to be shown to people:
// nothing in them can write to a terminal, and they are cut to what a person reads. Whoever puts such
// words into a sentence calls it.
package quote

import (
	"fmt"
	"strings"
)

// Printable keeps a hostile peer's bytes from writing to a terminal.
func Printable(b []byte) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) || r == '\uFFFD' {
			return '.'
		}
		return r
	}, string(b))
}

// Line is the first of the lines in b, printable and in quotes, cut to a length that a
// person reads.
func Line(b []byte) string {
	const most = 200
	line, _, _ := strings.Cut(string(b[:min(len(b), most)]), "\n")
	return fmt.Sprintf("%q", Printable([]byte(strings.TrimRight(line, "\r"))))
}
