package wire

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tlswrap/tests/testkit"
)

// layout prints what C makes of wire.h.
const layout = `
#include <stdio.h>
#include <stddef.h>
#include <string.h>
#include <linux/futex.h>
#include "../libtls/wire.h"
int main(void)
{
	printf("%u %d %d %d\n", TW_MAGIC, TW_TOKEN_SIZE, TW_NAME_SIZE, TW_MAX_ADDRS);
	printf("%zu %zu %zu\n", offsetof(struct tw_request, addrs), offsetof(struct tw_reply, addrs), sizeof(struct tw_addr));
	printf("%d\n", TW_SEND_BUFFER);
	printf("%zu %zu %zu %zu %zu\n", sizeof(struct tw_map), offsetof(struct tw_map, real4), offsetof(struct tw_map, real6),
	       offsetof(struct tw_real6, scope), offsetof(struct tw_real6, known));
	printf("%zu %u %u\n", sizeof(struct tw_life), FUTEX_OWNER_DIED, FUTEX_TID_MASK);
	printf("%d %d %d\n", TW_HELLO, TW_SWEEP, TW_CONNECT);
	printf("%d %d %d %d %d\n", TW_CONSUME, TW_NO_NEW_PRIVS, TW_STDERR, TW_UNTOLD, TW_MAPPED);
	printf("%d %d %d %d\n", TW_ANSWER_PASS, TW_ANSWER_CHANNEL, TW_ANSWER_ADDRS, TW_ANSWER_PROGRAM);
	printf("%d %u %d %zu %zu\n", TW_TLS_RING, TW_TLS_IN_RING, TW_TLS_SLOT_SHIFT, offsetof(struct tw_tls_ring, slots), sizeof(struct tw_tls_ring));
	struct tw_request r;
	memset(&r, 0, sizeof r);
	r.magic = TW_MAGIC; r.op = TW_NAMES; r.flags = TW_DATAGRAM; r.channel = 0x1122334455667788; r.count = 1;
	memset(r.token, 0xab, sizeof r.token);
	strcpy(r.name, "db.example.com");
	r.addrs[0] = (struct tw_addr){ .family = 2, .port = 5432, .scope = 7, .ip = {10, 0, 0, 1} };
	fwrite(&r, 1, offsetof(struct tw_request, addrs[1]), stdout);
	return 0;
}
`

// The shim is built for programs of 64 and of 32 bits; the worker speaks with both.
func TestWireMatchesTheShims(t *testing.T) {
	for _, cc := range []string{"cc", "i686-linux-gnu-gcc"} {
		t.Run(cc, func(t *testing.T) {
			if cc != "cc" {
				testkit.Need(t, cc)
			}
			dir := t.TempDir()
			source := filepath.Join(dir, "layout.c")
			if err := os.WriteFile(source, []byte(layout), 0o600); err != nil {
				t.Fatal(err)
			}
			program := filepath.Join(dir, "layout")
			if out, err := exec.Command(cc, "-static", "-I../../preload", "-o", program, source).CombinedOutput(); err != nil {
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
			out, err := exec.Command(argv[0], argv[1:]...).Output()
			if err != nil {
				t.Fatal(err)
			}
			want := fmt.Sprintf("%d %d %d %d\n%d %d %d\n%d\n%d %d %d %d %d\n%d %d %d\n%d %d %d\n%d %d %d %d %d\n%d %d %d %d\n%d %d %d %d %d\n",
				wireMagic, TokenLen, wireNameLen, wireMaxAddrs, requestHeader, ReplyHeader, AddrLen,
				SendBuffer, MapSize, MapReal4, MapReal6, 16, 20, LifeSize, 0x40000000, 0x3fffffff, OpHello, OpSweep, OpConnect, FlagConsume, FlagNoNewPrivs, FlagStderr, FlagUntold, FlagMapped,
				AnswerPass, AnswerChannel, AnswerAddrs, AnswerProgram,
				OpTLSRing, FrameInRing, RingSlotShift, RingHeader, RingSize)
			message, ok := bytes.CutPrefix(out, []byte(want))
			if !ok {
				t.Fatalf("got\n%.200s\nwant\n%s", out, want)
			}
			got, err := parseRequest(message)
			if err != nil {
				t.Fatal(err)
			}
			wantRequest := Request{
				Op: OpNames, Flags: FlagDatagram, Channel: 0x1122334455667788, Name: "db.example.com",
				Token: Token(bytes.Repeat([]byte{0xab}, TokenLen)),
				Addrs: []Addr{{IP: netip.MustParseAddr("10.0.0.1"), Port: 5432, Scope: 7}},
			}
			if !reflect.DeepEqual(got, wantRequest) {
				t.Errorf("got  %+v\nwant %+v", got, wantRequest)
			}
		})
	}
}

func TestRequestsThatDoNotFitAreRefused(t *testing.T) {
	good := Request{Op: OpNames, Name: "a", Addrs: []Addr{{IP: netip.MustParseAddr("::1")}}}.Marshal()
	tests := map[string]func(b []byte) []byte{
		"empty":        func([]byte) []byte { return nil },
		"short":        func(b []byte) []byte { return b[:requestHeader-1] },
		"long":         func(b []byte) []byte { return append(b, 0) },
		"magic":        func(b []byte) []byte { b[0]++; return b },
		"count":        func(b []byte) []byte { b[32] = 2; return b },
		"many":         func(b []byte) []byte { b[35] = 0xff; return b },
		"reserved":     func(b []byte) []byte { b[36] = 1; return b },
		"endless name": func(b []byte) []byte { copy(b[40:], strings.Repeat("x", wireNameLen)); return b },
		"family":       func(b []byte) []byte { b[requestHeader] = unix.AF_UNIX; return b },
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			if r, err := parseRequest(spoil(bytes.Clone(good))); err == nil {
				t.Errorf("got %+v", r)
			}
		})
	}
}

func FuzzRequest(f *testing.F) {
	f.Add(Request{Op: OpNames, Name: "a", Addrs: []Addr{{IP: netip.MustParseAddr("::1")}}}.Marshal())
	f.Add(Request{Op: OpConnect, Addrs: []Addr{{IP: netip.MustParseAddr("10.0.0.1"), Port: 1}}}.Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRequest(b)
		if err != nil {
			return
		}
		again, err := parseRequest(r.Marshal())
		if err != nil || !reflect.DeepEqual(r, again) {
			t.Errorf("%+v became %+v, %v", r, again, err)
		}
	})
}
