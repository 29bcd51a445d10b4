package godwit

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const modulePath = "godwit"

// layer says what one folder (and all below it) may import of ours. The most
// specific layer of a package counts.
type layer struct {
	folder string
	may    []string // folders, each with all below it; the folder itself is always allowed
	why    string   // why not the others
}

var layers = []layer{
	{"event", nil, "the event core serves every process and knows none"},
	{"fib", nil, "the vocabulary of forwarding is imported by all, so it imports nobody"},
	{"security", nil, "what decides what may run must be readable alone"},
	{"rib", []string{"fib"}, "the RIB is pure: events in, changes out; transport and configuration stay outside"},
	{"cluster", []string{"event", "fib", "security"}, "the bus carries messages for both planes and depends on neither"},
	{"dataplane", []string{"event", "fib", "security"}, "forwarding must run and be tested without bus or control plane"},
	{"dataplane/linecard", []string{"event", "fib", "security", "cluster", "dataplane"}, "the agent joins the data plane to the bus, not to the control plane"},
	{"controlplane", []string{"event", "fib", "rib", "cluster", "security"}, "the control plane reaches line cards by messages only"},
	{"configs", []string{"controlplane/config"}, "shipped configurations are only parsed there"},
	{"docs", []string{"controlplane/config", "controlplane/cli"}, "the manual's examples are only checked there"},
	{"cmd", []string{"event", "fib", "security", "rib", "cluster", "dataplane", "controlplane"}, "programs wire the others and are imported by nobody"},
}

// risky imports have few owners. Tests of other packages may use what they need
// to build a world or an oracle.
var risky = []struct {
	path   string // import path, with all below it
	owners []string
	why    string
}{
	{"github.com/osrg/gobgp", []string{"controlplane/bgp"}, "its types and panics stay behind one adapter"},
	{"github.com/vishvananda/netlink", []string{"controlplane/kernel", "cmd/lab"}, "one place knows its retries and interrupted dumps; the lab builds worlds"},
	{"github.com/vishvananda/netns", []string{"controlplane/kernel", "cmd/lab"}, "a thread in a foreign namespace is a trap"},
	{"github.com/cilium/ebpf", []string{"dataplane/xdp", "security/lsm", "cmd/bench", "cmd/lab"}, "programs in the kernel have one loader a purpose; benchmarks bring their own sinks"},
	{"github.com/kentik/patricia", []string{"fib/patricia", "cmd/bench"}, "it is not safe for concurrent use; benchmarks compare with it alone"},
	{"github.com/gaissmai/bart", []string{"cmd/bench"}, "a baseline, not a part"},
	{"go.yaml.in/yaml", []string{"controlplane/config", "cmd/lab"}, "configuration is parsed in one place, strictly"},
	{"github.com/spf13/cobra", []string{"cmd", "controlplane/cli"}, "command lines belong to programs"},
	{"unsafe", []string{"dataplane", "controlplane/kernel", "cmd/bench", "fib", "security/confine", "security/peer", "cluster/bus/local"}, "memory shared with the kernel or mapped tables, nothing else"},
	{"net/http/pprof", nil, "it opens a door on the default server"},
	{"plugin", nil, "code that nobody signed"},
	{"github.com/google/gopacket", nil, "unmaintained: github.com/gopacket/gopacket"},
	{"github.com/osrg/gobgp/v3", nil, "unmaintained, with published remote crashes: v4"},
}

// below tells whether the slash-separated path is the folder or in it.
func below(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}

func anyBelow(path string, folders []string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return below(path, f) })
}

// layerOf returns the most specific layer of a folder.
func layerOf(folder string) (layer, bool) {
	best, found := layer{}, false
	for _, l := range layers {
		if below(folder, l.folder) && len(l.folder) >= len(best.folder) {
			best, found = l, true
		}
	}
	return best, found
}

// source is a parsed Go file.
type source struct {
	path   string // from the root, with slashes
	folder string
	file   *ast.File
	set    *token.FileSet
	lines  int
	test   bool
}

