package starttls

import (
	"errors"
	"fmt"

	"tlswrap/proxy/quote"
)

// LDAP: the StartTLS operation of RFC 4511, section 4.14. The client speaks first, so it is
// shown nothing; one that asks for TLS itself is answered by the server, that TLS is there
// already (operationsError).
var ldap = Protocol{Ask: askLDAP}

// ldapRequest is an LDAPMessage with messageID 1 and an ExtendedRequest of the OID
// 1.3.6.1.4.1.1466.20037.
var ldapRequest = append([]byte{0x30, 29, 0x02, 1, 1, 0x77, 24, 0x80, 22}, "1.3.6.1.4.1.1466.20037"...)

// ldapResult is what is common to all results (RFC 4511, section 4.1.9).
type ldapResult struct {
	code    int
	message []byte
}

func askLDAP(d *Dialogue) error {
	d.note(false, []byte("StartTLS"))
	if err := d.write(ldapRequest); err != nil {
		return err
	}
	message, err := d.ldapMessage()
	if err != nil {
		return err
	}
	r, err := parseLDAPResult(message)
	if err != nil {
		return errorf("the server does not speak LDAP: it said %s", quote.Line(message))
	}
	d.note(true, fmt.Appendf(nil, "result %d %s", r.code, r.message))
	if r.code != 0 {
		return errorf("the server refused TLS: result %d, %s", r.code, quote.Line(r.message))
	}
	return nil
}

// ldapMessage reads one message, in definite lengths (RFC 4511, section 5.1).
func (d *Dialogue) ldapMessage() ([]byte, error) {
	const what = "the answer to StartTLS"
	message, err := d.exchange(nil, 2, what)
	if err != nil {
		return nil, err
	}
	n := int(message[1])
	if n&0x80 != 0 {
		length, err := d.exchange(nil, n&0x7f, what)
		if err != nil {
			return nil, err
		}
		message = append(message, length...)
		n = 0
		for _, b := range length {
			n = min(n<<8|int(b), maxDialogue)
		}
	}
	if message[0] != berSequence || n > maxLine {
		return nil, errorf("the server does not speak LDAP: it said %s", quote.Line(message))
	}
	rest, err := d.exchange(nil, n, what)
	return append(message, rest...), err
}

// Tags of an answer (RFC 4511, appendix B).
const (
	berInteger           = 0x02
	berOctetString       = 0x04
	berEnumerated        = 0x0a
	berSequence          = 0x30
	ldapExtendedResponse = 0x78
)

var errBER = errors.New("not the answer")

// parseLDAPResult reads the ExtendedResponse to our request.
func parseLDAPResult(message []byte) (r ldapResult, err error) {
	var id, code []byte
	p := ber{rest: message}
	p = ber{rest: p.next(berSequence)}
	id = p.next(berInteger)
	op := ber{rest: p.next(ldapExtendedResponse)}
	code = op.next(berEnumerated)
	op.next(berOctetString) // matchedDN
	r.message = op.next(berOctetString)
	if p.bad || op.bad || len(id) != 1 || id[0] != 1 || len(code) != 1 {
		return r, errBER
	}
	r.code = int(code[0])
	return r, nil
}

// ber reads elements in the Basic Encoding Rules, with definite lengths. encoding/asn1
// wants the shortest form of each, which Active Directory does not write.
type ber struct {
	rest []byte
	bad  bool // something was not as expected
}

// next returns the contents of the next element, which has to have the tag.
func (p *ber) next(tag byte) []byte {
	if p.bad || len(p.rest) < 2 || p.rest[0] != tag {
		p.bad = true
		return nil
	}
	n, at := int(p.rest[1]), 2
	if n&0x80 != 0 {
		digits := n & 0x7f
		if digits > 4 || len(p.rest) < at+digits {
			p.bad = true
			return nil
		}
		n = 0
		for _, b := range p.rest[at : at+digits] {
			n = n<<8 | int(b)
		}
		at += digits
	}
	if n < 0 || n > len(p.rest)-at {
		p.bad = true
		return nil
	}
	value := p.rest[at : at+n]
	p.rest = p.rest[at+n:]
	return value
}
