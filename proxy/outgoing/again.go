package outgoing

import (
	"tlswrap/proxy/trust"
	"tlswrap/proxy/wire"
	"tlswrap/rules"
)

// question is what a verdict answers. Later the same has other keys where the rules have changed.
type question struct {
	name  string
	to    wire.Addr
	rule  *rules.Rule
	trust *trust.Trust
}

func (c *Conn) question() question {
	return question{c.verifiedName(), c.Target.Addr, c.Decision.Rule, c.trust}
}
