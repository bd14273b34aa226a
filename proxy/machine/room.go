package machine

import (
	"log/slog"

	"tlswrap/proxy/room"
)

// rooms tells of the network namespaces in which the worker answers the DNS of programs that ask servers
// themselves.
func rooms(r *Report) {
	byThread, byProcess := room.Try(slog.New(slog.DiscardHandler))
	r.add("user_namespaces", unless(byProcess, "with a network namespace in it"))
	const what = "to answer the DNS of programs that ask servers themselves in one"
	switch {
	case byThread == nil:
		r.add("network_namespaces", yes("the worker may make one, %s", what))
	case byProcess == nil:
		r.add("network_namespaces", yes("the worker may make one in a user namespace, %s", what))
	default:
		r.add("network_namespaces", no("%v, or a user namespace: where rules have wildcards, look-ups of programs that ask DNS servers themselves are refused", byThread))
	}
}
