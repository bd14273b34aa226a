package seccomp

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// program is a filter that is being written: instructions whose jumps lead to labels behind them.
type program struct {
	code   []instruction
	labels map[string]int
}

type instruction struct {
	unix.SockFilter
	yes, no string // labels; "" is the next instruction
}

// add appends an instruction.
func (p *program) add(code uint16, k uint32, yes, no string) {
	p.code = append(p.code, instruction{unix.SockFilter{Code: code, K: k}, yes, no})
}

// load takes four bytes of struct seccomp_data.
func (p *program) load(at uint32) { p.add(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, at, "", "") }

// when goes to a label where the test holds, unless where it does not, jump always.
func (p *program) when(test uint16, k uint32, to string) {
	p.add(unix.BPF_JMP|test|unix.BPF_K, k, to, "")
}

func (p *program) unless(test uint16, k uint32, to string) {
	p.add(unix.BPF_JMP|test|unix.BPF_K, k, "", to)
}

func (p *program) jump(to string) { p.add(unix.BPF_JMP|unix.BPF_JA, 0, to, "") }

// end is what becomes of the call.
func (p *program) end(action uint32) { p.add(unix.BPF_RET|unix.BPF_K, action, "", "") }

// label names the next instruction.
func (p *program) label(name string) {
	if p.labels == nil {
		p.labels = make(map[string]int)
	}
	p.labels[name] = len(p.code)
}

// assemble turns labels into distances, which are 8 bits for a test and 32 for a jump.
func (p *program) assemble() ([]unix.SockFilter, error) {
	out := make([]unix.SockFilter, len(p.code))
	for i, in := range p.code {
		out[i] = in.SockFilter
		yes, err := p.distance(i, in.yes)
		if err != nil {
			return nil, err
		}
		no, err := p.distance(i, in.no)
		if err != nil {
			return nil, err
		}
		if in.Code == unix.BPF_JMP|unix.BPF_JA {
			out[i].K = uint32(yes)
			continue
		}
		if yes > 255 || no > 255 {
			return nil, fmt.Errorf("a jump of the filter is too long: %d and %d instructions", yes, no)
		}
		out[i].Jt, out[i].Jf = uint8(yes), uint8(no)
	}
	return out, nil
}

func (p *program) distance(from int, label string) (int, error) {
	if label == "" {
		return 0, nil
	}
	to, ok := p.labels[label]
	if !ok || to <= from {
		return 0, fmt.Errorf("the filter has no %q behind instruction %d", label, from)
	}
	return to - from - 1, nil
}
