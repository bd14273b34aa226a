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
