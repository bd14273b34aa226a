package record

import (
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"tlswrap/proxy/buffers"
)

// writer seals and sends records in the place of crypto/tls. The tap's mutex guards it.
type writer struct {
	conn   net.Conn
	half   *half
	kernel *kernelTLS // seals in place of half, which knows the keys; nil where it does not
	theirs *half      // what crypto/tls still seals with
	limit  uint64     // of records under one key
	err    error      // of everything from now on

	// update is set by the reader when the peer asked for new keys: RFC 8446, section
	// 4.6.3, wants them before the next application data. However often a peer asks
	// in between, it gets one answer.
	update atomic.Bool
}

// keyUpdateLen is the length of a KeyUpdate with its header.
const keyUpdateLen = 5

// keyLimit is how many records are sealed with one key of TLS 1.3. RFC 8446, section 5.5,
// lets AES-GCM protect 2^24.5 full-size ones.
const keyLimit = 1 << 24

// errShutdown is what a write gets after close_notify.
var errShutdown = errors.New("tls: protocol is shutdown")

// closeTime is how long an alert may take to be sent, as in crypto/tls.
const closeTime = 5 * time.Second

// write sends pieces as application data, with one call where they fit into a buffer.
func (w *writer) write(pieces [][]byte) error {
	if w.kernel != nil {
		return w.hand(pieces)
	}
	buf := buffers.Get()
	defer buffers.Put(buf)
	out := (*buf)[:0]
	for _, b := range pieces {
		for len(b) > 0 {
			if w.err != nil {
				return w.err
			}
			n := min(len(b), maxPlaintext)
			if len(out)+w.half.sealedLen(n)+w.half.sealedLen(keyUpdateLen) > cap(out) {
				if _, err := w.conn.Write(out); err != nil {
					return w.fail(err)
				}
				out = out[:0]
			}
			var err error
			if out, err = w.refresh(out); err == nil {
				out, err = w.half.seal(out, applicationData, b[:n])
			}
			if err != nil {
				return w.fail(err)
			}
			b = b[n:]
		}
	}
	if w.err != nil {
		return w.err
	}
	if _, err := w.conn.Write(out); err != nil {
		return w.fail(err)
	}
	return nil
}

// hand gives pieces to the kernel.
func (w *writer) hand(pieces [][]byte) error {
	for _, b := range pieces {
		if w.err != nil {
			return w.err
		}
		err := w.refreshKernel()
		if err == nil {
			err = w.kernel.write(b)
		}
		if err != nil {
			return w.fail(err)
		}
		w.half.seq += uint64(len(b))/maxPlaintext + 1 // about
	}
	return w.err
}

// newKeys tells the peer of them.
var newKeys = []byte{typeKeyUpdate, 0, 0, 1, updateNotRequested}

// due reports whether the keys are to be changed before more is sent: a KeyUpdate is the
// last record under the old ones. TLS 1.2 has no such thing, and goes on.
func (w *writer) due() bool {
	return w.update.Swap(false) || w.half.seq >= w.limit && w.half.tls13()
}

// refresh changes the keys where that is due.
func (w *writer) refresh(out []byte) ([]byte, error) {
	if !w.due() {
		return out, nil
	}
	out, err := w.half.seal(out, handshakeType, newKeys)
	if err != nil {
		return out, err
	}
	return out, w.half.update()
}

// refreshKernel does the same for the kernel.
func (w *writer) refreshKernel() error {
	if !w.due() {
		return nil
	}
	if err := w.kernel.send(handshakeType, newKeys); err != nil {
		return err
	}
	if err := w.half.update(); err != nil {
		return err
	}
	return w.kernel.update(w.half)
}

// settle waits until everything that was written is on its way, whatever becomes of the
// descriptor.
func (w *writer) settle() {
	if w.kernel != nil && w.err == nil {
		w.kernel.settle()
	}
}

// fail makes err the end of writing.
func (w *writer) fail(err error) error {
	if w.err == nil {
		w.err = err
		w.half.wipe()
	}
	return w.err
}

// alert sends an alert, the last thing that is sent.
func (w *writer) alert(a alert) error {
	if w.err != nil {
		return w.err
	}
	w.conn.SetWriteDeadline(time.Now().Add(closeTime))
	err := w.send(alertType, []byte{a.level(), byte(a)})
	w.settle()
	w.conn.SetWriteDeadline(time.Unix(1, 0)) // nothing follows
	switch {
	case err != nil:
		return w.fail(err)
	case a == alertCloseNotify:
		w.fail(errShutdown)
		return nil
	}
	return w.fail(localError(a))
}

// send sends one short record.
func (w *writer) send(typ contentType, content []byte) error {
	if w.kernel != nil {
		return w.kernel.send(typ, content)
	}
	var buf [64]byte
	record, err := w.half.seal(buf[:0], typ, content)
	if err == nil {
		_, err = w.conn.Write(record)
	}
	return err
}

// relay passes on what crypto/tls has to say while it still reads: an alert, or that it
// was asked for new keys.
func (w *writer) relay(record []byte) (int, error) {
	if w.theirs.aead == nil {
		return 0, net.ErrClosed
	}
	plain, typ, err := w.theirs.open(make([]byte, 0, len(record)), record)
	if err != nil {
		return 0, fmt.Errorf("relaying what crypto/tls wrote: %w", err)
	}
	switch {
	case typ == alertType && len(plain) == 2:
		w.alert(alert(plain[1]))
	case typ == handshakeType && len(plain) > 0 && plain[0] == typeKeyUpdate:
		w.update.Store(true)
		if err := w.theirs.update(); err != nil {
			return 0, err
		}
	default:
		return 0, fmt.Errorf("relaying what crypto/tls wrote: %w", alertInternalError)
	}
	return len(record), nil
}
