package rules

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// Pos is a place in a rules file. File is "" for the built-in profile and for rules of
// the command line.
type Pos struct {
	File      string
	Line, Col int
}

func (p Pos) String() string { return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col) }

// Error is one mistake in a rules file, or in what it names. Pos is zero for what a flag names.
type Error struct {
	Pos   Pos
	Msg   string
	Meant bool // it is a reminder: the file says that it is meant
}

func (e *Error) Error() string {
	if e.Pos == (Pos{}) {
		return e.Msg
	}
	return e.Pos.String() + ": " + e.Msg
}

// Errors are all mistakes in a rules file, one line each, in the order of the file.
type Errors []*Error

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// table is one table of the file, as written: what the keys mean comes later.
type table struct {
	pos  Pos
	keys map[string]value
}

// value is a scalar or a list, with its place.
type value struct {
	pos  Pos
	kind unstable.Kind
	text string
	list []value
}

// document reads TOML into the top-level table and the [[rule]] and [[listen]] tables.
// Everything else that TOML allows is a mistake here.
type document struct {
	file    string
	parser  unstable.Parser
	top     table
	rules   []*table
	listens []*table
	errs    Errors
}

func (d *document) errorf(pos Pos, format string, args ...any) {
	d.errs = append(d.errs, &Error{Pos: pos, Msg: fmt.Sprintf(format, args...)})
}

func (d *document) read(data []byte) {
	d.top = table{pos: Pos{d.file, 1, 1}, keys: make(map[string]value)}
	current := &d.top
	d.parser.Reset(data)
	for d.parser.NextExpression() {
		node := d.parser.Expression()
		switch node.Kind {
		case unstable.KeyValue:
			if current != nil {
				d.keyValue(current, node)
			}
		case unstable.ArrayTable:
			current = d.arrayTable(node)
		case unstable.Table:
			pos, name := d.key(node.Key())
			d.errorf(pos, "unexpected table [%s], expected [[rule]] or [[listen]]", name)
			current = nil // its keys are not mistakes of their own
		}
	}
	if err := d.parser.Error(); err != nil {
		d.syntax(data, err)
	}
}

func (d *document) syntax(data []byte, err error) {
	pos := Pos{d.file, 1, 1}
	msg := err.Error()
	var pe *unstable.ParserError
	if errors.As(err, &pe) {
		msg = pe.Message
		if len(pe.Highlight) > 0 || cap(pe.Highlight) > 0 {
			pos = d.at(int(d.parser.Range(pe.Highlight).Offset))
		} else {
			pos = d.at(len(data))
		}
	}
	d.errorf(pos, "not TOML: %s", strings.TrimPrefix(msg, "toml: "))
}

// at turns an offset into a place. Columns count bytes, from 1.
func (d *document) at(offset int) Pos {
	before := string(d.parser.Data()[:min(offset, len(d.parser.Data()))])
	return Pos{d.file, 1 + strings.Count(before, "\n"), offset - strings.LastIndexByte(before, '\n')}
}

// key joins a dotted key, and tells where it begins.
func (d *document) key(it unstable.Iterator) (Pos, string) {
	var parts []string
	pos := Pos{File: d.file}
	for it.Next() {
		if len(parts) == 0 {
			pos = d.at(int(it.Node().Raw.Offset))
		}
		parts = append(parts, string(it.Node().Data))
	}
	return pos, strings.Join(parts, ".")
}

func (d *document) arrayTable(node *unstable.Node) *table {
	pos, name := d.key(node.Key())
	t := &table{pos: pos, keys: make(map[string]value)}
	switch name {
	case "rule":
		d.rules = append(d.rules, t)
	case "listen":
		d.listens = append(d.listens, t)
	default:
		d.errorf(pos, "unexpected table [[%s]]%s, expected [[rule]] or [[listen]]", name, DidYouMean(name, []string{"rule", "listen"}))
		return nil
	}
	return t
}

func (d *document) keyValue(t *table, node *unstable.Node) {
	pos, name := d.key(node.Key())
	if _, twice := t.keys[name]; twice {
		d.errorf(pos, "key %q is given twice", name)
		return
	}
	v := d.value(node.Value(), pos)
	v.pos = pos
	t.keys[name] = v
}

