package dns

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// refusal is why a look-up is to fail, as its person is told.
type refusal struct{ error }

// shownTTL is for how many seconds an address may be kept that stands for another: it does so in this run alone.
const shownTTL = 10

// typeRRSIG is that of a signature (RFC 4034, section 3).
const typeRRSIG = 46

// leads reports whether a record of this type may say where to connect to.
func leads(t dnsmessage.Type) bool {
	return slices.Contains([]dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA, dnsmessage.TypeSVCB, dnsmessage.TypeHTTPS}, t)
}

// edit returns answer, which is one to q, as asker's program is to see it.
func (q question) edit(answer []byte, asker Asker) ([]byte, error) {
	does := false
	if err := walk(answer, func(t dnsmessage.Type, _ uint16) { does = does || leads(t) }); err != nil {
		return nil, err
	}
	if !does {
		return answer, nil
	}
	e := editor{asker: asker, changed: make(map[set]bool)}
	if err := e.Unpack(answer); err != nil {
		return nil, fmt.Errorf("a DNS message cannot be read: %w", err)
	}
	if len(e.Questions) != 1 {
		return nil, errNoQuestion
	}
	e.follow()
	if err := e.replaceAddresses(); err != nil {
		return nil, err
	}
	e.editServices()
	if len(e.changed) == 0 {
		return answer, nil
	}
	e.unsign()
	return e.pack(q.limit)
}

// editor changes a message.
type editor struct {
	dnsmessage.Message
	asker   Asker
	asked   string          // the name, as programs write it
	chain   map[string]bool // what CNAMEs make of it, and itself
	changed map[set]bool
}

// set is a set of records that is signed as one.
type set struct {
	owner string
	typ   dnsmessage.Type
}

// hostOf is a name as programs write it, in lower case.
func hostOf(n dnsmessage.Name) string { return lower(strings.TrimSuffix(n.String(), ".")) }

func setOf(h dnsmessage.ResourceHeader) set { return set{hostOf(h.Name), h.Type} }

func (e *editor) sections() []*[]dnsmessage.Resource {
	return []*[]dnsmessage.Resource{&e.Answers, &e.Authorities, &e.Additionals}
}

// follow finds the names that stand for the one that was asked.
func (e *editor) follow() {
	e.asked = hostOf(e.Questions[0].Name)
	next := make(map[string][]string)
	for _, r := range e.Answers {
		if c, ok := r.Body.(*dnsmessage.CNAMEResource); ok {
			owner := hostOf(r.Header.Name)
			next[owner] = append(next[owner], hostOf(c.CNAME))
		}
	}
	e.chain = map[string]bool{e.asked: true}
	for queue := []string{e.asked}; len(queue) > 0; queue = queue[1:] {
		for _, name := range next[queue[0]] {
			if !e.chain[name] {
				e.chain[name] = true
				queue = append(queue, name)
			}
		}
	}
}

// meant is the name that a record counts for.
func (e *editor) meant(owner dnsmessage.Name) string {
	if name := hostOf(owner); !e.chain[name] {
		return name
	}
	return e.asked
}

// replaceAddresses has each name's addresses replaced by those that are to be shown.
func (e *editor) replaceAddresses() error {
	var names []string
	records := make(map[string][]*dnsmessage.Resource)
	for _, section := range e.sections() {
		for i := range *section {
			r := &(*section)[i]
			if addressOf(r.Body).IsValid() {
				name := e.meant(r.Header.Name)
				if records[name] == nil {
					names = append(names, name)
				}
				records[name] = append(records[name], r)
			}
		}
	}
	for _, name := range names {
		if err := e.replace(name, records[name]); err != nil {
			return err
		}
	}
	return nil
}

