package churn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"godwit/dataplane/xdp/fwdlab"
)

// Linux is the baseline: the kernel forwards in the same lab, at half of what it
// can, and its routes are replaced over netlink, without any routing daemon.
func Linux(ctx context.Context, o Options) (res Result, err error) {
	p, err := newPlan(o.Prefixes, o.Flapping, seed)
	if err != nil {
		return res, err
	}
	l, err := fwdlab.New("gwt-churn")
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if err := kernelHops(l); err != nil {
		return res, err
	}
	k, err := l.KernelRoutes()
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, k.Close()) }()
	if err := k.Replace(o.Prefixes, hops[0]); err != nil {
		return res, err
	}
	b := &bench{Options: o, lab: l, plan: p}
	rate := o.Rate
	if rate == 0 {
		m, err := l.Measure(b.traffic(offered), nil, warm, probe)
		if err != nil {
			return res, fmt.Errorf("measure the most: %w", err)
		}
		res.Maximum, rate = m.PPS, int(m.PPS/2)
		o.Progress("Linux: %.0f packets a second at most, of %.0f", m.PPS, m.Offered)
	}
	x := &res.Churn
	var seen fwdlab.Seen
	seen, x.Sending, err = send(ctx, l, b.traffic(rate), func() error {
		start := time.Now()
		err := pace(len(p.flapping), o.Changes, o.D, func(moves []move, sent int) error {
			for _, m := range moves {
				if err := k.Replace(p.flapping[m.from:m.to], hops[m.turn]); err != nil {
					return err
				}
			}
			x.Changes, x.Applied = uint64(sent), uint64(sent)
			return nil
		})
		x.Took = time.Since(start)
		return err
	})
	if err != nil {
		return res, err
	}
	x.count(seen, state{}, state{received: seen.Sent, forwarded: seen.Good + seen.Bad}) // it names no place
	o.Progress("Linux: churn: %v", *x)
	return res, nil
}

// kernelHops has the kernel forward, and gives it the two next hops.
func kernelHops(l *fwdlab.Lab) error {
	if err := l.KernelForwards(true); err != nil {
		return err
	}
	link := netip.PrefixFrom(netip.MustParseAddr("192.0.2.33"), 28)
	if err := l.IP(fwdlab.Router, "addr", "replace", link.String(), "dev", l.Out); err != nil {
		return err
	}
	for i, mac := range []net.HardwareAddr{fwdlab.MACSink, macOther} {
		if err := l.IP(fwdlab.Router, "neigh", "replace", hops[i].String(), "lladdr", mac.String(), "dev", l.Out, "nud", "permanent"); err != nil {
			return err
		}
	}
	return nil
}
