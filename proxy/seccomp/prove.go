package seccomp

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Proof is how a tracer answers calls about the descriptor -1 before any other comes: they are tlswrap's own,
// which finds out by that where its calls go.
const Proof = unix.EXFULL

// ErrElsewhere is why a tracer is no use: the kernel asks a listener before it.
var ErrElsewhere = errors.New("calls go to another process that answers for a filter under this one, or to nobody: " +
	"tlswrap would have to be started outside of that")

// NorByTracing is why nobody answers for a program: err, and why no tracer does.
func NorByTracing(err, traced error) error { return fmt.Errorf("%w; nor by tracing: %w", err, traced) }

// Prove makes every call once that the filter under this thread has stop for its tracer, and tells whether it
// was the tracer that has answered.
func Prove() error {
	for _, c := range ownNumbers {
		if c.Call == ioUring || c.Call == Reach {
			continue // it is not handed over so
		}
		const somewhere = 1 // an address, which has sendto(2) stop
		nobody := ^uintptr(0)
		if _, _, errno := unix.Syscall6(uintptr(c.number), nobody, 0, 0, 0, somewhere, 0); errno != Proof {
			return ErrElsewhere
		}
	}
	return nil
}
