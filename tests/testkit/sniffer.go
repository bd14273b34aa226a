package testkit

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Sniffer looks at every packet that leaves a socket in this network namespace, on any
// interface. It keeps none: what is looked for is said with Watch beforehand. It needs
// CAP_NET_RAW.
type Sniffer struct {
	file *os.File
	done chan struct{} // closed when reading has ended

	mu      sync.Mutex
	watches map[*Watch]struct{}
	flows   map[flow][]byte // the last bytes of each direction of a connection
	syncs   map[string]chan struct{}
	drops   uint32
}

// flow is one direction of a connection.
type flow struct{ from, to netip.AddrPort }

func (f flow) String() string { return f.from.String() + " > " + f.to.String() }

// overlap is how much of a flow is kept, to find what two packets share. No marker may
// be longer.
const overlap = 128

// captureBuffer holds what the sniffer has not looked at yet.
const captureBuffer = 512 << 20

// Sniff starts a sniffer.
func Sniff() (*Sniffer, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket(AF_PACKET)", err)
	}
	if err := openTap(fd); err != nil {
		unix.Close(fd)
		return nil, err
	}
	s := &Sniffer{
		file: os.NewFile(uintptr(fd), "packets"), done: make(chan struct{}),
		watches: make(map[*Watch]struct{}), flows: make(map[flow][]byte), syncs: make(map[string]chan struct{}),
	}
	go s.run()
	return s, nil
}

// openTap lets fd see outgoing packets of every protocol. On the loopback interface each
// packet is outgoing once and incoming once; the outgoing one is seen before the
// sender's system call returns.
func openTap(fd int) error {
	const packetType = 0xfffff000 + 4 // SKF_AD_OFF + SKF_AD_PKTTYPE, linux/filter.h
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: packetType},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.PACKET_OUTGOING},
		{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 20},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog); err != nil {
		return os.NewSyscallError("setsockopt(SO_ATTACH_FILTER)", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, captureBuffer); err != nil {
		return os.NewSyscallError("setsockopt(SO_RCVBUFFORCE)", err)
	}
	all := binary.NativeEndian.Uint16([]byte{unix.ETH_P_ALL >> 8, unix.ETH_P_ALL & 0xff})
	return os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all}))
}

// Watch is what is looked for: a marker that must not be readable, and TLS on a port.
type Watch struct {
	sniffer *Sniffer
	marker  []byte
	port    uint16
	report  Report
}

// Report is what a watch has seen.
type Report struct {
	Leaks  []string // the flows that the marker was readable in
	Bytes  int64    // to and from the port
	Hellos int      // TLS client hellos to the port
}

// Watch begins to look for marker, of at most 128 bytes, on the whole network and for
// TLS on port. It ends with Stop.
func (s *Sniffer) Watch(marker []byte, port uint16) *Watch {
	w := &Watch{sniffer: s, marker: marker, port: port}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watches[w] = struct{}{}
	return w
}

// Stop ends the watch and tells what it has seen of everything that was sent before.
// It fails where packets went by unseen.
func (w *Watch) Stop() (Report, error) {
	err := w.sniffer.sync()
	w.sniffer.mu.Lock()
	defer w.sniffer.mu.Unlock()
	delete(w.sniffer.watches, w)
	return w.report, err
}

// Close ends the sniffer.
func (s *Sniffer) Close() {
	s.file.Close()
	<-s.done
}

// sync waits until everything that was sent before has been looked at: a datagram of
// its own comes after it.
func (s *Sniffer) sync() error {
	token := make([]byte, 16)
	rand.Read(token)
	seen := make(chan struct{})
	s.mu.Lock()
	s.syncs[hex.EncodeToString(token)] = seen
	s.mu.Unlock()
	conn, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", syncPort))
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write(token); err != nil {
		return err
	}
	const most = 30 * time.Second
	select {
	case <-seen:
	case <-s.done:
		return errors.New("the sniffer has stopped")
	case <-time.After(most):
		return errors.New("the sniffer does not see what is sent")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drops > 0 {
		return fmt.Errorf("the sniffer missed %d packets", s.drops)
	}
	return nil
}

// syncPort is where the datagrams of sync go: discard (RFC 863).
const syncPort = 9

func (s *Sniffer) run() {
	defer close(s.done)
	packet := make([]byte, 1<<20)
	for {
		n, err := s.file.Read(packet)
		switch {
		case errors.Is(err, unix.ENETDOWN): // an interface was taken down
			continue
		case err != nil:
			return
		}
		s.look(packet[:n])
	}
}

func (s *Sniffer) look(packet []byte) {
	protocol, f, payload, ok := parse(packet)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if protocol == unix.IPPROTO_UDP {
		if f.to.Port() == syncPort {
			s.countDrops()
			if c := s.syncs[hex.EncodeToString(payload)]; c != nil {
				delete(s.syncs, hex.EncodeToString(payload))
				close(c)
			}
		}
		for w := range s.watches {
			w.find(f, payload)
		}
		return
	}
	before := s.flows[f]
	head := payload[:min(len(payload), overlap)]
	seam := append(bytes.Clone(before), head...)
	for w := range s.watches {
		w.count(f, payload)
		w.find(f, seam)
		w.find(f, payload)
	}
	if len(payload) < overlap {
		payload = seam
	}
	s.flows[f] = append(before[:0], payload[max(0, len(payload)-overlap):]...)
}

func (w *Watch) find(f flow, data []byte) {
	if bytes.Contains(data, w.marker) {
		w.report.Leaks = append(w.report.Leaks, f.String())
	}
}

func (w *Watch) count(f flow, payload []byte) {
	if f.from.Port() != w.port && f.to.Port() != w.port {
		return
	}
	w.report.Bytes += int64(len(payload))
	const handshake, clientHello = 22, 1
	if f.to.Port() == w.port && len(payload) > 5 &&
		payload[0] == handshake && payload[1] == 3 && payload[5] == clientHello {
		w.report.Hellos++
	}
}

// countDrops adds what the kernel has dropped since the last time.
func (s *Sniffer) countDrops() {
	raw, err := s.file.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) {
		st, err := unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS)
		if err == nil {
			s.drops += st.Drops
		}
	})
}

// parse finds the payload of a TCP or UDP packet. Extension headers of IPv6 are not
// followed: nothing here sends any.
func parse(p []byte) (protocol byte, f flow, payload []byte, ok bool) {
	var from, to netip.Addr
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		protocol = p[9]
		from, to = netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20]))
		p = p[min(int(p[0]&15)*4, len(p)):]
	case len(p) >= 40 && p[0]>>4 == 6:
		protocol = p[6]
		from, to = netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[24:40]))
		p = p[40:]
	default:
		return 0, flow{}, nil, false
	}
	header := 8
	if protocol == unix.IPPROTO_TCP && len(p) >= 20 {
		header = int(p[12]>>4) * 4
	} else if protocol != unix.IPPROTO_UDP {
		return 0, flow{}, nil, false
	}
	if len(p) < header {
		return 0, flow{}, nil, false
	}
	f.from = netip.AddrPortFrom(from, binary.BigEndian.Uint16(p))
	f.to = netip.AddrPortFrom(to, binary.BigEndian.Uint16(p[2:]))
	return protocol, f, p[header:], true
}
