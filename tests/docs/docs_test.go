// Package docs keeps the documents true: what they say about flags, keys, errors and
// files is compared with the code, and their examples are run through the parser.
package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"tlswrap/rules"
	"tlswrap/tests/testkit"
)

const (
	root         = "../.."
	readme       = root + "/README.md"
	contributing = root + "/CONTRIBUTING.md"
	manual       = root + "/man/tlswrap.1"
	rulesPage    = root + "/man/tlswrap.rules.5"
	command      = root + "/cmd/tlswrap"
)

func TestEveryFlagIsInTheManualAndInAUsage(t *testing.T) {
	usages := usageTexts(t)
	page := pageFlags(t, manual)
	for flag := range commandFlags(t) {
		if !page[flag] {
			t.Errorf("the flag %s is not in tlswrap(1)", dashed(flag))
		}
		if !regexp.MustCompile(regexp.QuoteMeta(dashed(flag)) + `\b`).MatchString(usages) {
			t.Errorf("the flag %s is in no usage text", dashed(flag))
		}
	}
}

// What --help shows of a program's options and of a worker's stands in the form of the synopsis that is about it.
func TestEveryOptionOfTheHelpIsInTheSynopsis(t *testing.T) {
	_, after, _ := strings.Cut(read(t, manual), "\n.Sh SYNOPSIS\n")
	synopsis, _, _ := strings.Cut(after, "\n.Sh ")
	program, worker := make(map[string]bool), make(map[string]bool)
	for form := range strings.SplitSeq(synopsis, ".Nm\n") {
		flags := items(strings.ReplaceAll(form, " | ", " Fl "), `\bFl -?([\w-]+)`)
		switch {
		case strings.HasPrefix(form, ".Cm worker"):
			maps.Copy(worker, flags)
		case !strings.HasPrefix(form, ".Cm "):
			maps.Copy(program, flags)
		}
	}
	ofProgram, ofWorker, ok := strings.Cut(usageTexts(t), "\ntlswrap worker takes ")
	if !ok {
		t.Fatal("the help does not say what a worker takes")
	}
	missing := func(shown [][]string, have map[string]bool, of string) {
		t.Helper()
		if len(shown) < 5 {
			t.Errorf("the help shows only %d options of %s", len(shown), of)
		}
		for _, m := range shown {
			if !have[m[2]] && !have[m[1]] {
				t.Errorf("the synopsis of tlswrap(1) has no --%s of %s", m[2], of)
			}
		}
	}
	missing(regexp.MustCompile(`(?m)^  (?:-(\w), )?--([\w-]+)`).FindAllStringSubmatch(ofProgram, -1), program, "a program's")
	ofWorker, _, _ = strings.Cut(ofWorker, "\n\nThe exit status")
	missing(regexp.MustCompile(`()--([\w-]+)`).FindAllStringSubmatch(ofWorker, -1), worker, "a worker's")
}

func TestNoPageHasAFlagThatDoesNotExist(t *testing.T) {
	flags := commandFlags(t)
	flags["help"] = true // of package flag
	for _, page := range []string{manual, rulesPage} {
		for flag := range pageFlags(t, page) {
			if !flags[flag] {
				t.Errorf("%s has the flag %s, which does not exist", page, dashed(flag))
			}
		}
	}
	for _, file := range append(markdown(t), command+"/flags.go") {
		for _, m := range regexp.MustCompile(`[^\w-]--([a-z][a-z-]*)`).FindAllStringSubmatch(read(t, file), -1) {
			if !flags[m[1]] {
				t.Errorf("%s has the flag --%s, which does not exist", file, m[1])
			}
		}
	}
}

func TestEveryCommandIsInTheManualAndInTheHelp(t *testing.T) {
	page, usages := read(t, manual), usageTexts(t)
	for verb := range verbs(t) {
		if !strings.Contains(page, "\n.Cm "+verb) {
			t.Errorf("the command %q is not in the synopsis of tlswrap(1)", verb)
		}
		if verb != "help" && !strings.Contains(usages, "tlswrap "+verb) {
			t.Errorf("the command %q is in no usage text", verb)
		}
	}
}

