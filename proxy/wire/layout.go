package wire

// What programs and the worker share beside messages, as preload/wire.h and libtls/wire.h have it.

// What the shim finds in its environment, and in the names of sockets: see preload/wire.h.
const (
	Env          = "TLSWRAP_CONTROL"
	NamePrefix   = "tlswrap/"        // of a channel's abstract name
	ListenPrefix = "tlswrap-listen-" // of the file that a queue was bound to
	NameWords    = "+"               // ends a channel's name whose client's first words follow at once
	WordsTime    = 100               // ms, that who accepts waits for them
)

// The layout of struct tw_map.
const (
	MapPorts   = 65536 / 8
	MapBell    = 2 * MapPorts
	MapBellLen = 4 + TokenLen + BellName
	MapReal4   = MapBell + MapBellLen
	MapCount4  = 1 << 17
	MapReal6   = MapReal4 + 4*MapCount4
	MapCount6  = 1 << 16
	MapLen6    = 24 // sizeof(struct tw_real6)
	MapSize    = MapReal6 + MapLen6*MapCount6
)

// BellName is the size of name in struct tw_bell, and MostNotices is how many notices can wait to be taken.
const (
	BellName    = 12
	MostNotices = 4096
)

// LifeSize is that of struct tw_life of preload/wire.h.
const LifeSize = 4

// SendBuffer is what P asks for with SO_SNDBUF: see TW_SEND_BUFFER in preload/wire.h.
const SendBuffer = 208 << 10

// What the SO_PRIORITY of the program's end of a channel says: see enum tw_mark in preload/wire.h.
const (
	Welcomed = 1 << iota // the worker has accepted it for the program
	Delays               // the shim's own: the program has cleared TCP_NODELAY
)

// A frame in a ring, and struct tw_tls_ring.
const (
	FrameInRing   uint32 = 1 << 31
	RingSlotShift        = 16
	RingSlots            = 32
	RingHeader           = 4096
)

// FrameMost is what one frame carries, TW_TLS_FRAME, and the size of a slot.
const FrameMost = 16 << 10

const RingSize = RingHeader + RingSlots*FrameMost

// The steps that a program asks a pump for, and its records (enum tw_tls_pump).
const (
	PumpHandshake = iota + 1
	PumpRead
	PumpWrite
	PumpClose
	PumpIn
)

// What a pump answers.
const (
	PumpOut = iota + 16
	PumpWant
	PumpDone
	PumpFailed
)

// What a done step tells besides, above the step in the value.
const (
	PumpEnd       = 1 << 8 // close_notify
	PumpTruncated = 2 << 8
	PumpMore      = 3 << 8 // there is more of this
)

// The sizes of a pump's header and of what follows it at most.
const (
	PumpHeader = 8
	PumpMost   = 32 << 10
)