// value copies a node. fallback is its place where the parser does not tell.
func (d *document) value(node *unstable.Node, fallback Pos) value {
	v := value{pos: fallback, kind: node.Kind, text: string(node.Data)}
	if node.Raw.Length > 0 {
		v.pos = d.at(int(node.Raw.Offset))
	}
	if node.Kind == unstable.Array {
		for it := node.Children(); it.Next(); {
			if it.Node().Kind != unstable.Comment {
				v.list = append(v.list, d.value(it.Node(), fallback))
			}
		}
	}
	return v
}

// describe names a value's type as a person writing the file thinks of it.
func (v value) describe() string {
	switch v.kind {
	case unstable.String:
		return fmt.Sprintf("the string %q", v.text)
	case unstable.Bool, unstable.Integer, unstable.Float:
		return v.text
	case unstable.Array:
		return "a list"
	case unstable.InlineTable:
		return "a table"
	}
	return "a date or time"
}

// positions tells where each key stands.
func (t *table) positions() map[string]Pos {
	at := make(map[string]Pos, len(t.keys))
	for name, v := range t.keys {
		at[name] = v.pos
	}
	return at
}

// fields takes typed values out of a table, and notes which keys nobody asked for.
type fields struct {
	doc   *document
	table *table
	known []string
}

func (f *fields) take(name string) (value, bool) {
	f.known = append(f.known, name)
	v, ok := f.table.keys[name]
	return v, ok
}

func (f *fields) str(name string) (string, value, bool) {
	v, ok := f.take(name)
	if ok && v.kind != unstable.String {
		f.doc.errorf(v.pos, "%s is %s, expected a string%s", name, v.describe(), meantValue(name, v))
		ok = false
	}
	return v.text, v, ok
}

func (f *fields) boolean(name string) bool { return f.booleanOr(name, false) }

// booleanOr takes true or false, and otherwise where it is not given.
func (f *fields) booleanOr(name string, otherwise bool) bool {
	v, ok := f.take(name)
	if ok && v.kind != unstable.Bool {
		hint := ""
		if v.text == "true" || v.text == "false" {
			hint = fmt.Sprintf("; did you mean %s = %s?", name, v.text)
		}
		f.doc.errorf(v.pos, "%s is %s, expected true or false%s", name, v.describe(), hint)
		return false
	}
	if !ok {
		return otherwise
	}
	return v.text == "true"
}

// strings takes a list of strings.
func (f *fields) strings(name string) []value {
	v, ok := f.take(name)
	if !ok {
		return nil
	}
	if v.kind != unstable.Array || slices.ContainsFunc(v.list, func(e value) bool { return e.kind != unstable.String }) {
		hint := ""
		if v.kind == unstable.String {
			hint = fmt.Sprintf("; did you mean %s = [%q]?", name, v.text)
		}
		f.doc.errorf(v.pos, "%s is %s, expected a list of strings%s", name, v.describe(), hint)
		return nil
	}
	return v.list
}

// choice takes one of a few words; the first is the default.
func (f *fields) choice(name string, words ...string) string {
	if s := f.oneOf(name, words...); s != "" {
		return s
	}
	return words[0]
}

// oneOf takes one of a few words, or "" where there is none.
func (f *fields) oneOf(name string, words ...string) string {
	v, ok := f.take(name)
	switch {
	case !ok:
		return ""
	case v.kind == unstable.String && slices.Contains(words, v.text):
		return v.text
	}
	said := v.describe()
	if v.kind == unstable.String {
		said = strconv.Quote(v.text)
	}
	f.doc.errorf(v.pos, "%s is %s, expected %s%s", name, said, orList(words), meantWord(name, v, words))
	return ""
}

// unknown reports the keys that nobody took.
func (f *fields) unknown() {
	for name, v := range f.table.keys {
		if !slices.Contains(f.known, name) {
			f.doc.errorf(v.pos, "unknown key %q%s", name, DidYouMean(name, f.known))
		}
	}
}

func orList(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = strconv.Quote(w)
	}
	if len(quoted) == 1 {
		return quoted[0]
	}
	last := len(quoted) - 1
	return strings.Join(quoted[:last], ", ") + " or " + quoted[last]
}

// DidYouMean suggests, for the end of a sentence, the known word that differs only a little; "" where none does.
func DidYouMean(word string, known []string) string {
	if k := Closest(word, known); k != "" {
		return fmt.Sprintf("; did you mean %q?", k)
	}
	return ""
}

// Closest is the known word that differs only a little, or "".
func Closest(word string, known []string) string {
	plain := func(s string) string { return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(s)) }
	for _, k := range known {
		if distance(plain(word), plain(k)) <= 2 {
			return k
		}
	}
	return ""
}

// distance is the number of bytes to insert, delete or replace.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
