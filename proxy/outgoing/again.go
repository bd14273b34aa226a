package outgoing

import (
	"unique"

	"tlswrap/proxy/trust"
	"tlswrap/proxy/upstream"
	"tlswrap/proxy/wire"
	"tlswrap/rules"
)

// question is what a verdict answers. Later the same has other keys where the rules have changed.
type question struct {
	name  string
	to    wire.Addr
	from  unique.Handle[upstream.Origin]
	rule  *rules.Rule
	trust *trust.Trust
}

func (c *Conn) question() question {
	return question{c.verifiedName(), c.Target.Addr, c.from, c.Decision.Rule, c.trust}
}
