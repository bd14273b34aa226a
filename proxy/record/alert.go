package record

import (
	"crypto/tls"
	"net"
)

// alert is a TLS alert (RFC 8446, section 6) as an error: why records were refused. It
// does not leave this package; localError and remoteError do.
type alert uint8

const (
	alertCloseNotify       alert = 0
	alertUnexpectedMessage alert = 10
	alertBadRecordMAC      alert = 20
	alertRecordOverflow    alert = 22
	alertIllegalParameter  alert = 47
	alertDecodeError       alert = 50
	alertProtocolVersion   alert = 70
	alertInternalError     alert = 80
	alertUserCanceled      alert = 90
	alertNoRenegotiation   alert = 100
)

const (
	levelWarning = 1
	levelFatal   = 2
)

func (a alert) Error() string { return tls.AlertError(a).Error() }

// level is what goes before an alert; only TLS 1.2 looks at it.
func (a alert) level() byte {
	if a == alertCloseNotify || a == alertNoRenegotiation {
		return levelWarning
	}
	return levelFatal
}

// localError is the same error as crypto/tls gives for an alert that it sent.
func localError(a alert) error { return &net.OpError{Op: "local error", Err: tls.AlertError(a)} }

// remoteError is the same error as crypto/tls gives for an alert that the peer sent.
func remoteError(a alert) error { return &net.OpError{Op: "remote error", Err: tls.AlertError(a)} }

// badHeader is the same error as crypto/tls gives for what is no record of the connection.
func badHeader(header []byte, why error) error {
	e := tls.RecordHeaderError{Msg: why.Error()}
	copy(e.RecordHeader[:], header)
	return e
}
