package filter

import (
	"fmt"
	"math/bits"
	"net/netip"
	"slices"

	"godwit/dataplane/header"
)

// None is the answer of Match if no rule fits.
const None = -1

// List is compiled rules.
type List struct {
	rules      []rest
	words      int // of a bit map
	src4, dst4 intervals
	src6, dst6 intervals
	src, dst   intervals // ports
	protocol   []uint64  // 256 maps
	portless   []uint64  // rules that do not ask for ports
	other      []uint64  // rules that fit what is not IP
}

// rest is what the bit maps do not say of a rule.
type rest struct {
	deny, log            bool
	plain                bool // nothing of the below
	fragments            Fragments
	flagsSet, flagsClear uint8
	dscp, icmp           int16 // -1: any
	vlan                 uint16
}

// value is a point of a field: an address, or a number in lo.
type value struct{ hi, lo uint64 }

func (a value) less(b value) bool { return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo }

func (a value) next() value {
	a.lo++
	if a.lo == 0 {
		a.hi++
	}
	return a
}

// intervals are a field's values, cut where a rule begins or ends.
type intervals struct {
	from []value  // where each begins, ascending; the first is 0
	maps []uint64 // of words each
}

// span is a run of values that a rule fits.
type span struct{ first, last value }

// Compile makes a list.
func Compile(rules []Rule) (*List, error) {
	if len(rules) > MaxRules {
		return nil, fmt.Errorf("compile filter: %d rules, at most %d", len(rules), MaxRules)
	}
	n := (len(rules) + 63) / 64
	l := &List{words: n, protocol: make([]uint64, 256*n), portless: make([]uint64, n), other: make([]uint64, n)}
	var src4, dst4, src6, dst6, src, dst [][]span
	for i := range rules {
		r := &rules[i]
		if err := r.check(); err != nil {
			return nil, fmt.Errorf("compile filter: rule %d: %w", i+1, err)
		}
		l.add(i, r)
		src4, dst4 = append(src4, prefix(r, r.Source, 4)), append(dst4, prefix(r, r.Destination, 4))
		src6, dst6 = append(src6, prefix(r, r.Source, 6)), append(dst6, prefix(r, r.Destination, 6))
		src, dst = append(src, ranges(r.SrcPorts)), append(dst, ranges(r.DstPorts))
	}
	for _, d := range []struct {
		to    *intervals
		spans [][]span
	}{{&l.src4, src4}, {&l.dst4, dst4}, {&l.src6, src6}, {&l.dst6, dst6}, {&l.src, src}, {&l.dst, dst}} {
		*d.to = cut(d.spans, n)
	}
	return l, nil
}

func (l *List) add(i int, r *Rule) {
	x := rest{deny: r.Deny, log: r.Log, fragments: r.Fragments, flagsSet: r.FlagsSet, flagsClear: r.FlagsClear, dscp: -1, icmp: -1, vlan: r.VLAN}
	if r.DSCP != nil {
		x.dscp = int16(*r.DSCP)
	}
	if r.ICMPType != nil {
		x.icmp = int16(*r.ICMPType)
	}
	x.plain = x.fragments == 0 && x.flagsSet|x.flagsClear == 0 && x.dscp < 0 && x.icmp < 0 && x.vlan == 0
	l.rules = append(l.rules, x)
	word, bit := i/64, uint64(1)<<(i%64)
	for p := range 256 {
		if r.Protocol == nil || int(*r.Protocol) == p {
			l.protocol[p*l.words+word] |= bit
		}
	}
	if !r.needsPorts() {
		l.portless[word] |= bit
		if r.Protocol == nil && r.family() == 0 {
			l.other[word] |= bit
		}
	}
}

// prefix is the addresses of a family that a rule fits.
func prefix(r *Rule, p netip.Prefix, fam uint8) []span {
	if f := r.family(); f != 0 && f != fam {
		return nil
	}
	all := span{last: value{^uint64(0), ^uint64(0)}}
	if fam == 4 {
		all.last = value{0, 1<<32 - 1}
	}
	if !p.IsValid() {
		return []span{all}
	}
	var a value
	size := 32
	if fam == 4 {
		a.lo = uint64(header.IPv4(header4(p.Addr())).Dst32())
	} else {
		size = 128
		b := p.Addr().As16()
		a.hi, a.lo = header.IPv6(append(make([]byte, 24), b[:]...)).Dst64()
	}
	host := size - p.Bits()
	last := a
	if host > 64 {
		last.lo = ^uint64(0)
		last.hi |= 1<<(host-64) - 1
	} else {
		last.lo |= uint64(1)<<host - 1 // 64: all of them
	}
	return []span{{a, last}}
}