func TestEveryKeyOfTheRulesIsInTheirManualAndNoOther(t *testing.T) {
	top, rule := parserKeys(t, "parse.go")
	_, listen := parserKeys(t, "listen.go")
	for _, shared := range []string{"port", "alpn", "min_version", "timeout"} { // taken as a rule's are
		listen[shared] = true
	}
	for part, want := range map[string]map[string]bool{"top-keys": top, "rule-keys": rule, "listen-keys": listen} {
		have := items(strings.ReplaceAll(section(t, rulesPage, part), " , Ic ", "\n.It Ic "), `\.It Ic (\w+)`)
		for key := range want {
			if !have[key] {
				t.Errorf("%s of tlswrap.rules(5): the key %q is missing", part, key)
			}
		}
		for key := range have {
			if !want[key] {
				t.Errorf("%s of tlswrap.rules(5): there is no key %q", part, key)
			}
		}
	}
}

// Each key has one example; together they are a rules file.
func TestTheExamplesOfAllKeysParse(t *testing.T) {
	example := regexp.MustCompile(`(?m)^(?:\.Dl )?(\w+) = .*$`)
	file := ""
	for _, part := range []string{"top-keys", "rule-keys", "listen-keys"} {
		file += map[string]string{"rule-keys": "[[rule]]\n", "listen-keys": "[[listen]]\n"}[part]
		text := section(t, rulesPage, part)
		seen := make(map[string]bool)
		for _, m := range example.FindAllStringSubmatch(text, -1) {
			seen[m[1]] = true
			file += strings.TrimPrefix(unroff(m[0]), ".Dl ") + "\n"
		}
		for key := range items(strings.ReplaceAll(text, " , Ic ", "\n.It Ic "), `\.It Ic (\w+)`) {
			if !seen[key] {
				t.Errorf("%s of tlswrap.rules(5): the key %q has no example", part, key)
			}
		}
	}
	if _, err := rules.Parse("example.toml", []byte(file)); err != nil {
		t.Errorf("the examples together are no rules file: %v\n%s", err, file)
	}
}

func TestTheManualHasEveryStartTLSProtocol(t *testing.T) {
	have := tags(section(t, rulesPage, "starttls-protocols"))
	for _, name := range rules.StartTLSProtocols {
		if !have[name] {
			t.Errorf("tlswrap.rules(5) does not have %s", name)
		}
	}
	if len(have) != len(rules.StartTLSProtocols) {
		t.Errorf("tlswrap.rules(5) has %d protocols, and the rules know %d", len(have), len(rules.StartTLSProtocols))
	}
}

