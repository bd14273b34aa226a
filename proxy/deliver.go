package proxy

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/channel"
	"tlswrap/proxy/record"
)

// deliveryError is the end of a connection of which the program has not got all, though it reads.
type deliveryError struct{ err error }

func (e *deliveryError) Error() string {
	return fmt.Sprintf("what arrived cannot be given to the program: %v", e.err)
}

// stoppedReading reports whether an error of writing to the program says that it does not read
// any more.
func stoppedReading(err error) bool {
	return errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, os.ErrClosed) ||
		errors.Is(err, os.ErrDeadlineExceeded)
}

// deliver carries what the peer sends to the program, by way of filter, which may be nil. It
// returns filter's error, or conn's, or a *deliveryError; nil where the program does not read any
// more.
func deliver(conn *record.Conn, pr *channel.Pair, filter func([][]byte) ([][]byte, error)) error {
	for {
		pieces, err := conn.Next()
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
			return &deliveryError{err}
		}
		if fault != nil {
			return fault
		}
	}
}
