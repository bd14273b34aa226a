package report

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Voice writes sentences to a session's standard error.
type Voice struct {
	Quiet, Verbose bool
	// Awaited is set where somebody may read standard error until its end, as one does a pipe: it comes when
	// nobody holds it any more.
	Awaited bool
	stat    os.FileInfo

	mu    sync.Mutex
	lines chan line
	last  line // that was queued
	stuck bool // sayTime was not enough for what was queued, and nothing has been since
}

// line is one, or several that are written at once.
type line struct {
	text    string
	written chan struct{} // closed when it was
}

// sayTime is how long a failure waits for its sentence to be written, so that it stands
// before what the program says about it. A reader that is slower gets it later, and one
// that does not read misses some.
const sayTime = 100 * time.Millisecond

// NewVoice takes over stderr, which may be nil.
func NewVoice(stderr *os.File, verbose, quiet bool) *Voice {
	v := &Voice{Quiet: quiet, Verbose: verbose && !quiet}
	if stderr == nil {
		return v
	}
	v.stat, _ = stderr.Stat()
	v.Awaited = v.stat == nil || v.stat.Mode()&(os.ModeNamedPipe|os.ModeSocket) != 0
	v.lines = make(chan line, 64)
	go func(lines <-chan line) {
		for l := range lines {
			stderr.WriteString(l.text)
			close(l.written)
		}
		stderr.Close()
	}(v.lines)
	return v
}

// Say writes one line.
func (v *Voice) Say(text string) {
	if l := newLine(text); v.queue(l) {
		l.await()
	}
}

// Note writes lines that nobody waits for, but while there is no room for them.
func (v *Voice) Note(texts ...string) {
	if len(texts) == 0 {
		return
	}
	l := newLine(texts...)
	if v.queue(l) {
		return
	}
	v.mu.Lock()
	last, wait := v.last, v.lines != nil && !v.stuck
	v.mu.Unlock()
	if !wait {
		return
	}
	if last.await() {
		v.queue(l)
		return
	}
	v.mu.Lock()
	v.stuck = true
	v.mu.Unlock()
}

func newLine(texts ...string) line {
	return line{"tlswrap: " + strings.Join(texts, "\ntlswrap: ") + "\n", make(chan struct{})}
}

// await waits until it is written, for sayTime at most, and reports whether it is.
func (l line) await() bool {
	limit := time.NewTimer(sayTime)
	defer limit.Stop()
	select {
	case <-l.written:
		return true
	case <-limit.C:
		return false
	}
}

func (v *Voice) queue(l line) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.lines == nil {
		return false
	}
	select {
	case v.lines <- l:
		v.last, v.stuck = l, false
		return true
	default:
		return false
	}
}

// Hush closes standard error once what was said is written.
func (v *Voice) Hush() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.lines != nil {
		close(v.lines)
		v.lines = nil
	}
}

func (v *Voice) Hushed() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.lines == nil
}

// IsHeldBy reports whether a process has our standard error as its own standard output
// or error. What cannot be seen counts as not.
func (v *Voice) IsHeldBy(pid int32) bool {
	for _, fd := range []int{unix.Stdout, unix.Stderr} {
		st, err := os.Stat(fmt.Sprintf("/proc/%d/fd/%d", pid, fd))
		if err == nil && v.stat != nil && os.SameFile(st, v.stat) {
			return true
		}
	}
	return false
}
