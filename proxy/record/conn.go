// Package record carries the records of TLS connections that have proved to be bulk.
//
// crypto/tls makes every handshake and carries every connection at first. Its record
// layer copies each record twice. For a connection that moves much, a Conn takes that
// over, in the middle, for as long as it lives: it opens records where they were read to,
// and seals into the buffer that is sent.
//
// The keys come from the key log of crypto/tls, the numbers of the records from a
// connection underneath it that counts them. Neither is believed. Reading is taken over
// with a record that opens under the key and the number that we think are next, and
// writing when crypto/tls has sent exactly the records that it was given. Wherever that
// is not so, after a KeyUpdate for instance, crypto/tls goes on: nothing is lost, because
// nothing was read ahead of it.
//
// A reader must be able to answer, so writing is taken over first. While crypto/tls still
// reads, what it has to say (an alert, its answer to a KeyUpdate) is opened with a copy of its
// keys and said by our writer. Plaintext of a record that did not open goes nowhere: Next
// returns what was opened before it, then the error, which is crypto/tls's.
//
// Not taken over are connections without AES-GCM (ChaCha20-Poly1305 the standard library
// keeps to itself), with renegotiation, in FIPS mode, and those over anything but a Transport.
//
// A kernel that is to seal (kernel_tls) gets the key and the number of the next record when
// the writing is taken over, and plain writes from then on; alerts and KeyUpdates go as
// control messages. Reading stays here, since records are opened in place that the kernel
// would copy. TLS 1.3 takes a kernel that can change a connection's keys (Linux 6.14): a peer
// may ask for that at any time, and there is no way back from the kernel.
//
// It knows nothing of channels, rules or verification. The fronts make a Conn, and relay reads
// and writes it. It is larger than others because it is a record layer in full, of two versions
// of TLS, in both directions, beside two others: crypto/tls's, which it takes over from, and the
// kernel's.
package record

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"tlswrap/proxy/buffers"
)

// Conn is a TLS connection. One goroutine may read while another writes; Close may be
// called at any time.
type Conn struct {
	tls      *tls.Conn
	conn     net.Conn
	tap      *tap     // nil where conn is no Transport
	refusal  *refusal // nil after a handshake over a tap
	isClient bool
	after    int64 // bytes in one direction that make a connection bulk
	inKernel bool  // seal there once it is

	renegotiates bool // crypto/tls may shake hands again, in the middle of a read

	// By the reading goroutine.
	reader    *reader // nil while crypto/tls reads
	buf       *[]byte // where what crypto/tls has read lies
	one       [1][]byte
	batch     [][]byte // what Read has left
	readErr   error    // comes after the batch
	received  int64
	readStays bool // with crypto/tls, for good

	// writing is held by whoever writes, so that crypto/tls is found between two writes.
	writing    sync.Mutex
	sent       int64
	records    uint64 // that crypto/tls has sent for us
	closed     bool   // by crypto/tls
	writeStays bool
	piece      [1][]byte // of Write

	// From the handshake, immutable.
	suite   *suite
	version uint16
	random  []byte // the server's
	inBase  uint64 // the tap's counters, at its end
	outBase uint64
}

// Threshold is how many bytes in one direction make a connection bulk, unless
// TakeOverAfter says otherwise. Taking over costs 8 µs, and saves half of one for each
// record of 16 KiB: it has paid after as much again.
const Threshold = 256 << 10

// Client returns the client's side of a connection, before its handshake. It keeps
// config, which nothing may change any more, and changes it itself.
func Client(conn net.Conn, config *tls.Config) *Conn {
	c := newConn(conn, true)
	if c.tap == nil {
		config.KeyLogWriter = keyLog{refusal: c.refusal}
		c.tls = tls.Client(bare{conn, c.refusal}, config)
		return c
	}
	c.tap.logTo(config)
	c.tls = tls.Client(c.tap, config)
	c.renegotiates = config.Renegotiation != tls.RenegotiateNever
	return c
}

// Server returns the server's side. It keeps config as Client does, unless that is one of
// ServerConfig, which has a GetConfigForClient.
func Server(conn net.Conn, config *tls.Config) *Conn {
	c := newConn(conn, false)
	if c.tap == nil {
		if config.GetConfigForClient == nil {
			config.KeyLogWriter = keyLog{refusal: c.refusal}
		}
		c.tls = tls.Server(bare{conn, c.refusal}, config)
		return c
	}
	if config.GetConfigForClient == nil {
		c.tap.logTo(config)
	}
	c.tap.keep = true
	c.tls = tls.Server(c.tap, config)
	return c
}

// ServerConfig prepares config, which it copies, for any number of connections. They
// share the keys of its TLS session tickets.
func ServerConfig(config *tls.Config) *tls.Config {
	choose, plain := config.GetConfigForClient, config.Clone()
	plain.GetConfigForClient = nil
	shared := config.Clone()
	shared.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		chosen := plain
		if choose != nil {
			if other, err := choose(hello); err != nil {
				return nil, err
			} else if other != nil {
				chosen = other
			}
		}
		switch conn := hello.Conn.(type) {
		case *tap:
			chosen = chosen.Clone()
			conn.logTo(chosen)
		case bare:
			chosen = chosen.Clone()
			chosen.KeyLogWriter = keyLog{refusal: conn.refusal}
		}
		return chosen, nil
	}
	return shared
}

