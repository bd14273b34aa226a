package engine

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"strings"
	"syscall"
)

// Sentence says why a connection broke as a program that reads tls_error expects it: alerts and
// the commonest mistakes in OpenSSL's words, the system's errors in libc's.
func Sentence(err error) string {
	if alert, ok := remoteAlert(err); ok {
		text := alertTexts[alert]
		if text == "" {
			text = fmt.Sprintf("alert %d", alert)
		}
		const sslReasonAlert = 1000 // SSL_AD_REASON_OFFSET
		return fmt.Sprintf("error:0A%06X:SSL routines::%s", sslReasonAlert+int(alert), text)
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "error:0A00010B:SSL routines::wrong version number"
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		text := errno.Error() // glibc's, but for the capital
		return strings.ToUpper(text[:1]) + text[1:]
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "unexpected EOF"
	}
	return strings.TrimPrefix(strings.TrimPrefix(err.Error(), "local error: "), "tls: ")
}

// remoteAlert returns the number of the alert that the peer sent, if err is one. crypto/tls does
// not export the type, only what it is made of.
func remoteAlert(err error) (uint8, bool) {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "remote error" {
		return 0, false
	}
	v := reflect.ValueOf(op.Err)
	if v.Kind() != reflect.Uint8 {
		return 0, false
	}
	return uint8(v.Uint()), true
}

// alertTexts are OpenSSL's for the alerts of RFC 8446, section 6.
var alertTexts = [256]string{
	10: "sslv3 alert unexpected message", 20: "sslv3 alert bad record mac", 21: "tlsv1 alert decryption failed",
	22: "tlsv1 alert record overflow", 40: "sslv3 alert handshake failure", 42: "sslv3 alert bad certificate",
	43: "sslv3 alert unsupported certificate", 44: "sslv3 alert certificate revoked",
	45: "sslv3 alert certificate expired", 46: "sslv3 alert certificate unknown",
	47: "sslv3 alert illegal parameter", 48: "tlsv1 alert unknown ca", 49: "tlsv1 alert access denied",
	50: "tlsv1 alert decode error", 51: "tlsv1 alert decrypt error", 70: "tlsv1 alert protocol version",
	71: "tlsv1 alert insufficient security", 80: "tlsv1 alert internal error",
	86: "tlsv1 alert inappropriate fallback", 90: "tlsv1 alert user cancelled",
	100: "tlsv1 alert no renegotiation", 109: "tlsv13 alert missing extension",
	110: "tlsv1 unsupported extension", 112: "tlsv1 unrecognized name",
	113: "tlsv1 bad certificate status response", 115: "tlsv1 alert unknown psk identity",
	116: "tlsv13 alert certificate required", 120: "tlsv1 alert no application protocol",
}
