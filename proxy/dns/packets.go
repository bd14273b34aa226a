package dns

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/guard"
)

// mostMessage is how long a DNS message may be.
const mostMessage = 1<<16 - 1

// servePackets answers what comes to one UDP socket, until that is closed. A question too many is dropped, and programs
// ask again.
func (r *Resolver) servePackets(c *net.UDPConn) {
	message, control := make([]byte, mostMessage), make([]byte, 256)
	for {
		n, controlLen, _, from, err := c.ReadMsgUDPAddrPort(message, control)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			time.Sleep(fdio.RetryAccept) // out of memory
			continue
		}
		server, ok := destination(control[:controlLen])
		if !ok {
			continue
		}
		select {
		case r.questions <- struct{}{}:
		default:
			continue
		}
		asked := bytes.Clone(message[:n])
		go func() {
			defer func() { <-r.questions }()
			guard.Run(r.log, "look-up", nil, func() {
				if answer := r.answerPacket(asked, server); answer != nil {
					c.WriteMsgUDPAddrPort(answer, source(server), from)
				}
			})
		}()
	}
}

// answerPacket returns the answer to a message that was sent to server, or nil for none.
func (r *Resolver) answerPacket(message []byte, server netip.Addr) []byte {
	q, err := parseQuestion(message)
	if err != nil {
		return q.failed(formatError)
	}
	conn, err := r.dial(r.ctx, "udp", server)
	if err != nil {
		return q.failed(serverFailure)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	defer context.AfterFunc(r.ctx, func() { conn.SetDeadline(fdio.Past) })()
	if _, err := conn.Write(message); err != nil {
		return q.failed(serverFailure)
	}
	answer := make([]byte, mostMessage)
	for {
		n, err := conn.Read(answer)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil // as a server that does not answer
		case err != nil:
			return q.failed(serverFailure)
		case q.isAnsweredBy(answer[:n]):
			return r.shown(q, answer[:n])
		}
	}
}

// destination is the address that a packet was sent to, by what the kernel tells about it.
func destination(control []byte) (netip.Addr, bool) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return netip.Addr{}, false
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			return netip.AddrFrom4([4]byte(m.Data[8:])), true // ipi_addr
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			return netip.AddrFrom16([16]byte(m.Data)), true
		}
	}
	return netip.Addr{}, false
}

// source has a packet come from an address.
func source(ip netip.Addr) []byte {
	if ip.Is4() {
		return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: ip.As4()})
	}
	return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: ip.As16()})
}
