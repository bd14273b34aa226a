package dns

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// another is an asker that is shown other addresses, and whose rules cover names with a w.
type another struct{}

var (
	other4 = netip.MustParseAddr("198.18.0.1")
	other6 = netip.MustParseAddr("2001:2::1")
)

func (another) Shown(name string, addrs []netip.Addr) ([]netip.Addr, error) {
	if strings.HasPrefix(name, "refused") {
		return nil, errors.New("refused")
	}
	for i, ip := range addrs {
		if addrs[i] = other6; ip.Is4() {
			addrs[i] = other4
		}
	}
	return addrs, nil
}

func (another) Covers(name string) bool { return strings.Contains(name, "w") }
func (another) Say(string)              {}

func header(name string, typ dnsmessage.Type) dnsmessage.ResourceHeader {
	return dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Type: typ, Class: dnsmessage.ClassINET, TTL: 3600}
}

// signature is an RRSIG of a set.
func signature(name string, of dnsmessage.Type) dnsmessage.Resource {
	data := make([]byte, 40)
	data[1] = byte(of)
	return dnsmessage.Resource{Header: header(name, typeRRSIG), Body: &dnsmessage.UnknownResource{Type: typeRRSIG, Data: data}}
}

// answered is a question and a signed answer to it.
func answered(t testing.TB) (question, dnsmessage.Message) {
	name := "asked.test."
	ask := dnsmessage.Message{Header: dnsmessage.Header{ID: 7}, Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	b, err := ask.Pack()
	if err != nil {
		t.Fatal(err)
	}
	q, err := parseQuestion(b)
	if err != nil {
		t.Fatal(err)
	}
	q.limit = mostMessage
	m := ask
	m.Response, m.AuthenticData = true, true
	target := "target.test."
	service := dnsmessage.SVCBResource{Priority: 1, Target: dnsmessage.MustNewName("."), Params: []dnsmessage.SVCParam{
		{Key: dnsmessage.SVCParamMandatory, Value: []byte{0, 4, 0, 5, 0, 6}}, {Key: dnsmessage.SVCParamIPv4Hint, Value: make([]byte, 4)},
		{Key: dnsmessage.SVCParamECH, Value: []byte("key")}, {Key: dnsmessage.SVCParamIPv6Hint, Value: make([]byte, 16)}, {Key: 9999, Value: []byte("x")}}}
	m.Answers = []dnsmessage.Resource{
		{Header: header("ASKED.test.", dnsmessage.TypeCNAME), Body: &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(target)}},
		signature(name, dnsmessage.TypeCNAME),
		{Header: header(target, dnsmessage.TypeA), Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}}},
		{Header: header(target, dnsmessage.TypeAAAA), Body: &dnsmessage.AAAAResource{AAAA: [16]byte{0x20, 1, 0xd, 0xb8}}},
		signature(target, dnsmessage.TypeA),
		{Header: header("other.test.", dnsmessage.TypeHTTPS), Body: &dnsmessage.HTTPSResource{SVCBResource: service}},
		{Header: header("_x._y.wild.test.", dnsmessage.TypeSVCB), Body: &service},
		signature("_x._y.wild.test.", dnsmessage.TypeSVCB),
	}
	m.Authorities = []dnsmessage.Resource{{Header: header("test.", dnsmessage.TypeNS), Body: &dnsmessage.NSResource{NS: dnsmessage.MustNewName("ns.test.")}}}
	m.Additionals = []dnsmessage.Resource{
		{Header: header("ns.test.", dnsmessage.TypeA), Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, 2}}},
		{Header: header("ns.test.", 65280), Body: &dnsmessage.UnknownResource{Type: 65280, Data: []byte("kept")}},
	}
	return q, m
}