func (e *editor) replace(name string, records []*dnsmessage.Resource) error {
	before := make([]netip.Addr, len(records))
	for i, r := range records {
		before[i] = addressOf(r.Body)
	}
	after, err := e.asker.Shown(name, slices.Clone(before))
	if err != nil {
		return &refusal{err}
	}
	if len(after) != len(before) {
		return errNotLike
	}
	for i, r := range records {
		if after[i] == before[i] {
			continue
		}
		switch body := r.Body.(type) {
		case *dnsmessage.AResource:
			if !after[i].Is4() {
				return errNotLike
			}
			body.A = after[i].As4()
		case *dnsmessage.AAAAResource:
			if !after[i].Is6() {
				return errNotLike
			}
			body.AAAA = after[i].As16()
		}
		e.changed[setOf(r.Header)] = true
	}
	for _, r := range records {
		if e.changed[setOf(r.Header)] {
			r.Header.TTL = min(r.Header.TTL, shownTTL)
		}
	}
	return nil
}

// addressOf is the address in a record, if it has one.
func addressOf(body dnsmessage.ResourceBody) netip.Addr {
	switch body := body.(type) {
	case *dnsmessage.AResource:
		return netip.AddrFrom4(body.A)
	case *dnsmessage.AAAAResource:
		return netip.AddrFrom16(body.AAAA)
	}
	return netip.Addr{}
}

// editServices leaves out the services of names with rules, and others' address hints.
func (e *editor) editServices() {
	for _, section := range e.sections() {
		*section = slices.DeleteFunc(*section, func(r dnsmessage.Resource) bool {
			var service *dnsmessage.SVCBResource
			switch body := r.Body.(type) {
			case *dnsmessage.SVCBResource:
				service = body
			case *dnsmessage.HTTPSResource:
				service = &body.SVCBResource
			default:
				return false
			}
			covered := e.asker.Covers(host(e.meant(r.Header.Name)))
			if covered || withoutHints(service) {
				e.changed[setOf(r.Header)] = true
			}
			return covered
		})
	}
}

// host is the host whose service a name is about: _8443._https.host (RFC 9460, section 2.3).
func host(service string) string {
	for strings.HasPrefix(service, "_") {
		_, rest, found := strings.Cut(service, ".")
		if !found {
			break
		}
		service = rest
	}
	return service
}

// withoutHints takes the address hints out of a service, also where it calls them mandatory, and reports whether
// there were any.
func withoutHints(service *dnsmessage.SVCBResource) bool {
	hints := []dnsmessage.SVCParamKey{dnsmessage.SVCParamIPv4Hint, dnsmessage.SVCParamIPv6Hint}
	had := false
	for _, hint := range hints {
		had = service.DeleteParam(hint) || had
	}
	mandatory, ok := service.GetParam(dnsmessage.SVCParamMandatory)
	if !had || !ok {
		return had
	}
	var left []byte
	for ; len(mandatory) >= 2; mandatory = mandatory[2:] {
		if !slices.Contains(hints, dnsmessage.SVCParamKey(binary.BigEndian.Uint16(mandatory))) {
			left = append(left, mandatory[:2]...)
		}
	}
	if len(left) > 0 {
		service.SetParam(dnsmessage.SVCParamMandatory, left)
	} else {
		service.DeleteParam(dnsmessage.SVCParamMandatory)
	}
	return true
}

// unsign takes away what says that the answer is the server's own.
func (e *editor) unsign() {
	e.AuthenticData = false
	for _, section := range e.sections() {
		*section = slices.DeleteFunc(*section, func(r dnsmessage.Resource) bool {
			signature, ok := r.Body.(*dnsmessage.UnknownResource)
			if !ok || signature.Type != typeRRSIG || len(signature.Data) < 2 {
				return false
			}
			return e.changed[set{hostOf(r.Header.Name), dnsmessage.Type(binary.BigEndian.Uint16(signature.Data))}]
		})
	}
}

// pack makes a message of it that is no longer than limit: one that is cut has no records but EDNS's.
func (e *editor) pack(limit int) ([]byte, error) {
	message, err := e.Pack()
	if err != nil {
		return nil, fmt.Errorf("a DNS message cannot be written: %w", err)
	}
	if len(message) <= limit {
		return message, nil
	}
	e.Truncated = true
	e.Answers, e.Authorities = nil, nil
	e.Additionals = slices.DeleteFunc(e.Additionals, func(r dnsmessage.Resource) bool { return r.Header.Type != dnsmessage.TypeOPT })
	return e.Pack()
}
