package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"godwit/controlplane/mgmt"
)

func showBFD(ctx context.Context, e *Env, w words) error {
	text := textBFDSessions
	switch {
	case w.has("counters") && w.has("sessions"):
		return usageError{"either sessions or counters"}
	case w.has("counters"):
		text = textBFDCounters
	}
	return shown(func(ctx context.Context, e *Env, w words) (mgmt.BFD, error) { return e.client.BFD(ctx, w["vrf"]) }, text)(ctx, e, w)
}

func textBFDSessions(w io.Writer, v mgmt.BFD) {
	table(w, "CARD|VRF|INTERFACE|NEIGHBOR|STATE|SINCE|TX|RX|DETECTION|FLAPS|LAST CHANGE|USED BY", func(row func(...any)) {
		for i := range v.Sessions {
			s := &v.Sessions[i]
			where := s.InterfaceName
			if where == "" {
				where = "several hops"
			}
			state := s.State
			if s.Failed {
				state += " (failed)"
			}
			row(s.Card, s.VRFName, where, s.Peer, state, ago(s.Age), interval(s.Tx), interval(s.Rx), interval(s.Detection), s.Flaps, s.Diag, clients(s.Clients))
		}
	})
	bfdErrors(w, v)
}

// clients names the first users of a session.
func clients(list []string) string {
	if len(list) > 3 {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:3], ", "), len(list)-3)
	}
	return dash(strings.Join(list, ", "))
}

func interval(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return d.Round(time.Millisecond).String()
}

func textBFDCounters(w io.Writer, v mgmt.BFD) {
	table(w, "CARD|SESSIONS|UP|SENT|RECEIVED|ECHOES|LATEST TIMER|OVER 5 MS LATE", func(row func(...any)) {
		for _, c := range v.Cards {
			row(c.Card, c.Sessions, c.Up, c.Sent, c.Received, c.Echoes, time.Duration(c.LateMost)*time.Microsecond, c.LateLong)
		}
	})
	fmt.Fprintln(w)
	table(w, "CARD|VRF|NEIGHBOR|SENT|RECEIVED|REFUSED|AUTHENTICATION|DISCRIMINATOR|NEIGHBOR'S", func(row func(...any)) {
		for i := range v.Sessions {
			s := &v.Sessions[i]
			row(s.Card, s.VRFName, s.Peer, s.Sent, s.Received, s.Refused, s.Auth, s.Discriminator, dash(s.RemoteDiscr))
		}
	})
	for _, c := range v.Cards {
		for _, d := range c.Drops {
			if d.Count > 0 {
				fmt.Fprintf(w, "card %d: %d refused: %s (%s)\n", c.Card, d.Count, d.Reason, d.Help)
			}
		}
	}
	bfdErrors(w, v)
}

func bfdErrors(w io.Writer, v mgmt.BFD) {
	for _, c := range v.Cards {
		if c.Error != "" {
			fmt.Fprintf(w, "card %d: %s\n", c.Card, c.Error)
		}
	}
}