// parseTree parses all Go files below root but those of testdata and hidden folders.
func parseTree(root string) ([]source, error) {
	var all []source
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != root && (name == "testdata" || name[0] == '.' || name == "bin" || name == "build") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		s, err := parseSource(root, path)
		all = append(all, s)
		return err
	})
	return all, err
}

func parseSource(root, path string) (source, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return source{}, err
	}
	rel, err := filepath.Rel(root, path)
	if err != nil {
		return source{}, err
	}
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, data, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return source{}, err
	}
	rel = filepath.ToSlash(rel)
	return source{
		path: rel, folder: filepath.ToSlash(filepath.Dir(rel)), file: file, set: set,
		lines: strings.Count(string(data), "\n"), test: strings.HasSuffix(rel, "_test.go"),
	}, nil
}

// layering returns what is wrong with the imports of the tree.
func layering(all []source) []string {
	var bad []string
	for _, s := range all {
		for _, spec := range s.file.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				bad = append(bad, fmt.Sprintf("%s: import %s", s.path, spec.Path.Value))
				continue
			}
			if why := forbidden(s, path); why != "" {
				bad = append(bad, fmt.Sprintf("%s imports %s: %s", s.path, path, why))
			}
		}
	}
	return bad
}

// forbidden returns why a file may not import the path, or nothing.
func forbidden(s source, path string) string {
	if own, ok := strings.CutPrefix(path, modulePath+"/"); ok {
		return forbiddenOwn(s.folder, own)
	}
	if s.test {
		return ""
	}
	for _, r := range risky {
		if below(path, r.path) && !anyBelow(s.folder, r.owners) {
			return fmt.Sprintf("only %v may (%s)", r.owners, r.why)
		}
	}
	return ""
}

func forbiddenOwn(folder, imported string) string {
	if below(imported, "cmd") && !below(folder, "cmd") {
		return "programs are imported by nobody"
	}
	if below(imported, "controlplane/router") && !below(folder, "controlplane/router") && !below(folder, "cmd") {
		return "controlplane/router joins all the others; only programs import it"
	}
	l, ok := layerOf(folder)
	if !ok {
		return "folder " + folder + " is in no layer: add it to the table"
	}
	// A layer inside another (dataplane/linecard) is not open to its siblings.
	inner, _ := layerOf(imported)
	if inner.folder != l.folder && below(inner.folder, l.folder) {
		return "it is a layer of its own: " + inner.why
	}
	if below(imported, l.folder) || anyBelow(imported, l.may) {
		return ""
	}
	return fmt.Sprintf("%s may import %v (%s)", l.folder, l.may, l.why)
}

func TestLayering(t *testing.T) {
	all, err := parseTree(".")
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 50 {
		t.Fatalf("only %d files found", len(all))
	}
	for _, b := range layering(all) {
		t.Error(b)
	}
	for _, b := range budgets(all) {
		t.Error(b)
	}
}

// Budgets of a file. Long functions and files make a tree hard to find one's
// way in; generated files are nobody's to read.
const (
	maxFileLines     = 900
	maxFuncLines     = 120 // but tests, whose tables are long
	maxInterface     = 5   // methods
	minDocumentedPct = 97  // of exported names
	maxGoPer1000     = 0.5 // go statements in 1,000 lines; programs and tests not counted
)

// vagueNames are names of packages that say nothing of what is in them.
var vagueNames = []string{"util", "utils", "common", "helper", "helpers", "misc", "base", "shared", "types", "lib"}