func TestTheDefaultsInTheManualAreTrue(t *testing.T) {
	p, err := rules.Parse("x", []byte("[[rule]]\nhost = \"a\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(section(t, rulesPage, "rule-keys"), "\n", " ")
	seconds := strconv.Itoa(int(p.Rules[0].Timeout.Seconds()))
	for key, want := range map[string]string{"timeout": "The default is .Ql " + seconds + "s .", "min_version": "The default is .Ql 1.2 ."} {
		_, after, _ := strings.Cut(text, ".It Ic "+key)
		item, _, _ := strings.Cut(after, ".It Ic ")
		if !strings.Contains(item, want) {
			t.Errorf("tlswrap.rules(5) has the default of %s wrong, want %q in %q", key, want, item)
		}
	}
	if p.Rules[0].MinVersion != 0x0303 {
		t.Errorf("the least version is %#x, and tlswrap.rules(5) says TLS 1.2", p.Rules[0].MinVersion)
	}
}

func TestEveryExampleOfARulesFileParses(t *testing.T) {
	examples := regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllStringSubmatch(read(t, readme), -1)
	if len(examples) != 1 {
		t.Errorf("README.md has %d examples of a rules file, want 1", len(examples))
	}
	pages := sections(t, rulesPage, "rules-file")
	if len(pages) == 0 {
		t.Error("tlswrap.rules(5) has no example of a rules file")
	}
	for _, page := range pages {
		examples = append(examples, []string{"", unroff(page)})
	}
	for _, e := range examples {
		if _, err := rules.Parse("example.toml", []byte(e[1])); err != nil {
			t.Errorf("%v in\n%s", err, e[1])
		}
	}
}

func TestTheBuiltinProfileInTheManualIsTheOneInForce(t *testing.T) {
	var want, wantAsked []string
	for _, r := range rules.Builtin().Rules {
		if r.StartTLS != "" {
			wantAsked = append(wantAsked, r.StartTLS+" "+strconv.Itoa(int(r.Ports[0].First)))
		}
		if twin := r.TLSPort + r.Upstream.Port; twin != 0 {
			want = append(want, strconv.Itoa(int(r.Ports[0].First))+" "+strconv.Itoa(int(twin)))
		}
	}
	var have []string
	for _, m := range regexp.MustCompile(`Ta (\d+) Ta (\d+)`).FindAllStringSubmatch(section(t, rulesPage, "builtin-ports"), -1) {
		have = append(have, m[1]+" "+m[2])
	}
	if !slices.Equal(have, want) {
		t.Errorf("tlswrap.rules(5) has %q, want %q", have, want)
	}
	have = nil
	for _, m := range regexp.MustCompile(`\.It (\S+) Ta (\d+)`).FindAllStringSubmatch(section(t, rulesPage, "builtin-starttls"), -1) {
		have = append(have, unroff(m[1])+" "+m[2])
	}
	if !slices.Equal(have, wantAsked) {
		t.Errorf("tlswrap.rules(5) has %q, want %q", have, wantAsked)
	}
}

// Every errno that the worker or the shim makes up for a connection is in the table, and
// the table has no other.
func TestTheErrorTableHasWhatTheCodeGives(t *testing.T) {
	want := failureErrnos(t)
	for name := range items(read(t, root+"/preload/control.c"), `-(E[A-Z]+)`) {
		if name == "EMFILE" || name == "ENETDOWN" {
			want[name] = true
		}
	}
	have := items(section(t, manual, "errno-table"), `\.It Bq Er (E\w+)`)
	for name := range want {
		if !have[name] {
			t.Errorf("tlswrap(1) has no %s", name)
		}
	}
	for name := range have {
		if !want[name] {
			t.Errorf("tlswrap(1) has %s, which nothing gives", name)
		}
	}
}

func TestTheLogTableHasWhatTheWorkerLogs(t *testing.T) {
	logged := ""
	for _, file := range sources(t, root+"/proxy") {
		logged += read(t, file)
	}
	table := section(t, manual, "log-table")
	for event := range items(table, `\.It Ql (\w+)`) {
		if !strings.Contains(logged, strconv.Quote(event)) {
			t.Errorf("tlswrap(1) has the event %q, which nothing logs", event)
		}
	}
	for field := range items(table, `(?m)^\.Ql (\w+)`) {
		if !strings.Contains(logged, strconv.Quote(field)) {
			t.Errorf("tlswrap(1) has the field %q, which nothing logs", field)
		}
	}
}

func TestMandocHasNothingToSay(t *testing.T) {
	testkit.Need(t, "mandoc")
	pages, err := filepath.Glob(root + "/man/*")
	if err != nil || len(pages) < 3 {
		t.Fatalf("pages: %v, %v", pages, err)
	}
	out, err := exec.Command("mandoc", append([]string{"-Tlint", "-Wwarning"}, pages...)...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("mandoc: %v\n%s", err, out)
	}
}

// mdoc(7)'s Ql quotes what is left of its line, and each that follows there opens another pair inside.
func TestEachWordOfTheManualHasQuotesOfItsOwn(t *testing.T) {
	pages, err := filepath.Glob(root + "/man/*")
	if err != nil {
		t.Fatal(err)
	}
	several := regexp.MustCompile(`(?m)^\..*\bQl\b.* (?:Ql|,) \S.*$`)
	for _, page := range pages {
		for _, line := range several.FindAllString(read(t, page), -1) {
			t.Errorf("%s: %q: what is quoted stands on lines of its own", page, line)
		}
	}
}

func TestEveryFunctionOfLibtlsHasAPage(t *testing.T) {
	pages, err := filepath.Glob(root + "/man/*.3")
	if err != nil {
		t.Fatal(err)
	}
	all := ""
	for _, page := range pages {
		all += read(t, page)
	}
	for _, header := range []string{"tls.h", "ressl.h"} {
		names := items(read(t, root+"/libtls/include/"+header), `(?m)^[a-z].*?\b((?:res)?s?tls_\w+|ressl_\w+)\(`)
		if len(names) < 30 {
			t.Errorf("%s: found only %d functions", header, len(names))
		}
		for name := range names {
			if !strings.Contains(all, "\n.Fn "+name+" ") {
				t.Errorf("no page in section 3 has %s", name)
			}
		}
	}
}

func TestFilesThatDocumentsNameExist(t *testing.T) {
	path := regexp.MustCompile("`((?:cmd|preload|libtls|proxy|rules|tests|docs|man)(?:/[\\w./-]+)?)`|\\]\\(([\\w./-]+)(#[\\w-]+)?\\)")
	for _, file := range markdown(t) {
		for _, m := range path.FindAllStringSubmatch(read(t, file), -1) {
			name := filepath.Join(root, m[1])
			if m[2] != "" {
				name = filepath.Join(filepath.Dir(file), m[2])
			}
			if _, err := os.Stat(name); err != nil {
				t.Errorf("%s: %v", file, err)
			} else if m[3] != "" && !anchors(read(t, name))[m[3]] {
				t.Errorf("%s leads to %s%s, and there is no such section", file, m[2], m[3])
			}
		}
	}
}

// anchors are what a document's headings are called in links.
func anchors(text string) map[string]bool {
	all := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		words := regexp.MustCompile(`[^\w -]`).ReplaceAllString(strings.ToLower(m[1]), "")
		all["#"+strings.ReplaceAll(words, " ", "-")] = true
	}
	return all
}

// What comments send their reader to is there, too.
func TestFilesThatCommentsNameExist(t *testing.T) {
	files := sources(t, root+"/proxy")
	for _, dir := range []string{"/cmd/tlswrap/*.go", "/rules/*.go", "/preload/*.[ch]", "/libtls/*.[ch]"} {
		found, err := filepath.Glob(root + dir)
		if err != nil || len(found) == 0 {
			t.Fatalf("there are no files %s: %v", dir, err)
		}
		files = append(files, found...)
	}
	comment := regexp.MustCompile(`(?m)^\s*(?://|/?\*).*$`)
	path := regexp.MustCompile(`\b(?:cmd/tlswrap|preload|libtls|proxy|rules|tests)/[a-z][\w/-]*(?:\.[a-z]+\b)?`)
	for _, file := range files {
		for _, line := range comment.FindAllString(read(t, file), -1) {
			for _, name := range path.FindAllString(line, -1) {
				if _, err := os.Stat(filepath.Join(root, strings.TrimSuffix(name, "/"))); err != nil {
					t.Errorf("%s: %v", file, err)
				}
			}
		}
	}
}

func TestTheReadmeIsOneScreen(t *testing.T) {
	const most = 70
	if n := strings.Count(read(t, readme), "\n"); n > most {
		t.Errorf("README.md has %d lines, want at most %d", n, most)
	}
}

// In the documents what a person types stands in backquotes or is indented.
func TestWhatTheDocumentsSayToMakeExists(t *testing.T) {
	targets := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^([\w./-]+):(?:[^=]|$)`).FindAllStringSubmatch(read(t, root+"/Makefile"), -1) {
		targets[m[1]] = true
	}
	command := regexp.MustCompile("(?m)(?:`|^ {4,})make((?: [a-z][\\w./-]*)+)(?:[` ]|$)")
	for _, file := range markdown(t) {
		found := command.FindAllStringSubmatch(read(t, file), -1)
		if len(found) == 0 && (file == readme || file == contributing) {
			t.Errorf("%s says nothing to make", file)
		}
		for _, m := range found {
			for target := range strings.FieldsSeq(m[1]) {
				if !targets[target] {
					t.Errorf("%s has make %s, and the Makefile has not", file, target)
				}
			}
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func markdown(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(root + "/docs/*.md")
	if err != nil || len(files) == 0 {
		t.Fatalf("no documents in docs: %v", err)
	}
	return append(files, readme, contributing)
}

// sources are the Go files of a folder and of those below it that are no tests.
func sources(t *testing.T, dir string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) == 0 {
		t.Fatalf("no Go files in %s: %v", dir, err)
	}
	return files
}

// sections are the parts of a manual page between comments that name them.
func sections(t *testing.T, file, name string) []string {
	t.Helper()
	name = regexp.QuoteMeta(name)
	between := regexp.MustCompile(`(?s)\.\\" ` + name + `\n(.*?)\.\\" end of ` + name + `\n`)
	var found []string
	for _, m := range between.FindAllStringSubmatch(read(t, file), -1) {
		found = append(found, m[1])
	}
	return found
}

func section(t *testing.T, file, name string) string {
	t.Helper()
	found := sections(t, file, name)
	if len(found) != 1 {
		t.Fatalf("%s has %d parts between the comments %q and %q, want 1", file, len(found), name, "end of "+name)
	}
	return found[0]
}

// items are what a pattern's group matches.
func items(text, pattern string) map[string]bool {
	found := make(map[string]bool)
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		found[m[1]] = true
	}
	return found
}

// tags are the words that a list's entries are about.
func tags(list string) map[string]bool {
	found := items(list, `\.It Ql (\S+)`)
	for _, m := range regexp.MustCompile(`(?s)\.It Xo\n(.*?)\.Xc\n`).FindAllStringSubmatch(list, -1) {
		maps.Copy(found, items(m[1], `\.Ql (\S+)`))
	}
	return found
}

// unroff undoes the escapes that the pages use.
func unroff(s string) string {
	return strings.NewReplacer(`\(dq`, `"`, `\-`, "-", `\&`, "", `\e`, `\`).Replace(s)
}

// pageFlags are the flags in a manual page: those with their macro, and those in
// examples.
func pageFlags(t *testing.T, file string) map[string]bool {
	t.Helper()
	text := read(t, file)
	found := items(text, `\bFl -?([\w-]+)`)
	maps.Copy(found, items(unroff(text), `[^\w-]--([a-z][a-z-]*)`))
	if strings.Contains(text, ".Op Fl v | q") {
		found["q"] = true
	}
	return found
}

func dashed(flag string) string {
	if len(flag) == 1 {
		return "-" + flag
	}
	return "--" + flag
}

// walk shows visit every node of the Go files of a folder.
func walk(t *testing.T, dir string, visit func(ast.Node)) {
	t.Helper()
	for _, file := range sources(t, dir) {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			visit(n)
			return true
		})
	}
}

// method returns the name of the method or function that a node calls, and the
// arguments.
func method(n ast.Node) (string, []ast.Expr) {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return "", nil
	}
	switch f := call.Fun.(type) {
	case *ast.SelectorExpr:
		return f.Sel.Name, call.Args
	case *ast.Ident:
		return f.Name, call.Args
	}
	return "", nil
}

