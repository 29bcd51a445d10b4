package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"math"
	"strings"

	"godwit/controlplane/mgmt"
)

// stream prints items as they come, text or one JSON object a line. A reader
// that goes away (head) ends it.
func stream[T any](e *Env, items iter.Seq2[T, error], header string, text func(io.Writer, T)) error {
	w := bufio.NewWriterSize(e.Out, 64<<10)
	enc := json.NewEncoder(w)
	if !e.json && header != "" {
		fmt.Fprintln(w, header)
	}
	n := 0
	for item, err := range items {
		if err != nil {
			w.Flush()
			return err
		}
		n++
		if e.json {
			err = enc.Encode(item)
		} else {
			text(w, item)
		}
		if err != nil || n < 100 && w.Flush() != nil {
			return nil
		}
	}
	if n == 0 && !e.json {
		fmt.Fprintln(w, "(none)")
	}
	_ = w.Flush() // the reader went away: nothing to tell
	return nil
}

func routeQuery(w words) (mgmt.RouteQuery, error) {
	r := reader{w: w}
	q := mgmt.RouteQuery{VRF: w["vrf"], Longer: w.has("longer"), Protocol: w["protocol"], NextHop: r.address("next-hop"), Tag: uint32(r.number("tag", 1, math.MaxUint32)), Detail: w.has("detail")}
	q.Address, q.Prefix = r.target("")
	switch {
	case w.has("ipv4") && !w.has("ipv6"):
		q.Family = 4
	case w.has("ipv6") && !w.has("ipv4"):
		q.Family = 6
	}
	if q.Longer && !q.Prefix.IsValid() {
		return q, usageError{"\"longer\" goes with a prefix"}
	}
	return q, r.err
}

func showRoute(ctx context.Context, e *Env, w words) error {
	if w.has("changes") {
		return shown(askRouteChanges, textRouteChanges)(ctx, e, w)
	}
	q, err := routeQuery(w)
	if err != nil {
		return err
	}
	if q.Address.IsValid() || q.Detail {
		return stream(e, e.client.Routes(ctx, q), "", textRouteDetail)
	}
	return stream(e, e.client.Routes(ctx, q), fmt.Sprintf("%-10s %-28s %-9s %-5s %s", "VRF", "PREFIX", "PROTOCOL", "DIST", "NEXT HOP"), textRoute)
}

func askRouteChanges(ctx context.Context, e *Env, w words) (mgmt.RouteChanges, error) {
	r := reader{w: w}
	q := mgmt.RouteChangeQuery{VRF: w["vrf"], Count: r.number("count", 1, 100_000)}
	a, p := r.target("")
	if q.Prefix = p; a.IsValid() {
		r.fail("", "a prefix")
	}
	if r.err != nil {
		return mgmt.RouteChanges{}, r.err
	}
	return e.client.RouteChanges(ctx, q)
}

func textRouteChanges(w io.Writer, v mgmt.RouteChanges) {
	table(w, "TIME|VRF|PREFIX|BEFORE|NOW", func(row func(...any)) {
		for _, c := range v.Changes {
			row(c.Time.Format("15:04:05.000"), c.VRF, c.Prefix, installed(c.Old), installed(c.New))
		}
	})
	fmt.Fprintf(w, "%d of %d changes since the start\n", len(v.Changes), v.Total)
}

func installed(x *mgmt.Installed) string {
	if x == nil {
		return "-"
	}
	return fmt.Sprintf("%s group %d", from(x.Protocol, x.From), x.Group)
}

// from names a protocol, and the VRF that the route is leaked from.
func from(protocol, vrf string) string {
	if vrf == "" {
		return protocol
	}
	return protocol + " from VRF " + vrf
}

func textRoute(w io.Writer, r mgmt.Route) {
	for _, c := range r.Candidates {
		mark := ""
		switch {
		case !c.Chosen:
			mark = "  (not used: " + c.Reason + ")"
		case c.Stale:
			mark = "  (stale)"
		}
		if c.From != "" {
			mark = "  (from VRF " + c.From + ")" + mark
		}
		fmt.Fprintf(w, "%-10s %-28s %-9s %-5d %s%s\n", r.VRF, r.Prefix, c.Protocol, c.Distance, where(c), mark)
	}
}

// where says in a few words where a candidate's packets go.
func where(c mgmt.Candidate) string {
	if c.Kind != "forward" {
		return c.Kind
	}
	if len(c.Resolved) == 0 {
		var given []string
		for _, n := range c.NextHops {
			given = append(given, dash(n.Address)+" "+n.Interface)
		}
		return "unresolved: " + strings.Join(given, ", ")
	}
	return hops(c.Resolved)
}

func hops(hs []mgmt.ResolvedHop) string {
	out := make([]string, len(hs))
	for i, h := range hs {
		out[i] = h.Interface
		if h.Gateway.IsValid() {
			out[i] = h.Gateway.String() + " " + h.Interface
		}
		if h.Weight > 1 {
			out[i] += fmt.Sprintf(" weight %d", h.Weight)
		}
		if h.Backup {
			out[i] += " (backup)"
		}
	}
	return strings.Join(out, ", ")
}

