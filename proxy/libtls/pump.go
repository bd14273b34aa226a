package libtls

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/guard"
	"tlswrap/proxy/libtls/engine"
	"tlswrap/proxy/wire"
)

// pump is a libtls connection over the program's callbacks: the program moves the records, and
// asks for one step at a time (libtls/wire.h). Between steps nothing is computed here; at most
// one read waits for a record.
type pump struct {
	link   *fdio.Socket
	state  *State
	config *engine.Config
	tls    *engine.Conn
	file   *sessionFile

	sending sync.Mutex
	open    [wire.PumpIn]atomic.Bool // steps, by their kind
	records chan []byte              // IN
	gone    chan struct{}
	record  []byte // what is left of the last
	ended   bool
}

// startPump hands one end of a pump to the program.
func (l *State) startPump(c *wire.Call, config *engine.Config, req wire.Request, fds *wire.Descriptors) {
	p := &pump{state: l, config: config, records: make(chan []byte), gone: make(chan struct{})}
	if req.Flags&wire.StartSession != 0 && len(*fds) > 0 {
		p.file = newSessionFile(c, fds.Take())
	}
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		if p.link, err = fdio.New(ends[1], "pump"); err != nil {
			unix.Close(ends[0])
		}
	}
	if err != nil {
		p.close()
		config.Release()
		c.Send(wire.TLSReply{Answer: wire.AnswerError, Text: "handshake failed: " + err.Error()})
		return
	}
	err = c.Send(wire.TLSReply{Answer: wire.AnswerFD}, ends[0])
	unix.Close(ends[0])
	if err != nil {
		p.close()
		config.Release()
		return
	}
	if config.IsServer() {
		p.tls = config.Server(p, req.Now)
	} else {
		// In the middle of a renegotiation a write would wait for records, which only a read asks for.
		p.tls = config.Client(p, engine.Peer{Name: string(req.Body), Now: req.Now, Session: p.file.forEngine(), Renegotiation: tls.RenegotiateNever})
	}
	l.Opened()
	go p.run()
}

func (p *pump) close() {
	if p.link != nil {
		p.link.Close()
	}
	if p.file != nil {
		p.file.close()
	}
}

// run is the connection's life.
func (p *pump) run() {
	defer p.state.Closed()
	defer p.config.Release()
	defer p.close()
	defer close(p.gone)
	guard.Run(p.state.Log, "pump", nil, p.take)
}

// take takes the program's messages until it is gone.
func (p *pump) take() {
	for {
		kind, value, data, err := p.receive()
		if err != nil {
			return
		}
		if kind == wire.PumpIn {
			select {
			case p.records <- data:
			case <-time.After(wire.RequestTime): // nobody has asked for it
				return
			}
			continue
		}
		if kind < wire.PumpHandshake || kind >= wire.PumpIn || p.open[kind].Swap(true) {
			return // no such step, or one that is open already
		}
		go p.step(kind, int(value), data)
	}
}

func (p *pump) receive() (kind, value uint32, data []byte, err error) {
	b := make([]byte, wire.PumpHeader+wire.PumpMost)
	var n int
	e := p.link.WhenReadable(func(fd int) bool {
		err = fdio.Again(func() (e error) {
			n, _, e = unix.Recvfrom(fd, b, unix.MSG_DONTWAIT)
			return e
		})
		return err != unix.EAGAIN
	})
	switch {
	case e != nil:
		return 0, 0, nil, e
	case err != nil:
		return 0, 0, nil, err
	case n < wire.PumpHeader:
		return 0, 0, nil, io.EOF
	}
	ne := binary.NativeEndian
	return ne.Uint32(b), ne.Uint32(b[4:]), b[wire.PumpHeader:n], nil
}

func (p *pump) send(kind, value int, data []byte) error {
	p.sending.Lock()
	defer p.sending.Unlock()
	b := make([]byte, wire.PumpHeader, wire.PumpHeader+len(data))
	binary.NativeEndian.PutUint32(b, uint32(kind))
	binary.NativeEndian.PutUint32(b[4:], uint32(value))
	_, err := p.link.Write(append(b, data...))
	return err
}

// step does what was asked, and says so.
func (p *pump) step(kind uint32, value int, data []byte) {
	answer, more, out := wire.PumpFailed, 0, []byte("internal error")
	guard.Run(p.state.Log, "step of a pump", nil, func() { answer, more, out = p.do(kind, value, data) })
	for len(out) > wire.PumpMost {
		p.send(answer, int(kind)|wire.PumpMore, out[:wire.PumpMost])
		out = out[wire.PumpMost:]
	}
	p.open[kind].Store(false) // before the program can ask for the next
	p.send(answer, int(kind)|more, out)
}

func (p *pump) do(kind uint32, value int, data []byte) (answer, more int, out []byte) {
	var err error
	switch kind {
	case wire.PumpHandshake:
		out, _ = p.tls.Open()
	case wire.PumpRead:
		b := make([]byte, min(max(value, 1), wire.FrameMost))
		n := 0
		n, err = p.tls.Read(b)
		switch {
		case n > 0:
			return wire.PumpDone, 0, b[:n]
		case p.ended:
			return wire.PumpDone, wire.PumpTruncated, nil
		case err == io.EOF:
			return wire.PumpDone, wire.PumpEnd, nil
		}
	case wire.PumpWrite:
		_, err = p.tls.Write(data)
	case wire.PumpClose:
		err = p.tls.CloseWrite()
	}
	if err != nil {
		return wire.PumpFailed, 0, []byte(engine.Sentence(err))
	}
	return wire.PumpDone, 0, out
}

// Read asks the program for a record. It implements net.Conn.
func (p *pump) Read(b []byte) (int, error) {
	if p.ended {
		return 0, io.EOF
	}
	if len(p.record) == 0 {
		if err := p.send(wire.PumpWant, 0, nil); err != nil {
			return 0, err
		}
		select {
		case p.record = <-p.records:
		case <-p.gone:
			return 0, os.ErrClosed
		}
		if len(p.record) == 0 {
			p.ended = true
			return 0, io.EOF
		}
	}
	n := copy(b, p.record)
	p.record = p.record[n:]
	return n, nil
}

// Write gives the program ciphertext to send.
func (p *pump) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		n := min(len(rest), wire.PumpMost)
		if err := p.send(wire.PumpOut, 0, rest[:n]); err != nil {
			return len(b) - len(rest), err
		}
		rest = rest[n:]
	}
	return len(b), nil
}

func (p *pump) Close() error                     { return nil } // run does
func (p *pump) LocalAddr() net.Addr              { return net.TCPAddrFromAddrPort(netip.AddrPort{}) }
func (p *pump) RemoteAddr() net.Addr             { return p.LocalAddr() }
func (p *pump) SetDeadline(time.Time) error      { return nil }
func (p *pump) SetReadDeadline(time.Time) error  { return nil }
func (p *pump) SetWriteDeadline(time.Time) error { return nil }