// logTo has config tell t the secrets.
func (t *tap) logTo(config *tls.Config) {
	config.KeyLogWriter = keyLog{tap: t}
	config.DynamicRecordSizingDisabled = true // Conn counts on the number of records
}

func newConn(conn net.Conn, isClient bool) *Conn {
	c := &Conn{conn: conn, isClient: isClient, after: Threshold, refusal: &refusal{isClient: isClient}}
	if t, ok := conn.(Transport); ok {
		c.tap = &tap{Transport: t, isClient: isClient, refusal: c.refusal, hello: make([]byte, 0, helloLen)}
	}
	return c
}

// TakeOverAfter sets the number of bytes that make the connection bulk. It is called
// before anything else.
func (c *Conn) TakeOverAfter(size int64) { c.after = size }

// SealInKernel has the kernel seal what is written once the connection is bulk, where
// KernelTLS has its version, and its Transport is a syscall.Conn of the TCP socket that it
// writes to, and nobody else has. It is called before anything else.
func (c *Conn) SealInKernel() { c.inKernel = true }

// Handshake shakes hands. It must be called, and succeed, before anything is read or
// written; calling it again does nothing.
func (c *Conn) Handshake() error { return c.HandshakeContext(context.Background()) }

// HandshakeContext is Handshake that ends early, and closes the connection, with ctx.
func (c *Conn) HandshakeContext(ctx context.Context) error {
	if c.version != 0 {
		return nil
	}
	growStack()
	err := c.tls.HandshakeContext(ctx)
	c.refusal.wipe()
	if err != nil {
		c.Forget()
		return c.asSaid(err)
	}
	c.established()
	if c.tap != nil {
		// Nothing may follow the handshake from here. A peer with Nagle's algorithm (RFC 896) holds its first
		// words back until its last flight is acknowledged.
		c.tap.Acknowledge()
	}
	return nil
}

// growStack has the goroutine's stack grow to what a handshake needs at once, while little is on it: in steps each
// would copy, frame by frame, all that is there by then.
//
//go:noinline
func growStack() byte {
	var room [20 << 10]byte
	return room[os.Getpagesize()]
}

// asSaid is why a handshake has failed. A client of TLS 1.3 that does not like the server's first flight may
// say so in the clear (RFC 8446, section 6.2: OpenSSL does), which crypto/tls takes for a record that does not
// open. Whoever can put in such a record can end the handshake anyway.
func (c *Conn) asSaid(err error) error {
	in := &c.refusal.in
	if c.tap != nil {
		in = &c.tap.in
	}
	op, ok := errors.AsType[*net.OpError](err)
	if a, plain := in.plainAlert(); ok && plain && op.Op == "local error" && !c.isClient {
		return remoteError(a)
	}
	return err
}

// ConnectionState is crypto/tls's.
func (c *Conn) ConnectionState() tls.ConnectionState { return c.tls.ConnectionState() }

// Next returns the plaintext of the records that are here, after waiting for one with
// data, for which it holds no buffer. It is for connections over a Transport. The
// plaintext is valid until the next call of Next or Read; the caller may change it. The
// error, which comes after all data, is io.EOF after close_notify only, and
// io.ErrUnexpectedEOF where the connection ended without it.
func (c *Conn) Next() ([][]byte, error) { return c.next(false) }

// NextUnlessIdle is Next that ends in the Transport's timeout where nothing comes for a while.
func (c *Conn) NextUnlessIdle() ([][]byte, error) { return c.next(true) }

func (c *Conn) next(unlessIdle bool) ([][]byte, error) {
	if rest := c.batch; len(rest) > 0 {
		c.batch = nil
		return rest, nil
	}
	for {
		c.giveBack()
		if c.readErr != nil {
			return nil, c.readErr
		}
		var batch [][]byte
		err := c.await(unlessIdle)
		if err == nil {
			batch, err = c.read()
		}
		c.readErr = lasting(err)
		switch {
		case len(batch) > 0:
			return batch, nil
		case err != nil && c.readErr == nil:
			return nil, err
		}
	}
}

// Here returns a copy of what Next would return, and holds no buffer for it. It does not wait: it returns
// nothing where no record with data is ahead.
func (c *Conn) Here() []byte {
	if c.tap == nil || !c.tap.in.between() || !atHand(c.tap.Ahead()) {
		return nil
	}
	c.SetReadDeadline(time.Unix(1, 0))
	defer c.SetReadDeadline(time.Time{})
	batch, _ := c.Next() // which says it again if it is lasting
	words := slices.Concat(batch...)
	c.giveBack()
	return words
}

// giveBack ends the use of what Next has returned.
func (c *Conn) giveBack() {
	if c.buf != nil {
		buffers.Put(c.buf)
		c.buf, c.one[0] = nil, nil
	}
	if c.reader != nil {
		c.reader.release()
	}
}

// lasting is err, unless reading may go on after it.
func lasting(err error) error {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return nil
	}
	return err
}

