package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"godwit/controlplane/mgmt"
)

// busViews are the words that choose what "show bus" shows.
var busViews = []word{
	{key: "names", help: "who has bound what; the default"},
	{key: "links", help: "the supervised links of the routing engine"},
	{key: "nodes", help: "the machines of the bus"},
	{key: "multicast", help: "how routes went to the line cards: by multicast and by unicast"},
}

func askBus(ctx context.Context, e *Env, _ words) (mgmt.Bus, error) { return e.client.Bus(ctx) }

func showBus(ctx context.Context, e *Env, w words) error {
	view, text := "", textBus
	for key, f := range map[string]func(io.Writer, mgmt.Bus){"names": textBus, "links": textLinks, "nodes": textNodes, "multicast": textMulticast} {
		if !w.has(key) {
			continue
		}
		if view != "" {
			return usageError{"choose one of names, links, nodes and multicast"}
		}
		view, text = key, f
	}
	return shown(askBus, text)(ctx, e, w)
}

func textBus(w io.Writer, v mgmt.Bus) {
	table(w, "TYPE|LOWER|UPPER|SOCKET|NODE|PID|NAME", func(row func(...any)) {
		for _, n := range v.Names {
			row(n.Type, n.Lower, n.Upper, n.Ref, dash(n.Node), dash(n.PID), dash(n.Name))
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
	table(w, "BUS|PEER|NAME|STATE|TOLERANCE|HEARD", func(row func(...any)) {
		for _, l := range v.Links {
			heard, state := "-", upOrDown(l.Up)
			if l.SilentMS >= 0 {
				heard = fmt.Sprintf("%d ms ago", l.SilentMS)
			}
			if l.Up && !l.Active {
				state = "standby"
			}
			row(l.Transport, l.Peer, dash(l.Name), state, fmt.Sprintf("%d ms", l.ToleranceMS), heard)
		}
	})
}

func textNodes(w io.Writer, v mgmt.Bus) {
	table(w, "NODE|STATE|LINE CARDS", func(row func(...any)) {
		for _, n := range v.Nodes {
			name := fmt.Sprint(n.Node)
			if n.Own {
				name += " (this)"
			}
			var cards []string
			for _, c := range n.Cards {
				cards = append(cards, fmt.Sprintf("%d %s", c.Card, c.State))
			}
			row(name, upOrDown(n.Up), dash(strings.Join(cards, ", ")))
		}
	})
}

func textMulticast(w io.Writer, v mgmt.Bus) {
	table(w, "BUS|MULTICASTS|BYTES|FAILED|BUSY", func(row func(...any)) {
		for _, m := range v.Multicasts {
			row(m.Transport, m.Sent, m.Bytes, m.Failed, m.Busy)
		}
	})
	fmt.Fprintln(w)
	table(w, "CARD|TAKES|BY MULTICAST|ASKED AGAIN|BY UNICAST|RECEIVED|FORGED|FOREIGN|DROPPED", func(row func(...any)) {
		for _, d := range v.Downloads {
			takes := "unicast"
			if d.Takes {
				takes = "multicast"
			}
			if d.Seen == nil {
				row(d.Card, takes, d.Named, d.Again, d.Whole, d.Error)
				continue
			}
			row(d.Card, takes, d.Named, d.Again, d.Whole, d.Seen.Received, d.Seen.Forged, d.Seen.Foreign+d.Seen.Malformed, d.Seen.Dropped)
		}
	})
}