// text returns the value of a string literal.
func text(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(lit.Value)
	return s, err == nil
}

// commandFlags are the flags that the command defines: f.StringVar(&v, "name", …) and
// its like.
func commandFlags(t *testing.T) map[string]bool {
	t.Helper()
	found := make(map[string]bool)
	walk(t, command, func(n ast.Node) {
		name, args := method(n)
		if (name == "Var" || strings.HasSuffix(name, "Var")) && len(args) >= 3 {
			if flag, ok := text(args[1]); ok {
				found[flag] = true
			}
		}
	})
	if !found["rules"] || !found["q"] {
		t.Fatalf("the flags of the command were not found, only %v", found)
	}
	return found
}

// usageTexts are the command's string literals that begin with "usage:".
func usageTexts(t *testing.T) string {
	t.Helper()
	all := ""
	walk(t, command, func(n ast.Node) {
		if e, ok := n.(ast.Expr); ok {
			if s, ok := text(e); ok && strings.HasPrefix(s, "usage:") {
				all += s + "\n"
			}
		}
	})
	return all
}

// verbs are the keys of the map of that name.
func verbs(t *testing.T) map[string]bool {
	t.Helper()
	found := make(map[string]bool)
	walk(t, command, func(n ast.Node) {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Names) != 1 || spec.Names[0].Name != "verbs" || len(spec.Values) != 1 {
			return
		}
		for _, e := range spec.Values[0].(*ast.CompositeLit).Elts {
			if verb, ok := text(e.(*ast.KeyValueExpr).Key); ok {
				found[verb] = true
			}
		}
	})
	if len(found) == 0 {
		t.Fatal("the commands were not found")
	}
	return found
}

