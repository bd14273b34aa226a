package engine

import "encoding/asn1"

// der takes DER apart, one element after the other, and lets nothing be skipped: what the structures
// of encoding/asn1 ignore at the end of a sequence is a mistake here. All readers of one encoding
// share bad; after the first mistake they are empty.
type der struct {
	rest []byte
	bad  *bool
}

// Identifier octets (X.690, section 8.1.2).
const (
	derBoolean     = 0x01
	derInteger     = 0x02
	derBitString   = 0x03
	derOctetString = 0x04
	derOID         = 0x06
	derEnumerated  = 0x0a
	derUTCTime     = 0x17
	derTime        = 0x18 // GeneralizedTime
	derSequence    = 0x30
	derSet         = 0x31
	derContext     = 0x80 // context-specific, and with the number of the tag
	derContextWith = 0xa0 // the same, constructed: with elements in it
)

func readDER(b []byte) der { return der{b, new(bool)} }

func (d *der) fail() {
	d.rest, *d.bad = nil, true
}

func (d *der) more() bool { return !*d.bad && len(d.rest) > 0 }

func (d *der) has(identifier byte) bool { return d.more() && d.rest[0] == identifier }

func (d *der) next() asn1.RawValue {
	var raw asn1.RawValue
	if *d.bad {
		return raw
	}
	rest, err := asn1.Unmarshal(d.rest, &raw)
	if err != nil {
		d.fail()
		return asn1.RawValue{}
	}
	d.rest = rest
	return raw
}

// whole takes the next element, and returns it with its header.
func (d *der) whole() []byte { return d.next().FullBytes }

// content takes the next element, which has to be of this kind.
func (d *der) content(identifier byte) []byte {
	if !d.has(identifier) {
		d.fail()
	}
	return d.next().Bytes
}

// in takes the next element and reads what is in it.
func (d *der) in(identifier byte) der { return der{d.content(identifier), d.bad} }

// end reports whether all was read and nothing was wrong.
func (d *der) end() bool {
	if len(d.rest) > 0 {
		d.fail()
	}
	return !*d.bad
}

func (d *der) boolean(identifier byte) bool {
	b := d.content(identifier)
	if len(b) != 1 || b[0] != 0 && b[0] != 0xff {
		d.fail()
		return false
	}
	return b[0] == 0xff
}

// integer returns the bytes of a number, of which there is one way to write them.
func (d *der) integer(identifier byte) []byte {
	b := d.content(identifier)
	if len(b) == 0 || len(b) > 1 && (b[0] == 0 && b[1] < 0x80 || b[0] == 0xff && b[1] >= 0x80) {
		d.fail()
		return nil
	}
	return b
}

// bits returns the bytes of a bit string.
func (d *der) bits(identifier byte) []byte {
	b := d.content(identifier)
	if len(b) == 0 || b[0] > 7 || b[0] > 0 && (len(b) == 1 || b[len(b)-1]&(1<<b[0]-1) != 0) {
		d.fail()
		return nil
	}
	return b[1:]
}

// each reads the elements of a sequence, of which there may be none.
func (d *der) each(identifier byte, read func(*der)) {
	for in := d.in(identifier); in.more(); {
		read(&in)
	}
}