// budgets returns where the tree breaks a rule of style that can be counted.
func budgets(all []source) []string {
	var bad []string
	commented := map[string]bool{}
	packages := map[string]string{}
	for _, s := range all {
		if s.lines > maxFileLines && !ast.IsGenerated(s.file) {
			bad = append(bad, fmt.Sprintf("%s: %d lines, at most %d", s.path, s.lines, maxFileLines))
		}
		if s.test {
			continue
		}
		name := s.file.Name.Name
		packages[s.folder] = name
		if slices.Contains(vagueNames, name) {
			bad = append(bad, fmt.Sprintf("%s: package %s says nothing", s.path, name))
		}
		// A program is known by its folder.
		openings := []string{"Package " + name + " "}
		if name == "main" {
			openings = append(openings, "Command "+filepath.Base(s.folder)+" ")
		}
		if s.file.Doc != nil && slices.ContainsFunc(openings, func(o string) bool { return strings.HasPrefix(s.file.Doc.Text(), o) }) {
			commented[s.folder] = true
		}
		bad = append(bad, declarations(s)...)
	}
	for folder, name := range packages {
		if !commented[folder] {
			bad = append(bad, fmt.Sprintf("%s: no comment \"Package %s ...\"", folder, name))
		}
	}
	slices.Sort(bad)
	return append(bad, documentation(all)...)
}

func declarations(s source) []string {
	var bad []string
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Name.Name == "init" && n.Recv == nil && !ast.IsGenerated(s.file) {
				bad = append(bad, fmt.Sprintf("%s: init() hides wiring", s.path))
			}
			if n := s.set.Position(n.End()).Line - s.set.Position(n.Pos()).Line + 1; n > maxFuncLines && !ast.IsGenerated(s.file) && !forTests(s.folder) {
				bad = append(bad, fmt.Sprintf("%s: a function of %d lines, at most %d", s.path, n, maxFuncLines))
			}
		case *ast.TypeSpec:
			if i, ok := n.Type.(*ast.InterfaceType); ok && methods(i) > maxInterface && !ast.IsGenerated(s.file) && !exempt[s.folder+"."+n.Name.Name] {
				bad = append(bad, fmt.Sprintf("%s: interface %s has %d methods, at most %d", s.path, n.Name.Name, methods(i), maxInterface))
			}
			if st, ok := n.Type.(*ast.StructType); ok && holdsContext(st) && !exempt[s.folder+"."+n.Name.Name] {
				bad = append(bad, fmt.Sprintf("%s: struct %s holds a context", s.path, n.Name.Name))
			}
		}
		return true
	})
	return bad
}

func methods(i *ast.InterfaceType) (n int) {
	for _, m := range i.Methods.List {
		if _, ok := m.Type.(*ast.FuncType); ok {
			n++
		}
	}
	return n
}

func holdsContext(st *ast.StructType) bool {
	for _, f := range st.Fields.List {
		if sel, ok := f.Type.(*ast.SelectorExpr); ok && sel.Sel.Name == "Context" {
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "context" {
				return true
			}
		}
	}
	return false
}

// exempt are types that break a rule on purpose.
var exempt = map[string]bool{
	// Contexts that the type makes itself and that end with its Close: no
	// caller's context outlives its call.
	"cluster/bus/local.Member": true,
	"cluster/session.follower": true,
}

// documentation checks what is counted over the whole tree.
func documentation(all []source) []string {
	var exported, documented, lines, goStmts int
	for _, s := range all {
		if s.test || ast.IsGenerated(s.file) {
			continue
		}
		lines += s.lines
		e, d := documentedNames(s.file)
		exported, documented = exported+e, documented+d
		if !below(s.folder, "cmd") && !forTests(s.folder) {
			ast.Inspect(s.file, func(n ast.Node) bool {
				if _, ok := n.(*ast.GoStmt); ok {
					goStmts++
				}
				return true
			})
		}
	}
	var bad []string
	if pct := 100 * float64(documented) / float64(max(exported, 1)); exported > 0 && pct < minDocumentedPct {
		bad = append(bad, fmt.Sprintf("%d of %d exported names documented (%.1f %%), at least %d %%", documented, exported, pct, minDocumentedPct))
	}
	// A tree of a few lines may have one.
	if limit := max(1, maxGoPer1000*float64(lines)/1000); float64(goStmts) > limit {
		bad = append(bad, fmt.Sprintf("%d go statements in %d lines, at most %.1f: tasks and loops start goroutines", goStmts, lines, limit))
	}
	return bad
}

