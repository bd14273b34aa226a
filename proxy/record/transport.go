package record

import (
	"encoding/binary"
	"net"
)

// Transport is a connection that reads ahead, into a buffer of its own.
type Transport interface {
	net.Conn

	// Fill waits for bytes and reads as many as there are, behind those that are ahead. It
	// holds no buffer while it waits and nothing is ahead. The error is io.EOF where the
	// peer has ended its side; after that of a deadline it may be called again. There is
	// room for a record of 18 KiB.
	Fill() error

	// FillUnlessIdle is Fill that ends in a timeout (net.Error) where nothing comes for a while.
	FillUnlessIdle() error

	// Ahead returns what has been read and not consumed. It may be changed, and is valid
	// until the next Fill.
	Ahead() []byte

	// Consume drops the first n bytes of Ahead. Where none are left, none that were there
	// are valid.
	Consume(n int)

	// Acknowledge has the peer told at once what has arrived from it.
	Acknowledge()
}

// atHand reports whether a first record lies in b, or what cannot become one.
func atHand(b []byte) bool {
	if len(b) < headerLen {
		return false
	}
	n := int(binary.BigEndian.Uint16(b[3:]))
	return len(b) >= headerLen+n || n > maxPlaintext+maxExpand12 || b[1] != 3
}