func packed(t testing.TB, m dnsmessage.Message) []byte {
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEditedAnswers(t *testing.T) {
	q, m := answered(t)
	b, err := q.edit(packed(t, m), another{})
	if err != nil {
		t.Fatal(err)
	}
	got := parse(t, b)
	if got.AuthenticData {
		t.Error("what was changed is called authenticated")
	}
	var kinds []string
	for _, r := range slices.Concat(got.Answers, got.Authorities, got.Additionals) {
		kinds = append(kinds, hostOf(r.Header.Name)+" "+r.Header.Type.String())
	}
	want := "asked.test TypeCNAME, asked.test 46, target.test TypeA, target.test TypeAAAA, other.test TypeHTTPS, test TypeNS, ns.test TypeA, ns.test 65280"
	if have := strings.Join(kinds, ", "); have != want {
		t.Errorf("got  %s\nwant %s", have, want)
	}
	service := got.Answers[4].Body.(*dnsmessage.HTTPSResource)
	if mandatory, _ := service.GetParam(dnsmessage.SVCParamMandatory); string(mandatory) != "\x00\x05" || len(service.Params) != 3 {
		t.Errorf("a service is %#v", service)
	}
	if a := got.Answers[2]; a.Header.TTL != shownTTL || addressOf(a.Body) != other4 || addressOf(got.Answers[3].Body) != other6 {
		t.Errorf("addresses: %+v", got.Answers)
	}
	if got.Answers[0].Header.TTL != 3600 {
		t.Error("what was not changed may not be kept")
	}
}

func TestAnswersThatCannotBeShown(t *testing.T) {
	q, m := answered(t)
	whole := packed(t, m)
	for n := range whole {
		if b, err := q.edit(whole[:n], another{}); err == nil {
			t.Fatalf("%d of %d bytes are edited to %x", n, len(whole), b)
		}
	}
	for _, m := range [][]byte{whole, packed(t, dnsmessage.Message{Header: dnsmessage.Header{ID: 7}, Questions: m.Questions})} {
		other := slices.Clone(m)
		other[0] = 1
		if q.isAnsweredBy(other) || q.isAnsweredBy(m) != (m[2]&isAnswer != 0) {
			t.Errorf("%x is or is not an answer", m)
		}
	}
	m.Questions[0].Name = dnsmessage.MustNewName("else.test.")
	if q.isAnsweredBy(packed(t, m)) {
		t.Error("the answer to another question is taken")
	}
	m.Questions = nil
	if _, err := q.edit(packed(t, m), another{}); err != errNoQuestion {
		t.Errorf("addresses for no question: %v", err)
	}
}

func TestAnswersThatAreTooLongAreCut(t *testing.T) {
	q, m := answered(t)
	q.limit = 512
	m.Additionals = append(m.Additionals, dnsmessage.Resource{Header: header(".", dnsmessage.TypeOPT), Body: &dnsmessage.OPTResource{}})
	for range 20 {
		m.Answers = append(m.Answers, m.Answers[2])
	}
	b, err := q.edit(packed(t, m), another{})
	if err != nil {
		t.Fatal(err)
	}
	got := parse(t, b)
	if !got.Truncated || len(got.Answers)+len(got.Authorities) > 0 || len(got.Additionals) != 1 || got.Additionals[0].Header.Type != dnsmessage.TypeOPT {
		t.Errorf("got %+v", got)
	}
	if got.ID != q.id || len(got.Questions) != 1 {
		t.Errorf("it answers %+v", got)
	}
}

// Whatever a server sends, a program sees no address but those that it is to see.
func FuzzAnswers(f *testing.F) {
	_, m := answered(f)
	f.Add(packed(f, m))
	m.Answers = m.Answers[:4]
	f.Add(packed(f, m))
	m.Answers, m.Additionals = nil, nil
	f.Add(packed(f, m))
	q, _ := answered(f)
	f.Fuzz(func(t *testing.T, answer []byte) {
		q := q
		if len(answer) > 4 {
			q.limit = 512 * (1 + int(answer[3]&7))
		}
		edited, err := q.edit(slices.Clone(answer), another{})
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(edited); err != nil {
			if leading(edited) {
				t.Fatalf("%x: %v", edited, err)
			}
			return
		}
		if len(edited) > q.limit && !slices.Equal(edited, answer) {
			t.Fatalf("%d bytes, more than %d", len(edited), q.limit)
		}
		for _, r := range slices.Concat(m.Answers, m.Authorities, m.Additionals) {
			switch body := r.Body.(type) {
			case *dnsmessage.AResource, *dnsmessage.AAAAResource:
				if ip := addressOf(body); ip != other4 && ip != other6 {
					t.Fatalf("the program sees %v", ip)
				}
			case *dnsmessage.HTTPSResource:
				checkService(t, r.Header, body.SVCBResource)
			case *dnsmessage.SVCBResource:
				checkService(t, r.Header, *body)
			}
		}
	})
}

// leading reports whether a message has records that may lead somewhere.
func leading(message []byte) (does bool) {
	walk(message, func(typ dnsmessage.Type, _ uint16) { does = does || leads(typ) })
	return does
}

func checkService(t *testing.T, h dnsmessage.ResourceHeader, service dnsmessage.SVCBResource) {
	for _, key := range []dnsmessage.SVCParamKey{dnsmessage.SVCParamIPv4Hint, dnsmessage.SVCParamIPv6Hint} {
		if hint, ok := service.GetParam(key); ok {
			t.Fatalf("%s is hinted at %x", h.Name, hint)
		}
	}
}

func FuzzQuestions(f *testing.F) {
	_, m := answered(f)
	m.Response, m.Answers = false, nil
	f.Add(packed(f, m))
	f.Fuzz(func(t *testing.T, message []byte) {
		q, err := parseQuestion(message)
		failed := q.failed(serverFailure)
		if err == nil && (failed == nil || !q.isAnsweredBy(failed)) {
			t.Fatalf("%x is no answer to %x", failed, message)
		}
		if failed != nil && walk(failed, func(dnsmessage.Type, uint16) {}) != nil {
			t.Fatalf("%x cannot be read", failed)
		}
	})
}
