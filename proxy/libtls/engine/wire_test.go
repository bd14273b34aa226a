package engine

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"tlswrap/tests/testkit"
)

// layout prints what C makes of libtls/wire.h.
const layout = `
#include <stdio.h>
#include <stddef.h>
#include "../libtls/wire.h"
int main(void)
{
	printf("%d %d %d %d\n", TW_TLS_CA, TW_TLS_SESSION_ID, TW_TLS_CERT, TW_TLS_TICKET_KEY);
	printf("%d %d %d\n", TW_TLS_SERVER, TW_TLS_FOREIGN_KEY, TW_TLS_RESSL);
	printf("%zu %zu\n", sizeof(struct tw_tls_settings), sizeof(struct tw_tls_keypair));
	printf("%d %d %d %d\n", TW_TLS_FAILED, TW_TLS_OCSP_REVOCATION_TIME, TW_TLS_NUMBERS, TW_TLS_NOT_AFTER);
	printf("%d %d %d %d\n", TW_TLS_ERROR, TW_TLS_CHAIN, TW_TLS_OCSP_RESULT, TW_TLS_STRINGS);
	printf("%zu %zu\n", offsetof(struct tw_tls_facts, numbers), sizeof(struct tw_tls_facts));
	return 0;
}
`

func TestWireMatchesTheShims(t *testing.T) {
	for _, cc := range []string{"cc", "i686-linux-gnu-gcc"} {
		if cc != "cc" {
			testkit.Need(t, cc)
		}
		dir := t.TempDir()
		source, program := filepath.Join(dir, "layout.c"), filepath.Join(dir, "layout")
		if err := os.WriteFile(source, []byte(layout), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(cc, "-static", "-I../../../preload", "-o", program, source).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		argv := []string{program}
		if cc != "cc" {
			narrow, err := testkit.Narrow("")
			if err != nil {
				t.Fatal(err)
			}
			argv = append(narrow, program)
		}
		got, err := exec.Command(argv[0], argv[1:]...).Output()
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("%d %d %d %d\n%d %d %d\n%d %d\n%d %d %d %d\n%d %d %d %d\n",
			kindCA, kindSessionID, kindCert, kindTicketKey, flagServer, flagForeignKey, flagRessl,
			settingsHeader, keypairLen, numFailed, numOCSPRevocationTime, numbers, numNotAfter,
			strError, strChain, strOCSPResult, stringCount)
		if len(got) < len(want) || string(got[:len(want)]) != want {
			t.Errorf("%s: got\n%swant\n%s", cc, got, want)
		}
	}
}

// Settings are a program's: whatever they are, they are an error or a configuration.
func FuzzSettings(f *testing.F) {
	f.Add(make([]byte, settingsHeader))
	f.Add(make([]byte, settingsHeader+keypairLen))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := NewStore(&Shares{})
		s.Load(kindKey, []byte("key"))
		if n, err := s.Build(b); err == nil {
			if _, err := s.Config(n); err != nil {
				t.Error(err)
			}
		}
	})
}

func FuzzOCSP(f *testing.F) {
	f.Add([]byte{0x30, 3, 0x0a, 1, 6})
	f.Fuzz(func(t *testing.T, b []byte) { checkResponse(b, nil, now) })
}

func FuzzDecrypt(f *testing.F) {
	f.Add([]byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) { Decrypt(b, []byte("x")) })
}
