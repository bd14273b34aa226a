package starttls

import "sync"

// mysqlFilter goes with a program through authentication. The packets of both sides are
// numbered in one sequence, and the server has seen one more, SSLRequest. For the program
// that ends with its first command, which begins at 0 again, and for the server with its OK
// or its error.
type mysqlFilter struct {
	mu       sync.Mutex
	program  mysqlPackets
	server   mysqlPackets
	ahead    byte // how much higher the server's numbers are, modulo 256
	password mysqlPassword
	begun    bool // the program has begun with commands
	over     bool // the server has said how authentication ended
}

func newMySQLFilter(d *Dialogue) Filter {
	greeting := d.notes.(*mysqlTalk).greeting
	return &mysqlFilter{ahead: 1, password: mysqlPassword{plugin: greeting.plugin, nonce: greeting.nonce}}
}

// FromProgram goes by the numbers alone: a program may send a command before it has read
// that it may.
func (f *mysqlFilter) FromProgram(b []byte) (toServer, toProgram []byte, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.begun {
		return b, nil, nil
	}
	f.program = append(f.program, b...)
	for {
		if len(f.program) >= mysqlHeaderLen && f.program[3] == 0 {
			f.begun = true
			return append(toServer, f.program.rest()...), toProgram, nil
		}
		packet, err := f.program.next("the program")
		if packet == nil || err != nil {
			return toServer, toProgram, err
		}
		number := packet[3]
		payload, answer, err := f.password.fromProgram(packet[mysqlHeaderLen:])
		switch {
		case err != nil:
			return toServer, toProgram, err
		case answer != nil: // two packets that the server does not see
			toProgram = append(toProgram, mysqlPacket(number+1, answer)...)
			f.ahead -= 2
		default:
			toServer = append(toServer, mysqlPacket(number+f.ahead, payload)...)
		}
	}
}

func (f *mysqlFilter) FromServer(b []byte) (toProgram []byte, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over {
		return b, nil
	}
	f.server = append(f.server, b...)
	for !f.over {
		packet, err := f.server.next("the server")
		if packet == nil || err != nil {
			return toProgram, err
		}
		number, payload := packet[3], packet[mysqlHeaderLen:]
		toProgram = append(toProgram, mysqlPacket(number-f.ahead, payload)...)
		if len(payload) > 0 {
			f.over = payload[0] == mysqlOK || payload[0] == mysqlErr
			f.password.fromServer(payload)
		}
	}
	return append(toProgram, f.server.rest()...), nil
}

func (f *mysqlFilter) Done() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.begun && f.over
}

// Over implements Farewell: servers send no close_notify, since a packet tells its length
// and cannot be cut short unseen (vio_ssl_shutdown in MySQL, vio_ssl_close in MariaDB).
func (f *mysqlFilter) Over() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.over
}

// mysqlPackets is a stream of packets, from the first that is not whole.
type mysqlPackets []byte

// next takes the first packet, with its header. nil: it is not whole.
func (p *mysqlPackets) next(who string) ([]byte, error) {
	if len(*p) < mysqlHeaderLen {
		return nil, nil
	}
	n := mysqlLen(*p)
	if n > mysqlMaxPacket {
		return nil, errorf("%s sent a packet of %d bytes instead of authenticating", who, n)
	}
	if len(*p) < n {
		return nil, nil
	}
	packet := (*p)[:n]
	*p = (*p)[n:]
	return packet, nil
}

// rest takes everything.
func (p *mysqlPackets) rest() []byte {
	b := *p
	*p = nil
	return b
}
