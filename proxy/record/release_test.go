package record

import (
	"bytes"
	"io"
	"testing"
)

// What a connection has needed to read what it has read, its peer's certificates at first, it does not keep while
// it idles, and it reads on afterwards.
func TestReadingLetsGoOfItsMemory(t *testing.T) {
	for _, c := range cases {
		for _, role := range []string{"client", "server"} {
			t.Run(c.String()+"/"+role, func(t *testing.T) {
				ours, theirs := pairOf(t, c, role)
				held := inputOf(ours.tls)
				if held == nil {
					t.Fatal("crypto/tls does not keep what it reads where it did")
				}
				for _, size := range []int{1, 1000, 16 << 10, 100} {
					words := randomBytes(size, uint64(size))
					if _, err := theirs.Write(words); err != nil {
						t.Fatal(err)
					}
					got := make([]byte, size)
					if _, err := io.ReadFull(ours, got); err != nil || !bytes.Equal(got, words) {
						t.Fatalf("%d bytes that came are not those that were sent: %v", size, err)
					}
					if held.rawInput.Cap() == 0 {
						t.Error("nothing was held, so there was nothing to let go of")
					}
					ours.ReleaseInput()
					if n := held.rawInput.Cap() + held.hand.Cap() + int(held.input.Size()); n > 0 {
						t.Errorf("after %d bytes it holds %d", size, n)
					}
				}
			})
		}
	}
}
