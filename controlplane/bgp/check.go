package bgp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"godwit/cluster/wire"
	"godwit/controlplane/community"
)

// Words of a neighbour's policies and families.
const (
	accept = "accept"
	reject = "reject"
	local  = "local"
	ipv4   = "ipv4"
	ipv6   = "ipv6"
)

// Defaults of a speaker.
const (
	defaultPort = 179
	defaultHold = 90 * time.Second
	minHold     = 3 * time.Second // RFC 4271 section 4.2
	maxRestart  = 4095 * time.Second
)

// normalize checks a configuration and fills in what it leaves out.
func normalize(c wire.SpeakerConfig) (wire.SpeakerConfig, error) {
	switch {
	case c.AS == 0:
		return c, errors.New("check speaker: no AS")
	case !c.RouterID.Is4() || c.RouterID.IsUnspecified():
		return c, fmt.Errorf("check speaker: router id %v is not an IPv4 address", c.RouterID)
	case c.GracefulRestart < 0 || c.GracefulRestart > maxRestart:
		return c, fmt.Errorf("check speaker: graceful restart %v not within 0s and %v", c.GracefulRestart, maxRestart)
	}
	if _, err := community.NewFilter(c.Communities); err != nil {
		return c, fmt.Errorf("check speaker: %w", err)
	}
	if c.Port == 0 {
		c.Port = defaultPort
	}
	c.Multipath = min(max(c.Multipath, 1), wire.MaxRoutePaths)
	c.Neighbors = slices.Clone(c.Neighbors)
	seen := map[netip.Addr]wire.SpeakerPeer{}
	for i := range c.Neighbors {
		p := &c.Neighbors[i]
		if err := normalizePeer(p); err != nil {
			return c, fmt.Errorf("check neighbour %v: %w", p.Address, err)
		}
		plain := p.Address.WithZone("")
		if o, ok := seen[plain]; ok {
			if o.Address == p.Address {
				return c, fmt.Errorf("check neighbour %v: listed twice", p.Address)
			}
			// GoBGP's policies match the address without its zone.
			if o.Import != p.Import || o.Export != p.Export || o.NextHopSelf != p.NextHopSelf {
				return c, fmt.Errorf("check neighbours %v and %v: same address, but different policies", o.Address, p.Address)
			}
		}
		seen[plain] = *p
	}
	return c, nil
}

func normalizePeer(p *wire.SpeakerPeer) error {
	switch {
	case !p.Address.IsValid() || p.Address.IsUnspecified() || p.Address.IsMulticast() || p.Address.Is4In6():
		return errors.New("not a unicast address")
	case p.AS == 0:
		return errors.New("no AS")
	case p.Import != accept && p.Import != reject:
		return fmt.Errorf("import is %q, want accept or reject", p.Import)
	case p.Export != accept && p.Export != reject && p.Export != local:
		return fmt.Errorf("export is %q, want accept, reject or local", p.Export)
	case p.HoldTime != 0 && p.HoldTime < minHold || p.HoldTime > 0xffff*time.Second:
		return fmt.Errorf("hold time %v not within %v and 65535s", p.HoldTime, minHold)
	}
	if p.HoldTime == 0 {
		p.HoldTime = defaultHold
	}
	if p.Address.IsLinkLocalUnicast() && p.Address.Is6() && p.Address.Zone() == "" {
		if p.Interface == "" {
			return errors.New("link-local address without interface")
		}
		p.Address = p.Address.WithZone(p.Interface)
	}
	if len(p.Families) == 0 {
		p.Families = []string{ipv4}
		if p.Address.Is6() {
			p.Families = []string{ipv6}
		}
	}
	p.Families = slices.Clone(p.Families)
	slices.Sort(p.Families)
	p.Families = slices.Compact(p.Families)
	for _, f := range p.Families {
		if f != ipv4 && f != ipv6 {
			return fmt.Errorf("family is %q, want ipv4 or ipv6", f)
		}
	}
	return nil
}

// needsRestart tells whether the server must be restarted to go from a to b;
// everything else is applied to the running one.
func needsRestart(a, b *wire.SpeakerConfig) bool {
	return a.AS != b.AS || a.RouterID != b.RouterID || a.Port != b.Port || a.Multipath != b.Multipath
}

// peerDiff is what to do to go from one set of neighbours to another. Neighbours
// that are not listed keep their sessions.
type peerDiff struct {
	remove  []wire.SpeakerPeer // as they were
	update  []wire.SpeakerPeer // as they shall be; may reset the session
	add     []wire.SpeakerPeer
	softIn  []netip.Addr // only the import policy changed
	softOut []netip.Addr // only the export policy changed
}

func (d *peerDiff) empty() bool {
	return len(d.remove)+len(d.update)+len(d.add)+len(d.softIn)+len(d.softOut) == 0
}

// diffPeers compares two normalized configurations.
func diffPeers(old, want *wire.SpeakerConfig) peerDiff {
	var d peerDiff
	all := old.GracefulRestart != want.GracefulRestart // in every OPEN
	out := old.AdvertiseFIB != want.AdvertiseFIB
	before := map[netip.Addr]wire.SpeakerPeer{}
	for _, p := range old.Neighbors {
		before[p.Address] = p
	}
	for _, p := range want.Neighbors {
		o, ok := before[p.Address]
		delete(before, p.Address)
		switch {
		case !ok:
			d.add = append(d.add, p)
			continue
		case all || !sameSession(o, p):
			d.update = append(d.update, p)
		}
		if o.Import != p.Import {
			d.softIn = append(d.softIn, p.Address)
		}
		if out || o.Export != p.Export || o.NextHopSelf != p.NextHopSelf {
			d.softOut = append(d.softOut, p.Address)
		}
	}
	for _, p := range old.Neighbors {
		if _, ok := before[p.Address]; ok {
			d.remove = append(d.remove, p)
		}
	}
	return d
}

// sameSession tells whether two configurations differ in nothing that GoBGP's
// neighbour is told: descriptions are ours, policies are the server's.
func sameSession(a, b wire.SpeakerPeer) bool {
	fa, fb := a.Families, b.Families
	for _, p := range []*wire.SpeakerPeer{&a, &b} {
		p.Description, p.Import, p.Export, p.NextHopSelf, p.Families = "", "", "", false, nil
	}
	return slices.Equal(fa, fb) && samePeer(a, b)
}

func samePeer(a, b wire.SpeakerPeer) bool {
	return a.Address == b.Address && a.Interface == b.Interface && a.AS == b.AS && a.LocalAS == b.LocalAS &&
		a.LocalAddress == b.LocalAddress && a.Password == b.Password && a.Passive == b.Passive && a.Multihop == b.Multihop &&
		a.Port == b.Port && a.HoldTime == b.HoldTime && a.MaxPrefixes == b.MaxPrefixes && a.Shutdown == b.Shutdown
}
