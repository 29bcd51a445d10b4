package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"godwit/controlplane/mgmt"
)

func askFIBTrace(ctx context.Context, e *Env, w words) (mgmt.FIBTraces, error) {
	r := reader{w: w}
	q := mgmt.FIBTraceQuery{VRF: w["vrf"], Address: r.address(""), From: r.address("from"), Protocol: w["protocol"],
		SrcPort: uint16(r.number("source-port", 1, 65535)), DstPort: uint16(r.number("port", 1, 65535)), Card: uint16(r.number("card", 1, 65535))}
	if r.err != nil {
		return mgmt.FIBTraces{}, r.err
	}
	return e.client.FIBTrace(ctx, q)
}

func textFIBTrace(w io.Writer, v mgmt.FIBTraces) {
	for _, t := range v.Traces {
		fmt.Fprintf(w, "received by card %d in VRF %s\n", t.Card, t.VRF)
		if t.Error != "" {
			fmt.Fprintf(w, "  %s\n", t.Error)
			continue
		}
		textFIBTraceLookup(w, t)
		e := t.Egress
		if e.Interface != "" {
			fmt.Fprintf(w, "  egress     %s on card %d, neighbor %v (%s)", e.Interface, e.Card, e.Neighbor, e.State)
			if e.MAC != "" {
				fmt.Fprintf(w, " at %s", e.MAC)
			}
			if e.MTU != 0 {
				fmt.Fprintf(w, ", MTU %d", e.MTU)
			}
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "  result     %s\n", e.Result)
	}
}

func textFIBTraceLookup(w io.Writer, t mgmt.FIBTrace) {
	if !t.Prefix.IsValid() {
		return
	}
	fmt.Fprintf(w, "  lookup     %v, group %d: %s, flow hash %08x\n", t.Prefix, t.Group, t.Kind, t.Hash)
	for _, m := range t.Members {
		mark, note := " ", ""
		if m.Chosen {
			mark = "*"
		}
		if m.Backup {
			note = " (backup)"
		}
		if m.Dead {
			note += " (dead)"
		}
		to := "connected"
		if m.Gateway.IsValid() {
			to = m.Gateway.String()
		}
		fmt.Fprintf(w, "  member   %s %s via %s%s\n", mark, to, m.Interface, note)
	}
}

// showConsistency fails if a card differs.
func showConsistency(ctx context.Context, e *Env, w words, card uint16) error {
	bad := 0
	ask := func(ctx context.Context, e *Env, _ words) (mgmt.FIBConsistency, error) {
		v, err := e.client.FIBConsistency(ctx, card)
		for _, c := range v.Cards {
			if c.State != "consistent" {
				bad++
			}
		}
		return v, err
	}
	if err := shown(ask, textConsistency)(ctx, e, w); err != nil {
		return err
	}
	if bad > 0 {
		return fmt.Errorf("%d line cards are not consistent with the RIB", bad)
	}
	return nil
}

func textConsistency(w io.Writer, v mgmt.FIBConsistency) {
	table(w, "CARD|STATE|GROUPS|VRF|RIB|CARD|DIGEST|EQUAL", func(row func(...any)) {
		for _, c := range v.Cards {
			if len(c.VRFs) == 0 {
				row(c.Card, c.State+" "+c.Error, "-", "-", "-", "-", "-", "-")
			}
			for _, f := range c.VRFs {
				row(c.Card, c.State, yesNo(c.Groups), f.VRF, f.RIB, f.Card, f.Digest, yesNo(f.Equal))
			}
		}
	})
	for _, c := range v.Cards {
		for _, d := range c.Differences {
			fmt.Fprintf(w, "card %d: VRF %s %v: %s\n", c.Card, d.VRF, d.Prefix, d.What)
		}
		if c.More > 0 {
			fmt.Fprintf(w, "card %d: %d more\n", c.Card, c.More)
		}
	}
}

func yesNo(b bool) string {
	if b {
		return "equal"
	}
	return "different"
}

func textFIBStatistics(w io.Writer, v mgmt.FIBSummary) {
	textFIBSummary(w, v)
	fmt.Fprintln(w)
	table(w, "CARD|ROUTE MEMORY|GROUPS|NEIGHBORS|LOCAL REPAIRS", func(row func(...any)) {
		for _, c := range v.Cards {
			row(c.Card, size(c.Bytes), c.Groups, c.Neighbors, c.Switches)
		}
	})
	fmt.Fprintln(w)
	table(w, "CARD|WORKER|CORES|THREAD|PACKETS|SLEEPS", func(row func(...any)) {
		for _, c := range v.Cards {
			for i, x := range c.Workers {
				row(c.Card, i, strings.Trim(fmt.Sprint(x.Cores), "[]"), map[bool]string{true: "urgent", false: "ordinary"}[x.Urgent], x.Packets, x.Sleeps)
			}
		}
	})
}
