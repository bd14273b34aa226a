package record

import "testing"

func BenchmarkHalf(b *testing.B) {
	for _, s := range []struct {
		name  string
		suite *suite
	}{{"AES128", &aes128}, {"AES256", &aes256}} {
		h, err := newHalf13(s.suite, randomBytes(48, 1), 0)
		if err != nil {
			b.Fatal(err)
		}
		content, out := randomBytes(maxPlaintext, 2), make([]byte, 0, maxRecord)
		sealed, _ := h.seal(nil, applicationData, content)
		b.Run("seal/"+s.name, func(b *testing.B) {
			b.SetBytes(maxPlaintext)
			b.ReportAllocs()
			for b.Loop() {
				h.seal(out, applicationData, content)
			}
		})
		b.Run("open/"+s.name, func(b *testing.B) {
			b.SetBytes(maxPlaintext)
			b.ReportAllocs()
			for b.Loop() {
				h.seq = 0
				if _, _, err := h.open(out, sealed); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// What it costs to take over, against what that saves for each record.
func BenchmarkTakeOver(b *testing.B) {
	secret, sealed := randomBytes(32, 1), []byte(nil)
	h, err := newHalf13(&aes128, secret, 0)
	if err != nil {
		b.Fatal(err)
	}
	sealed, _ = h.seal(nil, applicationData, randomBytes(maxPlaintext, 2))
	b.ReportAllocs()
	for b.Loop() {
		in, err := newHalf13(&aes128, secret, 0)
		if err != nil || !in.opens(sealed) {
			b.Fatal(err)
		}
		if _, err := newHalf13(&aes128, secret, 0); err != nil {
			b.Fatal(err)
		}
	}
}
