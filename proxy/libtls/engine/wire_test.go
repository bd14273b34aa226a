package engine

import (
	"testing"
	"unsafe"

	"tlswrap/tests/testkit"
)

// What C has, for the comparison.
type (
	cKeypair  struct{ Cert, Key, Staple uint64 }
	cSettings struct {
		Flags, Protocols   uint32
		Depth, Lifetime    int32
		Things             [things]uint64
		Tickets            [ticketKeys]uint64
		Keypairs, Reserved uint32
	}
	cFacts struct {
		Size, Reserved uint32
		Numbers        [numbers]int64
	}
)

func TestWireMatchesTheShims(t *testing.T) {
	testkit.Mirror{
		Header: "libtls/wire.h",
		Numbers: map[string]any{
			"TW_TLS_CA": kindCA, "TW_TLS_CA_PATH": kindCAPath, "TW_TLS_CA_ENV": kindCAEnv, "TW_TLS_CRL": kindCRL, "TW_TLS_CIPHERS": kindCiphers,
			"TW_TLS_CURVES": kindCurves, "TW_TLS_ALPN": kindALPN, "TW_TLS_SESSION_ID": kindSessionID, "TW_TLS_THINGS": things,
			"TW_TLS_CERT": kindCert, "TW_TLS_KEY": kindKey, "TW_TLS_NAMES": kindStaple, "TW_TLS_STAPLE": kindStaple, "TW_TLS_TICKET_KEY": kindTicketKey,
			"TW_TLS_SERVER": flagServer, "TW_TLS_VERIFY_CERT": flagVerifyCert, "TW_TLS_VERIFY_NAME": flagVerifyName, "TW_TLS_VERIFY_TIME": flagVerifyTime,
			"TW_TLS_VERIFY_CLIENT": flagVerifyClient, "TW_TLS_VERIFY_CLIENT_OPTIONAL": flagVerifyClientOptional, "TW_TLS_REQUIRE_STAPLING": flagRequireStapling,
			"TW_TLS_FOREIGN_KEY": flagForeignKey, "TW_TLS_RESSL": flagRessl, "TW_TLS_NO_ECDHE": flagNoECDHE, "TW_TLS_TICKET_KEYS": ticketKeys,
			"TW_TLS_FAILED": numFailed, "TW_TLS_STRENGTH": numStrength, "TW_TLS_RESUMED": numResumed, "TW_TLS_PROVIDED": numProvided,
			"TW_TLS_NOT_BEFORE": numNotBefore, "TW_TLS_NOT_AFTER": numNotAfter, "TW_TLS_OCSP_STATUS": numOCSPStatus, "TW_TLS_OCSP_CERT_STATUS": numOCSPCertStatus,
			"TW_TLS_OCSP_CRL_REASON": numOCSPReason, "TW_TLS_OCSP_THIS_UPDATE": numOCSPThisUpdate, "TW_TLS_OCSP_NEXT_UPDATE": numOCSPNextUpdate,
			"TW_TLS_OCSP_REVOCATION_TIME": numOCSPRevocationTime, "TW_TLS_NUMBERS": numbers,
			"TW_TLS_ERROR": strError, "TW_TLS_LISTENER_ERROR": strListenerError, "TW_TLS_VERSION": strVersion, "TW_TLS_CIPHER": strCipher,
			"TW_TLS_SELECTED": strSelected, "TW_TLS_SERVERNAME": strServerName, "TW_TLS_SUBJECT": strSubject, "TW_TLS_ISSUER": strIssuer,
			"TW_TLS_COMMON_NAME": strCommonName, "TW_TLS_HASH": strHash, "TW_TLS_CHAIN": strChain, "TW_TLS_OCSP_URL": strOCSPURL,
			"TW_TLS_OCSP_RESULT": strOCSPResult, "TW_TLS_STRINGS": stringCount,
		},
		Structs: map[string]any{"tw_tls_keypair": cKeypair{}, "tw_tls_settings": cSettings{}, "tw_tls_facts": cFacts{}},
		// proxy/wire has these.
		Others: []string{"tw_tls_op", "tw_tls_start", "tw_tls_pump", "tw_tls_request", "tw_tls_reply", "tw_tls_ring", "tw_tls_pump_header",
			"TW_TLS_BODY", "TW_TLS_FRAME", "TW_TLS_RING_SLOTS", "TW_TLS_IN_RING", "TW_TLS_SLOT_SHIFT", "TW_PUMP_MOST"},
	}.Check(t)
	for _, c := range []struct{ got, want uintptr }{
		{unsafe.Sizeof(cSettings{}), uintptr(settingsHeader)}, {unsafe.Offsetof(cSettings{}.Things), settingsNumbers}, {unsafe.Sizeof(cKeypair{}), keypairLen},
	} {
		if c.got != c.want {
			t.Errorf("%d bytes in C, %d in Go", c.got, c.want)
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
