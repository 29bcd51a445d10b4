package cli

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"godwit/controlplane/mgmt"
)

// table prints rows in columns.
func table(w io.Writer, header string, rows func(row func(cells ...any))) {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	n := 0
	line := func(cells ...any) {
		for i, c := range cells {
			if i > 0 {
				fmt.Fprint(tw, "\t")
			}
			fmt.Fprint(tw, c)
		}
		fmt.Fprintln(tw)
		n++
	}
	fmt.Fprintln(tw, strings.ReplaceAll(header, "|", "\t"))
	rows(line)
	tw.Flush()
	if n == 0 {
		fmt.Fprintln(w, "(none)")
	}
}

// ago is a duration in two units, as people read uptimes.
func ago(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Hour:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
}

func since(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return ago(time.Since(t))
}

// dash stands for nothing.
func dash(v any) string {
	if s := fmt.Sprint(v); s != "" && s != "0" && s != "invalid IP" {
		return s
	}
	return "-"
}

func askVersion(ctx context.Context, e *Env, _ words) (mgmt.Version, error) {
	return e.client.Version(ctx)
}

func textVersion(w io.Writer, v mgmt.Version) {
	fmt.Fprintf(w, "%s %s (%s) on %s, instance %s\n", v.Product, v.Version, v.Go, v.Hostname, v.Instance)
	fmt.Fprintf(w, "routing engine up %s, kernel %s, build %s\n", ago(v.Uptime), dash(v.Kernel), dash(v.BuildID))
}

func askModules(ctx context.Context, e *Env, _ words) (mgmt.Modules, error) {
	return e.client.Modules(ctx)
}

func textModules(w io.Writer, v mgmt.Modules) {
	table(w, "MODULE|ROLE|STATE|PID|SINCE|RESTARTS|VERSION|SIGNED BY|CHECK|LAST EXIT", func(row func(...any)) {
		for _, m := range v.Modules {
			name := m.Name
			if m.Node != 0 {
				name += fmt.Sprintf("@%d", m.Node)
			}
			row(name, m.Role, m.State, dash(m.PID), since(m.Since), m.Restarts, dash(m.Version), dash(m.KeyID), dash(m.Verify), dash(m.LastExit))
		}
	})
	for _, m := range v.Modules {
		if m.Reason != "" {
			fmt.Fprintf(w, "%s: %s\n", m.Name, m.Reason)
		}
	}
	if len(v.Members) == 0 {
		return
	}
	fmt.Fprintln(w)
	table(w, "LINE CARD|NODE|MEMBER|SINCE|JOINED|LEFT BECAUSE", func(row func(...any)) {
		for _, m := range v.Members {
			row(m.Card, dash(m.Node), m.State, since(m.Since), m.Joins, dash(m.Reason))
		}
	})
}

func askVRFs(ctx context.Context, e *Env, _ words) (mgmt.VRFs, error) { return e.client.VRFs(ctx) }

func textVRFs(w io.Writer, v mgmt.VRFs) {
	table(w, "VRF|ID|IPV4 ROUTES|IPV6 ROUTES|LEAKED|LIMIT|NAMESPACE|INTERFACES", func(row func(...any)) {
		for _, r := range v.VRFs {
			row(r.Name, r.ID, r.Routes4, r.Routes6, r.Leaked, limitOf(r), r.NetNS, strings.Join(r.Interfaces, " "))
		}
	})
}

// limitOf says how full a VRF is, if it has a limit.
func limitOf(v mgmt.VRF) string {
	if v.Limit == 0 {
		return "-"
	}
	s := fmt.Sprintf("%d of %d", v.Prefixes, v.Limit)
	if v.LimitState != "clear" {
		s += ", " + v.LimitState
	}
	if v.Refused > 0 {
		s += fmt.Sprintf(", %d refused", v.Refused)
	}
	return s
}

func showInterfaces(ctx context.Context, e *Env, w words) error {
	text := textInterfaces
	if w.has("") {
		text = textInterface
	}
	ask := func(ctx context.Context, e *Env, w words) (mgmt.Interfaces, error) {
		return e.client.Interfaces(ctx, w[""])
	}
	return shown(ask, text)(ctx, e, w)
}

func textInterfaces(w io.Writer, v mgmt.Interfaces) {
	table(w, "INTERFACE|VRF|CARD|DEVICE|STATE|EXPRESS|ADDRESSES|RX PACKETS|TX PACKETS|DROPS", func(row func(...any)) {
		for _, i := range v.Interfaces {
			row(i.Name, i.VRF, i.Card, device(i), state(i), dash(i.Express), addresses(i, false), i.Counters.RxPackets, i.Counters.TxPackets, i.Counters.Drops)
		}
	})
}

func device(i mgmt.Interface) string {
	if i.VLAN != 0 {
		return fmt.Sprintf("%s.%d", i.Device, i.VLAN)
	}
	return i.Device
}

func state(i mgmt.Interface) string {
	if i.Admin == "down" {
		return "shutdown"
	}
	return i.State
}

// addresses leaves link-local ones out of the overview.
func addresses(i mgmt.Interface, all bool) string {
	var out []string
	for _, a := range i.Addresses {
		if all || !a.Addr().IsLinkLocalUnicast() {
			out = append(out, a.String())
		}
	}
	return dash(strings.Join(out, " "))
}

