package proxy

import "tlswrap/proxy/record"

// deliver carries what the peer sends to the program, by way of filter, which may be nil. It
// returns filter's error, or conn's; nil where the program does not read any more.
func deliver(conn *record.Conn, pr *pair, filter func([][]byte) ([][]byte, error)) error {
	for {
		pieces, err := conn.Next()
		if err != nil {
			return err
		}
		var fault error
		if filter != nil {
			pieces, fault = filter(pieces)
		}
		if pr.writeAll(pieces) != nil {
			return nil
		}
		if fault != nil {
			return fault
		}
	}
}
