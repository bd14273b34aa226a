package record

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"testing"
)

// A peer that asks for new keys gets them before the next data, once, however often it asked.
func TestKeyUpdateIsAnsweredOnce(t *testing.T) {
	for _, role := range []string{"client", "server"} {
		ours, theirs, wire := scriptPair(t, cases[0], role, byUs)
		ours.TakeOverAfter(1)
		if _, err := wire.Write(seal(t, theirs.tap.writer.half, []step{keyUpdate(1), keyUpdate(1), keyUpdate(1), data("x")})); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(ours, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		before := ours.tap.writer.half.copy()
		for range 2 {
			if _, err := ours.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
		}
		if err := before.update(); err != nil {
			t.Fatal(err)
		}
		if h := ours.tap.writer.half; !bytes.Equal(h.secret, before.secret) || h.seq != 2 {
			t.Errorf("%s: not one update and two records since: number %d", role, h.seq)
		}
		got := make([]byte, 10)
		if _, err := io.ReadFull(theirs, got); err != nil || string(got) != "hellohello" {
			t.Errorf("%s: the peer reads %q, error %v", role, got, err)
		}
	}
}

// crypto/tls follows when we change our keys because of their limit.
func TestOwnKeyUpdateAtTheLimit(t *testing.T) {
	for _, role := range []string{"client", "server"} {
		ours, theirs := pairOf(t, cases[0], role)
		ours.TakeOverAfter(1)
		if err := warmUp(ours, theirs, 4<<10); err != nil {
			t.Fatal(err)
		}
		if err := warmUp(ours, theirs, 4<<10); err != nil {
			t.Fatal(err)
		}
		ours.tap.writer.limit = 5
		exchange(t, ours, theirs, 300<<10, 20<<10)
		if n := ours.tap.writer.half.seq; n > 7 {
			t.Errorf("%s: the last key has protected %d records", role, n)
		}
	}
}

// A peer may change its keys before we take over. Then its direction stays with crypto/tls,
// which goes on.
func TestKeysThatChangedBefore(t *testing.T) {
	for _, role := range []string{"client", "server"} {
		for _, request := range []byte{0, 1} {
			ours, theirs, wire := scriptPair(t, cases[0], role, byCryptoTLS)
			steps := append([]step{keyUpdate(request)}, repeat(full, 20)...)
			sent := make(chan error, 1)
			go func() {
				_, err := wire.Write(seal(t, theirs.tap.writer.half, append(steps, closeNotify)))
				sent <- err
			}()
			if _, err := io.ReadFull(ours, make([]byte, maxPlaintext)); err != nil {
				t.Fatal(err)
			}
			ours.TakeOverAfter(1)
			rest, err := receive(ours, 50_000)
			if err != nil || len(rest) != 19*maxPlaintext {
				t.Errorf("%s: %d bytes, error %v", role, len(rest), err)
			}
			if ours.reader != nil {
				t.Errorf("%s: taken over under keys that had changed", role)
			}
			if err := <-sent; err != nil {
				t.Error(err)
			}
			if err := warmUp(ours, theirs, 100<<10); err != nil {
				t.Errorf("%s: writing after a key update (asked for ours: %d): %v", role, request, err)
			}
		}
	}
}

// Sessions are resumed, whichever side a connection was taken over on.
func TestSessionsAreResumed(t *testing.T) {
	for _, c := range cases {
		client, server := c.clientConfig(), ServerConfig(c.serverConfig())
		for round := range 3 {
			a, b := socketPair(t)
			ours, theirs := Client(newReadAhead(a), client.Clone()), Server(newReadAhead(b), server)
			ours.TakeOverAfter(1)
			theirs.TakeOverAfter(1)
			shakeHands(t, ours, theirs)
			exchange(t, ours, theirs, 100<<10, 10<<10)
			for _, conn := range []*Conn{ours, theirs} {
				if got := conn.ConnectionState().DidResume; got != (round > 0) {
					t.Errorf("%v, round %d: resumed: %v", c, round, got)
				}
			}
		}
	}
}

// What is ours of the secrets is gone with the connection.
func TestSecretsAreWiped(t *testing.T) {
	for _, c := range cases {
		ours, theirs := pairOf(t, c, "client")
		s := ours.tap.secrets
		ours.TakeOverAfter(1)
		// Reading is taken over while nothing is written.
		if err := errors.Join(warmUp(ours, theirs, 4<<10), warmUp(theirs, ours, 256<<10)); err != nil {
			t.Fatal(err)
		}
		exchange(t, ours, theirs, 300<<10, 20<<10)
		kept := [][]byte{s.client, s.server, s.master, ours.reader.half.secret, ours.tap.writer.half.secret, ours.tap.writer.theirs.secret,
			ours.reader.half.iv[:], ours.tap.writer.half.iv[:]}
		ours.Close()
		ours.Forget()
		for i, b := range kept {
			if len(bytes.Trim(b, "\x00")) > 0 {
				t.Errorf("%v: secret %d is still there: %x", c, i, b)
			}
		}
	}
}

// The key log of one connection hears of no other, and takes nothing that it does not need.
func TestKeyLogIsOfOneConnection(t *testing.T) {
	one, _ := pairOf(t, cases[0], "client")
	two, _ := pairOf(t, cases[0], "client")
	a, b := one.tap.secrets, two.tap.secrets
	if bytes.Equal(a.client, b.client) || len(a.client) != 32 || len(a.server) != 32 || a.master != nil {
		t.Errorf("secrets %+v and %+v", a, b)
	}
}

// A connection that does not fit stays with crypto/tls, and works.
func TestWhatDoesNotFitStays(t *testing.T) {
	renegotiating := cases[1].clientConfig()
	renegotiating.Renegotiation = tls.RenegotiateFreelyAsClient
	chacha := testCase{tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256}
	cbc := testCase{tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
	old := testCase{tls.VersionTLS11, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
	for name, p := range map[string]struct{ client, server *tls.Config }{
		"renegotiation": {renegotiating, cases[1].serverConfig()},
		"ChaCha20":      {chacha.clientConfig(), chacha.serverConfig()},
		"CBC":           {cbc.clientConfig(), cbc.serverConfig()},
		"TLS 1.1":       {old.clientConfig(), old.serverConfig()},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := socketPair(t)
			ours, theirs := Client(newReadAhead(a), p.client), Server(newReadAhead(b), ServerConfig(p.server))
			ours.TakeOverAfter(1)
			theirs.TakeOverAfter(1)
			shakeHands(t, ours, theirs)
			exchange(t, ours, theirs, 300<<10, 20<<10)
			if ours.reader != nil || ours.taken() || name != "renegotiation" && theirs.taken() {
				t.Error("taken over")
			}
			if ours.tap.secrets.client != nil || ours.tap.secrets.master != nil {
				t.Error("the secrets are kept")
			}
		})
	}
	t.Run("no Transport", func(t *testing.T) {
		a, b := socketPair(t)
		ours, theirs := Client(a, cases[0].clientConfig()), Server(b, ServerConfig(cases[0].serverConfig()))
		shakeHands(t, ours, theirs)
		exchange(t, ours, theirs, 300<<10, 20<<10)
	})
}