func textRouteDetail(w io.Writer, r mgmt.Route) {
	state := "not installed"
	if r.Installed {
		state = fmt.Sprintf("installed, group %d", r.Group)
	}
	fmt.Fprintf(w, "%v in VRF %s: %s\n", r.Prefix, r.VRF, state)
	for i, c := range r.Candidates {
		mark := " "
		if c.Chosen {
			mark = "*"
		}
		fmt.Fprintf(w, "%s %d. %s, distance %d", mark, i+1, from(c.Protocol, c.From), c.Distance)
		if c.Tag != 0 {
			fmt.Fprintf(w, ", tag %d", c.Tag)
		}
		if c.Stale {
			fmt.Fprint(w, ", stale")
		}
		if c.Reason != "" {
			fmt.Fprintf(w, ": %s", c.Reason)
		}
		fmt.Fprintf(w, "\n     packets: %s\n", where(c))
		textNextHops(w, "next hop", c.NextHops)
		textNextHops(w, "tracks", c.Tracks)
		for _, p := range c.Paths {
			fmt.Fprintf(w, "     BGP path from %v (AS %d): next hop %v, local preference %d, MED %d, AS path length %d", p.Peer, p.PeerAS, p.NextHop, p.LocalPref, p.MED, p.ASPathLen)
			if len(p.Communities) > 0 {
				fmt.Fprintf(w, ", filtered by communities %s", strings.Join(p.Communities, " "))
			}
			fmt.Fprintln(w)
		}
	}
}

func textNextHops(w io.Writer, what string, list []mgmt.RouteNextHop) {
	for _, n := range list {
		name := strings.TrimSpace(dash(n.Address) + " " + n.Interface)
		if n.VRF != "" {
			name += " in VRF " + n.VRF
		}
		if n.Backup {
			name += " (backup)"
		}
		if !n.Usable {
			name += " (not usable)"
		}
		fmt.Fprintf(w, "     %s %s\n", what, name)
		for _, step := range n.Chain {
			fmt.Fprintf(w, "       %s\n", step)
		}
	}
}

func showFIB(ctx context.Context, e *Env, w words) error {
	r := reader{w: w}
	q := mgmt.FIBQuery{Card: uint16(r.number("card", 1, 65535)), VRF: w["vrf"]}
	q.Address, q.Prefix = r.target("")
	if r.err != nil {
		return r.err
	}
	switch {
	case w.has("consistency"):
		return showConsistency(ctx, e, w, q.Card)
	case w.has("statistics"):
		return shown(func(ctx context.Context, e *Env, _ words) (mgmt.FIBSummary, error) { return e.client.FIBSummary(ctx) }, textFIBStatistics)(ctx, e, w)
	}
	if len(w) == 0 {
		return shown(func(ctx context.Context, e *Env, _ words) (mgmt.FIBSummary, error) { return e.client.FIBSummary(ctx) }, textFIBSummary)(ctx, e, w)
	}
	header := fmt.Sprintf("%-5s %-10s %-28s %-7s %s", "CARD", "VRF", "PREFIX", "GROUP", "NEXT HOP")
	return stream(e, e.client.FIB(ctx, q), header, func(w io.Writer, r mgmt.FIBRoute) {
		to := r.Kind
		if r.Kind == "forward" {
			to = hops(r.NextHops)
		}
		if r.ExpressPackets > 0 {
			to += fmt.Sprintf("  (express, by this group: %d packets, %d bytes)", r.ExpressPackets, r.ExpressBytes)
		}
		fmt.Fprintf(w, "%-5d %-10s %-28s %-7d %s\n", r.Card, r.VRF, r.Prefix, r.Group, to)
	})
}

func textFIBSummary(w io.Writer, v mgmt.FIBSummary) {
	fmt.Fprintf(w, "installed by the RIB: %d IPv4 and %d IPv6 routes through %d next-hop groups\n", v.Routes4, v.Routes6, v.Groups)
	table(w, "CARD|STATE|EPOCH|SENT|ACKNOWLEDGED|GROUPS|VRF|IPV4|IPV6|MEMORY", func(row func(...any)) {
		for _, c := range v.Cards {
			st := cardState(c)
			if len(c.VRFs) == 0 {
				row(c.Card, st, c.Epoch, c.Sent, c.Acked, c.Groups, "-", "-", "-", "-")
			}
			for i, f := range c.VRFs {
				if i == 0 {
					row(c.Card, st, c.Epoch, c.Sent, c.Acked, c.Groups, f.VRF, f.Routes4, f.Routes6, size(f.Bytes))
				} else {
					row("", "", "", "", "", "", f.VRF, f.Routes4, f.Routes6, size(f.Bytes))
				}
			}
		}
	})
}

func cardState(c mgmt.FIBCard) string {
	switch {
	case c.Error != "":
		return c.Error
	case !c.Connected:
		return "gone"
	case !c.Converged:
		return "behind"
	}
	return "in step"
}

func size(n int) string {
	switch {
	case n < 10<<10:
		return fmt.Sprintf("%d B", n)
	case n < 10<<20:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
