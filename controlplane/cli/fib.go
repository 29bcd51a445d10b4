package cli

import (
	"context"
	"fmt"
	"io"

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
		if m.Dead {
			note = " (dead)"
		}
		to := "connected"
		if m.Gateway.IsValid() {
			to = m.Gateway.String()
		}
		fmt.Fprintf(w, "  member   %s %s via %s%s\n", mark, to, m.Interface, note)
	}
}
