// Package quote shows the words of others to people.
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
