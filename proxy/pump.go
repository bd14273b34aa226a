package proxy

import "tlswrap/proxy/libtls"

func (c *caller) startPump(s *session, config *libtls.Config, req request, fds *descriptors) {
	c.send(tlsReply{answer: answerError, text: "not yet"}, -1)
}
