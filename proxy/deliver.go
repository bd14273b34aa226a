package proxy

import "io"

// deliver carries what the peer sends to the program, as many whole records at a time as are
// here, by way of filter, which may be nil. It returns filter's error, or conn's; nil where the
// program does not read any more.
func deliver(up *upstream, conn io.Reader, pr *pair, filter func([]byte) ([]byte, error)) error {
	for {
		if err := up.await(); err != nil {
			return err
		}
		buf := getBuffer()
		n, err := conn.Read(*buf)
		for err == nil && len(*buf)-n > maxPlaintext && up.whole() {
			var m int
			m, err = conn.Read((*buf)[n:])
			n += m
		}
		b := (*buf)[:n]
		var fault, gone error
		if filter != nil && n > 0 {
			b, fault = filter(b)
		}
		if len(b) > 0 {
			gone = pr.write(b)
		}
		putBuffer(buf)
		switch {
		case fault != nil:
			return fault
		case gone != nil:
			return nil
		case err != nil:
			return err
		}
	}
}