func textInterface(w io.Writer, v mgmt.Interfaces) {
	for _, i := range v.Interfaces {
		fmt.Fprintf(w, "%s is %s", i.Name, state(i))
		if !i.Since.IsZero() {
			fmt.Fprintf(w, " for %s", since(i.Since))
		}
		if i.Reason != "" {
			fmt.Fprintf(w, ": %s", i.Reason)
		}
		if i.Description != "" {
			fmt.Fprintf(w, "\n  %s", i.Description)
		}
		fmt.Fprintln(w)
		fmt.Fprintf(w, "  VRF %s, line card %d, device %s (%s, %d queues), MAC %s, MTU %d\n", i.VRF, i.Card, device(i), dash(i.Mode), i.Queues, dash(i.MAC), i.MTU)
		fmt.Fprintf(w, "  addresses %s\n", addresses(i, true))
		c := i.Counters
		if i.Express != "" {
			fmt.Fprintf(w, "  express path %s", i.Express)
			if i.ExpressReason != "" {
				fmt.Fprintf(w, ": %s", i.ExpressReason)
			}
			fmt.Fprintf(w, "; %d packets\n", c.Express)
		}
		fmt.Fprintf(w, "  received %d packets, %d bytes; sent %d packets, %d bytes; dropped %d; to the host %d\n", c.RxPackets, c.RxBytes, c.TxPackets, c.TxBytes, c.Drops, c.Punts)
	}
}

func askNeighbors(ctx context.Context, e *Env, w words) (mgmt.Neighbors, error) {
	q, err := neighborQuery(w)
	if err != nil {
		return mgmt.Neighbors{}, err
	}
	return e.client.Neighbors(ctx, q)
}

func neighborQuery(w words) (mgmt.NeighborQuery, error) {
	r := reader{w: w}
	q := mgmt.NeighborQuery{VRF: w["vrf"], Interface: w["interface"], Address: r.address("")}
	return q, r.err
}

func textNeighbors(w io.Writer, v mgmt.Neighbors) {
	table(w, "VRF|INTERFACE|ADDRESS|MAC|STATE|AGE", func(row func(...any)) {
		for _, n := range v.Neighbors {
			row(n.VRF, n.Interface, n.Address, dash(n.MAC), n.State, ago(n.Age))
		}
	})
}

func askBGP(ctx context.Context, e *Env, w words) (mgmt.BGP, error) {
	return e.client.BGP(ctx, w["vrf"])
}

func textBGP(w io.Writer, v mgmt.BGP) {
	for _, s := range v.Speakers {
		fmt.Fprintf(w, "VRF %s: AS %d, router ID %s, %s\n", s.VRF, s.AS, dash(s.RouterID), speakerState(s))
		table(w, "  PEER|AS|STATE|SINCE|RECEIVED|ACCEPTED|ADVERTISED|FLAPS|DESCRIPTION|LAST ERROR", func(row func(...any)) {
			for _, p := range s.Peers {
				row("  "+p.Address.String(), p.AS, p.State, since(p.Since), p.Received, p.Accepted, p.Advertised, p.Flaps, dash(p.Description), dash(p.LastError))
			}
		})
	}
	if len(v.Speakers) == 0 {
		fmt.Fprintln(w, "no VRF runs BGP")
	}
}

func speakerState(s mgmt.Speaker) string {
	switch {
	case s.Error != "":
		return s.Error
	case !s.Connected && s.Stale:
		return "speaker is gone, its routes are kept until it is back"
	case !s.Connected:
		return "speaker is not running"
	case s.Stale:
		return "speaker is back, refreshing its routes"
	case !s.Synced:
		return "receiving the peers' tables"
	}
	return "in sync"
}

func showDrops(ctx context.Context, e *Env, w words) error {
	ask := func(ctx context.Context, e *Env, w words) (mgmt.Drops, error) {
		r := reader{w: w}
		card := r.number("card", 1, 65535)
		if r.err != nil {
			return mgmt.Drops{}, r.err
		}
		return e.client.Drops(ctx, uint16(card))
	}
	text := func(out io.Writer, v mgmt.Drops) { textDrops(out, v, w.has("all")) }
	return shown(ask, text)(ctx, e, w)
}

func textDrops(w io.Writer, v mgmt.Drops, all bool) {
	table(w, "CARD|NODE|REASON|COUNT|MEANING", func(row func(...any)) {
		for _, c := range v.Cards {
			for _, d := range c.Drops {
				if all || d.Count > 0 {
					row(c.Card, d.Node, d.Reason, d.Count, d.Help)
				}
			}
		}
	})
	for _, c := range v.Cards {
		if c.Error != "" {
			fmt.Fprintf(w, "card %d: %s\n", c.Card, c.Error)
		}
	}
}

func showConfig(ctx context.Context, e *Env, _ words) error {
	text, err := e.client.Config(ctx)
	if err != nil {
		return err
	}
	_, err = e.Out.Write(text)
	return err
}

func clearNeighbors(ctx context.Context, e *Env, w words) (mgmt.Done, error) {
	q, err := neighborQuery(w)
	if err != nil {
		return mgmt.Done{}, err
	}
	return e.client.ClearNeighbors(ctx, q)
}

func resetBGP(ctx context.Context, e *Env, w words) (mgmt.Done, error) {
	r := reader{w: w}
	q := mgmt.ResetQuery{VRF: w["vrf"], Address: r.address(""), Soft: w.has("soft")}
	if r.err != nil {
		return mgmt.Done{}, r.err
	}
	return e.client.ResetBGP(ctx, q)
}

func requestUpgrade(ctx context.Context, e *Env, w words) (mgmt.Done, error) {
	q := mgmt.UpgradeQuery{Module: w[""], File: w["file"]}
	if q.File != "" && e.remote.address == "" { // as seen from here; elsewhere it is the router's
		abs, err := filepath.Abs(q.File)
		if err != nil {
			return mgmt.Done{}, err
		}
		q.File = abs
	}
	return e.client.Upgrade(ctx, q)
}

func textDone(w io.Writer, d mgmt.Done) { fmt.Fprintln(w, d.Message) }
