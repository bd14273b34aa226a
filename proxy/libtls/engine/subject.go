package engine

import (
	"encoding/asn1"
	"fmt"
	"strings"
	"unicode/utf16"
)

// attribute is one part of a distinguished name.
type attribute struct {
	oid   asn1.ObjectIdentifier
	value asn1.RawValue
}

// rdns takes a name apart, in the order in which it was written.
func rdns(raw []byte) ([]attribute, error) {
	var sets []asn1.RawValue
	if _, err := asn1.Unmarshal(raw, &sets); err != nil {
		return nil, err
	}
	var all []attribute
	for _, set := range sets {
		for rest := set.Bytes; len(rest) > 0; {
			var a struct {
				OID   asn1.ObjectIdentifier
				Value asn1.RawValue
			}
			var err error
			if rest, err = asn1.Unmarshal(rest, &a); err != nil {
				return nil, err
			}
			all = append(all, attribute{a.OID, a.Value})
		}
	}
	return all, nil
}

// text is the value in UTF-8.
func (a attribute) text() string {
	b := a.value.Bytes
	switch a.value.Tag {
	case asn1.TagBMPString:
		var u []uint16
		for ; len(b) >= 2; b = b[2:] {
			u = append(u, uint16(b[0])<<8|uint16(b[1]))
		}
		return string(utf16.Decode(u))
	case asn1.TagT61String:
		r := make([]rune, len(b))
		for i, c := range b {
			r[i] = rune(c)
		}
		return string(r)
	}
	return string(b)
}

// shortNames are OpenSSL's for the attributes that certificates have.
var shortNames = [...]struct{ oid, name string }{
	{"2.5.4.3", "CN"}, {"2.5.4.4", "SN"}, {"2.5.4.5", "serialNumber"}, {"2.5.4.6", "C"}, {"2.5.4.7", "L"},
	{"2.5.4.8", "ST"}, {"2.5.4.9", "street"}, {"2.5.4.10", "O"}, {"2.5.4.11", "OU"}, {"2.5.4.12", "title"},
	{"2.5.4.13", "description"}, {"2.5.4.15", "businessCategory"}, {"2.5.4.17", "postalCode"},
	{"2.5.4.41", "name"}, {"2.5.4.42", "GN"}, {"2.5.4.43", "initials"}, {"2.5.4.44", "generationQualifier"},
	{"2.5.4.46", "dnQualifier"}, {"2.5.4.65", "pseudonym"}, {"2.5.4.97", "organizationIdentifier"},
	{"1.2.840.113549.1.9.1", "emailAddress"}, {"0.9.2342.19200300.100.1.1", "UID"},
	{"0.9.2342.19200300.100.1.25", "DC"}, {"1.3.6.1.4.1.311.60.2.1.1", "jurisdictionL"},
	{"1.3.6.1.4.1.311.60.2.1.2", "jurisdictionST"}, {"1.3.6.1.4.1.311.60.2.1.3", "jurisdictionC"},
}

// shortName is an attribute's short name, or its number where it has none.
func shortName(oid string) string {
	for _, s := range shortNames {
		if s.oid == oid {
			return s.name
		}
	}
	return oid
}

// oneLine writes a name as X509_NAME_oneline does: "/C=XX/O=Org/CN=name". Bytes that are not
// printable ASCII are \xHH.
func oneLine(raw []byte) string {
	all, err := rdns(raw)
	if err != nil {
		return ""
	}
	var b strings.Builder
	for _, a := range all {
		b.WriteString("/" + shortName(a.oid.String()) + "=")
		for _, c := range a.bytes() {
			if c < ' ' || c > '~' {
				fmt.Fprintf(&b, "\\x%02X", c)
			} else {
				b.WriteByte(c)
			}
		}
	}
	return b.String()
}

// bytes leaves out the zeroes of wide characters, as X509_NAME_oneline does.
func (a attribute) bytes() []byte {
	b := a.value.Bytes
	if a.value.Tag != asn1.TagBMPString {
		return b
	}
	var narrow []byte
	for i := 0; i+1 < len(b); i += 2 {
		if b[i] != 0 {
			return b
		}
		narrow = append(narrow, b[i+1])
	}
	return narrow
}
