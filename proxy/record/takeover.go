package record

import (
	"bytes"
	"crypto/fips140"
	"crypto/tls"
	"time"

	"tlswrap/proxy/buffers"
)

// established looks at what the handshake came to.
func (c *Conn) established() {
	state := c.tls.ConnectionState()
	c.version, c.suite = state.Version, suites[state.CipherSuite]
	c.renegotiates = c.renegotiates && c.version < tls.VersionTLS13
	t := c.tap
	if t == nil {
		c.stay()
		return
	}
	t.mu.Lock()
	t.keep = false
	c.inBase, c.outBase = t.in.records, t.out.records
	if c.version < tls.VersionTLS13 {
		c.random = bytes.Clone(t.serverRandom())
	}
	t.hello = nil
	t.refusal, c.refusal = nil, nil // what ends a handshake has done so
	t.mu.Unlock()
	// FIPS mode wants nonces that the cipher made itself.
	if c.suite == nil || c.renegotiates || fips140.Enabled() {
		c.stay()
	}
}

// downgrade is how the server's random ends where it would have spoken a later version of TLS than was agreed on, but
// for a last byte that says which (RFC 8446, section 4.1.3).
const downgrade = "DOWNGRD"

// PeerKnowsLater reports whether the server says so, or may have, for who has not offered all versions. Otherwise
// crypto/tls looks.
func (c *Conn) PeerKnowsLater() bool {
	if c.version >= tls.VersionTLS13 {
		return false
	}
	return c.random == nil || string(c.random[randomLen-len(downgrade)-1:randomLen-1]) == downgrade
}

// stay has the whole connection stay with crypto/tls.
func (c *Conn) stay() {
	c.readStays, c.writeStays = true, true
	if c.tap != nil {
		c.tap.forget()
	}
}

// takeOver reports whether reading was taken over, and does that when enough was read. A
// record is at hand.
func (c *Conn) takeOver() bool {
	if c.readStays || c.received < c.after || !c.tap.in.between() {
		return false
	}
	// A reader must be able to answer.
	ours := c.taken()
	if !ours {
		if !c.writing.TryLock() {
			return false // a write is under way: it tries again later
		}
		ours = c.takeWriting()
		c.writing.Unlock()
	}
	ours = ours && c.takeReading()
	c.readStays = !ours
	c.tap.decided(ours)
	return ours
}

// takeReading takes over if the record at hand opens. Otherwise it is left to crypto/tls.
func (c *Conn) takeReading() bool {
	half := c.newHalf(!c.isClient)
	if half == nil {
		return false
	}
	half.seq += c.tap.in.records
	if !half.opens(c.tap.Ahead()) {
		half.wipe()
		return false
	}
	c.reader = &reader{
		from: c.tap.Transport, half: half, isClient: c.isClient,
		askedForUpdate: c.tap.askedForUpdate, refuse: c.tap.refuse,
	}
	return true
}

// opens reports whether the record that b begins with is the next one. It leaves it as it
// is.
func (h *half) opens(b []byte) bool {
	n, err := h.checkHeader(b)
	if err != nil || len(b) < headerLen+n {
		return false
	}
	buf := buffers.Get()
	defer buffers.Put(buf)
	try := *h
	_, _, err = try.open((*buf)[:0], b[:headerLen+n])
	return err == nil
}

// takeWriting takes over the writing, or reports that it did before. The caller holds
// writing.
func (c *Conn) takeWriting() bool {
	if c.taken() {
		return true
	}
	if c.writeStays {
		return false
	}
	c.writeStays = true
	t := c.tap
	t.mu.Lock()
	defer t.mu.Unlock()
	ours := c.records
	if c.closed {
		ours++ // close_notify
	}
	if t.out.records-c.outBase != ours {
		return false // crypto/tls has sent something else: new keys, or an alert
	}
	half := c.newHalfLocked(c.isClient)
	if half == nil {
		return false
	}
	half.seq += t.out.records
	if !c.isClient && c.version == tls.VersionTLS13 {
		half.seq += ticketsIn(half, t.last, c.outBase)
	}
	t.last = nil
	defer t.taken.Store(true)
	t.writer = &writer{conn: t.Transport, half: half, theirs: half.copy(), limit: keyLimit}
	switch {
	case c.closed:
		t.writer.fail(errShutdown)
	case c.inKernel && kernelDoes(c.version):
		if k, err := newKernelTLS(t.Transport, half); err == nil {
			t.writer.kernel = k
		}
	}
	return true
}

// ticketsIn is how many of the records of a TLS 1.3 server's handshake were sealed with
// the application's keys: those of the TLS session tickets, which may leave together with
// the handshake proper. The last record tells, as it opens under its number alone.
func ticketsIn(half *half, last []byte, most uint64) uint64 {
	if len(last) < headerLen {
		return 0
	}
	for n := range most {
		try := *half
		try.seq = n
		if _, _, err := try.open(make([]byte, 0, len(last)), last); err == nil {
			return n + 1
		}
	}
	return 0
}

func (c *Conn) newHalf(ofClient bool) *half {
	c.tap.mu.Lock()
	defer c.tap.mu.Unlock()
	return c.newHalfLocked(ofClient)
}

// newHalfLocked is the protection of what the client, or else the server, sends, or nil
// if the keys are not known. The number of records in the tap's counter has to be added
// to its sequence number. The caller holds the tap's mutex.
func (c *Conn) newHalfLocked(ofClient bool) *half {
	s := &c.tap.secrets
	if c.version == tls.VersionTLS13 {
		// Its handshake and its application data have different keys.
		secret, base := s.server, c.inBase
		if ofClient {
			secret = s.client
		}
		if ofClient == c.isClient {
			base = c.outBase
		}
		if secret == nil {
			return nil
		}
		h, err := newHalf13(c.suite, secret, -base)
		if err != nil {
			return nil
		}
		return h
	}
	if s.master == nil || c.random == nil {
		return nil
	}
	client, server, err := newHalves12(c.suite, s.master, s.random, c.random)
	switch {
	case err != nil:
		return nil
	case ofClient:
		server.wipe()
		return client
	}
	client.wipe()
	return server
}

// write sends application data once the writing was taken over.
func (t *tap) write(pieces [][]byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.writer.write(pieces)
}

// closeWrite sends close_notify.
func (t *tap) closeWrite() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.writer.err == errShutdown {
		return nil
	}
	return t.writer.alert(alertCloseNotify)
}

// settle waits until what was written is on its way.
func (t *tap) settle() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.writer.settle()
}

// refuse tells the peer why the connection ends. A write that is stuck has closeTime to
// end first.
func (t *tap) refuse(a alert) {
	if !t.mu.TryLock() {
		t.SetWriteDeadline(time.Now().Add(closeTime))
		t.mu.Lock()
	}
	defer t.mu.Unlock()
	t.writer.alert(a)
}

func (t *tap) askedForUpdate() { t.writer.update.Store(true) }

// decided is called when both directions have been taken over, or never will. With reading
// taken over crypto/tls has nothing more to say.
func (t *tap) decided(taken bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.secrets.wipe()
	if taken {
		t.writer.theirs.wipe()
	}
}

// forget wipes the secrets, and ends a writing that was taken over.
func (t *tap) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.secrets.wipe()
	t.last = nil
	if t.writer != nil {
		t.writer.fail(errShutdown)
		t.writer.theirs.wipe()
	}
}
