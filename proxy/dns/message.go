package dns

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"

	"golang.org/x/net/dns/dnsmessage"
)

// A message begins with a header (RFC 1035, section 4.1.1).
const headerLen = 12

// Bits of the header's third and fourth byte.
const (
	isAnswer         = 0x80 // in the third
	opcodeAndDesired = 0x79 // there: the kind of question, and that recursion is desired
	canRecurse       = 0x80 // in the fourth
)

// Response codes.
const (
	formatError   = 1
	serverFailure = 2
)

// Types of questions that have zones transferred, and may have many answers.
const (
	typeIXFR = 251
	typeAXFR = 252
)

var (
	errCut        = errors.New("a DNS message is cut off")
	errName       = errors.New("a DNS message has a name that cannot be read")
	errNoQuestion = errors.New("a DNS message has not the one question that it is about")
	errNotAQuery  = errors.New("a DNS message that a program sends is an answer")
	errNotLike    = errors.New("what a program is to be shown is not like what it found")
)

func number(message []byte) uint16 { return binary.BigEndian.Uint16(message) }

// question is what a program asks.
type question struct {
	id    uint16
	head  []byte // header and question section as they came
	typ   dnsmessage.Type
	limit int // of the answer's length
}

// parseQuestion reads a message of a program's. Also where that fails, q can tell so.
func parseQuestion(message []byte) (q question, err error) {
	if len(message) < headerLen {
		return q, errCut
	}
	q = question{id: number(message), limit: 512}
	if message[2]&isAnswer != 0 {
		return q, errNotAQuery
	}
	if q.head, err = head(message); err != nil {
		q.head = bytes.Clone(message[:headerLen])
		return q, err
	}
	q.typ = dnsmessage.Type(binary.BigEndian.Uint16(q.head[len(q.head)-4:]))
	err = walk(message, func(typ dnsmessage.Type, class uint16) {
		if typ == dnsmessage.TypeOPT {
			q.limit = max(q.limit, int(class))
		}
	})
	return q, err
}

// head returns the header of a message and the one question in it.
func head(message []byte) ([]byte, error) {
	if binary.BigEndian.Uint16(message[4:]) != 1 {
		return nil, errNoQuestion
	}
	end := headerLen
	for end < len(message) && message[end] != 0 {
		if message[end]&0xc0 != 0 {
			return nil, errName // nothing is there that it can point to
		}
		end += 1 + int(message[end])
	}
	end += 5 // the last label, type and class
	if end > len(message) || end-headerLen > 255+4 {
		return nil, errCut
	}
	return bytes.Clone(message[:end]), nil
}

// lower has A to Z in lower case, and leaves other bytes alone (RFC 4343).
func lower[T string | []byte](name T) string {
	b := []byte(name)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] += 'a' - 'A'
		}
	}
	return string(b)
}

// key is what a head asks.
func key(head []byte) string {
	name, kind := head[headerLen:len(head)-4], head[len(head)-4:]
	return lower(name) + string(kind)
}

func (q question) isTransfer() bool { return q.typ == typeAXFR || q.typ == typeIXFR }

// isAnsweredBy reports whether a message of a server's is the answer. Some errors come without the question.
func (q question) isAnsweredBy(message []byte) bool {
	if len(message) < headerLen || number(message) != q.id || message[2]&isAnswer == 0 {
		return false
	}
	if binary.BigEndian.Uint16(message[4:]) == 0 {
		return true
	}
	h, err := head(message)
	return err == nil && key(h) == key(q.head)
}

// failed is an answer that has only a response code, or nil where there was no question.
func (q question) failed(code byte) []byte {
	if q.head == nil {
		return nil
	}
	b := slices.Clone(q.head)
	b[2] = isAnswer | b[2]&opcodeAndDesired
	b[3] = canRecurse | code
	clear(b[4:headerLen])
	if len(b) > headerLen {
		b[5] = 1 // question
	}
	return b
}

// walk calls f with the type and the class of each record of a message.
func walk(message []byte, f func(typ dnsmessage.Type, class uint16)) error {
	if len(message) < headerLen {
		return errCut
	}
	count := func(i int) int { return int(binary.BigEndian.Uint16(message[4+2*i:])) }
	at := headerLen
	var err error
	for range count(0) {
		if at, err = skipName(message, at); err != nil {
			return err
		}
		at += 4
	}
	for range count(1) + count(2) + count(3) {
		if at, err = skipName(message, at); err != nil {
			return err
		}
		if at+10 > len(message) {
			return errCut
		}
		f(dnsmessage.Type(binary.BigEndian.Uint16(message[at:])), binary.BigEndian.Uint16(message[at+2:]))
		at += 10 + int(binary.BigEndian.Uint16(message[at+8:]))
	}
	if at > len(message) {
		return errCut
	}
	return nil
}

// skipName returns where a name ends.
func skipName(message []byte, at int) (int, error) {
	for at < len(message) {
		switch size := int(message[at]); {
		case size == 0:
			return at + 1, nil
		case size < 0x40:
			at += 1 + size
		case size >= 0xc0:
			return at + 2, nil
		default:
			return 0, errName
		}
	}
	return 0, errCut
}