// parserKeys are the keys that a file of the rules parser takes: of the whole file in
// parse, and of a table in the other functions.
func parserKeys(t *testing.T, file string) (top, rule map[string]bool) {
	t.Helper()
	top, rule = make(map[string]bool), make(map[string]bool)
	takers := []string{"str", "choice", "oneOf", "strings", "boolean", "booleanOr", "take", "path", "paths"}
	f, err := parser.ParseFile(token.NewFileSet(), root+"/rules/"+file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, decl := range f.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		into := rule
		if fn.Name.Name == "parse" {
			into = top
		}
		ast.Inspect(fn, func(n ast.Node) bool {
			name, args := method(n)
			if !slices.Contains(takers, name) {
				return true
			}
			for _, arg := range args {
				if key, ok := text(arg); ok {
					into[key] = true
					break // what follows are a choice's words
				}
			}
			return true
		})
	}
	if !rule["host"] && !rule["cert_file"] {
		t.Fatalf("the parser's keys were not found, only %v and %v", top, rule)
	}
	return top, rule
}

// failureErrnos are the errnos of Failf(unix.EXXX, …) and of replies in the worker,
// without those of starting programs.
func failureErrnos(t *testing.T) map[string]bool {
	t.Helper()
	found := make(map[string]bool)
	note := func(e ast.Expr) {
		if s, ok := e.(*ast.SelectorExpr); ok {
			if pkg, ok := s.X.(*ast.Ident); ok && pkg.Name == "unix" {
				found[s.Sel.Name] = true
			}
		}
	}
	for _, file := range sources(t, root+"/proxy") {
		if strings.Contains(file, "/inspect/") || filepath.Base(file) == "execute.go" {
			continue // about starting programs
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			// answer.go has what befalls a program that cannot be answered.
			if name, args := method(n); len(args) > 0 && (name == "Failf" || name == "fail" && filepath.Base(file) == "answer.go") {
				note(args[0])
			}
			if kv, ok := n.(*ast.KeyValueExpr); ok {
				if key, ok := kv.Key.(*ast.Ident); ok && key.Name == "Errno" {
					note(kv.Value)
				}
			}
			return true
		})
	}
	if !found["EKEYEXPIRED"] {
		t.Fatalf("the worker's errnos were not found, only %v", found)
	}
	return found
}
