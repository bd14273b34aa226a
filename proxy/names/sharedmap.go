package names

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/wire"
	"tlswrap/rules"
)

// Map is the memory file that a session's programs map, so that they need not ask
// about most of what passes: struct tw_map of preload/wire.h.
type Map struct {
	maps *Maps
	FD   int
	held map[uint16]int // ports that are set whatever the rules say, and how often
	seen bool           // every connection is asked about: all ports that programs connect to are set
	told bool           // programs leave notices of those that pass

	// The file's. nil after close; written to under maps.mu.
	memory []byte
}

// Maps are those of all sessions.
type Maps struct {
	mu                sync.Mutex
	connects, listens rules.PortMap // the ports that the rules are about
	all               map[*Map]struct{}
}

func NewMaps() *Maps {
	return &Maps{all: make(map[*Map]struct{})}
}

// Len is how many maps there are.
func (m *Maps) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.all)
}

// Add makes the map of a new session, which closes it.
func (m *Maps) Add(seen bool) (*Map, error) {
	f := &Map{maps: m, seen: seen, held: make(map[uint16]int)}
	var err error
	if f.FD, f.memory, err = fdio.NewMemoryFile("tlswrap-map", wire.MapSize); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	f.setPorts(&m.connects, &m.listens)
	m.all[f] = struct{}{}
	return f, nil
}

// Close ends the map. Programs that still have it ask from now on.
func (f *Map) Close() {
	f.maps.mu.Lock()
	defer f.maps.mu.Unlock()
	if f.memory == nil {
		return
	}
	f.shut()
	unix.Munmap(f.memory)
	unix.Close(f.FD)
	f.memory, f.FD = nil, -1
}

// shut sets all ports, for good. The caller holds mu.
func (f *Map) shut() {
	delete(f.maps.all, f)
	f.seen = true
	for i := range wire.MapBell {
		f.memory[i] = 0xff
	}
}

// Shut makes all programs ask, and learn that the worker ends.
func (m *Maps) Shut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for f := range m.all {
		f.shut()
	}
}

// Change runs swap, which puts new rules in force, so that at no time a port is clear
// that the rules in force are about.
func (m *Maps) Change(connects, listens *rules.PortMap, swap func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var oldOrNew [2]rules.PortMap
	for i := range wire.MapPorts {
		oldOrNew[0][i] = m.connects[i] | connects[i]
		oldOrNew[1][i] = m.listens[i] | listens[i]
	}
	for f := range m.all {
		f.setPorts(&oldOrNew[0], &oldOrNew[1])
	}
	swap()
	m.connects, m.listens = *connects, *listens
	for f := range m.all {
		f.setPorts(connects, listens)
	}
}

// setPorts writes the ports. The caller holds mu.
func (f *Map) setPorts(connects, listens *rules.PortMap) {
	ports := *connects
	if f.seen {
		for i := range ports {
			ports[i] = 0xff
		}
	}
	for port := range f.held {
		ports[port/8] |= 1 << (port % 8)
	}
	copy(f.memory, ports[:])
	copy(f.memory[wire.MapPorts:], listens[:])
}

// Hold sets a port that programs connect to, until as many calls of release.
func (f *Map) Hold(port uint16) {
	f.maps.mu.Lock()
	defer f.maps.mu.Unlock()
	if f.memory == nil {
		return
	}
	f.held[port]++
	f.memory[port/8] |= 1 << (port % 8)
}

func (f *Map) Release(port uint16) {
	f.maps.mu.Lock()
	defer f.maps.mu.Unlock()
	if f.memory == nil {
		return
	}
	if f.held[port]--; f.held[port] > 0 {
		return
	}
	delete(f.held, port)
	bit := byte(1) << (port % 8)
	if !f.seen && f.maps.connects[port/8]&bit == 0 {
		f.memory[port/8] &^= bit
	}
}

// IsSet reports whether programs ask before they connect to a port. The map is not closed.
func (f *Map) IsSet(port uint16) bool { return f.memory[port/8]>>(port%8)&1 != 0 }

// Announce has programs leave notices of the connects that pass. It comes before any of them has the map.
func (f *Map) Announce(b wire.Bell) {
	copy(f.memory[wire.MapBell:], b.Marshal())
	f.told = true
}

// Silent reports whether a connect to a port passes and nobody wants to be told of it. The map is not closed.
func (f *Map) Silent(port uint16) bool { return !f.told && !f.IsSet(port) }

// publish tells programs what a synthetic address stands for. Those that do not fit are
// asked for.
func (f *Map) publish(synthetic netip.Addr, id Identity) {
	f.maps.mu.Lock()
	defer f.maps.mu.Unlock()
	if f.memory == nil {
		return
	}
	if synthetic.Is4() {
		ip, real := synthetic.As4(), id.IP.As4()
		i := binary.BigEndian.Uint32(ip[:]) % wire.MapCount4
		atomic.StoreUint32(f.word(wire.MapReal4+4*int(i)), binary.NativeEndian.Uint32(real[:]))
		return
	}
	ip, real := synthetic.As16(), id.IP.As16()
	i := binary.BigEndian.Uint64(ip[8:])
	if i >= wire.MapCount6 {
		return
	}
	at := wire.MapReal6 + wire.MapLen6*int(i)
	copy(f.memory[at:], real[:])
	binary.NativeEndian.PutUint32(f.memory[at+16:], id.Scope)
	atomic.StoreUint32(f.word(at+20), 1)
}

// word is an aligned word of the file, which programs read while it is written to.
func (f *Map) word(at int) *uint32 { return (*uint32)(unsafe.Pointer(&f.memory[at])) }