func header4(a netip.Addr) []byte {
	b := a.As4()
	return append(make([]byte, 16), b[:]...)
}

func ranges(list []Range) (spans []span) {
	if len(list) == 0 {
		return []span{{last: value{0, 65535}}}
	}
	for _, r := range list {
		spans = append(spans, span{value{0, uint64(r.First)}, value{0, uint64(r.Last)}})
	}
	return spans
}

// cut makes the intervals of a field: spans[i] is what rule i fits.
func cut(spans [][]span, words int) (v intervals) {
	v.from = []value{{}}
	for _, list := range spans {
		for _, s := range list {
			v.from = append(v.from, s.first)
			if next := s.last.next(); s.last.less(next) { // not the very last value
				v.from = append(v.from, next)
			}
		}
	}
	slices.SortFunc(v.from, func(a, b value) int {
		switch {
		case a.less(b):
			return -1
		case b.less(a):
			return 1
		}
		return 0
	})
	v.from = slices.Compact(v.from)
	v.maps = make([]uint64, len(v.from)*words)
	for rule, list := range spans {
		for _, s := range list {
			for i := v.find(s.first); i < len(v.from) && !s.last.less(v.from[i]); i++ {
				v.maps[i*words+rule/64] |= 1 << (rule % 64)
			}
		}
	}
	return v
}

// find is the interval that has the value.
func (v *intervals) find(x value) int {
	lo, n := 0, len(v.from)
	for n > 1 { // from[lo] <= x
		half := n / 2
		if !x.less(v.from[lo+half]) {
			lo += half
		}
		n -= half
	}
	return lo
}

// in is the bit map of a value.
func (v *intervals) in(x value, words int) []uint64 {
	i := v.find(x) * words
	return v.maps[i : i+words]
}

// Match is the number of the first rule that fits the packet, or None.
func (l *List) Match(k *Key) int {
	n := l.words
	var src, dst, from, to []uint64
	switch k.Family {
	case 4:
		src, dst = l.src4.in(value{0, k.SrcLo}, n), l.dst4.in(value{0, k.DstLo}, n)
	case 6:
		src, dst = l.src6.in(value{k.SrcHi, k.SrcLo}, n), l.dst6.in(value{k.DstHi, k.DstLo}, n)
	default:
		src, dst = l.other, l.other
	}
	from, to = l.portless, l.portless
	if k.ports() {
		from, to = l.src.in(value{0, uint64(k.SrcPort)}, n), l.dst.in(value{0, uint64(k.DstPort)}, n)
	}
	proto := l.protocol[int(k.Protocol)*n:][:n]
	for w := range proto {
		m := proto[w] & src[w] & dst[w] & from[w] & to[w]
		for ; m != 0; m &= m - 1 {
			i := w*64 + bits.TrailingZeros64(m)
			if r := &l.rules[i]; r.plain || r.fits(k) {
				return i
			}
		}
	}
	return None
}

// fits looks at what the bit maps do not have.
func (r *rest) fits(k *Key) bool {
	switch {
	case r.vlan != 0 && r.vlan != k.VLAN:
	case k.Family == 0:
		return r.fragments == AnyFragment && r.flagsSet|r.flagsClear == 0 && r.dscp < 0 && r.icmp < 0
	case r.dscp >= 0 && r.dscp != int16(k.DSCP):
	case r.fragments == OnlyFragments && !k.Later, r.fragments == NoFragments && k.Later:
	case r.flagsSet|r.flagsClear != 0 && (k.Protocol != header.ProtoTCP || !k.Transport || k.Flags&(r.flagsSet|r.flagsClear) != r.flagsSet):
	case r.icmp >= 0 && (k.ports() || !k.Transport || r.icmp != int16(k.ICMPType)):
	default:
		return true
	}
	return false
}

// Permits tells what a rule that was matched, or None, means: what no rule fits is denied.
func (l *List) Permits(rule int) bool { return rule != None && !l.rules[rule].deny }

// Logs tells that packets that the rule fits are to be logged.
func (l *List) Logs(rule int) bool { return rule != None && l.rules[rule].log }

// Len is the number of rules.
func (l *List) Len() int { return len(l.rules) }
