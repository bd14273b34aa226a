// Package buffers lends the memory that bytes lie in while they pass through the worker. A connection
// holds a buffer only while it has bytes, so that thousands which idle need none. Any of the worker's
// packages may borrow; nothing is wiped or zeroed in between.
package buffers

import "sync"

// Size is the size of every buffer: four TLS records as they are sent (RFC 8446, section
// 5.2), and with Plaintext bytes in it room for what they grow by.
const (
	Size      = 4 * (maxPlaintext + 256)
	Plaintext = 4 * maxPlaintext
)

// maxPlaintext is what one record carries (RFC 8446, section 5.1).
const maxPlaintext = 16 << 10

var pool = sync.Pool{New: func() any {
	b := make([]byte, Size)
	return &b
}}

// Get lends a buffer, with anything in it.
func Get() *[]byte { return pool.Get().(*[]byte) }

// Put takes a buffer back, whole: no slice of it may be used any more.
func Put(b *[]byte) { pool.Put(b) }
