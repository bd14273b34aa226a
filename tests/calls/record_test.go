package calls

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// recordConn is a server's end of a connection that must carry TLS records and nothing
// else. It says so where another byte comes.
type recordConn struct {
	net.Conn
	say    func(string)
	ahead  []byte
	header []byte // of the current record, as far as it came
	left   int    // bytes of the current record that are still to come
	broken bool
}

const (
	headerLen  = 5
	firstType  = 20 // change_cipher_spec
	lastType   = 24 // heartbeat
	largestLen = 16<<10 + 2048
)

func (c *recordConn) Read(b []byte) (int, error) {
	if len(c.ahead) > 0 {
		n := copy(b, c.ahead)
		c.ahead = c.ahead[n:]
		return n, nil
	}
	n, err := c.Conn.Read(b)
	c.look(b[:n])
	return n, err
}

// wait reads ahead until the program says how this server goes on, or the peer is gone.
func (c *recordConn) wait(s *servers) (good bool, err error) {
	ended := make(chan error, 1)
	go func() {
		b := make([]byte, 4<<10)
		for {
			n, err := c.Conn.Read(b)
			c.look(b[:n])
			c.ahead = append(c.ahead, b[:n]...)
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	select {
	case err := <-ended:
		return false, err
	case good = <-s.release:
		s.release <- good
	case <-s.stopped:
		return false, net.ErrClosed
	}
	c.Conn.SetReadDeadline(time.Unix(1, 0))
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		return false, err
	}
	return good, c.Conn.SetReadDeadline(time.Time{})
}

func (c *recordConn) look(b []byte) {
	for len(b) > 0 && !c.broken {
		if c.left > 0 {
			n := min(c.left, len(b))
			c.left -= n
			b = b[n:]
			continue
		}
		c.header = append(c.header, b[0])
		b = b[1:]
		if len(c.header) < headerLen {
			continue
		}
		h := c.header
		length := int(h[3])<<8 | int(h[4])
		if h[0] < firstType || h[0] > lastType || h[1] != 3 || length > largestLen {
			c.broken = true
			c.say(fmt.Sprintf("%q where a TLS record should begin", append(h, b[:min(len(b), 40)]...)))
		}
		c.left, c.header = length, c.header[:0]
	}
}
