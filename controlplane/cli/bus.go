package cli

import (
	"context"
	"fmt"
	"io"

	"godwit/controlplane/mgmt"
)

// busViews are the words that choose what "show bus" shows.
var busViews = []word{
	{key: "names", help: "who has bound what; the default"},
	{key: "links", help: "the supervised links of the routing engine"},
	{key: "nodes", help: "the machines of the bus"},
}

func askBus(ctx context.Context, e *Env, _ words) (mgmt.Bus, error) { return e.client.Bus(ctx) }

func showBus(ctx context.Context, e *Env, w words) error {
	view, text := "", textBus
	for key, f := range map[string]func(io.Writer, mgmt.Bus){"names": textBus, "links": textLinks, "nodes": textNodes} {
		if !w.has(key) {
			continue
		}
		if view != "" {
			return usageError{"choose one of names, links and nodes"}
		}
		view, text = key, f
	}
	return shown(askBus, text)(ctx, e, w)
}

func textBus(w io.Writer, v mgmt.Bus) {
	table(w, "TYPE|LOWER|UPPER|SOCKET|PID|NAME", func(row func(...any)) {
		for _, n := range v.Names {
			row(n.Type, n.Lower, n.Upper, n.Ref, n.PID, n.Name)
		}
	})
}

func upOrDown(up bool) string {
	if up {
		return "up"
	}
	return "down"
}

func textLinks(w io.Writer, v mgmt.Bus) {
	table(w, "PEER|NAME|STATE|TOLERANCE|HEARD", func(row func(...any)) {
		for _, l := range v.Links {
			heard := "-"
			if l.SilentMS >= 0 {
				heard = fmt.Sprintf("%d ms ago", l.SilentMS)
			}
			row(l.Peer, dash(l.Name), upOrDown(l.Up), fmt.Sprintf("%d ms", l.ToleranceMS), heard)
		}
	})
}

func textNodes(w io.Writer, v mgmt.Bus) {
	table(w, "NODE|STATE", func(row func(...any)) {
		for _, n := range v.Nodes {
			row(n.Node, upOrDown(n.Up))
		}
	})
}
