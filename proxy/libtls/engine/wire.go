package engine

// The numbers of libtls/wire.h; a test compares the two.

// Kind says what a descriptor brings.
type Kind uint16

const (
	kindCA Kind = iota
	kindCAPath
	kindCAEnv
	kindCRL
	kindCiphers
	kindCurves
	kindALPN
	kindSessionID
	kindCert
	kindKey
	kindStaple
	kindTicketKey

	things = int(kindCert)
)

// IsWords reports whether it is a text that a program has written, which sentences repeat.
func (k Kind) IsWords() bool {
	return k == kindCiphers || k == kindCurves || k == kindALPN || k == kindSessionID
}

// IsRoots reports whether it is a file of CA certificates.
func (k Kind) IsRoots() bool { return k == kindCA || k == kindCAEnv }

type flag uint32

const (
	flagServer flag = 1 << iota
	flagVerifyCert
	flagVerifyName
	flagVerifyTime
	flagVerifyClient
	flagVerifyClientOptional
	flagRequireStapling
	flagForeignKey
	flagRessl
	flagNoECDHE
)

// flagStapleUnread is none of the wire's: of a connection whose OCSP response is not looked at.
const flagStapleUnread flag = 1 << 31

const (
	ticketKeys      = 4
	settingsNumbers = 16 // before the numbers of what was loaded
	settingsHeader  = settingsNumbers + 8*things + 8*ticketKeys + 8
	keypairLen      = 24
)

// Numbers and strings of the facts.
const (
	numFailed = iota
	numStrength
	numResumed
	numProvided
	numNotBefore
	numNotAfter
	numOCSPStatus
	numOCSPCertStatus
	numOCSPReason
	numOCSPThisUpdate
	numOCSPNextUpdate
	numOCSPRevocationTime
	numbers
)

const (
	strError = iota
	strListenerError
	strVersion
	strCipher
	strSelected
	strServerName
	strSubject
	strIssuer
	strCommonName
	strHash
	strChain
	strOCSPURL
	strOCSPResult
	stringCount
)
