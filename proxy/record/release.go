package record

import (
	"bytes"
	"crypto/tls"
	"reflect"
	"unsafe"
)

// input is where a tls.Conn gathers what it reads: records as they came, messages of a handshake, and what is left
// of the last record's data. It keeps the size of the longest, a server's certificates, for as long as the connection
// lives, and crypto/tls has no call that ends that. nil where crypto/tls has other fields: then it keeps them.
type input struct {
	rawInput, hand *bytes.Buffer
	input          *bytes.Reader
}

// inputOf finds it.
func inputOf(c *tls.Conn) *input {
	raw, hand, data := field[bytes.Buffer](c, "rawInput"), field[bytes.Buffer](c, "hand"), field[bytes.Reader](c, "input")
	if raw == nil || hand == nil || data == nil {
		return nil
	}
	return &input{raw, hand, data}
}

// field is a field of c's that crypto/tls keeps to itself, or nil where it has none of that name and type.
func field[T any](c *tls.Conn, name string) *T {
	f, ok := reflect.TypeFor[tls.Conn]().FieldByName(name)
	if !ok || f.Type != reflect.TypeFor[T]() {
		return nil
	}
	return (*T)(unsafe.Add(unsafe.Pointer(c), f.Offset))
}

// ReleaseInput lets go of the memory that reading has needed, where nothing is in it: nothing may come for long. Nobody
// reads meanwhile.
func (c *Conn) ReleaseInput() {
	i := inputOf(c.tls)
	if i == nil || i.rawInput.Len()+i.hand.Len()+i.input.Len() > 0 {
		return
	}
	*i.rawInput, *i.hand, *i.input = bytes.Buffer{}, bytes.Buffer{}, bytes.Reader{}
}