// forTests tells whether the folder holds a package that only tests use: shared
// suites and worlds to test in.
func forTests(folder string) bool {
	return strings.HasSuffix(folder, "test") || strings.HasSuffix(folder, "lab")
}

// documentedNames counts the exported functions, methods of exported types, and
// types of a file, and those with a comment.
func documentedNames(f *ast.File) (exported, documented int) {
	count := func(name string, docs ...*ast.CommentGroup) {
		if !ast.IsExported(name) {
			return
		}
		exported++
		if slices.ContainsFunc(docs, func(d *ast.CommentGroup) bool { return d != nil }) {
			documented++
		}
	}
	for _, decl := range f.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil || receiverExported(d) && !wellKnown[d.Name.Name] {
				count(d.Name.Name, d.Doc)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					count(spec.Name.Name, spec.Doc, d.Doc, spec.Comment)
				case *ast.ValueSpec:
					for _, n := range spec.Names {
						count(n.Name, spec.Doc, d.Doc, spec.Comment)
					}
				}
			}
		}
	}
	return exported, documented
}

// wellKnown are methods that the standard library's interfaces explain.
var wellKnown = map[string]bool{
	"String": true, "Error": true, "Unwrap": true, "Is": true, "Len": true, "Less": true, "Swap": true,
	"MarshalText": true, "UnmarshalText": true, "MarshalJSON": true, "UnmarshalJSON": true, "Close": true,
}

func receiverExported(d *ast.FuncDecl) bool {
	exported := false
	ast.Inspect(d.Recv.List[0].Type, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && !exported {
			exported = ast.IsExported(id.Name)
			return false
		}
		return true
	})
	return exported
}

