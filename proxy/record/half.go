package record

import (
	"crypto/cipher"
	"crypto/tls"
	"encoding/binary"
	"math"
)

// contentType is a record's type (RFC 8446, section 5.1).
type contentType uint8

const (
	changeCipherSpec contentType = 20
	alertType        contentType = 21
	handshakeType    contentType = 22
	applicationData  contentType = 23
)

const (
	headerLen    = 5
	nonceLen     = 12
	tagLen       = 16      // of all the AEADs here
	maxPlaintext = 1 << 14 // RFC 8446, section 5.1
	maxExpand13  = 256     // RFC 8446, section 5.2
	maxExpand12  = 2048    // RFC 5246, section 6.2.3
)

// maxRecord is the longest record there is.
const maxRecord = headerLen + maxPlaintext + maxExpand12

// half protects the records of one direction: RFC 8446, section 5.2 for TLS 1.3, RFC
// 5288 and RFC 7905 for TLS 1.2.
type half struct {
	suite    *suite
	version  uint16
	secret   []byte // the traffic secret of TLS 1.3, owned
	key      []byte // owned
	aead     cipher.AEAD
	iv       [nonceLen]byte
	explicit int // bytes of the nonce that each record carries
	seq      uint64

	// Scratch, because arguments of an interface's methods escape.
	nonce [nonceLen]byte
	ad    [13]byte
}

func (h *half) tls13() bool { return h.version == tls.VersionTLS13 }

// nextNonce is the current record's. For AES-GCM in TLS 1.2 explicit is the part in the
// record; otherwise the sequence number is mixed into the whole of the IV.
func (h *half) nextNonce(explicit []byte) []byte {
	h.nonce = h.iv
	if h.explicit > 0 {
		copy(h.nonce[nonceLen-h.explicit:], explicit)
		return h.nonce[:]
	}
	n := h.nonce[nonceLen-8:]
	binary.BigEndian.PutUint64(n, binary.BigEndian.Uint64(n)^h.seq)
	return h.nonce[:]
}

// additional is what is authenticated beside the record's n bytes of plaintext.
func (h *half) additional(header []byte, n int) []byte {
	if h.tls13() {
		return append(h.ad[:0], header[:headerLen]...)
	}
	ad := binary.BigEndian.AppendUint64(h.ad[:0], h.seq)
	ad = append(ad, header[:3]...)
	return binary.BigEndian.AppendUint16(ad, uint16(n))
}

// checkHeader looks at a record's header and returns the length of what follows.
func (h *half) checkHeader(header []byte) (int, error) {
	if binary.BigEndian.Uint16(header[1:]) != tls.VersionTLS12 {
		return 0, alertProtocolVersion
	}
	n := int(binary.BigEndian.Uint16(header[3:]))
	most := maxPlaintext + maxExpand12
	if h.tls13() {
		most = maxPlaintext + maxExpand13
	}
	if n > most {
		return 0, alertRecordOverflow
	}
	return n, nil
}

// open authenticates and decrypts one whole record whose header is good. With a nil dst
// the plaintext lies where the ciphertext was, which is lost, also when it fails; else
// it is appended to dst, which has the room for it and does not overlap the record.
func (h *half) open(dst, record []byte) ([]byte, contentType, error) {
	body := record[headerLen:]
	if len(body) < h.explicit+tagLen {
		return nil, 0, alertBadRecordMAC
	}
	if h.seq == math.MaxUint64 {
		return nil, 0, alertInternalError // the last number is never used, so none comes twice
	}
	explicit, body := body[:h.explicit], body[h.explicit:]
	if dst == nil {
		dst = body[:0]
	}
	plain, err := h.aead.Open(dst, h.nextNonce(explicit), body, h.additional(record, len(body)-tagLen))
	if err != nil {
		return nil, 0, alertBadRecordMAC
	}
	h.seq++
	plain = plain[len(dst):]
	typ := contentType(record[0])
	if h.tls13() {
		if plain, typ, err = unpad(typ, plain); err != nil {
			return nil, 0, err
		}
	}
	if len(plain) > maxPlaintext {
		return nil, 0, alertRecordOverflow
	}
	return plain, typ, nil
}

// unpad finds the true type behind the content: the last byte that is not zero (RFC
// 8446, section 5.4).
func unpad(outer contentType, inner []byte) ([]byte, contentType, error) {
	if outer != applicationData {
		return nil, 0, alertUnexpectedMessage
	}
	if len(inner) > maxPlaintext+1 {
		return nil, 0, alertRecordOverflow
	}
	for i := len(inner) - 1; i >= 0; i-- {
		if inner[i] != 0 {
			return inner[:i], contentType(inner[i]), nil
		}
	}
	return nil, 0, alertUnexpectedMessage
}

// sealedLen is the length of a record with n bytes of content.
func (h *half) sealedLen(n int) int {
	n += headerLen + h.explicit + tagLen
	if h.tls13() {
		n++
	}
	return n
}

// seal appends one record of at most maxPlaintext bytes of content to dst, which has the
// room for it and does not overlap content.
func (h *half) seal(dst []byte, typ contentType, content []byte) ([]byte, error) {
	if h.seq == math.MaxUint64 {
		return dst, alertInternalError
	}
	outer, n := typ, h.sealedLen(len(content))-headerLen
	if h.tls13() {
		outer = applicationData
	}
	start := len(dst)
	dst = append(dst, byte(outer), 3, 3, byte(n>>8), byte(n))
	header := dst[start:]
	if h.explicit > 0 {
		// A counter: RFC 5288, section 3, allows it, and a nonce must not come twice.
		dst = binary.BigEndian.AppendUint64(dst, h.seq)
	}
	nonce := h.nextNonce(dst[start+headerLen:])
	if h.tls13() {
		at := len(dst)
		dst = append(append(dst, content...), byte(typ))
		dst = h.aead.Seal(dst[:at], nonce, dst[at:], h.additional(header, 0))
	} else {
		dst = h.aead.Seal(dst, nonce, content, h.additional(header, len(content)))
	}
	h.seq++
	return dst, nil
}
