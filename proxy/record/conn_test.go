package record

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func TestBothDirectionsAreTakenOver(t *testing.T) {
	for _, c := range cases {
		for _, role := range []string{"client", "server"} {
			t.Run(c.String()+"/"+role, func(t *testing.T) {
				for _, most := range []int{50, 3000, 16 << 10, 100_000} {
					ours, theirs := pairOf(t, c, role)
					ours.TakeOverAfter(64 << 10)
					n := 1 << 20
					if most < 100 {
						n = 300_000
					}
					// While a write waits, reading is not taken over: so writing goes first, and
					// reading while nothing is written.
					if err := errors.Join(warmUp(ours, theirs, 64<<10), warmUp(theirs, ours, 256<<10)); err != nil {
						t.Fatal(err)
					}
					exchange(t, ours, theirs, n, most)
					if ours.reader == nil || !ours.tap.taken.Load() {
						t.Errorf("pieces of up to %d bytes: reading taken over: %v, writing: %v", most, ours.reader != nil, ours.tap.taken.Load())
					}
				}
			})
		}
	}
}

// Read and Next may be mixed.
func TestNextGoesOnWhereReadStopped(t *testing.T) {
	ours, theirs := pairOf(t, cases[0], "client")
	ours.TakeOverAfter(1)
	want := randomBytes(1<<20, 3)
	sent := make(chan error, 1)
	go func() { sent <- send(theirs, want, 16<<10) }()
	var got []byte
	small := make([]byte, 1000)
	for len(got) < 200_000 {
		n, err := ours.Read(small)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, small[:n]...)
	}
	for {
		batch, err := ours.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range batch {
			got = append(got, b...)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes arrived that are not the %d that were sent", len(got), len(want))
	}
}