// TestPlantedViolations shows that the tests above can fail.
func TestPlantedViolations(t *testing.T) {
	for name, tt := range map[string]struct {
		path, code string
		want       string // part of the finding; empty: none
	}{
		"event imports fib":            {"event/a.go", importing("event", "godwit/fib"), "event may import"},
		"fib imports rib":              {"fib/patricia/a.go", importing("patricia", "godwit/rib"), "fib may import"},
		"fib imports below itself":     {"fib/patricia/a.go", importing("patricia", "godwit/fib"), ""},
		"security imports event":       {"security/trust/a.go", importing("trust", "godwit/event"), "security may import"},
		"rib imports the bus":          {"rib/a.go", importing("rib", "godwit/cluster/bus"), "rib may import"},
		"rib imports fib":              {"rib/a.go", importing("rib", "godwit/fib"), ""},
		"cluster imports dataplane":    {"cluster/wire/a.go", importing("wire", "godwit/dataplane/graph"), "cluster may import"},
		"dataplane imports cluster":    {"dataplane/ip/a.go", importing("ip", "godwit/cluster/bus"), "dataplane may import"},
		"the line card imports it":     {"dataplane/linecard/a.go", importing("linecard", "godwit/cluster/bus"), ""},
		"dataplane imports line card":  {"dataplane/ip/a.go", importing("ip", "godwit/dataplane/linecard"), "a layer of its own"},
		"line card imports control":    {"dataplane/linecard/a.go", importing("linecard", "godwit/controlplane/config"), "dataplane/linecard may import"},
		"control imports dataplane":    {"controlplane/mgmt/a.go", importing("mgmt", "godwit/dataplane/graph"), "controlplane may import"},
		"control imports router":       {"controlplane/mgmt/a.go", importing("mgmt", "godwit/controlplane/router"), "only programs import it"},
		"cmd imports all":              {"cmd/x/a.go", importing("main", "godwit/controlplane/router"), ""},
		"cmd is imported":              {"controlplane/cli/a.go", importing("cli", "godwit/cmd/lab"), "imported by nobody"},
		"a test crosses layers":        {"rib/a_test.go", importing("rib", "godwit/cluster/bus"), "rib may import"},
		"folder without a layer":       {"extras/a.go", importing("extras", "godwit/fib"), "in no layer"},
		"GoBGP outside its owner":      {"controlplane/router/a.go", importing("router", "github.com/osrg/gobgp/v4/api"), "only [controlplane/bgp]"},
		"GoBGP inside":                 {"controlplane/bgp/a.go", importing("bgp", "github.com/osrg/gobgp/v4/api"), ""},
		"GoBGP v3 inside":              {"controlplane/bgp/a.go", importing("bgp", "github.com/osrg/gobgp/v3/api"), "published remote crashes"},
		"GoBGP as an oracle in a test": {"cmd/lab/a_test.go", importing("main", "github.com/osrg/gobgp/v4/api"), ""},
		"netlink outside its owner":    {"dataplane/linecard/a.go", importing("linecard", "github.com/vishvananda/netlink"), "only [controlplane/kernel"},
		"eBPF outside its owner":       {"dataplane/ip/a.go", importing("ip", "github.com/cilium/ebpf/link"), "only [dataplane/xdp"},
		"a name that only looks alike": {"dataplane/ip/a.go", importing("ip", "github.com/cilium/ebpf2"), ""},
		"unsafe":                       {"rib/a.go", importing("rib", "unsafe"), "only [dataplane"},
		"no package comment":           {"rib/a.go", "package rib\n", `no comment "Package rib ..."`},
		"program":                      {"cmd/x/a.go", "// Command x is.\npackage main\n", ""},
		"program of another name":      {"cmd/x/a.go", "// Command y is.\npackage main\n", `no comment "Package main ..."`},
		"wrong package comment":        {"rib/a.go", "// This is rib.\npackage rib\n", `no comment "Package rib ..."`},
		"init":                         {"rib/a.go", "// Package rib is.\npackage rib\n\nfunc init() {}\n", "init()"},
		"method named init":            {"rib/a.go", "// Package rib is.\npackage rib\n\ntype t int\n\nfunc (t) init() {}\n", ""},
		"util":                         {"fib/util/a.go", "// Package util is.\npackage util\n", "says nothing"},
		"long file":                    {"rib/a.go", "// Package rib is.\npackage rib\n" + strings.Repeat("\n", 900), "lines, at most 900"},
		"long generated file":          {"rib/a.go", "// Code generated by x. DO NOT EDIT.\n\n// Package rib is.\npackage rib\n" + strings.Repeat("\n", 900), ""},
		"long function":                {"rib/a.go", "// Package rib is.\npackage rib\n\nfunc f() {" + strings.Repeat("\n", 120) + "}\n", "121 lines"},
		"wide interface":               {"rib/a.go", "// Package rib is.\npackage rib\n\ntype i interface{ a(); b(); c(); d(); e(); f() }\n", "6 methods"},
		"context in a struct":          {"rib/a.go", "// Package rib is.\npackage rib\n\nimport \"context\"\n\ntype s struct{ c context.Context }\n", "holds a context"},
		"undocumented":                 {"rib/a.go", "// Package rib is.\npackage rib\n\nfunc F() {}\n", "0 of 1 exported"},
		"documented":                   {"rib/a.go", "// Package rib is.\npackage rib\n\n// F is.\nfunc F() {}\n", ""},
		"goroutines":                   {"rib/a.go", "// Package rib is.\npackage rib\n\nfunc f() { go f(); go f() }\n", "2 go statements"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			path := filepath.Join(root, filepath.FromSlash(tt.path))
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(tt.code), 0o644); err != nil {
				t.Fatal(err)
			}
			all, err := parseTree(root)
			if err != nil {
				t.Fatal(err)
			}
			found := strings.Join(append(layering(all), budgets(all)...), "\n")
			if tt.want == "" && found != "" || !strings.Contains(found, tt.want) {
				t.Errorf("found %q, want %q", found, tt.want)
			}
		})
	}
}

func importing(name, path string) string {
	comment := "Package " + name
	if name == "main" {
		comment = "Command x"
	}
	return fmt.Sprintf("// %s is planted.\npackage %s\n\nimport _ %q\n", comment, name, path)
}
