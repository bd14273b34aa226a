package serving

import (
	"crypto/tls"
	"encoding/binary"
	"hash/crc32"
	"net/netip"
)

// The PROXY protocol, version 2, as HAProxy's proxy-protocol.txt has it (sections 2.2 to
// 2.2.8), tells a program that speaks it who its client is.
var proxySignature = []byte("\r\n\r\n\x00\r\nQUIT\n")

const (
	proxyCommand = 0x21 // version 2, PROXY
	proxyTCP4    = 0x11
	proxyTCP6    = 0x21

	// Types of values (PP2_TYPE_…), and of those inside proxySSL.
	proxyALPN       = 0x01
	proxyAuthority  = 0x02 // the server name that the client asked for
	proxyCRC32C     = 0x03
	proxySSL        = 0x20
	proxySSLVersion = 0x21
	proxySSLCN      = 0x22
	proxySSLCipher  = 0x23

	proxyMostCN = 255 // bytes of a name; RFC 5280 has 64 characters

	// Bits of proxySSL's client field.
	proxyClientSSL      = 0x01
	proxyClientCertConn = 0x02
	proxyClientCertSess = 0x04
)

// first is what the program reads first: the header, where the service has one, and what the client has
// said with the end of its handshake. It is to be sent before anything else is read from the client. No buffer
// is held for it, nor for what else has come: the program may let the client wait.
func (c *Client) first() []byte {
	c.up.FillNow()
	words := c.tls.Here()
	c.up.Shrink()
	if !c.service.Listen.ProxyProtocol {
		return words
	}
	local := c.up.LocalAddr().(interface{ AddrPort() netip.AddrPort }).AddrPort()
	from := netip.AddrPortFrom(c.target.Addr.Real(), c.target.Addr.Port)
	return append(proxyHeader(from, local, c.tls.ConnectionState()), words...)
}

// proxyHeader makes a header of the connection's addresses and what TLS knows.
func proxyHeader(from, to netip.AddrPort, st tls.ConnectionState) []byte {
	family, source, destination := byte(proxyTCP4), from.Addr(), to.Addr()
	if !source.Is4() || !destination.Is4() {
		family, source, destination = proxyTCP6, netip.AddrFrom16(source.As16()), netip.AddrFrom16(destination.As16())
	}
	b := append([]byte(nil), proxySignature...)
	b = append(b, proxyCommand, family, 0, 0) // the length comes last
	b = append(b, source.AsSlice()...)
	b = append(b, destination.AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, from.Port())
	b = binary.BigEndian.AppendUint16(b, to.Port())
	if st.NegotiatedProtocol != "" {
		b = appendValue(b, proxyALPN, []byte(st.NegotiatedProtocol))
	}
	if st.ServerName != "" {
		b = appendValue(b, proxyAuthority, []byte(st.ServerName))
	}
	b = appendValue(b, proxySSL, proxyTLS(st))
	// The checksum is of the whole header, with zeros where it stands.
	b = appendValue(b, proxyCRC32C, make([]byte, 4))
	length := len(proxySignature) + 2
	binary.BigEndian.PutUint16(b[length:], uint16(len(b)-length-2))
	binary.BigEndian.PutUint32(b[len(b)-4:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// proxyTLS is the value of proxySSL.
func proxyTLS(st tls.ConnectionState) []byte {
	client, verify := byte(proxyClientSSL), uint32(0) // 0: a certificate that was shown was verified
	if len(st.PeerCertificates) > 0 {
		client |= proxyClientCertSess
		if !st.DidResume {
			client |= proxyClientCertConn
		}
	} else {
		verify = 1
	}
	b := binary.BigEndian.AppendUint32([]byte{client}, verify)
	b = appendValue(b, proxySSLVersion, []byte(proxyVersion(st.Version)))
	b = appendValue(b, proxySSLCipher, []byte(tls.CipherSuiteName(st.CipherSuite)))
	if len(st.PeerCertificates) > 0 {
		if cn := st.PeerCertificates[0].Subject.CommonName; cn != "" && len(cn) <= proxyMostCN {
			b = appendValue(b, proxySSLCN, []byte(cn))
		}
	}
	return b
}

// proxyVersion names a version as OpenSSL does, and with it all who read the header.
func proxyVersion(v uint16) string {
	switch v {
	case tls.VersionTLS10:
		return "TLSv1"
	case tls.VersionTLS11:
		return "TLSv1.1"
	case tls.VersionTLS12:
		return "TLSv1.2"
	}
	return "TLSv1.3"
}

func appendValue(b []byte, kind byte, value []byte) []byte {
	b = binary.BigEndian.AppendUint16(append(b, kind), uint16(len(value)))
	return append(b, value...)
}
