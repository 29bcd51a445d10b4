package cli

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"godwit/controlplane/config"
	"godwit/controlplane/mgmt"
)

func askSampling(ctx context.Context, e *Env, _ words) (mgmt.Sampling, error) {
	return e.client.Sampling(ctx)
}

func textSampling(w io.Writer, v mgmt.Sampling) {
	table(w, "CARD|INTERFACE|ONE OF|FRAMES|SAMPLES|EXPRESS|IFINDEX", func(row func(...any)) {
		for _, c := range v.Cards {
			for _, i := range c.Interfaces {
				row(c.Card, i.Name, i.Rate, i.Pool, i.Samples, i.Express, uint32(i.ID))
			}
		}
	})
	fmt.Fprintln(w)
	table(w, "CARD|COLLECTOR|PROTOCOL|VRF|ADDRESS|SOURCE|DATAGRAMS|SAMPLES|COUNTERS", func(row func(...any)) {
		for _, c := range v.Cards {
			for _, k := range c.Collectors {
				row(c.Card, k.Name, k.Protocol, k.VRFName, fmt.Sprintf("%v port %d", k.Address, k.Port), k.Source, k.Datagrams, k.Samples, k.Counters)
			}
		}
	})
	for _, c := range v.Cards {
		if c.Lost+c.Unsent > 0 {
			fmt.Fprintf(w, "card %d: %d samples lost (more than it tells of in a second), %d datagrams not sent\n", c.Card, c.Lost, c.Unsent)
		}
		if c.Error != "" {
			fmt.Fprintf(w, "card %d: %s\n", c.Card, c.Error)
		}
	}
}

func askMirrors(ctx context.Context, e *Env, _ words) (mgmt.Mirrors, error) {
	return e.client.Mirrors(ctx)
}

func textMirrors(w io.Writer, v mgmt.Mirrors) {
	table(w, "MIRROR|CARD|INTERFACES|DIRECTION|ACL|DEVICE|STATE|MATCHED|COPIES|BYTES|DROPPED", func(row func(...any)) {
		for _, m := range v.Mirrors {
			state := "up"
			if !m.Up {
				state = "down"
			}
			row(m.Name, m.Card, strings.Join(m.Interfaces, " "), m.Direction, dash(m.ACL), m.Device, state, m.Matched, m.Frames, m.Bytes, m.Dropped)
		}
	})
	for _, m := range v.Mirrors {
		if m.Error != "" {
			fmt.Fprintf(w, "mirror %s: %s\n", m.Name, m.Error)
		} else if m.Reason != "" {
			fmt.Fprintf(w, "mirror %s: %s\n", m.Name, m.Reason)
		}
	}
}

// matchWords select packets of a capture.
func matchWords() []word {
	return []word{
		{key: "source", value: "PREFIX|ADDRESS", help: "packets from there only"},
		{key: "destination", value: "PREFIX|ADDRESS", help: "packets to there only"},
		{key: "protocol", value: "WORD", help: "of this protocol only: tcp, udp, icmp, icmpv6, ..., or a number",
			fill: func(context.Context, *Env) []string { return config.Protocols() }},
		{key: "source-port", value: "N", help: "from this port only"},
		{key: "port", value: "N", help: "to this port only"},
	}
}

// prefix reads PREFIX|ADDRESS as a prefix.
func (r *reader) prefix(key string) netip.Prefix {
	a, p := r.target(key)
	if a.IsValid() {
		return netip.PrefixFrom(a, a.BitLen())
	}
	return p
}

// match reads matchWords.
func (r *reader) match() mgmt.Match {
	m := mgmt.Match{Source: r.prefix("source"), Destination: r.prefix("destination"), Protocol: r.w["protocol"],
		SourcePort: uint16(r.number("source-port", 1, 65535)), Port: uint16(r.number("port", 1, 65535))}
	if _, err := m.Rule(); err != nil && r.err == nil {
		r.err = usageError{err.Error()}
	}
	return m
}

func askGuards(ctx context.Context, e *Env, w words) (mgmt.Guards, error) {
	return e.client.Guards(ctx, w[""])
}

func textGuards(w io.Writer, v mgmt.Guards) {
	direction := map[bool]string{false: "in", true: "out"}
	table(w, "CARD|INTERFACE|DIRECTION|ACL|RULE|PACKETS|WHAT IT SAYS", func(row func(...any)) {
		for _, c := range v.Cards {
			for i := range c.Guards {
				g := &c.Guards[i]
				for n, hits := range g.Hits {
					text := ""
					if n < len(g.Texts) {
						text = g.Texts[n]
					}
					row(c.Card, g.Name, direction[g.Out], g.ACL, n+1, hits, text)
				}
				if g.ACL != "" {
					row(c.Card, g.Name, direction[g.Out], g.ACL, "-", g.Unfitted, "deny what no rule fits")
				}
			}
		}
	})
	fmt.Fprintln(w)
	table(w, "CARD|INTERFACE|DIRECTION|SOURCE CHECK|DROPPED|POLICER|WITHIN|BETWEEN|DROPPED", func(row func(...any)) {
		for _, c := range v.Cards {
			for i := range c.Guards {
				g := &c.Guards[i]
				if p := g.Policer; p != nil {
					row(c.Card, g.Name, direction[g.Out], dash(g.RPF), g.Spoofed, policer(p.Rate, p.Peak), p.Packets, p.OverPackets, p.DropPackets)
				} else if g.RPF != "" {
					row(c.Card, g.Name, direction[g.Out], g.RPF, g.Spoofed, "-", "-", "-", "-")
				}
			}
		}
	})
	for _, c := range v.Cards {
		if c.Unlogged > 0 {
			fmt.Fprintf(w, "card %d: %d packets were not logged: too many\n", c.Card, c.Unlogged)
		}
		if c.Error != "" {
			fmt.Fprintf(w, "card %d: %s\n", c.Card, c.Error)
		}
	}
}

// policer names its rates.
func policer(rate, peak uint64) string {
	s := bits(rate)
	if peak != 0 {
		s += ", peak " + bits(peak)
	}
	return s
}

// bits is a rate in bit/s with a unit.
func bits(n uint64) string {
	for _, u := range []struct {
		size float64
		name string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if float64(n) >= u.size {
			return fmt.Sprintf("%g%sbit/s", float64(n)/u.size, u.name)
		}
	}
	return fmt.Sprintf("%d bit/s", n)
}

func aclNames(ctx context.Context, e *Env) []string {
	v, err := e.client.Guards(ctx, "")
	if err != nil {
		return nil
	}
	var names []string
	for _, c := range v.Cards {
		for i := range c.Guards {
			if n := c.Guards[i].ACL; n != "" && !slices.Contains(names, n) {
				names = append(names, n)
			}
		}
	}
	return names
}
