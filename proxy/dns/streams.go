package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/guard"
)

// serveStreams answers on the connections that come to one TCP socket, until that is closed. One too many is closed.
func (r *Resolver) serveStreams(l *net.TCPListener) {
	for {
		c, err := l.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			time.Sleep(fdio.RetryAccept)
			continue
		}
		select {
		case r.streams <- struct{}{}:
		default:
			c.Close()
			continue
		}
		go func() {
			defer func() { <-r.streams }()
			guard.Run(r.log, "look-ups", func() { c.Close() }, func() { r.serveStream(c) })
		}()
	}
}

// serveStream answers what comes by one connection (RFC 7766), on a connection of its own with the server.
func (r *Resolver) serveStream(program *net.TCPConn) {
	defer program.Close()
	conn, err := r.dial(r.ctx, "tcp", program.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap())
	if err != nil {
		return
	}
	defer conn.Close()
	s := &stream{resolver: r, program: program, server: conn.(*net.TCPConn), asked: make(map[uint16]question)}
	defer context.AfterFunc(r.ctx, s.close)()
	var answers sync.WaitGroup
	answers.Go(func() {
		defer s.close()
		guard.Run(r.log, "answers", nil, s.passAnswers)
	})
	if s.passQuestions() == io.EOF {
		s.server.CloseWrite()
	} else {
		s.close()
	}
	answers.Wait()
}

// stream is a program's connection.
type stream struct {
	resolver        *Resolver
	program, server *net.TCPConn

	mu    sync.Mutex
	asked map[uint16]question // by the number, which answers have
}

func (s *stream) close() {
	s.program.Close()
	s.server.Close()
}

// passQuestions ends with io.EOF where the program has no more questions.
func (s *stream) passQuestions() error {
	for {
		message, err := s.read(s.program)
		if err != nil {
			return err
		}
		q, err := parseQuestion(message)
		if err != nil {
			return err
		}
		q.limit = mostMessage
		s.mu.Lock()
		s.asked[q.id] = q
		s.mu.Unlock()
		if err := write(s.server, message); err != nil {
			return err
		}
	}
}

// passAnswers ends when something is wrong with them, or there are no more.
func (s *stream) passAnswers() {
	for {
		message, err := s.read(s.server)
		if err != nil || len(message) < headerLen {
			return
		}
		s.mu.Lock()
		q, ok := s.asked[number(message)]
		s.mu.Unlock()
		switch {
		case !ok:
			return
		case q.isTransfer(): // many answers to one question
		case !q.isAnsweredBy(message):
			return
		default:
			message = s.resolver.shown(q, message)
		}
		if write(s.program, message) != nil {
			return
		}
	}
}

// read reads a message from one side. The connection may be idle for a while before and after it.
func (s *stream) read(from *net.TCPConn) ([]byte, error) {
	s.extend()
	var size [2]byte
	if _, err := io.ReadFull(from, size[:]); err != nil {
		return nil, err
	}
	message := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(from, message); err != nil {
		return nil, io.ErrUnexpectedEOF
	}
	s.extend()
	return message, nil
}

func (s *stream) extend() {
	limit := time.Now().Add(patience)
	s.program.SetDeadline(limit)
	s.server.SetDeadline(limit)
}

// write writes a message.
func write(to *net.TCPConn, message []byte) error {
	size := binary.BigEndian.AppendUint16(nil, uint16(len(message)))
	buffers := net.Buffers{size, message}
	_, err := buffers.WriteTo(to)
	return err
}
