package relay

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/channel"
)

// DeliveryError is the end of a connection of which the program has not got all, though it reads.
type DeliveryError struct{ err error }

func (e *DeliveryError) Error() string {
	return fmt.Sprintf("what arrived cannot be given to the program: %v", e.err)
}

// stoppedReading reports whether an error of writing to the program says that it does not read
// any more.
func stoppedReading(err error) bool {
	return errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, os.ErrClosed) ||
		errors.Is(err, os.ErrDeadlineExceeded)
}

// Deliver carries what the peer sends, as next returns it, to the program, by way of filter, which may be
// nil. It returns filter's error, or next's, or a *DeliveryError; nil where the program does not read any more.
func Deliver(next func() ([][]byte, error), pr *channel.Pair, filter func([][]byte) ([][]byte, error)) error {
	for {
		pieces, err := next()
		if err != nil {
			return err
		}
		var fault error
		if filter != nil {
			pieces, fault = filter(pieces)
		}
		if err := pr.SendAll(pieces); err != nil {
			if stoppedReading(err) {
				return nil
			}
			return &DeliveryError{err}
		}
		if fault != nil {
			return fault
		}
	}
}
