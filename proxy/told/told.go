// Package told has the answers of a kernel that may also refuse to answer: yes, no, and that it cannot
// be told. Whoever asks the kernel what something is like answers so, and whoever decides by that has to
// say what the third means, which is hardly ever that a connection goes out as it is.
package told

// Answer is yes, no, or that it cannot be told: the zero value. It is no bool, so that who asks
// has to say what becomes of the third.
type Answer struct{ is uint8 }

const (
	no uint8 = iota + 1
	yes
)

// If is yes or no.
func If(b bool) Answer {
	if b {
		return Answer{yes}
	}
	return Answer{no}
}

// Surely reports yes, and takes "cannot tell" for no.
func (a Answer) Surely() bool { return a.is == yes }

// Possibly reports yes, and takes "cannot tell" for yes.
func (a Answer) Possibly() bool { return a.is != no }
