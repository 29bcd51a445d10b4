package pipeline

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"godwit/dataplane/ethernet"
	"godwit/dataplane/graph"
	"godwit/dataplane/ip"
	"godwit/dataplane/porttest"
	"godwit/dataplane/punt"
)

var rewrite = flag.Bool("rewrite", false, "write the tables of docs/dataplane.md anew")

const docs = "../../docs/dataplane.md"

// dropTable is the table of all drop reasons, as the document has it.
func dropTable(t *testing.T) string {
	s := NewState(1, Options{})
	p := New(s, porttest.NewPool(1), &bin{})
	name := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	seen := make(map[string]bool)
	var b strings.Builder
	b.WriteString("| node | reason | what it means |\n|---|---|---|\n")
	for _, d := range graph.MergeDrops(p.Drops(), NewSlowPath(s).Drops()) {
		key := d.Node + "/" + d.Reason
		if seen[key] || !name.MatchString(d.Node) || !name.MatchString(d.Reason) || d.Help == "" || strings.HasSuffix(d.Help, ".") {
			t.Errorf("drop reason %s: %q", key, d.Help)
		}
		seen[key] = true
		fmt.Fprintf(&b, "| %s | %s | %s |\n", d.Node, d.Reason, d.Help)
	}
	return b.String()
}

func policerTable() string {
	var b strings.Builder
	b.WriteString("| class | packets/s | burst |\n|---|---|---|\n")
	for c := range punt.NumClasses {
		fmt.Fprintf(&b, "| %s | %d | %d |\n", c, punt.Default[c].PerSecond, punt.Default[c].Burst)
	}
	return b.String()
}

// nodeTable is the graph's nodes and edges.
func nodeTable() string {
	p := New(NewState(1, Options{}), porttest.NewPool(1), &bin{})
	var b strings.Builder
	b.WriteString("| node | next |\n|---|---|\n")
	for _, n := range []interface {
		Name() string
		Nexts() []string
	}{p.eth, p.guard4, p.guard6, p.in4, p.in6, p.look4, p.look6, p.fwd4, p.fwd6, p.egress} {
		fmt.Fprintf(&b, "| %s | %s |\n", n.Name(), strings.Join(n.Nexts(), ", "))
	}
	return b.String()
}

var (
	_ graph.Node = (*ethernet.Input)(nil)
	_ graph.Node = (*ip.Input)(nil)
	_ graph.Node = (*ip.Lookup)(nil)
	_ graph.Node = (*ip.Forward)(nil)
)

// TestDocs: the document's tables are those of the code. go test -rewrite
// writes them.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	for name, table := range map[string]string{"drops": dropTable(t), "policers": policerTable(), "nodes": nodeTable()} {
		from, to := []byte("<!-- "+name+" -->\n"), []byte("<!-- end "+name+" -->\n")
		a, b := bytes.Index(text, from), bytes.Index(text, to)
		if a < 0 || b < a {
			t.Errorf("%s has no place for table %s", docs, name)
			continue
		}
		a += len(from)
		if string(text[a:b]) != table && !*rewrite {
			t.Errorf("table %s of %s differs from the code: go test ./dataplane/pipeline -run Docs -rewrite", name, docs)
		}
		text = append(append(append([]byte(nil), text[:a]...), table...), text[b:]...)
	}
	if *rewrite {
		if err := os.WriteFile(docs, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
