package starttls

import (
	"bytes"
	"encoding/xml"
	"errors"

	"tlswrap/proxy/quote"
)

// XMPP: RFC 6120, section 5. A stream ends where TLS begins (section 5.4.3.3), so the one
// that asks for TLS is the worker's, and the program opens its own under TLS. What the
// server offers there has no STARTTLS any more (section 5.4.3.3), and a program that asks
// for it all the same is answered by the server.
var (
	xmpp       = Protocol{Ask: func(d *Dialogue) error { return d.xmpp("jabber:client") }}
	xmppServer = Protocol{Ask: func(d *Dialogue) error { return d.xmpp("jabber:server") }}
)

const (
	nsStream = "http://etherx.jabber.org/streams"
	nsTLS    = "urn:ietf:params:xml:ns:xmpp-tls"
)

func (d *Dialogue) xmpp(content string) error {
	var to bytes.Buffer
	xml.EscapeText(&to, []byte(d.Host))
	if err := d.element("<?xml version='1.0'?><stream:stream to='" + to.String() + "' version='1.0' xmlns='" + content +
		"' xmlns:stream='" + nsStream + "'>"); err != nil {
		return err
	}
	x := &xmppReader{Dialogue: d}
	x.decoder = xml.NewDecoder(x)
	_, err := x.next("a stream", xml.Name{Space: nsStream, Local: "stream"})
	x.take()
	if err != nil {
		return err
	}
	var features struct {
		StartTLS *struct{} `xml:"urn:ietf:params:xml:ns:xmpp-tls starttls"`
	}
	element, err := x.next("the features of its stream", xml.Name{Space: nsStream, Local: "features"})
	if err == nil {
		err = x.problem(x.decoder.DecodeElement(&features, &element))
	}
	if err != nil {
		return err
	}
	said := x.take()
	if features.StartTLS == nil {
		return errorf("the server does not offer STARTTLS: it said %s", quote.Line(said))
	}
	if err := d.element("<starttls xmlns='" + nsTLS + "'/>"); err != nil {
		return err
	}
	element, err = x.next("the go-ahead for TLS", xml.Name{Space: nsTLS, Local: "proceed"})
	if err == nil {
		err = x.problem(x.decoder.DecodeElement(&struct{}{}, &element))
	}
	x.take()
	return err
}

// element sends an element, or the start of one. White space must not follow it (section
// 5.3.3).
func (d *Dialogue) element(text string) error {
	d.note(false, []byte(text))
	return d.write([]byte(text))
}

// xmppReader reads a server's stream byte by byte, so as not to read what is TLS.
type xmppReader struct {
	*Dialogue
	decoder *xml.Decoder
	heard   []byte // since take
	broken  error  // what a read ended in
}

// ReadByte implements io.ByteReader for the decoder.
func (x *xmppReader) ReadByte() (byte, error) {
	b, err := x.Dialogue.ReadByte()
	if err == nil {
		x.heard = append(x.heard, b)
	} else if x.broken == nil {
		x.broken = err
	}
	return b, err
}

// take notes and returns what was heard since the last time.
func (x *xmppReader) take() []byte {
	heard := x.heard
	x.note(true, heard)
	x.heard = nil
	return heard
}

// next reads up to the start of an element, which has to have a name.
func (x *xmppReader) next(what string, name xml.Name) (xml.StartElement, error) {
	x.expect(what)
	for {
		token, err := x.decoder.Token()
		if err != nil {
			return xml.StartElement{}, x.problem(err)
		}
		switch e := token.(type) {
		case xml.StartElement:
			if e.Name == name {
				return e, nil
			}
			if e.Name.Space == nsStream {
				x.decoder.Skip() // an error, whose rest people want to see
			}
			return e, x.unexpected(what)
		case xml.EndElement:
			return xml.StartElement{}, x.unexpected(what)
		}
	}
}

func (x *xmppReader) unexpected(what string) error {
	return errorf("the server did not send %s: it said %s", what, quote.Line(x.heard))
}

// problem explains the end of a stream that could not be read.
func (x *xmppReader) problem(err error) error {
	var syntax *xml.SyntaxError
	switch {
	case err == nil:
		return nil
	case x.broken != nil && len(x.heard) > 0:
		return errorf("%v, after %s", x.broken, quote.Line(x.heard))
	case x.broken != nil:
		return x.broken
	case errors.As(err, &syntax):
		return errorf("the server does not speak XMPP (%s): it said %s", syntax.Msg, quote.Line(x.heard))
	}
	return errorf("the server does not speak XMPP (%v): it said %s", err, quote.Line(x.heard))
}
