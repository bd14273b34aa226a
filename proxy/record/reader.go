package record

import (
	"errors"
	"io"
)

// reader opens records in the place of crypto/tls, each where it lies. It is used by one
// goroutine.
type reader struct {
	from     Transport
	half     *half
	isClient bool

	askedForUpdate func()      // the peer wants us to change our keys
	refuse         func(alert) // tells the peer why the connection ends

	batch  [][]byte // plaintext
	opened int      // bytes of the records that it lies in

	partial []byte // the beginning of a handshake message
	useless int    // records and messages in a row that brought no data
	updates int    // key updates, and
	records int    // records, all that there were
}

// mergeBelow is the size of what is moved up behind the piece before it, so that tiny
// records do not make tiny pieces: moving less costs less than another piece.
const mergeBelow = 2 << 10

// maxUseless is how many records or handshake messages in a row may bring no data, as in
// crypto/tls.
const maxUseless = 16

// Key updates cost us more than the peer, so they must be rare beyond freeUpdates: one
// in updateEvery records.
const (
	freeUpdates = 32
	updateEvery = 64
)

// errCloseNotify is the peer's orderly end.
var errCloseNotify = errors.New("close_notify")

// openAll opens the whole records that are here, in place. Nothing may be read before
// release. It returns an error together with what was opened before.
func (r *reader) openAll() ([][]byte, error) {
	b := r.from.Ahead()
	for r.opened = 0; len(b)-r.opened >= headerLen; {
		record := b[r.opened:]
		n, err := r.half.checkHeader(record)
		if err != nil {
			r.opened += headerLen
			r.stop(err)
			return r.batch, badHeader(record, err)
		}
		if len(record) < headerLen+n {
			break
		}
		record = record[:headerLen+n]
		r.opened += len(record)
		if err := r.open(record); err != nil {
			return r.batch, r.stop(err)
		}
	}
	return r.batch, nil
}

func (r *reader) open(record []byte) error {
	plain, typ, err := r.half.open(nil, record)
	if err != nil {
		return err
	}
	return r.content(plain, typ)
}

// release ends the use of what openAll has returned.
func (r *reader) release() {
	clear(r.batch)
	r.batch = r.batch[:0]
	r.from.Consume(r.opened)
	r.opened = 0
}

// content deals with what a record has brought.
func (r *reader) content(plain []byte, typ contentType) error {
	r.records++
	if typ != handshakeType && len(r.partial) > 0 {
		return alertUnexpectedMessage // RFC 8446, section 5.1
	}
	switch typ {
	case applicationData:
		if len(plain) == 0 {
			return r.countUseless()
		}
		r.useless = 0
		r.add(plain)
		return nil
	case alertType:
		return r.alerted(plain)
	case handshakeType:
		if !r.half.tls13() {
			return r.handshake12(plain)
		}
		return r.handshake13(plain)
	}
	return alertUnexpectedMessage
}

// add hands out plaintext that lies behind all that was added before.
func (r *reader) add(plain []byte) {
	if last := len(r.batch) - 1; last >= 0 && len(plain) < mergeBelow {
		r.batch[last] = append(r.batch[last], plain...)
		return
	}
	r.batch = append(r.batch, plain)
}

func (r *reader) countUseless() error {
	if r.useless++; r.useless > maxUseless {
		return alertUnexpectedMessage
	}
	return nil
}

// alerted deals with an alert of the peer's.
func (r *reader) alerted(plain []byte) error {
	if len(plain) != 2 {
		return alertUnexpectedMessage
	}
	level, a := plain[0], alert(plain[1])
	switch {
	case a == alertCloseNotify:
		return errCloseNotify
	case r.half.tls13() && a == alertUserCanceled:
		return r.countUseless() // close_notify follows (RFC 8446, section 6.1)
	case r.half.tls13() || level == levelFatal:
		return remoteError(a)
	case level == levelWarning:
		return r.countUseless()
	}
	return alertUnexpectedMessage
}

// stop ends the reading, and returns why, for others. A reason of ours is told the peer.
func (r *reader) stop(err error) error {
	var a alert
	switch {
	case errors.As(err, &a):
		r.refuse(a)
		err = localError(a)
	case err == errCloseNotify:
		err = io.EOF
	}
	r.half.wipe()
	r.partial = nil
	return err
}