// await waits until a record is at hand, or the end.
func (c *Conn) await(unlessIdle bool) error {
	for c.tap.in.between() && !atHand(c.tap.Ahead()) {
		var err error
		if unlessIdle {
			err = c.tap.FillUnlessIdle()
		} else {
			err = c.tap.Fill()
		}
		switch {
		case err == io.EOF:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		}
	}
	return nil
}

// read opens all records that are at hand, of which there is one.
func (c *Conn) read() ([][]byte, error) {
	if c.reader != nil || c.takeOver() {
		return c.reader.openAll()
	}
	c.buf = buffers.Get()
	c.tap.atOnce = !c.renegotiates
	n, err := c.tls.Read(*c.buf)
	for err == nil && len(*c.buf)-n > maxPlaintext && c.tap.in.between() && atHand(c.tap.Ahead()) {
		var m int
		m, err = c.tls.Read((*c.buf)[n:])
		n += m
	}
	c.tap.atOnce = false
	c.received += int64(n)
	if errors.Is(err, errLater{}) {
		err = nil
	}
	if n == 0 {
		return nil, err
	}
	c.one[0] = (*c.buf)[:n]
	return c.one[:], err
}

// Read implements io.Reader, with the errors of Next.
func (c *Conn) Read(b []byte) (int, error) {
	if c.tap == nil {
		return c.tls.Read(b)
	}
	if len(b) == 0 {
		return 0, nil
	}
	if len(c.batch) == 0 {
		var err error
		if c.batch, err = c.Next(); err != nil {
			return 0, err
		}
	}
	n := copy(b, c.batch[0])
	if c.batch[0] = c.batch[0][n:]; len(c.batch[0]) == 0 {
		c.batch = c.batch[1:]
	}
	return n, nil
}

// Write implements io.Writer. What fits into four records goes with one call.
func (c *Conn) Write(b []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	defer func() { c.piece[0] = nil }()
	done := 0
	for done < len(b) {
		n := min(len(b)-done, buffers.Plaintext)
		c.piece[0] = b[done : done+n]
		if err := c.write(c.piece[:]); err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// WriteRecords writes pieces with one call, where they and what TLS adds to them fit into
// a buffer. No record has bytes of two of them.
func (c *Conn) WriteRecords(pieces [][]byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.write(pieces)
}

func (c *Conn) write(pieces [][]byte) error {
	if c.taken() || c.sent >= c.after && c.takeWriting() {
		return c.tap.write(pieces)
	}
	records := uint64(0)
	for _, p := range pieces {
		records += uint64((len(p) + maxPlaintext - 1) / maxPlaintext)
		c.sent += int64(len(p))
	}
	c.records += records
	var err error
	if records < 2 || c.tap == nil || c.renegotiates {
		err = c.writeTLS(pieces)
	} else {
		out := buffers.Get()
		c.tap.gather(*out)
		err = c.writeTLS(pieces)
		if e := c.tap.flush(); err == nil {
			err = e
		}
		buffers.Put(out)
	}
	if err != nil {
		c.writeStays = true
	}
	return err
}

func (c *Conn) writeTLS(pieces [][]byte) error {
	for _, p := range pieces {
		if _, err := c.tls.Write(p); err != nil {
			return err
		}
	}
	return nil
}

// taken reports whether the writing was taken over.
func (c *Conn) taken() bool { return c.tap != nil && c.tap.taken.Load() }

// CloseWrite sends close_notify, within 5 s from when everything before it was sent.
// Nothing can be written any more; what the peer sends can be read. It may be called again.
func (c *Conn) CloseWrite() error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.taken() {
		c.tap.settle()
	}
	return c.closeWrite()
}

func (c *Conn) closeWrite() error {
	if c.taken() {
		return c.tap.closeWrite()
	}
	err := c.tls.CloseWrite()
	c.closed = err == nil
	c.writeStays = c.writeStays || err != nil
	return err
}

// Close sends close_notify unless a write is under way, closes the connection and wipes
// the secrets for writing. Calls that wait return. It may be called again.
func (c *Conn) Close() error {
	if c.writing.TryLock() {
		c.closeWrite()
		c.writing.Unlock()
	}
	err := c.conn.Close()
	if c.tap != nil {
		c.tap.forget()
	}
	return err
}

// Forget wipes all secrets, and gives all buffers back. It is called when nobody reads or
// writes any more, and does not close the connection.
func (c *Conn) Forget() {
	if c.tap == nil {
		return
	}
	c.tap.forget()
	c.giveBack()
	if c.reader != nil {
		c.reader.stop(net.ErrClosed)
	}
}

// LocalAddr is the connection's, as are the other methods of net.Conn.
func (c *Conn) LocalAddr() net.Addr                { return c.conn.LocalAddr() }
func (c *Conn) RemoteAddr() net.Addr               { return c.conn.RemoteAddr() }
func (c *Conn) SetDeadline(t time.Time) error      { return c.conn.SetDeadline(t) }
func (c *Conn) SetReadDeadline(t time.Time) error  { return c.conn.SetReadDeadline(t) }
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.conn.SetWriteDeadline(t) }
