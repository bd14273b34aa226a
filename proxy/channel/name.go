package channel

import (
	"encoding/hex"
	"fmt"

	"tlswrap/proxy/wire"
)

// Name is the abstract address of a channel: see preload/wire.h.
func Name(id uint64, peer wire.Addr) string {
	family := '6'
	if peer.IP.Is4() {
		family = '4'
	}
	return wire.NamePrefix + fmt.Sprintf("%016x/%c%04x%08x%s", id, family, peer.Port, peer.Scope, hex.EncodeToString(peer.IP.AsSlice()))
}
